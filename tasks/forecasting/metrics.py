"""The measures of :mod:`tasks.forecasting.functional` and :mod:`~tasks.forecasting.probabilistic` over a whole set.

Predictions are ``[B, H, 1 + Q]``: the point forecast, then a quantile for each level. Every metric keeps sums over
series, in float64: batches and processes change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from . import functional, probabilistic


class Truth(NamedTuple):
    """What forecasts of a batch are compared with.

    Attributes:
        target: ``[B, H]``; NaN where it is missing.
        mask: bool ``[B, H]``, False where a step does not count.
        scale: :func:`~tasks.forecasting.functional.seasonal_scale` of the histories with M4's season, ``[B]``.
        square_scale: the same with ``season=1, power=2``, ``[B]``.
        naive2: the forecast of :func:`~tasks.forecasting.baselines.naive2`, ``[B, H]``.
    """

    target: Tensor
    mask: Tensor
    scale: Tensor
    square_scale: Tensor
    naive2: Tensor

    def double(self) -> Truth:
        """All numbers in float64."""
        return Truth(
            self.target.double(), self.mask, self.scale.double(), self.square_scale.double(), self.naive2.double()
        )


Judge = Callable[[Tensor, Truth], Tensor]


class SeriesMean(Metric):
    """Mean over the series of what a function says of each.

    Args:
        judge: gives ``[B]`` of predictions ``[B, H, 1 + Q]`` and :class:`Truth`, in float64; NaN: not defined, left
            out.

    Example:
        >>> error = SeriesMean(lambda predictions, truth: functional.mae(predictions[..., 0], truth.target))
        >>> steps, series = torch.ones(1, 2), torch.ones(1)
        >>> error.update(torch.zeros(1, 2, 1), Truth(steps, steps.bool(), series, series, steps))
        >>> error.compute()
        tensor(1.)
    """

    total: Tensor
    series: Tensor
    full_state_update = False

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("series", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, truth: Truth) -> None:
        """Take in a batch."""
        values = self.judge(predictions.double(), truth.double())
        self.total += values.nansum()
        self.series += (~values.isnan()).sum()

    def compute(self) -> Tensor:
        """The mean; NaN where it is defined for no series."""
        return (self.total / self.series).float()


class OWA(Metric):
    """M4's overall weighted average: ``½ (sMAPE / sMAPE of Naive2 + MASE / MASE of Naive2)``, averaged over series.

    Example:
        >>> metric, steps, series = OWA(), torch.ones(1, 2), torch.ones(1)
        >>> metric.update(torch.full((1, 2, 1), 3.0), Truth(steps, steps.bool(), series, series, 3 * steps))
        >>> metric.compute()
        tensor(1.)
    """

    totals: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(2, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, truth: Truth) -> None:
        """Take in a batch."""
        truth = truth.double()
        for row, forecast in enumerate((predictions[..., 0].double(), truth.naive2)):
            self.totals[row, 0] += functional.smape(forecast, truth.target, truth.mask).nansum()
            self.totals[row, 1] += functional.mase(forecast, truth.target, truth.scale, truth.mask).nansum()

    def compute(self) -> Tensor:
        """The mean of the two ratios; NaN of no series."""
        return (self.totals[0] / self.totals[1]).mean().float()


class WeightedQuantileLoss(Metric):
    """:func:`~tasks.forecasting.probabilistic.weighted_quantile_loss` over all series.

    Args:
        levels: of the quantiles that follow the point forecast.

    Example:
        >>> metric, steps, series = WeightedQuantileLoss([0.1, 0.9]), torch.ones(1, 2), torch.ones(1)
        >>> metric.update(torch.full((1, 2, 3), 3.0), Truth(steps, steps.bool(), series, series, steps))
        >>> metric.compute()
        tensor(2.)
    """

    loss: Tensor
    size: Tensor
    full_state_update = False

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.levels = levels
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("size", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, truth: Truth) -> None:
        """Take in a batch."""
        levels = predictions.new_tensor(self.levels, dtype=torch.float64)
        target = truth.target.double()
        loss, size = probabilistic.weighted_quantile_sums(predictions[..., 1:].double(), target, levels, truth.mask)
        self.loss += loss.sum()
        self.size += size.sum()

    def compute(self) -> Tensor:
        """The ratio of the sums; NaN where all targets are 0."""
        return (self.loss / self.size).float()


POINT: dict[str, Judge] = {
    "smape": lambda predictions, truth: functional.smape(predictions[..., 0], truth.target, truth.mask),
    "mase": lambda predictions, truth: functional.mase(predictions[..., 0], truth.target, truth.scale, truth.mask),
    "rmsse": lambda predictions, truth: functional.rmsse(
        predictions[..., 0], truth.target, truth.square_scale, truth.mask
    ),
    "mae": lambda predictions, truth: functional.mae(predictions[..., 0], truth.target, truth.mask),
    "mse": lambda predictions, truth: functional.mse(predictions[..., 0], truth.target, truth.mask),
}


def central_intervals(levels: Sequence[float]) -> list[tuple[int, int, float]]:
    """Pairs of levels ``q`` and ``1 − q``: the places of both and the share between them, widest first.

    Example:
        >>> central_intervals([0.025, 0.1, 0.5, 0.9, 0.975])
        [(0, 4, 0.95), (1, 3, 0.8)]
    """
    places = {round(level, 6): place for place, level in enumerate(levels)}
    lower = sorted(level for level in places if level < 0.5 and round(1 - level, 6) in places)
    return [(places[level], places[round(1 - level, 6)], round(1 - 2 * level, 6)) for level in lower]


def forecast_metrics(levels: Sequence[float] = ()) -> MetricCollection:
    """All metrics that forecasts with these quantile levels have.

    ``smape, mase, rmsse, mae, mse, owa``; with levels ``pinball, crps, wql``; and of each central interval its
    ``coverage_80`` and ``msis_80``, say.

    Args:
        levels: of the quantiles, in the order of the predictions.

    Example:
        >>> sorted(forecast_metrics([0.1, 0.9]))
        ['coverage_80', 'crps', 'mae', 'mase', 'mse', 'msis_80', 'owa', 'pinball', 'rmsse', 'smape', 'wql']
    """
    metrics: dict[str, Metric | MetricCollection] = {name: SeriesMean(judge) for name, judge in POINT.items()}
    metrics["owa"] = OWA()
    if levels:
        metrics["pinball"] = SeriesMean(_QuantileJudge(levels, 0.5))
        metrics["crps"] = SeriesMean(_QuantileJudge(levels, 1.0))
        metrics["wql"] = WeightedQuantileLoss(levels)
    for low, high, share in central_intervals(levels):
        name = f"{100 * share:.4g}"
        metrics[f"coverage_{name}"] = SeriesMean(_CoverageJudge(low, high))
        metrics[f"msis_{name}"] = SeriesMean(_IntervalJudge(low, high, share))
    return MetricCollection(metrics, compute_groups=False)  # groups would merge those that begin with equal values


@dataclass(frozen=True)
class _QuantileJudge:
    levels: Sequence[float]
    factor: float

    def __call__(self, predictions: Tensor, truth: Truth) -> Tensor:
        levels = predictions.new_tensor(self.levels)
        return self.factor * probabilistic.crps_quantiles(predictions[..., 1:], truth.target, levels, truth.mask)


@dataclass(frozen=True)
class _CoverageJudge:
    low: int
    high: int

    def __call__(self, predictions: Tensor, truth: Truth) -> Tensor:
        low, high = predictions[..., 1 + self.low], predictions[..., 1 + self.high]
        return probabilistic.coverage(low, high, truth.target, truth.mask)


@dataclass(frozen=True)
class _IntervalJudge:
    low: int
    high: int
    share: float

    def __call__(self, predictions: Tensor, truth: Truth) -> Tensor:
        low, high = predictions[..., 1 + self.low], predictions[..., 1 + self.high]
        return probabilistic.msis(low, high, truth.target, truth.scale, self.share, truth.mask)
