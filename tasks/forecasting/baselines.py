"""Forecasts that a model must beat: the benchmarks of the M4 competition, and a linear model of all series.

A baseline takes ``(histories, horizon, season)`` and gives ``[N, H]``, float64. Histories are series ``[T_i]`` of any
lengths, oldest value first. A missing value (NaN) is the value before it; those before the first value are left out.
The formulas are those of M4-methods, ``Benchmarks and Evaluation.R``, whose published forecasts they repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import DataError

from .linear import pooled_linear
from .seasonality import Deseasonalized
from .smoothing import DAMPED, HOLT, SES, Smoothing, smooth

Array = npt.NDArray[np.float64]
Histories = Sequence[npt.NDArray[np.floating]]
Baseline = Callable[[Histories, int, int], Array]


def filled(histories: Histories) -> list[Array]:
    """The histories in float64, the last observation carried forward.

    Raises:
        DataError: a series has no value.

    Example:
        >>> filled([np.array([np.nan, 1.0, np.nan, 3.0])])
        [array([1., 1., 3.])]
    """
    whole = []
    for i, history in enumerate(histories):
        present = ~np.isnan(history)
        if not present.any():
            raise DataError(f"series {i} has no value to forecast from: take it out, or give it one")
        source = np.maximum.accumulate(np.where(present, np.arange(len(history)), 0))
        whole.append(np.asarray(history, np.float64)[source][int(present.argmax()) :])
    return whole


def naive(histories: Histories, horizon: int, season: int = 1) -> Array:
    """The last value.

    Example:
        >>> naive([np.array([1.0, 2.0])], 3)
        array([[2., 2., 2.]])
    """
    return np.stack([np.full(horizon, history[-1]) for history in filled(histories)])


def seasonal_naive(histories: Histories, horizon: int, season: int) -> Array:
    """The value of the same place in the last season (of a shorter history: all of it, repeated).

    Example:
        >>> seasonal_naive([np.array([9.0, 1.0, 2.0])], 3, season=2)
        array([[1., 2., 1.]])
    """
    return np.stack([np.resize(history[-season:], horizon) for history in filled(histories)])


def naive2(histories: Histories, horizon: int, season: int) -> Array:
    """The last value without its season, with the season put back where :func:`is_seasonal` finds one.

    Example:
        >>> naive2([np.tile([1.0, 3.0], 6)], 3, season=2)
        array([[1., 3., 1.]])
    """
    return _on_deseasonalized(histories, season, lambda plain: naive(plain, horizon))


def ses(histories: Histories, horizon: int, season: int) -> Array:
    """Simple exponential smoothing of the series without its season (:mod:`tasks.forecasting.smoothing`).

    Example:
        >>> ses([np.full(4, 2.0)], 2, season=1)
        array([[2., 2.]])
    """
    return _smoothed(histories, horizon, season, SES)


def holt(histories: Histories, horizon: int, season: int) -> Array:
    """Holt's linear trend of the series without its season.

    The fit is the least squared error; R's optimizer stops elsewhere on some series, so that M4's OWA differ: Hourly
    2.481 (published 2.749), Weekly .962 (.966); of :func:`damped` 1.142 (1.141) and .925 (.917), of :func:`comb` 1.478
    (1.556) and .929 (.926).

    Example:
        >>> holt([np.arange(8.0)], 2, season=1).round(3)
        array([[8., 9.]])
    """
    return _smoothed(histories, horizon, season, HOLT)


def damped(histories: Histories, horizon: int, season: int) -> Array:
    """Holt's damped trend of the series without its season.

    Example:
        >>> damped([np.full(8, 2.0)], 2, season=1).round(3)
        array([[2., 2.]])
    """
    return _smoothed(histories, horizon, season, DAMPED)


def comb(histories: Histories, horizon: int, season: int) -> Array:
    """The mean of :func:`ses`, :func:`holt` and :func:`damped`.

    Example:
        >>> comb([np.full(8, 2.0)], 2, season=1).round(3)
        array([[2., 2.]])
    """
    return (ses(histories, horizon, season) + holt(histories, horizon, season) + damped(histories, horizon, season)) / 3


def theta(histories: Histories, horizon: int, season: int) -> Array:
    """The classical theta method of the series without its season.

    The mean of the least-squares line and of simple exponential smoothing of ``2 y − line`` (Assimakopoulos and
    Nikolopoulos 2000; ``Theta.classic``). A negative forecast of a positive series becomes 0.

    Example:
        >>> theta([np.arange(1.0, 9.0)], 2, season=1).round(2)
        array([[8.5, 9. ]])
    """

    def classic(plain: list[Array]) -> Array:
        lines = [_line(history, horizon) for history in plain]
        curved = smooth([2 * history - line[:-horizon] for history, line in zip(plain, lines, strict=True)], horizon)
        forecasts = (curved + np.stack([line[-horizon:] for line in lines])) / 2
        positive = np.array([history.min() > 0 for history in plain])
        return np.where(positive[:, None], np.maximum(forecasts, 0), forecasts)

    return _on_deseasonalized(histories, season, classic)


def linear(histories: Histories, horizon: int, season: int) -> Array:
    """One linear model of all series (:func:`~tasks.forecasting.linear.pooled_linear`); not one of M4's.

    Example:
        >>> linear([np.tile([1.0, 3.0], 20)], 2, season=2).round(1)
        array([[1., 3.]])
    """
    return pooled_linear(filled(histories), horizon, season)


def _line(history: Array, horizon: int) -> Array:
    """The least-squares line over the history and the horizon: ``[T + H]``."""
    steps = np.arange(len(history) + horizon) - (len(history) - 1) / 2
    past = steps[: len(history)]
    slope = past @ history / max(float(past @ past), 1e-300)
    line: Array = history.mean() + slope * steps
    return line


def _smoothed(histories: Histories, horizon: int, season: int, kind: Smoothing) -> Array:
    return _on_deseasonalized(histories, season, lambda plain: smooth(plain, horizon, kind))


def _on_deseasonalized(histories: Histories, season: int, forecast: Callable[[list[Array]], Array]) -> Array:
    parts = [Deseasonalized.of(history, season) for history in filled(histories)]
    forecasts = forecast([part.history for part in parts])
    return np.stack([part.restore(row) for part, row in zip(parts, forecasts, strict=True)])


BASELINES: dict[str, Baseline] = {
    "naive": naive,
    "seasonal_naive": seasonal_naive,
    "naive2": naive2,
    "ses": ses,
    "holt": holt,
    "damped": damped,
    "comb": comb,
    "theta": theta,
    "linear": linear,
}
