"""Window scaling: a network sees ``z = (t(y) - loc) / scale``, loc and scale those of the window's history."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, DataError

from .level_season import Smoothing

Statistic = Callable[[Tensor, Tensor, int], Tensor]
SMALLEST = 1e-3  # of a scale, as a share of the values' mean size (of 1 for logarithms): windows may be constant
FARTHEST = 5.0  # a logarithm may be forecast from where the window is: its loc, or its last value where that is 0


def _over(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid steps, ``[B, 1]``; 0 of none."""
    return torch.where(valid, values, 0).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)


def mean(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The mean.

    Example:
        >>> mean(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]), 1)
        tensor([[2.]])
    """
    return _over(y, valid)


def last(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The last value that is there.

    Example:
        >>> last(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]), 1)
        tensor([[3.]])
    """
    place = torch.where(valid, torch.arange(y.shape[1], device=y.device), 0).amax(1, keepdim=True)
    return torch.where(valid.any(1, keepdim=True), y.gather(1, place), 0)


def last_season(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The mean of the last season; of all where it is missing.

    Example:
        >>> last_season(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, True]]), 2)
        tensor([[6.]])
    """
    recent = valid[:, -season:]
    return torch.where(recent.any(1, keepdim=True), _over(y[:, -season:], recent), _over(y, valid))


def _quantile(y: Tensor, valid: Tensor, level: float) -> Tensor:
    return torch.where(valid, y, torch.nan).nanquantile(level, 1, keepdim=True).nan_to_num()


def median(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The median.

    Example:
        >>> median(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, True]]), 1)
        tensor([[3.]])
    """
    return _quantile(y, valid, 0.5)


def deviation(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The standard deviation.

    Example:
        >>> deviation(torch.tensor([[1.0, 3.0]]), torch.tensor([[True, True]]), 1)
        tensor([[1.]])
    """
    square = _over((y - _over(y, valid)).square(), valid)
    return torch.where(square > 0, square.clamp(min=1e-30).sqrt(), 0)


def quartiles(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """The distance between the quartiles.

    Example:
        >>> quartiles(torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]]), torch.ones(1, 5, dtype=torch.bool), 1)
        tensor([[2.]])
    """
    return _quantile(y, valid, 0.75) - _quantile(y, valid, 0.25)


def size(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """1 and the mean absolute value (Salinas et al. 2020, DeepAR, section 3.3).

    Example:
        >>> size(torch.tensor([[-1.0, 3.0]]), torch.tensor([[True, True]]), 1)
        tensor([[3.]])
    """
    return 1 + _over(y.abs(), valid)


def zero(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """0."""
    return y.new_zeros(len(y), 1)


def one(y: Tensor, valid: Tensor, season: int) -> Tensor:
    """1."""
    return y.new_ones(len(y), 1)


SCALINGS: dict[str, tuple[Statistic, Statistic]] = {
    "none": (zero, one),
    "mean": (zero, size),
    "std": (mean, deviation),
    "last": (last, deviation),
    "season": (last_season, deviation),
    "robust": (median, quartiles),
    "revin": (mean, deviation),
    "smoothing": (zero, deviation),
}


class Scaled(NamedTuple):
    """A window as a network sees it.

    Attributes:
        z: ``[B, L]``, 0 where a value is missing.
        loc: ``[B, 1]``.
        scale: ``[B, 1]``, positive.
        ahead: loc of the horizon's steps, ``[B, H]``, or ``[B, 1]`` where all have that of the window.
        near: t(y) that logarithms are kept within 5 of, ``[B, 1]``.
    """

    z: Tensor
    loc: Tensor
    scale: Tensor
    ahead: Tensor
    near: Tensor


class WindowScaling(nn.Module):
    """Scales windows by a table of ways, and forecasts back.

    Args:
        name: ``none``, ``mean`` (DeepAR's: over the mean size), ``std``, ``last`` (from the last value, over the
            deviation), ``season`` (from the mean of the last season), ``robust`` (median and quartiles) or ``revin``
            (``std`` with a learned factor and shift, Kim et al. 2022), or ``smoothing``: from a level and a season with
            learned coefficients (:class:`tasks.forecasting.level_season.Smoothing`).
        log: whether t is the logarithm, else nothing.
        season: steps of a season.
        horizon: steps of a forecast.

    Raises:
        ConfigError: no such way.

    Example:
        >>> scaling = WindowScaling("std", log=False, season=1, horizon=1)
        >>> scaling(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[True, True, False]])).z
        tensor([[-1.,  1.,  0.]])
    """

    def __init__(self, name: str, log: bool, season: int, horizon: int) -> None:
        super().__init__()
        if name not in SCALINGS:
            raise ConfigError(f"no scaling is called {name!r}: use {', '.join(SCALINGS)}")
        self.center, self.spread = SCALINGS[name]
        self.log, self.season, self.horizon = log, season, horizon
        self.affine = nn.Parameter(torch.tensor([1.0, 0.0])) if name == "revin" else None
        self.smoothing = Smoothing(season) if name == "smoothing" else None

    def transform(self, y: Tensor) -> Tensor:
        """t(y); NaN stays."""
        return y.clamp(min=torch.finfo(y.dtype).tiny).log() if self.log else y

    def restore(self, t: Tensor, near: Tensor) -> Tensor:
        """Y of t ``[B, ...]``; a logarithm is kept within 5 of ``near [B, 1]``."""
        if not self.log:
            return t
        near = near.reshape(len(near), *[1] * (t.ndim - 1))
        return t.maximum(near - FARTHEST).minimum(near + FARTHEST).exp()

    def forward(self, y: Tensor, valid: Tensor) -> Scaled:
        """Scale windows.

        Args:
            y: ``[B, L]``.
            valid: bool ``[B, L]``.

        Raises:
            DataError: a logarithm of a value that is not positive is wanted.
        """
        if self.log and not self.training and bool((valid & (y <= 0)).any()):
            raise DataError(
                "a value is not positive, and model.log needs its logarithm: leave these series out, or train without"
            )
        t = torch.where(valid, self.transform(torch.where(valid, y, 1)), 0)
        loc, apart, ahead = self.center(t, valid, self.season), t, t.new_zeros(1)
        if self.smoothing is not None:
            loc, season, ahead = self.smoothing(t, valid, self.horizon)
            apart = t - season
        scale = self.spread(apart, valid, self.season).maximum(self._least(t, valid))
        if self.affine is not None:
            scale = scale / self.affine[0]
            loc = loc - scale * self.affine[1]
        near = last(t, valid, self.season) if self.center is zero and self.smoothing is None else loc
        return Scaled(torch.where(valid, (apart - loc) / scale, 0), loc, scale, loc + ahead, near)

    def _least(self, t: Tensor, valid: Tensor) -> Tensor:
        """The smallest scale, ``[B, 1]``."""
        return t.new_full((len(t), 1), SMALLEST) if self.log else SMALLEST * _over(t.abs(), valid) + 1e-8
