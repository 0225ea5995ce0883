"""Is a series seasonal, and its classical decomposition: what M4's benchmarks do before they forecast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def is_seasonal(history: Array, season: int, critical: float = 1.645) -> bool:
    """Whether the autocorrelation at lag m is beyond its 90 % limit.

    ``|r_m| > 1.645 √((1 + 2 Σ_{k<m} r_k²) / n)``; never of fewer than three seasons (M4-methods, ``Benchmarks and
    Evaluation.R``, ``SeasonalityTest``). R's ``acf`` stops at lag ``10 log10(n)`` and the contest's code then says no;
    here the lag is always reached (none of M4's series differs).

    Args:
        history: ``[T]``, without NaN.
        season: m; 1 is never seasonal.
        critical: the two-sided 90 % quantile of the normal distribution.

    Example:
        >>> is_seasonal(np.tile([1.0, 2.0, 3.0, 2.0], 5), 4), is_seasonal(np.arange(20.0), 1)
        (True, False)
    """
    steps = len(history)
    if season < 2 or steps < 3 * season:
        return False
    centered = history - history.mean()
    power = float(centered @ centered)
    if power == 0:
        return False
    correlation = np.array([centered[lag:] @ centered[: steps - lag] for lag in range(1, season + 1)]) / power
    limit = critical * np.sqrt((1 + 2 * np.square(correlation[:-1]).sum()) / steps)
    return bool(abs(correlation[-1]) > limit)


def seasonal_indices(history: Array, season: int, additive: bool = False) -> Array:
    """One index for each step of a season, by classical decomposition (R's ``decompose``): ``[m]``.

    The history over (or minus) its centered moving average, averaged for each place in the season, then over (or minus)
    the indices' own mean. Index 0 is the season's place of ``history[0]``.

    Args:
        history: ``[T]``, at least two seasons, without NaN.
        season: m.
        additive: minus instead of over.

    Example:
        >>> seasonal_indices(np.tile([1.0, 3.0], 6), 2)
        array([0.5, 1.5])
    """
    window = np.full(season, 1 / season)
    if season % 2 == 0:
        window = np.append(window, 1 / season)
        window[[0, -1]] /= 2
    trend = np.full(len(history), np.nan)
    half = len(window) // 2
    trend[half : len(history) - half] = np.convolve(history, window, "valid")
    detrended = history - trend if additive else history / trend
    index = np.array([np.nanmean(detrended[place::season]) for place in range(season)])
    normed: Array = index - index.mean() if additive else index / index.mean()
    return normed


@dataclass(frozen=True)
class Deseasonalized:
    """A history without its season, and what to put back on forecasts.

    Attributes:
        history: ``[T]``.
        index: ``[m]``, that of the first step after the history first; ``[1]``, neutral, where there is no season.
        additive: whether the index is added rather than multiplied with.
    """

    history: Array
    index: Array
    additive: bool

    @classmethod
    def of(cls, history: Array, season: int) -> Deseasonalized:
        """By :func:`is_seasonal` and :func:`seasonal_indices`; additive where a value is not positive (never in M4).

        Example:
            >>> plain = Deseasonalized.of(np.tile([1.0, 3.0], 6), 2)
            >>> plain.history[:3], plain.restore(plain.history[:3])
            (array([2., 2., 2.]), array([1., 3., 1.]))
        """
        additive = bool(history.min() <= 0)
        if not is_seasonal(history, season):
            return cls(history, np.full(1, 0.0 if additive else 1.0), additive)
        index = seasonal_indices(history, season, additive)
        repeated = np.resize(index, len(history))
        plain = history - repeated if additive else history / repeated
        return cls(plain, np.roll(index, -len(history) % season), additive)

    def restore(self, forecast: Array) -> Array:
        """The forecast ``[H]`` of the plain history with its season."""
        repeated = np.resize(self.index, len(forecast))
        return forecast + repeated if self.additive else forecast * repeated
