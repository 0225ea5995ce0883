r"""What a network learns, and how its answers are read: to accept, to predict the next symbol, to solve a problem.

A network of strings puts out, before each symbol and after the last, one score for each symbol and one for the end.

To accept, a score says whether the prefix can be completed once that symbol follows it: with :math:`z_t` the score of
what does follow step t, :math:`p = \min_t \sigma(z_t)`, and a string is accepted where :math:`p > 1/2`. So the network
need not keep in mind that it has seen something illegal, and the place of the first illegal symbol comes with the
answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional import sequence_mask
from lightning_rnn.training.module import Rows, StepResult
from lightning_rnn.types import SequenceBatch

from .metrics import Judge
from .problems.criteria import legal_are_most_active
from .problems.problem import Problem

Supervision = Literal["legal", "observed"]
Targets = dict[str, Tensor]


class Objective(ABC):
    """How scores become a loss, answers, metrics and rows of the predictions file."""

    each_step = True

    @abstractmethod
    def result(self, scores: Tensor, batch: SequenceBatch) -> StepResult:
        """Of a network's scores."""

    @abstractmethod
    def judges(self) -> dict[str, Judge]:
        """What is measured, by name."""

    @abstractmethod
    def rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """Columns of the predictions file."""


def following(batch: SequenceBatch, end: int) -> tuple[Tensor, Tensor]:
    """What follows each step: the number of the symbol, or ``end`` after the last; and which steps are valid.

    Returns:
        int64 and bool ``[B, T]``.

    Example:
        >>> batch = SequenceBatch(torch.tensor([[0, 2, 1], [0, 0, 0]]), lengths=torch.tensor([3, 1]))
        >>> following(batch, end=2)[0]
        tensor([[1, 0, 2],
                [2, 0, 0]])
    """
    inputs = batch.inputs
    assert batch.lengths is not None
    follows = F.pad(inputs[:, 1:] - 1, (0, 1)).clamp(min=0)
    follows = follows.scatter(1, (batch.lengths - 1).clamp(min=0).unsqueeze(1), end)
    return follows, sequence_mask(batch.lengths, inputs.shape[1])


def widened(targets: Targets, steps: int) -> Targets:
    """Targets of batches that were padded further: nothing is legal there."""
    legal = targets["legal"]
    return targets | {"legal": F.pad(legal, (0, 0, 0, steps - legal.shape[1]))}


def legal_loss(scores: Tensor, legal: Tensor, steps: Tensor) -> Tensor:
    """Binary cross-entropy of every symbol and the end, summed over them, mean over ``steps`` (bool ``[B, T]``)."""
    each = F.binary_cross_entropy_with_logits(scores, legal.to(scores.dtype), reduction="none").sum(-1)
    return each[steps].sum() / steps.sum().clamp(min=1)


def decode(batch: SequenceBatch, alphabet: str) -> list[str]:
    """The strings of a batch."""
    assert batch.lengths is not None
    pairs = zip(batch.inputs.tolist(), batch.lengths.tolist(), strict=True)
    return ["".join(alphabet[i - 1] for i in row[1:length]) for row, length in pairs]


@dataclass(frozen=True)
class Accept(Objective):
    """Sequence → accepted or rejected. Predictions are ``p [B, T]`` of each prefix and what follows it.

    Attributes:
        alphabet: of the grammar.
        supervision: ``legal`` learns at every step which symbols may follow, and whether the string may end, as long as
            the prefix can be completed; ``observed`` has the label of the whole string alone.
    """

    alphabet: str
    supervision: Supervision = "legal"

    def result(self, scores: Tensor, batch: SequenceBatch) -> StepResult:
        follows, valid = following(batch, len(self.alphabet))
        followed = scores.gather(2, follows.unsqueeze(2)).squeeze(2)
        weakest = followed.masked_fill(~valid, torch.inf).cummin(1).values
        if batch.targets is None:
            return StepResult(scores.new_zeros(()), weakest.sigmoid(), None, len(batch))
        targets = widened(batch.targets, scores.shape[1])
        if self.supervision == "legal":
            alive = targets["legal"].any(2)
            loss, weight = legal_loss(scores, targets["legal"], alive), float(alive.sum())
        else:
            accepted = targets["accepted"].to(scores.dtype)
            loss, weight = F.binary_cross_entropy_with_logits(weakest[:, -1], accepted), float(len(batch))
        return StepResult(loss, weakest.sigmoid(), targets, weight)

    def judges(self) -> dict[str, Judge]:
        return {"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity, "place": place}

    def rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``string``, ``accepted``, ``probability``, ``illegal_at``, and the ``label`` where it is known."""
        strings, running = decode(batch, self.alphabet), result.predictions
        rows: Rows = {
            "string": strings,
            "accepted": (running[:, -1] > 0.5).tolist(),
            "probability": running[:, -1],
            "illegal_at": illegal_at(running),
        }
        if result.targets is not None:
            rows["label"] = result.targets["accepted"].tolist()
        return rows


def illegal_at(running: Tensor) -> list[int | None]:
    """Of each row: the first symbol after which the prefix counts as lost; None where there is none.

    Args:
        running: ``p [B, T]``, see :class:`Accept`.

    Example:
        >>> illegal_at(torch.tensor([[0.9, 0.8], [0.9, 0.1]]))
        [None, 1]
    """
    lost = running <= 0.5
    return [
        first if some else None for first, some in zip(first_true(lost).tolist(), lost.any(1).tolist(), strict=True)
    ]


def first_true(flags: Tensor) -> Tensor:
    """Int64 ``[B]``: where the first True of each row of ``[B, T]`` stands; 0 where there is none."""
    return flags.int().argmax(1)


def accuracy(running: Tensor, targets: Targets) -> Tensor:
    """Which strings are judged rightly."""
    return (running[:, -1] > 0.5) == targets["accepted"]


def sensitivity(running: Tensor, targets: Targets) -> Tensor:
    """Which of the accepted strings are accepted."""
    return accuracy(running, targets)[targets["accepted"]]


def specificity(running: Tensor, targets: Targets) -> Tensor:
    """Which of the rejected strings are rejected."""
    return accuracy(running, targets)[~targets["accepted"]]


def place(running: Tensor, targets: Targets) -> Tensor:
    """Of which rejected strings the place is right, too."""
    lost = running <= 0.5
    right = lost.any(1) & (first_true(lost) == targets["legal"].any(2).sum(1) - 1)
    return right[~targets["accepted"]]


@dataclass(frozen=True)
class Predict(Objective):
    """Sequence → the next symbol, at every step. Predictions are the scores ``[B, T, V + 1]``.

    It learns from accepted strings alone. A string is right by Hochreiter and Schmidhuber's criterion: at every step
    all that may follow is more active than all that may not.

    Attributes:
        alphabet: of the grammar.
        supervision: ``observed`` learns the symbol that followed (cross-entropy of a softmax); ``legal`` all that may
            follow (binary cross-entropy of sigmoids).
    """

    alphabet: str
    supervision: Supervision = "observed"

    def result(self, scores: Tensor, batch: SequenceBatch) -> StepResult:
        follows, valid = following(batch, len(self.alphabet))
        if batch.targets is None:
            return StepResult(scores.new_zeros(()), scores, None, len(batch))
        targets = widened(batch.targets, scores.shape[1])
        taught = valid & targets["accepted"].unsqueeze(1)
        weight = float(taught.sum())
        if self.supervision == "legal":
            loss = legal_loss(scores, targets["legal"], taught)
        else:
            loss = F.cross_entropy(scores[taught], follows[taught], reduction="sum") / max(weight, 1)
        return StepResult(loss, scores, targets, weight)

    def judges(self) -> dict[str, Judge]:
        return {"strings_right": strings_right, "steps_right": steps_right}

    def rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``string``, its ``log_probability`` and, where it is known, whether it is ``right`` at every step."""
        follows, valid = following(batch, len(self.alphabet))
        logs = result.predictions.log_softmax(2).gather(2, follows.unsqueeze(2)).squeeze(2)
        rows: Rows = {
            "string": decode(batch, self.alphabet),
            "log_probability": logs.masked_fill(~valid, 0).sum(1),
        }
        if result.targets is not None:
            rows["right"] = strings_right(result.predictions, result.targets).tolist()
        return rows


def strings_right(scores: Tensor, targets: Targets) -> Tensor:
    """Bool ``[B]``: which strings are right at every step, up to where they can no longer be completed."""
    return (legal_are_most_active(scores, targets["legal"]) | ~targets["legal"].any(2)).all(1)


def steps_right(scores: Tensor, targets: Targets) -> Tensor:
    """Which steps are right, of those where something may follow."""
    return legal_are_most_active(scores, targets["legal"])[targets["legal"].any(2)]


@dataclass(frozen=True)
class Solve(Objective):
    """The answer to a stress problem, at the end or at every step. Predictions are :meth:`Problem.answer`.

    Attributes:
        problem: which.
    """

    problem: Problem

    @property
    def each_step(self) -> bool:  # type: ignore[override]  # as the problem has it
        """Whether the network puts out something at every step."""
        return self.problem.each_step

    def result(self, scores: Tensor, batch: SequenceBatch) -> StepResult:
        targets = batch.targets
        assert isinstance(targets, Tensor)
        scores = scores[:, : targets.shape[1]] if self.each_step else scores
        weight = float(len(batch))
        return StepResult(self.problem.loss(scores, targets), self.problem.answer(scores), targets, weight)

    def judges(self) -> dict[str, Judge]:
        return {"right": self.problem.right, "error": self.problem.errors}

    def rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """The ``target`` (as text where it is a sequence), whether the answer is ``right``, and its ``error``."""
        assert isinstance(result.targets, Tensor)
        targets = result.targets.tolist()
        return {
            "target": [" ".join(map(str, row)) for row in targets] if self.each_step else targets,
            "right": self.problem.right(result.predictions, result.targets).tolist(),
            "error": self.problem.errors(result.predictions, result.targets),
        }
