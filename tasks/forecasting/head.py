"""Heads: what a network's numbers for a step say of the target there. Here: what all have in common, and the point.

A head takes ``raw [B, H, size]``. ``scale`` and ``loc``, ``[B, 1]`` or ``[B, H]``, are the window's: the network sees,
and speaks of, ``z = (y − loc) / scale``. Losses are those of z (of y for counts); forecasts are in units of y.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .functional import valid_steps

PointObjective = Literal["mae", "mse", "huber"]


class Head(nn.Module, ABC):
    """From numbers to a forecast.

    Attributes:
        size: how many numbers a step needs.
    """

    size: int

    def loss(self, raw: Tensor, target: Tensor, mask: Tensor | None, scale: Tensor, loc: Tensor) -> Tensor:
        """Mean over the valid elements, 0 of none: a scalar.

        Args:
            raw: ``[B, H, size]``.
            target: ``[B, H]``; NaN where it is missing.
            mask: bool ``[B, H]``; None: all steps count.
            scale: of the window, positive.
            loc: of the window.
        """
        valid = valid_steps(target, mask)
        kept = torch.where(valid.unsqueeze(-1), raw, 0)
        values = self.elements(kept, torch.where(valid, target, loc), scale, loc)  # loc does no harm: z = 0
        return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)

    @abstractmethod
    def elements(self, raw: Tensor, target: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        """The loss of each element, ``[B, H]``; no target is NaN."""

    @abstractmethod
    def mean(self, raw: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        """The point forecast ``[B, H]``: the mean; the median of heads that know quantiles alone."""

    @abstractmethod
    def quantiles(self, raw: Tensor, levels: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        """Quantiles ``[B, H, Q]`` at ``levels [Q]``."""

    @abstractmethod
    def sample(self, raw: Tensor, count: int, scale: Tensor, loc: Tensor, rng: torch.Generator | None) -> Tensor:
        """Independent draws ``[B, H, count]``."""


class LocationScale(Head):
    """A head that speaks of z alone."""

    @abstractmethod
    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        """The loss of each element of ``z [B, H]``."""

    @abstractmethod
    def z_mean(self, raw: Tensor) -> Tensor:
        """The point forecast of z, ``[B, H]``."""

    @abstractmethod
    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        """Quantiles of z at ``levels [Q]`` or ``[B, H, Q]``: ``[B, H, Q]``."""

    @abstractmethod
    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        """Draws of z, ``[B, H, count]``."""

    def elements(self, raw: Tensor, target: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        return self.z_loss(raw, (target - loc) / scale)

    def mean(self, raw: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        return loc + scale * self.z_mean(raw)

    def quantiles(self, raw: Tensor, levels: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        return loc.unsqueeze(-1) + scale.unsqueeze(-1) * self.z_quantiles(raw, levels)

    def sample(self, raw: Tensor, count: int, scale: Tensor, loc: Tensor, rng: torch.Generator | None) -> Tensor:
        return loc.unsqueeze(-1) + scale.unsqueeze(-1) * self.z_sample(raw, count, rng)


def uniform(raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
    """Uniform draws ``[B, H, count]`` strictly between 0 and 1."""
    drawn = torch.rand(*raw.shape[:2], count, generator=rng, device=raw.device, dtype=raw.dtype)
    tiny = torch.finfo(raw.dtype).eps / 2
    return drawn.clamp(tiny, 1 - tiny)


def _huber(error: Tensor) -> Tensor:
    return F.huber_loss(error, torch.zeros_like(error), reduction="none")


POINT_ERRORS: dict[PointObjective, Callable[[Tensor], Tensor]] = {
    "mae": torch.Tensor.abs,
    "mse": torch.Tensor.square,
    "huber": _huber,
}


class Point(LocationScale):
    """One number. Every quantile and every draw is that number: conformal intervals say how far to trust it.

    Args:
        objective: absolute, squared or Huber's error of z (δ = 1).

    Example:
        >>> head, one = Point("mae"), torch.ones(1, 1)
        >>> head.loss(torch.tensor([[[0.5]]]), torch.tensor([[3.0]]), None, 2 * one, one)
        tensor(0.5000)
        >>> head.mean(torch.tensor([[[0.5]]]), 2 * one, one)
        tensor([[2.]])
    """

    size = 1

    def __init__(self, objective: PointObjective = "mae") -> None:
        super().__init__()
        self.error = POINT_ERRORS[objective]

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        return self.error(raw[..., 0] - z)

    def z_mean(self, raw: Tensor) -> Tensor:
        return raw[..., 0]

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        return raw.expand(*raw.shape[:2], levels.shape[-1])

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        return raw.expand(*raw.shape[:2], count)
