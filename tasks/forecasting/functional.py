"""Errors of point forecasts, a value per series, as the M4 competition's code computes them.

Forecasts and targets are floating ``[B, H]``, series by steps of the horizon. A step counts where ``mask`` (bool
``[B, H]``, None: everywhere) is True and the target is not NaN. A series without such a step, or for which the measure
is not defined, gives NaN, and :func:`mean_over_series` leaves it out; a forecast that is NaN at a step that counts has
an infinite error. Everything is differentiable in the forecast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_steps(target: Tensor, mask: Tensor | None) -> Tensor:
    """Where there is something to compare with, bool ``[B, H]``.

    Example:
        >>> valid_steps(torch.tensor([[1.0, float("nan"), 2.0]]), torch.tensor([[True, True, False]])).tolist()
        [[True, False, False]]
    """
    present = ~target.isnan()
    return present if mask is None else present & mask


def mean_over_steps(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of errors ``[B, H, ...]`` over the ``valid [B, H]`` steps of each series: ``[B, ...]``; NaN of none.

    An error that is NaN is taken as infinite: the forecast is no number, and must not be left out of an average.

    Example:
        >>> mean_over_steps(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), torch.tensor([[True, True], [False, False]]))
        tensor([2., nan])
    """
    shape = valid.shape + (1,) * (values.ndim - 2)
    steps = valid.sum(1).reshape(shape[:1] + shape[2:])
    mean = torch.where(valid.reshape(shape), values, 0).sum(1) / steps.clamp(min=1)
    return torch.where(steps > 0, torch.where(mean.isnan(), torch.inf, mean), torch.nan)


def mean_over_series(values: Tensor) -> Tensor:
    """Mean of ``values`` over the series where it is defined; 0 where it is for none. A scalar, differentiable.

    Example:
        >>> mean_over_series(torch.tensor([1.0, float("nan"), 3.0]))
        tensor(2.)
    """
    defined = ~values.isnan()
    return torch.where(defined, values, 0).sum() / defined.sum().clamp(min=1)


def difference(forecast: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """``f − y`` at valid steps, 0 at others, whatever stands there: ``[B, H]``."""
    return torch.where(valid, forecast, 0) - torch.where(valid, target, 0)


def mae(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error, ``mean |y − f|``: ``[B]``.

    Example:
        >>> mae(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([1.5000])
    """
    valid = valid_steps(target, mask)
    return mean_over_steps(difference(forecast, target, valid).abs(), valid)


def mse(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error, ``mean (y − f)²``: ``[B]``.

    Example:
        >>> mse(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([2.5000])
    """
    valid = valid_steps(target, mask)
    return mean_over_steps(difference(forecast, target, valid).square(), valid)


def huber(forecast: Tensor, target: Tensor, mask: Tensor | None = None, delta: float = 1.0) -> Tensor:
    """Mean of ``½ e²`` where ``|e| ≤ δ``, else ``δ (|e| − ½ δ)`` (Huber 1964): ``[B]``.

    Example:
        >>> huber(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([1.])
    """
    valid = valid_steps(target, mask)
    error = difference(forecast, target, valid)
    return mean_over_steps(torch.nn.functional.huber_loss(error, torch.zeros_like(error), "none", delta), valid)


def smape(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Symmetric mean absolute percentage error: ``[B]``, 0 to 200.

    ``mean 200 |y − f| / (|y| + |f|)``, 0/0 = 0 (M4-methods, ``Benchmarks and Evaluation.R``, ``smape_cal``; Makridakis
    et al. 2020, The M4 Competition).

    Example:
        >>> smape(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([50.])
    """
    valid = valid_steps(target, mask)
    error = difference(forecast, target, valid).abs()
    size = torch.where(valid, forecast, 0).abs() + torch.where(valid, target, 0).abs()
    tiny = torch.finfo(size.dtype).eps ** 2  # keeps the gradient finite; changes 0/0 alone
    return mean_over_steps(200 * (error / size.clamp(min=tiny)), valid)


def seasonal_scale(history: Tensor, season: int, mask: Tensor | None = None, power: int = 1) -> Tensor:
    """In-sample error of the seasonal naive forecast, ``mean |y_t − y_{t−m}|^p`` over ``t > m``: ``[B]``.

    The scale of :func:`mase` and MSIS with ``p = 1`` (M4-methods, ``mase_cal``; m = 1 for yearly, weekly and daily
    series, 4, 12 and 24 for quarterly, monthly and hourly ones), of :func:`rmsse` with ``p = 2``, ``m = 1`` (M5
    Competitors' Guide). Over the pairs of which both values are there; NaN of none.

    Args:
        history: the part that may be learnt from, ``[B, T]``, padded on either side.
        season: m, steps of a season.
        mask: bool ``[B, T]``, True where a value is real.
        power: p.

    Example:
        >>> seasonal_scale(torch.tensor([[1.0, 2.0, 4.0, 3.0]]), season=1)
        tensor([1.3333])
    """
    valid = valid_steps(history, mask)
    pairs = valid[:, season:] & valid[:, :-season]
    step = difference(history[:, season:], history[:, :-season], pairs).abs() ** power
    return mean_over_steps(step, pairs)


def scaled(values: Tensor, scale: Tensor) -> Tensor:
    """``values / scale``, NaN where the scale is 0 or NaN: all ``[B]``."""
    usable = scale > 0
    return torch.where(usable, values / torch.where(usable, scale, 1), torch.nan)


def mase(
    forecast: Tensor, target: Tensor, scale: Tensor, mask: Tensor | None = None, smallest_scale: float = 0.0
) -> Tensor:
    """Mean absolute scaled error, ``mean |y − f| / scale`` (Hyndman and Koehler 2006; M4's ``mase_cal``): ``[B]``.

    Args:
        forecast: ``[B, H]``.
        target: ``[B, H]``.
        scale: :func:`seasonal_scale` of the history, ``[B]``; where it is 0 the error is not defined: NaN.
        mask: bool ``[B, H]``.
        smallest_scale: for losses: the scale is at least this share of the target's mean size, so that a nearly
            constant history does not outweigh all others. M4's measure has 0.

    Example:
        >>> mase(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]]), torch.tensor([3.0]))
        tensor([0.5000])
    """
    if smallest_scale:
        valid = valid_steps(target, mask)
        scale = scale.maximum(smallest_scale * mean_over_steps(target.abs(), valid).nan_to_num())
    return scaled(mae(forecast, target, mask), scale)


def rmsse(forecast: Tensor, target: Tensor, square_scale: Tensor, mask: Tensor | None = None) -> Tensor:
    """Root mean squared scaled error, ``√(mean (y − f)² / scale)`` (M5 Competitors' Guide): ``[B]``.

    Args:
        forecast: ``[B, H]``.
        target: ``[B, H]``.
        square_scale: :func:`seasonal_scale` of the history with ``season=1, power=2``, ``[B]``; NaN where it is 0.
        mask: bool ``[B, H]``.

    Example:
        >>> rmsse(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]]), torch.tensor([10.0]))
        tensor([0.5000])
    """
    square = scaled(mse(forecast, target, mask), square_scale)
    positive = square > 0  # the root has no gradient at 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), square)


def owa(
    forecast: Tensor,
    target: Tensor,
    scale: Tensor,
    reference: tuple[float, float],
    mask: Tensor | None = None,
    smallest_scale: float = 0.0,
) -> Tensor:
    """Overall weighted average, a share per series: ``½ (sMAPE / sMAPE₂ + MASE / MASE₂)``, ``[B]``.

    sMAPE₂ and MASE₂ are Naive2's averages over all series, so that the mean of this over the series is M4's OWA
    (Makridakis et al. 2020; ``Benchmarks and Evaluation.R``). A series without MASE gives NaN: then the two
    averages of a measure are over different series, which :class:`~tasks.forecasting.metrics.OWA` does right.

    Args:
        forecast: ``[B, H]``.
        target: ``[B, H]``.
        scale: as for :func:`mase`, ``[B]``.
        reference: sMAPE and MASE of Naive2.
        mask: bool ``[B, H]``.
        smallest_scale: as for :func:`mase`.

    Example:
        >>> forecast, target = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])
        >>> owa(forecast, target, torch.tensor([1.0]), (100.0, 2.0))
        tensor([0.5000])
    """
    percent, error = smape(forecast, target, mask), mase(forecast, target, scale, mask, smallest_scale)
    return (percent / reference[0] + error / reference[1]) / 2
