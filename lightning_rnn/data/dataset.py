"""What a split of the data is: rows that are fetched by whole index batches."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.types import SequenceBatch


class SplitData(ABC):
    """One split. What its keys are, its batch sampler says: row numbers, or chunks of streams."""

    ids: Sequence[str | int] | None
    inputs: Ragged

    @abstractmethod
    def __getitems__(self, keys: list[Any]) -> SequenceBatch:
        """The batch of these keys."""

    def fetch(self, keys: list[Any]) -> SequenceBatch:
        """The batch of these keys; where there are none, one that stands in, see :class:`SequenceBatch`."""
        if keys:
            return self.__getitems__(keys)
        batch = self.__getitems__([self.first_key()])
        return replace(batch, ids=None if batch.ids is None else batch.ids[:0], stands_in=True)

    def first_key(self) -> Any:
        """A key, of a batch that is quickly made."""
        return 0

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``, the steps of each row, by which rows are put together."""
        return self.inputs.lengths

    def row_id(self, row: int) -> str | int:
        """The row's name in the source."""
        return row if self.ids is None else self.ids[row]

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch, before its workers start: matters where rows are drawn."""
        return

    def digest(self) -> str:
        """A hash of what is in it, to tell a resumed run that its data are others."""
        return self.inputs.digest()


class Drawn(Protocol):
    """Rows that are another in each epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's."""

    def pad(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as one batch, and their lengths: see :meth:`Ragged.pad`."""


@dataclass(frozen=True)
class SequenceDataset(SplitData):
    """Sequences, their targets, and the names of the rows; the keys are row numbers.

    Attributes:
        inputs: the sequences.
        targets: ``[N, ...]``; of every step, with the lengths of the inputs (padded with 0 in a batch); or None where
            there are no answers.
        ids: the rows' names in the source, in order; None stands for 0, 1, 2 ...
        drawn: what batches are made of in place of ``inputs`` where rows differ from epoch to epoch.

    Example:
        >>> data = SequenceDataset(Ragged.from_dense(torch.zeros(5, 7, 3)), torch.arange(5))
        >>> data.__getitems__([3, 1]).targets
        tensor([3, 1])
    """

    inputs: Ragged
    targets: Tensor | Ragged | None = None
    ids: Sequence[str | int] | None = None
    drawn: Drawn | None = None

    def __getitem__(self, row: int) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))  # torch itself reads a list slowly
        inputs, lengths = (self.drawn or self.inputs).pad(index)
        if isinstance(self.targets, Ragged):
            targets, steps = self.targets.pad(index)
            return SequenceBatch(inputs, targets, lengths=lengths, target_lengths=steps, ids=index)
        return SequenceBatch(inputs, None if self.targets is None else self.targets[index], lengths=lengths, ids=index)

    def set_epoch(self, epoch: int) -> None:
        if self.drawn is not None:
            self.drawn.set_epoch(epoch)

    def digest(self) -> str:
        if isinstance(self.targets, Ragged):
            targets = self.targets.digest().encode()
        else:
            targets = b"" if self.targets is None else self.targets.contiguous().numpy().tobytes()
        return hashlib.blake2b(self.inputs.digest().encode() + targets, digest_size=16).hexdigest()
