"""Rolling backtests: forecasts from several origins at the end of series, by one model or one trained at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars
import torch
from torch import Tensor

from lightning_rnn.errors import require

from .baselines import BASELINES
from .functional import seasonal_scale
from .metrics import Truth, forecast_metrics
from .module import Forecaster
from .panel import Panel, longer_ones
from .predictions import forecast_frame
from .prepare import histories_of, naive2_of, padded

MODEL = "this model"
SHOWN = ("naive", "seasonal_naive", "naive2", "ses", "theta", "linear")
Train = Callable[[Panel], Forecaster]


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Attributes:
        forecasts: ``origin`` (from 1, the earliest first), ``unique_id, step, ds, mean``, quantiles, and ``y``.
        errors: ``origin``, ``forecast`` (the baseline's name, or ``this model``) and a column for each of
            :func:`~tasks.forecasting.metrics.forecast_metrics`; one row an origin and forecast.
        panel: the series.
    """

    forecasts: polars.DataFrame
    errors: polars.DataFrame
    panel: Panel

    def lines(self) -> Iterator[str]:
        """The errors of every forecast at each origin, and their means over the origins, as text."""
        means = self.errors.drop("origin").group_by("forecast", maintain_order=True).mean()
        rows = [(f"origin {row['origin']}", row) for row in self.errors.iter_rows(named=True)]
        for where, row in [*rows, *(("all origins", row) for row in means.iter_rows(named=True))]:
            errors = f"OWA {row['owa']:.4f}  sMAPE {row['smape']:8.4f}  MASE {row['mase']:.4f}"
            yield f"  {where:11}  {errors}  {row['forecast']}"


def origins_of(panel: Panel, horizon: int, origins: int = 3, step: int | None = None) -> Iterator[tuple[Panel, Panel]]:
    """What is known at each origin and the ``horizon`` steps that follow, the earliest origin first.

    The last origin is one horizon before the series' ends. Series that are too short for an origin are left out there,
    and counted in a warning.

    Raises:
        ConfigError: an option below 1.
        DataError: no series is long enough for the earliest origin.

    Example:
        >>> from .frames import from_arrays
        >>> [past.lengths.tolist() for past, _ in origins_of(from_arrays([range(20), range(9)]), 4, origins=2)]
        [[12, 1], [16, 5]]
    """
    require(horizon >= 1, f"the horizon must be at least 1, got {horizon}")
    require(origins >= 1, f"a backtest needs at least 1 origin, got {origins}")
    require(step is None or step >= 1, f"the step between origins must be at least 1, got {step}")
    for later in reversed(range(origins)):
        steps = horizon + later * (step or horizon)
        past, rest = longer_ones(panel, steps).split(steps)
        yield past, rest.head(horizon)


def backtest(
    train: Train,
    panel: Panel,
    horizon: int,
    origins: int = 3,
    step: int | None = None,
    refit: bool = True,
    baselines: Sequence[str] = SHOWN,
) -> Backtest:
    """Forecast the end of all series from several origins; see :meth:`Forecaster.backtest` for a trained one.

    Args:
        train: trains a forecaster of this horizon on series, which end at the origin.
        panel: the series.
        horizon: steps of a forecast.
        origins: how many; the last is one horizon before the end.
        step: steps between two; None: a horizon.
        refit: whether a model is trained at every origin, or only at the earliest.
        baselines: of :data:`~tasks.forecasting.baselines.BASELINES`, measured beside the models.

    Raises:
        ConfigError: an option below 1, or a model of another horizon.
        DataError: as :func:`origins_of`, and as ``train`` and :meth:`Forecaster.forecast_values` do.

    Example:
        .. code-block:: python

            found = backtest(lambda part: trained_on(part), panel, horizon=12, origins=4, refit=False)
            found.forecasts.write_parquet("backtest.parquet")
    """
    model: Forecaster | None = None
    frames, errors = list[polars.DataFrame](), list[dict[str, object]]()
    for number, (past, rest) in enumerate(origins_of(panel, horizon, origins, step), 1):
        if model is None or refit:
            model = train(past)
        values = model.forecast_values(past)
        require(values.shape[1] == horizon, f"the model forecasts {values.shape[1]} steps, the backtest {horizon}")
        truth = truth_after(past, rest)
        frame = forecast_frame(past, values, model.levels)
        true = polars.Series("y", truth.target.flatten().numpy()).fill_nan(None)
        frames.append(frame.select(polars.lit(number).alias("origin"), polars.all(), true))
        for name in baselines:
            errors.append({"origin": number, "forecast": name, **errors_of(baseline(name, past, horizon), truth)})
        errors.append({"origin": number, "forecast": MODEL, **errors_of(values, truth, model.levels)})
    return Backtest(polars.concat(frames), polars.DataFrame(errors, infer_schema_length=None), panel)


def truth_after(past: Panel, rest: Panel) -> Truth:
    """What forecasts of the steps ``rest`` that follow ``past`` are compared with."""
    y, history = padded(rest), padded(past)
    scale, squares = seasonal_scale(history, past.season), seasonal_scale(history, 1, power=2)
    return Truth(y, ~y.isnan(), scale, squares, naive2_of(past, y.shape[1], past.season))


def baseline(name: str, past: Panel, horizon: int) -> Tensor:
    """A baseline's forecasts, float64 ``[N, H, 1]``."""
    return torch.from_numpy(BASELINES[name](histories_of(past), horizon, past.season)).unsqueeze(2)


def errors_of(forecasts: Tensor, truth: Truth, levels: Sequence[float] = ()) -> dict[str, float]:
    """All errors of ``[N, H, 1 + Q]`` by name, of this process alone."""
    metrics = forecast_metrics(levels)
    for metric in metrics.values():
        metric.distributed_available_fn = _alone  # the others may not be here
    metrics.update(forecasts, truth)
    return {name: float(value) for name, value in metrics.compute().items()}


def _alone() -> bool:
    """Whether there are other processes, as a metric is told."""
    return False
