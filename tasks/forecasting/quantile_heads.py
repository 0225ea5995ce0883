"""Heads that know quantiles: at fixed levels, or at any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError

from .head import LocationScale, uniform
from .probabilistic import pinball_elements

Monotone = Literal["cumulative", "sorted"]


class Quantiles(LocationScale):
    """A number for each level, by pinball loss; between levels linear. The point forecast is the median.

    Args:
        levels: ascending, between 0 and 1, with .5 within their range.
        monotone: ``cumulative``: distances from the level nearest .5 are sums of softplus, so that no two cross;
            ``sorted``: the numbers in order (Chernozhukov et al. 2010).

    Raises:
        ConfigError: levels that are none, or not ascending, or all on one side of .5.

    Example:
        >>> head, one = Quantiles([0.1, 0.5, 0.9]), torch.ones(1, 1)
        >>> head.quantiles(torch.zeros(1, 1, 3), torch.tensor([0.1, 0.5, 0.7]), one, one)
        tensor([[[0.3069, 1.0000, 1.3466]]])
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9), monotone: Monotone = "cumulative") -> None:
        super().__init__()
        ascending = all(lower < upper for lower, upper in pairwise(levels))
        if not (levels and ascending and 0 < levels[0] <= 0.5 <= levels[-1] < 1):
            raise ConfigError(
                f"quantile levels {list(levels)} must ascend between 0 and 1 and have .5 within their range: "
                "give [0.1, 0.5, 0.9], say"
            )
        self.size, self.monotone = len(levels), monotone
        self.center = min(range(len(levels)), key=lambda place: abs(levels[place] - 0.5))
        self.register_buffer("levels", torch.tensor(list(levels)), persistent=False)

    def at_levels(self, raw: Tensor) -> Tensor:
        """Quantiles of z at the head's own levels, ``[B, H, size]``, ascending."""
        if self.monotone == "sorted":
            return raw.sort(-1).values
        center, steps = self.center, F.softplus(raw)
        middle = raw[..., center : center + 1]
        below = middle - steps[..., :center].flip(-1).cumsum(-1).flip(-1)
        return torch.cat([below, middle, middle + steps[..., center + 1 :].cumsum(-1)], -1)

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        return pinball_elements(self.at_levels(raw), z, self.levels.to(raw.dtype)).mean(-1)

    def z_mean(self, raw: Tensor) -> Tensor:
        return self.z_quantiles(raw, raw.new_tensor([0.5]))[..., 0]

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        """Linear between the head's levels.

        Raises:
            ConfigError: a level beyond them.
        """
        first, last = float(self.levels[0]), float(self.levels[-1])
        if float(levels.min()) < first - 1e-6 or float(levels.max()) > last + 1e-6:
            raise ConfigError(
                f"quantiles from {float(levels.min()):.4g} to {float(levels.max()):.4g} are wanted, the head was "
                f"trained for {first:.4g} to {last:.4g}: train it with those levels"
            )
        return self._between(raw, levels)

    def _between(self, raw: Tensor, levels: Tensor) -> Tensor:
        values, own = self.at_levels(raw), self.levels.to(raw.dtype)
        if self.size == 1:
            return values.expand(*raw.shape[:2], levels.shape[-1])
        wanted = levels.to(raw).expand(*raw.shape[:2], levels.shape[-1]).contiguous()
        right = torch.searchsorted(own, wanted).clamp(1, self.size - 1)
        share = ((wanted - own[right - 1]) / (own[right] - own[right - 1])).clamp(0, 1)
        return torch.lerp(values.gather(-1, right - 1), values.gather(-1, right), share)

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        """By inversion; draws beyond the outer levels are at these."""
        return self._between(raw, uniform(raw, count, rng))


class ImplicitQuantiles(LocationScale):
    """Any quantile, from a network that is told the level: ``w · (ψ ⊙ (1 + φ(τ))) + c``, by pinball loss.

    ``φ(τ) = ReLU(W cos(π i τ) + b)``, i = 0 ... n − 1 (Dabney et al. 2018; Gouttes et al. 2021 for forecasts).
    The point forecast is the median. Levels that are asked for together are sorted, so that they do not cross.

    Args:
        size: features ψ of a step.
        cosines: n.
        draws: levels, uniform, that the loss averages over at each step.

    Example:
        >>> head, one = ImplicitQuantiles(size=8), torch.ones(1, 1)
        >>> head.quantiles(torch.zeros(1, 5, 8), torch.tensor([0.1, 0.9]), one, one).shape
        torch.Size([1, 5, 2])
    """

    frequencies: Tensor

    def __init__(self, size: int = 32, cosines: int = 64, draws: int = 8) -> None:
        super().__init__()
        self.size, self.draws = size, draws
        self.embedding, self.output = nn.Linear(cosines, size), nn.Linear(size, 1)
        self.register_buffer("frequencies", torch.pi * torch.arange(cosines), persistent=False)

    def at(self, raw: Tensor, levels: Tensor) -> Tensor:
        """Quantiles of z at ``levels [B, H, S]``, as they come."""
        phi = F.relu(self.embedding(torch.cos(levels.unsqueeze(-1) * self.frequencies.to(levels.dtype))))
        z: Tensor = self.output(raw.unsqueeze(-2) * (1 + phi)).squeeze(-1)
        return z

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        levels = uniform(raw, self.draws, None)
        return pinball_elements(self.at(raw, levels), z, levels).mean(-1)

    def z_mean(self, raw: Tensor) -> Tensor:
        return self.z_quantiles(raw, raw.new_tensor([0.5]))[..., 0]

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        levels = levels.to(raw).expand(*raw.shape[:2], levels.shape[-1])
        back = levels.argsort(-1).argsort(-1)
        return self.at(raw, levels).sort(-1).values.gather(-1, back)

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        return self.at(raw, uniform(raw, count, rng))
