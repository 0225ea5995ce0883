"""One linear model of all series, from the last steps to the horizon: the first thing that a network must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import DataError

Array = npt.NDArray[np.float64]
MOST_WINDOWS = 250  # of a series, its last ones
LONGEST = 512  # steps that are looked back on


def pooled_linear(histories: Sequence[Array], horizon: int, season: int, ridge: float = 0.1) -> Array:
    """Forecasts ``[N, H]`` by least squares over the last windows of all series.

    A window is L = 4 max(season, H) steps (at most 512) without the mean of its last season, in units of its series'
    mean seasonal difference; each future step is linear in them: ``(X'X + λ n I) W = X'Y``. A shorter history is
    preceded by its first value.

    Args:
        histories: series ``[T_i]`` without NaN.
        horizon: H.
        season: steps of a season.
        ridge: λ.

    Raises:
        DataError: no series is longer than the horizon.

    Example:
        >>> pooled_linear([np.tile([1.0, 3.0, 2.0], 20)], 3, season=2).round(1)
        array([[1., 3., 2.]])
    """
    longest = max(len(history) for history in histories)
    if longest <= horizon:
        raise DataError(f"the longest history has {longest} steps, a linear model of {horizon} ahead needs more")
    lookback = min(4 * max(season, horizon), LONGEST, longest - horizon)
    square, mixed, count = np.zeros((lookback, lookback)), np.zeros((lookback, horizon)), 0
    for history in (history for history in histories if len(history) > horizon):
        padded, scale = _padded(history, lookback + horizon), _scale(history, season)
        windows = np.lib.stride_tricks.sliding_window_view(padded, lookback + horizon)[-MOST_WINDOWS:]
        center = _center(windows[:, :lookback], season)
        past, future = (windows[:, :lookback] - center) / scale, (windows[:, lookback:] - center) / scale
        square, mixed, count = square + past.T @ past, mixed + past.T @ future, count + len(past)
    weights = np.linalg.solve(square + ridge * count * np.eye(lookback), mixed)
    last = np.stack([_padded(history, lookback)[-lookback:] for history in histories])
    center = _center(last, season)
    forecasts: Array = center + (last - center) @ weights
    return forecasts


def _padded(history: Array, steps: int) -> Array:
    """At least so many steps, the first value before them."""
    return np.pad(history, (max(steps - len(history), 0), 0), mode="edge")


def _center(windows: Array, season: int) -> Array:
    """The mean of the last season of windows ``[n, L]``: ``[n, 1]``."""
    center: Array = windows[:, -season:].mean(1, keepdims=True)
    return center


def _scale(history: Array, season: int) -> float:
    """Mean absolute difference between seasons; 1 where there is none."""
    return float(np.abs(history[season:] - history[:-season]).mean() if len(history) > season else 0) or 1.0
