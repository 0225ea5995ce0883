"""What a long-dependency problem is: any number of rows, each a function of (seed, part, number), and a criterion."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data import Ragged, SplitData
from lightning_rnn.data.module import Split
from lightning_rnn.data.sampled import hashed
from lightning_rnn.errors import require
from lightning_rnn.types import SequenceBatch

from ..spec import GrammarSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NUMBERS: dict[Split, int] = {"train": 0, "val": 1, "test": 2, "predict": 2}  # part of what rows follow from


def check_seed(seed: int) -> None:
    """Raise :class:`ConfigError` unless rows can follow from it."""
    require(0 <= seed < 2**64, f"source.seed must be from 0 to 2**64 - 1, got {seed}")


class GrammarSource(ABC):
    """Where rows come from: strings of a grammar, or a stress problem."""

    @abstractmethod
    def spec(self) -> GrammarSpec:
        """What a network has to know to be built."""

    @abstractmethod
    def split(self, name: Split) -> SplitData | None:
        """A part, None where there is none."""


@dataclass(frozen=True)
class Problem(GrammarSource):
    """A problem with any number of rows, made when they are asked for. Every epoch of training has new rows.

    Attributes:
        rows: of an epoch.
        eval_rows: of the validation part, and of the test part.
        seed: of all rows.
        vocabulary: how many symbols the inputs have; 0 where they are real numbers.
        features: real numbers of a step, where there are no symbols.
        outputs: what a network puts out: at the end, or at every step.
        each_step: whether it does at every step.
        error: mean error below which training may be over, see :class:`MostRecent`; None where there is no such rule.
        published: sequences that were needed, or what was reached, with the source.
    """

    rows: int = 10_000
    eval_rows: int = 2560
    seed: int = 0
    vocabulary: ClassVar[int]
    features: ClassVar[int] = 0
    outputs: ClassVar[int]
    each_step: ClassVar[bool] = False
    error: ClassVar[float | None] = None
    published: ClassVar[str]

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def uniform(self, part: int, rows: Ints, first: int, draws: int) -> Floats:
        """Numbers in [0, 1): draws ``first`` to ``first + draws`` of each row, ``[B, draws]``."""
        index = np.arange(first, first + draws, dtype=np.uint64)
        words = hashed(np.uint64(self.seed), np.uint64(part), rows.astype(np.uint64)[:, None], index)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def between(self, part: int, rows: Ints, draw: int, low: int | Ints, high: int | Ints) -> Ints:
        """A whole number for each row, ``low`` and ``high`` included, ``[B]``."""
        spread = np.asarray(high) - low + 1
        return low + (self.uniform(part, rows, draw, 1)[:, 0] * spread).astype(np.int64)

    @abstractmethod
    def lengths(self, part: int, rows: Ints) -> Ints:
        """Steps of each row, ``[B]``."""

    @abstractmethod
    def batch(self, part: int, rows: Tensor) -> SequenceBatch:
        """The rows with these numbers (int64 ``[B]``) of a part: another part, other rows."""

    def spec(self) -> GrammarSpec:
        arguments = asdict(self) | {"class": type(self).__name__}
        return GrammarSpec(type(self).__name__, "", arguments, self.vocabulary, self.features, self.outputs)

    def split(self, name: Split) -> SplitData | None:
        train = name == "train"
        return StressRows(self, self.rows if train else self.eval_rows, NUMBERS[name], fresh=train)

    @abstractmethod
    def answer(self, scores: Tensor) -> Tensor:
        """The answers in what a network puts out (``[B, outputs]``, or ``[B, T, outputs]``), see the problem."""

    @abstractmethod
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Scalar to be made small, of what a network puts out."""

    @abstractmethod
    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Bool ``[B]``: whether a row counts as solved, by the paper's criterion."""

    @abstractmethod
    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``[B]``: the error of each row, whose mean the paper's stopping rule reads."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """What is reached without any memory of the inputs, computed exactly."""


class StressRows(SplitData):
    """Rows of a problem as one split; they are made when a batch asks for them.

    Args:
        problem: makes them.
        rows: how many there are in an epoch.
        part: whose; training, validation and test have parts of their own.
        fresh: whether every epoch has other rows, so that none is seen twice.

    Example:
        >>> from .stress import CopyMemory
        >>> split = StressRows(CopyMemory(), rows=1000, part=1)
        >>> len(split), split.__getitems__([7, 3]).inputs.shape
        (1000, torch.Size([2, 120]))
    """

    ids: Sequence[str | int] | None = None

    def __init__(self, problem: Problem, rows: int, part: int = 0, fresh: bool = False) -> None:
        require(rows >= 1, f"a stress problem needs 1 row or more, got {rows}")
        self.problem, self.rows, self.part, self.fresh, self.epoch = problem, rows, part, fresh, 0

    def __len__(self) -> int:
        return self.rows

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``, in this epoch."""
        return torch.from_numpy(self.problem.lengths(self.part, self._first + np.arange(self.rows)))

    @cached_property
    def inputs(self) -> Ragged:  # type: ignore[override]  # an attribute there
        """The first epoch's, all in memory: to look at a few rows, not to train."""
        batch = self.problem.batch(self.part, torch.arange(self.rows))
        assert batch.lengths is not None
        return Ragged.from_list([row[:length] for row, length in zip(batch.inputs, batch.lengths, strict=True)])

    @property
    def _first(self) -> int:
        return self.epoch * self.rows if self.fresh else 0

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        batch = self.problem.batch(self.part, index + self._first)
        batch.ids = index
        return batch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def digest(self) -> str:
        """A hash of what the rows follow from."""
        name = f"{self.problem!r} {self.rows} {self.part} {self.fresh}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
