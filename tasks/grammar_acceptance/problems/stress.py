"""The long-dependency problems: adding, temporal order, copy memory, as their papers pose them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.errors import require
from lightning_rnn.types import SequenceBatch

from ..spec import GrammarSpec
from .criteria import all_within
from .problem import Ints, Problem


@dataclass(frozen=True)
class Adding(Problem):
    """Adding (Hochreiter and Schmidhuber 1997, section 5.4).

    Pairs of a value in [-1, 1) and a marker, ``steps`` to 1.1 ``steps`` of them, the length at random. The first and
    the last have the marker -1; one of the first ten, and another of the first ``steps / 2 - 1``, have 1, all others 0.
    The target, at the end, is .5 + (X1 + X2) / 4 of the two marked values. The first pair, where it is chosen, keeps
    its marker and counts as 0. Right: an absolute error under .04. Training is over when the mean error is under .01
    and the last 2,000 were right; then at most 1 of 2,560 test rows was wrong.

    Inputs are float32 ``[B, T, 2]``, outputs and targets float32 ``[B]``.

    Args:
        steps: the least length, 24 or more.

    Example:
        >>> batch = Adding(steps=100).batch(0, torch.tensor([0, 1]))
        >>> batch.inputs.shape, batch.lengths
        (torch.Size([2, 109, 2]), tensor([101, 109]))
    """

    steps: int = 100
    vocabulary = 0
    features = 2
    outputs = 1
    error = 0.01
    published = "T=100: 74,000; T=500: 209,000; T=1,000: 853,000 sequences (Hochreiter and Schmidhuber 1997, table 7)"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 24, f"adding needs 24 steps or more, got {self.steps}")

    def lengths(self, part: int, rows: Ints) -> Ints:
        return self.between(part, rows, 0, self.steps, self.steps + self.steps // 10)

    def batch(self, part: int, rows: Tensor) -> SequenceBatch:
        number = rows.numpy()
        lengths, each = self.lengths(part, number), np.arange(len(number))
        values = 2 * self.uniform(part, number, 3, int(lengths.max(initial=1))) - 1
        first = self.between(part, number, 1, 0, 9)
        second = self.between(part, number, 2, 0, self.steps // 2 - 3)
        second += second >= first
        markers = np.zeros_like(values)
        markers[each, first] = markers[each, second] = 1
        markers[each, 0] = markers[each, lengths - 1] = -1
        marked = sum(np.where(place > 0, values[each, place], 0) for place in (first, second))
        inside = np.arange(values.shape[1]) < lengths[:, None]
        pairs = np.stack([np.where(inside, values, 0), np.where(inside, markers, 0)], axis=2)
        target = torch.from_numpy(np.asarray(0.5 + marked / 4)).float()
        return SequenceBatch(torch.from_numpy(pairs).float(), target, lengths=torch.from_numpy(lengths), ids=rows)

    def answer(self, scores: Tensor) -> Tensor:
        return scores[:, 0]

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(scores[:, 0], targets)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return all_within(outputs.reshape(-1, 1), targets.reshape(-1, 1), 0.04)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.reshape(-1) - targets.reshape(-1)).abs()

    def baselines(self) -> dict[str, float]:
        """``constant_mse``: of always saying .5; 1/24 but for rows whose first pair is chosen."""
        first_chosen = 1 / 10 + 9 / 10 / (self.steps // 2 - 2)
        return {"constant_mse": (2 - first_chosen) / 3 / 16}


@dataclass(frozen=True)
class TemporalOrder(Problem):
    """Temporal order (Hochreiter and Schmidhuber 1997, section 5.6): 6a with two symbols, 6b with three.

    Symbols E at the start, B at the end, a, b, c or d between, 100 to 110 in all; but X or Y at a place from 10 to 20
    and one from 50 to 60 (6a), or from 10 to 20, 33 to 43 and 66 to 76 (6b), places counted from 0. The class is their
    order: XX, XY, YX, YY are 0 to 3, XXX to YYY 0 to 7. Right: every output within .3 of its target, which is 1 for the
    class and 0 for the others. Training is over when the mean error is under .1 and the last 2,000 were right.

    Inputs are int64 ``[B, T]`` (places in :attr:`symbols`), outputs probabilities ``[B, C]``, targets int64 ``[B]``.

    Args:
        marks: 2 or 3.

    Example:
        >>> problem = TemporalOrder()
        >>> batch = problem.batch(0, torch.tensor([5]))
        >>> "".join(problem.symbols[i] for i in batch.inputs[0, :22].tolist()), batch.targets
        ('EcdbdbdababaddddddcXdd', tensor([0]))
    """

    marks: Literal[2, 3] = 2
    vocabulary = 8
    symbols: ClassVar[str] = "EBabcdXY"
    error = 0.1
    published = "6a: 31,390; 6b: 571,100 sequences (Hochreiter and Schmidhuber 1997, table 9)"
    places: ClassVar[dict[int, tuple[int, ...]]] = {2: (10, 50), 3: (10, 33, 66)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.marks in self.places, f"temporal order has 2 or 3 marks, got {self.marks}")

    @property
    def outputs(self) -> int:  # type: ignore[override]  # of this problem, depends on marks
        """Classes."""
        return 2**self.marks

    def lengths(self, part: int, rows: Ints) -> Ints:
        return self.between(part, rows, 0, 100, 110)

    def batch(self, part: int, rows: Tensor) -> SequenceBatch:
        number = rows.numpy()
        lengths, each = self.lengths(part, number), np.arange(len(number))
        width = int(lengths.max(initial=1))
        symbols = 2 + (4 * self.uniform(part, number, 7, width)).astype(np.int64)
        target = np.zeros(len(number), dtype=np.int64)
        for i, place in enumerate(self.places[self.marks]):
            mark = self.between(part, number, 1 + 2 * i, 0, 1)
            symbols[each, self.between(part, number, 2 + 2 * i, place, place + 10)] = 6 + mark
            target = 2 * target + mark
        symbols[:, 0] = 0
        symbols[each, lengths - 1] = 1
        symbols[np.arange(width) >= lengths[:, None]] = 0
        inputs, classes = torch.from_numpy(symbols), torch.from_numpy(target)
        return SequenceBatch(inputs, classes, lengths=torch.from_numpy(lengths), ids=rows)

    def answer(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(scores, targets)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return all_within(outputs, F.one_hot(targets, self.outputs).to(outputs.dtype), 0.3)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - F.one_hot(targets, self.outputs)).abs().mean(1)

    def baselines(self) -> dict[str, float]:
        """``chance_accuracy`` and ``chance_cross_entropy`` of saying all classes are equally likely."""
        return {"chance_accuracy": 1 / self.outputs, "chance_cross_entropy": math.log(self.outputs)}


@dataclass(frozen=True)
class CopyMemory(Problem):
    r"""Copy memory (Arjovsky et al. 2016, section 4.1).

    Ten symbols, each one of eight (1 to 8); ``steps - 1`` blanks (0); a mark (9) that says to begin; ten blanks. The
    targets are blanks, and over the last ten steps the ten symbols. Solved: a mean cross-entropy over all
    ``steps + 20`` steps under 1e-3, far below that of a network without memory. Right: the last ten symbols.

    Inputs and targets are int64 ``[B, T]``, outputs log-probabilities (or scores) ``[B, T, 9]``.

    Args:
        steps: how long the symbols have to be kept.

    Example:
        >>> batch = CopyMemory(steps=3).batch(0, torch.tensor([0]))
        >>> print(batch.inputs, batch.targets, sep="\n")
        tensor([[2, 2, 3, 4, 2, 8, 4, 7, 5, 2, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
        tensor([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 3, 4, 2, 8, 4, 7, 5, 2]])
    """

    steps: int = 100
    vocabulary = 10
    outputs = 9
    each_step = True
    published = "T=1,000: LSTM .0204, GRU .0197, RNN .0202, TCN 3.5e-5 cross-entropy (Bai et al. 2018, table 1)"
    solved: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, f"copy memory needs 1 step or more, got {self.steps}")

    def lengths(self, part: int, rows: Ints) -> Ints:
        return np.full(len(rows), self.steps + 20)

    def batch(self, part: int, rows: Tensor) -> SequenceBatch:
        number = rows.numpy()
        symbols = 1 + (8 * self.uniform(part, number, 0, 10)).astype(np.int64)
        inputs = np.zeros((len(number), self.steps + 20), dtype=np.int64)
        inputs[:, :10], inputs[:, self.steps + 9] = symbols, 9
        targets = np.zeros_like(inputs)
        targets[:, -10:] = symbols
        lengths = torch.from_numpy(self.lengths(part, number))
        return SequenceBatch(
            torch.from_numpy(inputs), torch.from_numpy(targets), lengths=lengths, target_lengths=lengths, ids=rows
        )

    def answer(self, scores: Tensor) -> Tensor:
        return scores

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(scores.transpose(1, 2), targets)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, -10:].argmax(-1) == targets[:, -10:]).all(1)

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)

    def baselines(self) -> dict[str, float]:
        """``memoryless_cross_entropy``: blanks are certain, of the ten symbols nothing is known: 10 ln 8 / (T + 20)."""
        return {"memoryless_cross_entropy": 10 * math.log(8) / (self.steps + 20), "memoryless_symbol_accuracy": 1 / 8}


PROBLEMS: dict[str, type[Problem]] = {kind.__name__: kind for kind in (Adding, TemporalOrder, CopyMemory)}


def problem_of(spec: GrammarSpec) -> Problem:
    """The problem that a spec was made by.

    Example:
        >>> problem_of(Adding(steps=50).spec())
        Adding(rows=10000, eval_rows=2560, seed=0, steps=50)
    """
    assert spec.problem is not None
    arguments = {name: value for name, value in spec.problem.items() if name != "class"}
    return PROBLEMS[spec.problem["class"]](**arguments)
