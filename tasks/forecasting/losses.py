"""Losses in units of the target, by name: measures as training objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from . import functional
from .metrics import Truth

LossName = Literal["head", "mae", "mse", "huber", "smape", "mase", "owa"]
SMALLEST_SCALE = 0.001  # of MASE in a loss, as a share of the target's mean size
SeriesLoss = Callable[[Tensor, Truth, tuple[float, float]], Tensor]

SERIES_LOSSES: dict[str, SeriesLoss] = {
    "mae": lambda forecast, truth, _: functional.mae(forecast, truth.target, truth.mask),
    "mse": lambda forecast, truth, _: functional.mse(forecast, truth.target, truth.mask),
    "huber": lambda forecast, truth, _: functional.huber(forecast, truth.target, truth.mask),
    "smape": lambda forecast, truth, _: functional.smape(forecast, truth.target, truth.mask),
    "mase": lambda forecast, truth, _: functional.mase(forecast, truth.target, truth.scale, truth.mask, SMALLEST_SCALE),
    "owa": lambda forecast, truth, reference: functional.owa(
        forecast, truth.target, truth.scale, reference, truth.mask, SMALLEST_SCALE
    ),
}


def series_loss(name: str, forecast: Tensor, truth: Truth, reference: list[float]) -> tuple[Tensor, float]:
    """Mean over the series of which the measure is defined, and how many these are.

    Args:
        name: of :data:`SERIES_LOSSES`.
        forecast: ``[B, H]``.
        truth: of the batch.
        reference: sMAPE and MASE of Naive2, for ``owa``.

    Example:
        >>> import torch
        >>> ones = torch.ones(2, 3)
        >>> truth = Truth(ones, ones.bool(), ones[:, 0], ones[:, 0], ones)
        >>> series_loss("mae", torch.zeros(2, 3), truth, [1.0, 1.0])
        (tensor(1.), 2.0)
    """
    values = SERIES_LOSSES[name](forecast, truth, (reference[0], reference[1]))
    return functional.mean_over_series(values), float((~values.isnan()).sum())
