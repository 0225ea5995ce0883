"""Rolling backtests: forecasts from several origins at the end of series, by one model or one trained at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars
from matplotlib.figure import Figure

from lightning_rnn.errors import require

from .functional import seasonal_scale
from .metrics import Truth, forecast_metrics
from .module import Forecaster
from .panel import Panel
from .predictions import forecast_frame
from .prepare import naive2_of, padded


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Attributes:
        forecasts: ``origin`` (from 1, the earliest first), ``unique_id, step, ds, mean``, quantiles, and ``y``.
        errors: of each origin, by name, see :func:`forecast_metrics`.
    """

    forecasts: polars.DataFrame
    errors: list[dict[str, float]]

    def draw(self, series: str) -> Figure:
        """One series and its forecasts from every origin."""
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.add_subplot()
        rows = self.forecasts.filter(polars.col("unique_id") == series)
        axes.plot(rows["ds"].to_numpy(), rows["y"].to_numpy(), "k.", ms=3, label="true")
        for (origin,), part in rows.group_by(["origin"], maintain_order=True):
            axes.plot(part["ds"].to_numpy(), part["mean"].to_numpy(), lw=1.3, label=f"origin {origin}")
        axes.set_title(series)
        axes.legend(fontsize=8)
        return figure


def backtest(
    train: Callable[[Panel], Forecaster],
    panel: Panel,
    horizon: int,
    origins: int = 3,
    step: int | None = None,
    refit: bool = True,
) -> Backtest:
    """Forecast the end of all series from several origins.

    Args:
        train: trains a forecaster of this horizon on series, which end at the origin.
        panel: the series.
        horizon: steps of a forecast.
        origins: how many; the last is one horizon before the end.
        step: steps between two; None: a horizon.
        refit: whether a model is trained at every origin, or only at the earliest.

    Raises:
        ConfigError: an option below 1, or a model of another horizon.
        DataError: a series is too short for the earliest origin.

    Example:
        .. code-block:: python

            found = backtest(lambda part: trained_on(part), panel, horizon=12, origins=4, refit=False)
            found.forecasts.write_parquet("backtest.parquet")
    """
    require(origins >= 1, f"a backtest needs at least 1 origin, got {origins}")
    require(step is None or step >= 1, f"the step between origins must be at least 1, got {step}")
    model: Forecaster | None = None
    frames, errors = list[polars.DataFrame](), list[dict[str, float]]()
    for origin in range(origins):
        past, rest = panel.split(horizon + (origins - 1 - origin) * (step or horizon))
        if model is None or refit:
            model = train(past)
        frame, found = _judge(model, past, rest.head(horizon), horizon)
        frames.append(frame.select(polars.lit(origin + 1).alias("origin"), polars.all()))
        errors.append(found)
    return Backtest(polars.concat(frames), errors)


def _judge(model: Forecaster, past: Panel, rest: Panel, horizon: int) -> tuple[polars.DataFrame, dict[str, float]]:
    """Forecasts beside the truth, and their errors."""
    values = model.forecast_values(past)
    require(values.shape[1] == horizon, f"the model forecasts {values.shape[1]} steps, the backtest {horizon}")
    season = past.season
    y, history = padded(rest), padded(past)
    truth = Truth(
        y,
        ~y.isnan(),
        seasonal_scale(history, season),
        seasonal_scale(history, 1, power=2),
        naive2_of(past, horizon, season),
    )
    metrics = forecast_metrics(model.levels)
    metrics.update(values, truth)
    frame = forecast_frame(past, values, model.levels)
    frame = frame.with_columns(polars.Series("y", y.flatten().numpy()).fill_nan(None))
    return frame, {name: float(value) for name, value in metrics.compute().items()}
