"""When a problem counts as solved, as the papers that posed them say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def legal_are_most_active(scores: Tensor, legal: Tensor) -> Tensor:
    """Whether every symbol that may follow is more active than every one that may not.

    The criterion of Hochreiter and Schmidhuber (1997), section 5.1, for one step; a string is right if all its steps
    are, and the problem is solved when all training and all test strings are.

    Args:
        scores: ``[..., V]``, the outputs of a next-symbol predictor.
        legal: bool ``[..., V]``.

    Returns:
        bool ``[...]``; True where nothing or everything is legal.

    Example:
        >>> legal = torch.tensor([True, False, True])
        >>> legal_are_most_active(torch.tensor([[0.4, 0.1, 0.5], [0.4, 0.5, 0.1]]), legal)
        tensor([ True, False])
    """
    lowest = scores.masked_fill(~legal, torch.inf).amin(-1)
    return lowest > scores.masked_fill(legal, -torch.inf).amax(-1)


def all_within(outputs: Tensor, targets: Tensor, tolerance: float) -> Tensor:
    """Whether all outputs of a sequence are nearer to their targets than a tolerance.

    Hochreiter and Schmidhuber (1997): .04 for adding (section 5.4), .3 for temporal order (5.6); Gers et al. (2000):
    .49 for every output of continual embedded Reber.

    Args:
        outputs: ``[B, ...]``.
        targets: the same shape.
        tolerance: error that is too large already.

    Returns:
        bool ``[B]``.

    Example:
        >>> all_within(torch.tensor([[0.2, 0.9], [0.2, 0.6]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), 0.3)
        tensor([ True, False])
    """
    return ((outputs - targets).abs() < tolerance).reshape(len(outputs), -1).all(1)


class MostRecent:
    """Training is over when the most recent sequences were all right and their mean error is small.

    Hochreiter and Schmidhuber (1997): the 2,000 most recent, with a mean error under .01 (adding) or .1 (temporal
    order). The error is that of a sequence as it was presented, before the network learned from it.

    Args:
        error: the mean error that is too large already.
        count: how many sequences.

    Attributes:
        presented: sequences presented so far.
        solved_at: sequences presented when both held for the first time; None before.

    Example:
        >>> recent = MostRecent(error=0.5, count=3)
        >>> recent.update(torch.tensor([True, False, True]), torch.tensor([0.1, 0.9, 0.1]))
        >>> recent.update(torch.tensor([True, True, True]), torch.tensor([0.1, 0.1, 0.1]))
        >>> recent.solved_at
        5
    """

    solved_at: int | None = None

    def __init__(self, error: float, count: int = 2000) -> None:
        self.error, self.count = error, count
        self.presented = 0
        self._right = torch.zeros(0, dtype=torch.bool)
        self._errors = torch.zeros(0, dtype=torch.float64)

    def update(self, right: Tensor, errors: Tensor) -> None:
        """Take in a batch.

        Args:
            right: bool ``[B]``, in the order of presentation.
            errors: ``[B]``.
        """
        self._right = torch.cat([self._right, right.cpu()])
        self._errors = torch.cat([self._errors, errors.detach().cpu().double()])
        if self.solved_at is None and len(self._right) >= self.count:
            right_in = self._right.double().unfold(0, self.count, 1).mean(1) == 1
            small = self._errors.unfold(0, self.count, 1).mean(1) < self.error
            there = (right_in & small).nonzero().flatten()
            if len(there):
                self.solved_at = self.presented + len(right) - (len(self._right) - self.count) + int(there[0])
        self.presented += len(right)
        self._right, self._errors = self._right[-self.count + 1 :], self._errors[-self.count + 1 :]

    def state_dict(self) -> dict[str, Any]:
        """What the next :meth:`update` depends on."""
        return {
            "presented": self.presented,
            "solved_at": self.solved_at,
            "right": self._right.clone(),
            "errors": self._errors.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.presented, self.solved_at = state["presented"], state["solved_at"]
        self._right, self._errors = state["right"].clone(), state["errors"].clone()
