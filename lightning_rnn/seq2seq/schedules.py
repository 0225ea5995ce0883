"""Scheduled sampling: training on the model's own words, more and more of them (Bengio et al. 2015, section 2.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_rnn.errors import require

ScheduleKind = Literal["linear", "exponential", "inverse_sigmoid"]


def linear(step: int, k: float, c: float, floor: float) -> float:
    r""":math:`\epsilon_i = \max(\epsilon, k - c i)`, with ``floor`` for :math:`\epsilon`.

    Example:
        >>> linear(2, 1.0, 0.25, 0.1), linear(99, 1.0, 0.25, 0.1)
        (0.5, 0.1)
    """
    return max(floor, k - c * step)


def exponential(step: int, k: float) -> float:
    r""":math:`\epsilon_i = k^i`, :math:`k < 1`.

    Example:
        >>> exponential(2, 0.5)
        0.25
    """
    return float(k**step)


def inverse_sigmoid(step: int, k: float) -> float:
    r""":math:`\epsilon_i = k / (k + e^{i / k})`, :math:`k \ge 1`.

    Example:
        >>> inverse_sigmoid(0, 3.0), inverse_sigmoid(10**6, 1.0)
        (0.75, 0.0)
    """
    return 0.0 if step / k > 700 else k / (k + math.exp(step / k))  # e^700 is near the end of float64


@dataclass(frozen=True)
class Schedule:
    r"""The probability :math:`\epsilon_i` of reading the target's word, not the model's, at training step ``i``.

    Attributes:
        kind: ``linear``, ``exponential`` or ``inverse_sigmoid``.
        k: of the formula: linear in 0..1, exponential below 1 (and above 0), inverse sigmoid at least 1.
        c: slope of ``linear``.
        floor: lowest value of ``linear``.

    Raises:
        ConfigError: no such kind, or a number is out of its range.

    Example:
        >>> Schedule("inverse_sigmoid", 3.0)(0)
        0.75
    """

    kind: ScheduleKind = "linear"
    k: float = 1.0
    c: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        require(self.kind in _RANGES, f"schedule kind is {self.kind!r}: use {', '.join(_RANGES)}")
        fits, wanted = _RANGES[self.kind]
        require(fits(self.k), f"schedule k is {self.k}: {self.kind} takes {wanted}")
        require(self.c >= 0, f"schedule c is {self.c}: give 0 or more")
        require(0 <= self.floor <= 1, f"schedule floor is {self.floor}: give 0 to 1")

    def __call__(self, step: int) -> float:
        """The probability at training step ``step``, counted from 0."""
        if self.kind == "linear":
            return linear(step, self.k, self.c, self.floor)
        return exponential(step, self.k) if self.kind == "exponential" else inverse_sigmoid(step, self.k)


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "linear": (lambda k: 0 <= k <= 1, "0 to 1"),
    "exponential": (lambda k: 0 < k < 1, "more than 0, less than 1"),
    "inverse_sigmoid": (lambda k: k >= 1, "1 or more"),
}


def mix(gold: Tensor, predicted: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Each word of ``gold`` with this probability, else that of ``predicted``: a coin of its own for every place.

    Args:
        gold: the target's words, int64, any shape.
        predicted: the model's, the same shape.
        probability: of the target's word: 1 is teacher forcing.
        generator: of the coins; None: torch's default one.

    Returns:
        int64, the same shape.

    Raises:
        ValueError: the shapes differ, or ``probability`` is not in 0..1.

    Example:
        >>> mix(torch.tensor([5, 6]), torch.tensor([7, 8]), 1.0).tolist()
        [5, 6]
    """
    if gold.shape != predicted.shape:
        raise ValueError(f"mix: gold is {list(gold.shape)}, predicted {list(predicted.shape)}: give the same shape")
    if not 0 <= probability <= 1:
        raise ValueError(f"mix: probability is {probability}: give 0 to 1")
    coins = torch.rand(gold.shape, generator=generator, device=gold.device)
    return gold.where(coins < probability, predicted)
