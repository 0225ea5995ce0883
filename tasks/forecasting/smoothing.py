"""Exponential smoothing of many series at once, fitted by squared error, as R's ``ets(..., opt.crit = "mse")`` is.

The errors ``e_t = y_t − l_{t−1} − φ b_{t−1}`` are linear in the initial level and trend, so that these have a closed
form for every choice of the other parameters; a grid that narrows around its best point finds those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BOUNDS = np.array([[1e-4, 0.9999], [1e-4, 1.0], [0.8, 0.98]])  # R's of α, of β as a share of α, of φ


@dataclass(frozen=True)
class Smoothing:
    """What is fitted, and how finely.

    Attributes:
        parameters: 1: α (ETS(A,N,N)); 2: and β (Holt, ETS(A,A,N)); 3: and φ (damped, ETS(A,Ad,N)).
        points: of the grid, along each parameter.
        rounds: of refinement; each narrows the grid to two of its steps.
    """

    parameters: int
    points: int
    rounds: int


SES = Smoothing(1, points=25, rounds=5)
HOLT = Smoothing(2, points=7, rounds=7)
DAMPED = Smoothing(3, points=5, rounds=7)


def smooth(histories: Sequence[Array], horizon: int, kind: Smoothing = SES) -> Array:
    """Forecasts ``[N, H]`` of exponential smoothing (Hyndman et al. 2008, ch. 5), fitted per series.

    ``l_t = l_{t−1} + φ b_{t−1} + α e_t``, ``b_t = φ b_{t−1} + β e_t``, forecast ``l_T + (φ + ... + φ^h) b_T``; with
    ``1e-4 ≤ α ≤ .9999``, ``1e-4 ≤ β ≤ α``, ``.8 ≤ φ ≤ .98`` (R's forecast 8.2: ``ses``, ``holt``).

    Args:
        histories: series ``[T_i]`` without NaN, each of at least one value.
        horizon: H.
        kind: what is fitted.

    Example:
        >>> smooth([np.array([5.0, 5.0, 5.0])], 2)
        array([[5., 5.]])
    """
    order = sorted(range(len(histories)), key=lambda i: -len(histories[i]))  # those that go on at a step come first
    values = np.zeros((len(histories[order[0]]), len(order)))
    for column, i in enumerate(order):
        values[: len(histories[i]), column] = histories[i]
    lengths = np.array([len(histories[i]) for i in order])
    level, trend, phi = _fitted(values, lengths, kind)
    damping = np.cumsum(phi[:, None] ** np.arange(1, horizon + 1), axis=1)
    forecasts = np.empty((len(order), horizon))
    forecasts[order] = level[:, None] + damping * trend[:, None]
    return forecasts


def _fitted(values: Array, lengths: npt.NDArray[np.int64], kind: Smoothing) -> tuple[Array, Array, Array]:
    """Last level, last trend and φ of each series."""
    bounds = BOUNDS[: kind.parameters, :, None]
    center = np.repeat(bounds.mean(1), len(lengths), axis=1)  # [parameters, N]
    width = (bounds[:, 1] - bounds[:, 0]) / 2
    steps = np.meshgrid(*[np.linspace(-1, 1, kind.points)] * kind.parameters, indexing="ij")
    offsets = np.stack([step.ravel() for step in steps])[:, None]  # [parameters, 1, G]
    each = np.arange(len(lengths))
    for _ in range(kind.rounds):
        grid = np.clip(center[..., None] + width[..., None] * offsets, bounds[:, :1], bounds[:, 1:])
        error, level, trend = _errors(values, lengths, grid)
        best = error.argmin(1)
        center, width = grid[:, each, best], width * 2 / (kind.points - 1)
    phi = center[2] if kind.parameters == 3 else np.ones(len(each))
    return level[each, best], trend[each, best], phi


def _errors(values: Array, lengths: npt.NDArray[np.int64], grid: Array) -> tuple[Array, Array, Array]:
    """Least sum of squared errors over the initial state, and the last level and trend with it: ``[N, G]`` each.

    Channel 0 starts from the first value and sees the series; channels 1 and 2 start from a level and a trend of 1 and
    see zeros: any other start is channel 0 plus a combination of these.
    """
    alpha = grid[0]
    beta = np.clip(grid[1] * alpha, 1e-4, alpha) if len(grid) > 1 else None
    phi = grid[2] if len(grid) > 2 else 1.0
    starts = 1 if beta is None else 2
    level = np.zeros((starts + 1, *alpha.shape))
    trend = np.zeros_like(level)
    level[0], level[1] = values[0][:, None], 1
    if beta is not None:
        trend[2] = 1
    products = np.zeros((starts + 1, *level.shape))
    for step, value in enumerate(values):
        n = int(np.searchsorted(-lengths, -step))  # series longer than this
        error = -level[:, :n]
        if beta is not None:
            ahead = trend[:, :n] * (phi if isinstance(phi, float) else phi[:n])
            error -= ahead
        error[0] += value[:n, None]
        if beta is not None:
            np.add(ahead, beta[:n] * error, out=trend[:, :n])
            level[:, :n] += ahead
        level[:, :n] += alpha[:n] * error
        for i in range(starts + 1):
            products[i, i:, :n] += error[i] * error[i:]
    return _best_start(products, level, trend)


def _best_start(products: Array, level: Array, trend: Array) -> tuple[Array, Array, Array]:
    """Minimize ``|e_0 + Σ x_i e_i|²`` given the products of the errors (upper triangle)."""
    starts = len(products) - 1
    squares = np.empty((*level.shape[1:], starts, starts))
    for i in range(starts):
        for j in range(starts):
            squares[..., i, j] = products[1 + min(i, j), 1 + max(i, j)]
        squares[..., i, i] *= 1 + 1e-12  # a series of one value says nothing about its trend
        squares[..., i, i] += 1e-12
    mixed = np.moveaxis(products[0, 1:], 0, -1)
    best = -np.linalg.solve(squares, mixed[..., None])[..., 0]
    error = products[0, 0] + (mixed * best).sum(-1)
    weights = np.concatenate([np.ones((1, *level.shape[1:])), np.moveaxis(best, -1, 0)])
    return error, (weights * level).sum(0), (weights * trend).sum(0)
