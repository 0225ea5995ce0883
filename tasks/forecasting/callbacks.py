"""After a pass: forecasts in long format, and the baselines beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero
from lightning_rnn.training.predictions import RowNumbers
from lightning_rnn.training.tables import Columns

from .backtest import MODEL, SHOWN, baseline, errors_of
from .baselines import BASELINES, Array
from .data import ForecastingData
from .metrics import POINT, Truth
from .module import Forecaster
from .overlaps import overlaps
from .panel import Panel
from .predictions import forecast_columns
from .units import to_units
from .windows import PanelWindows

ROLLING = ("naive", "seasonal_naive")  # of thousands of windows; the others would take longer than the model


def forecast_rows(trainer: pl.Trainer, rows: RowNumbers, columns: Columns) -> Columns:
    """The predictions' layout: ``unique_id, step, ds, mean`` and the quantiles, one row a step of a series' forecast.

    Of series that come with a :class:`ForecastingData`; others stay as they are.
    """
    data, model = datamodule_of(trainer), trainer.lightning_module
    if not isinstance(data, ForecastingData):
        return columns
    assert isinstance(model, Forecaster) and data.spec is not None
    values = torch.stack([torch.as_tensor(value) for name, value in columns.items() if name != "id"], 1)
    forecasts = values.view(len(rows), -1, data.spec.horizon).transpose(1, 2)
    return forecast_columns(data.to_forecast().select(torch.from_numpy(rows)), forecasts, model.levels)


class Baselines(pl.Callback):
    """Prints the baselines' test errors beside the model's, with and without overlapping series, and logs them."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor, Truth]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = []

    def on_test_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        data = datamodule_of(trainer)
        if isinstance(data, ForecastingData) and data.baselines and not data.eval_stride:
            self._seen.append((batch.ids.cpu(), outputs.predictions.cpu(), _on_cpu(outputs.targets)))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._seen = self._seen, []
        seen = [one for process in gather_to_rank_zero(own) for one in process]
        data = datamodule_of(trainer)
        if not seen or not isinstance(data, ForecastingData):
            return
        assert data.spec is not None
        order = torch.cat([rows for rows, _, _ in seen]).argsort()
        forecasts = torch.cat([forecast for _, forecast, _ in seen])[order]
        truth = Truth(*(torch.cat(parts)[order] for parts in zip(*(truth for _, _, truth in seen), strict=True)))
        panel, test = data.series()
        split = data.split("test")
        assert test is not None and isinstance(split, PanelWindows)
        units = {"center": split.series.center, "unit": split.series.unit}
        found = {name: to_units(baseline(name, panel, data.spec.horizon), units) for name in SHOWN}
        for line in table({**found, MODEL: forecasts[..., :1]}, truth, panel, test):
            print(line, flush=True)
        _log(trainer, {name: errors_of(forecast, truth) for name, forecast in found.items()})


class RollingBaselines(pl.Callback):
    """The same for tests at every origin: Naive and seasonal Naive of every window."""

    def __init__(self) -> None:
        self._errors: list[dict[str, Tensor]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._errors = []

    def on_test_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        data = datamodule_of(trainer)
        if isinstance(data, ForecastingData) and data.baselines and data.eval_stride and not batch.stands_in:
            split, truth = data.split("test"), _on_cpu(outputs.targets).double()
            assert isinstance(split, PanelWindows)
            units = {name: batch.targets[name].cpu() for name in ("center", "unit")}
            histories = [_recent(split, row) for row in batch.ids.tolist()]
            found = dict[str, Tensor]()
            for name in ROLLING:
                values = torch.from_numpy(BASELINES[name](histories, split.spec.horizon, split.spec.season))
                forecast = to_units(values, units).unsqueeze(2)
                found |= {f"{name}/{error}": judge(forecast, truth) for error, judge in POINT.items()}
            self._errors.append(found)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._errors = self._errors, []
        seen = [one for process in gather_to_rank_zero(own) for one in process]
        if not seen:
            return
        means = {name: float(torch.cat([one[name] for one in seen]).nanmean()) for name in seen[0]}
        errors = {name: {error: means[f"{name}/{error}"] for error in POINT} for name in ROLLING}
        errors_and_model = {**errors, MODEL: {e: float(trainer.callback_metrics[f"test_{e}"]) for e in POINT}}
        for name, row in errors_and_model.items():
            shown = "  ".join(f"{label} {row[error]:8.4f}" for error, label in (("mse", "MSE"), ("mae", "MAE")))
            print(f"  test  {shown}  MASE {row['mase']:.4f}  {name}", flush=True)
        _log(trainer, errors)


def _on_cpu(truth: Truth) -> Truth:
    return Truth(*(value.cpu() for value in truth))


def _recent(windows: PanelWindows, row: int) -> Array:
    """As much of what is known at a window's end as naive forecasts see of it, float64 ``[T]``."""
    series, end = (int(numbers[row]) for numbers in windows.rows)
    history = windows.series.y[series][:end]
    recent = history[-windows.spec.season :]
    seen: Array = (history if recent.isnan().any() else recent).double().numpy()
    return seen


def _log(trainer: pl.Trainer, errors: dict[str, dict[str, float]]) -> None:
    values = {f"baseline_{name}_{error}": value for name, row in errors.items() for error, value in row.items()}
    for logger in trainer.loggers:
        logger.log_metrics(values, trainer.global_step)


def table(found: dict[str, Tensor], truth: Truth, panel: Panel, test: Panel) -> Iterator[str]:
    """A line for each forecast; where test segments stand in other series' training parts, without these as well."""
    same = overlaps(panel, test)
    there = {overlap.id for overlap in same}
    without = torch.tensor([name not in there for name in panel.ids])
    for name, forecast in found.items():
        error = errors_of(forecast, truth)
        line = f"  test  OWA {error['owa']:.4f}  sMAPE {error['smape']:8.4f}  MASE {error['mase']:.4f}"
        if there:
            rest = errors_of(forecast[without], Truth(*(value[without] for value in truth)))
            line += f"  without {len(there)} overlapping series: OWA {rest['owa']:.4f}"
        yield f"{line}  {name}"
    if len(panel) > 1:
        shown = [f"{overlap.id} in {overlap.other}" for overlap in same[:5]] + ["..."] * (len(same) > 5)
        count = f"{len(there)} of {len(panel)}: {', '.join(shown)}" if there else f"none of {len(panel)}"
        yield f"  test segments that stand word for word in another series' training part: {count}"
