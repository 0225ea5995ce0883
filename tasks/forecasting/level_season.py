"""Level and season of a window by exponential smoothing, whose coefficients are learned with the network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

START = -1.0  # of the coefficients before the sigmoid: .27


class LevelSeason(NamedTuple):
    """What smoothing found.

    Attributes:
        level: at the window's end, ``[B, 1]``.
        season: within the window, ``[B, L]``.
        ahead: the last season, repeated over the horizon, ``[B, H]``.
    """

    level: Tensor
    season: Tensor
    ahead: Tensor


class Smoothing(nn.Module):
    """``l_t = α (y_t − s_{t−m}) + (1 − α) l_{t−1}``, ``s_t = γ (y_t − l_t) + (1 − γ) s_{t−m}``.

    Holt-Winters; of logarithms the multiplicative form of ES-RNN (Smyl 2020, A hybrid method of exponential smoothing
    and recurrent neural networks for time series forecasting, section 3). α and γ are learned; Smyl learns a pair for
    each series, here one pair serves all, new series too. The level starts at the window's mean, the season at 0; a
    missing step leaves both as they are.

    Args:
        season: m; 1: a level alone.

    Example:
        >>> found = Smoothing(2)(torch.tensor([[1.0, 3.0] * 50]), torch.ones(1, 100, dtype=torch.bool), 3)
        >>> round(found.level.item(), 3), found.ahead.round(decimals=3).tolist()
        (2.0, [[-1.0, 1.0, -1.0]])
    """

    def __init__(self, season: int) -> None:
        super().__init__()
        self.season = season
        self.coefficients = nn.Parameter(torch.full((2,), START))

    def forward(self, y: Tensor, valid: Tensor, horizon: int) -> LevelSeason:
        """Smooth windows.

        Args:
            y: ``[B, L]``, anything where not valid.
            valid: bool ``[B, L]``.
            horizon: H.
        """
        alpha, gamma = self.coefficients.sigmoid().unbind()
        level = torch.where(valid, y, 0).sum(1) / valid.sum(1).clamp(min=1)
        seasons = [torch.zeros_like(level)] * self.season
        for step, (value, there) in enumerate(zip(y.unbind(1), valid.unbind(1), strict=True)):
            before = seasons[step]
            level = torch.where(there, alpha * (value - before) + (1 - alpha) * level, level)
            smoothed = torch.where(there, gamma * (value - level) + (1 - gamma) * before, before)
            seasons.append(smoothed if self.season > 1 else before)
        ahead = [seasons[y.shape[1] + step % self.season] for step in range(horizon)]
        return LevelSeason(level.unsqueeze(1), torch.stack(seasons[: y.shape[1]], 1), torch.stack(ahead, 1))
