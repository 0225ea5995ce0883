"""After a pass: forecasts in long format, and the baselines beside the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero, write_atomically
from lightning_rnn.training.tables import encode
from lightning_rnn.types import SequenceBatch

from .baselines import BASELINES
from .data import ForecastingData
from .metrics import Truth, forecast_metrics
from .module import Forecaster
from .overlaps import overlaps
from .panel import Panel
from .predictions import forecast_columns
from .prepare import histories_of
from .windows import PanelWindows

log = logging.getLogger(__name__)
SHOWN = ("naive", "seasonal_naive", "naive2", "ses", "theta", "linear")
Chunk = tuple[Tensor, Tensor]


class ForecastWriter(pl.Callback):
    """Writes ``predictions.parquet`` and ``predictions.csv``: ``unique_id, step, ds, mean`` and the quantiles.

    One row a step of each series' forecast, the series in their order, from all processes.
    """

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._chunks = []

    def on_predict_batch_end(  # Lightning's signature
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: SequenceBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert batch.ids is not None and isinstance(pl_module, Forecaster)
        values = torch.stack([value for name, value in outputs.items() if name != "id"], 1)
        self._chunks.append((batch.ids.cpu(), values.cpu()))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._chunks = self._chunks, []
        chunks = [chunk for process in gather_to_rank_zero(own) for chunk in process]
        data = datamodule_of(trainer)
        if not chunks or not isinstance(data, ForecastingData):
            return
        assert isinstance(pl_module, Forecaster) and data.spec is not None
        rows, values = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        order = rows.argsort()
        forecasts = values[order].view(len(rows), -1, data.spec.horizon).transpose(1, 2)
        columns = forecast_columns(data.source.read().select(rows[order]), forecasts, pl_module.levels)
        folder = Path(trainer.default_root_dir)
        parquet, text = encode(columns)
        write_atomically(folder / "predictions.parquet", lambda file: file.write(parquet))
        write_atomically(folder / "predictions.csv", lambda file: file.write(text))
        log.info("forecasts of %d series: %s and predictions.csv", len(rows), folder / "predictions.parquet")


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
            truth = Truth(*(value.cpu() for value in outputs.targets))
            self._seen.append((batch.ids.cpu(), outputs.predictions.cpu(), truth))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._seen = self._seen, []
        seen = [one for process in gather_to_rank_zero(own) for one in process]
        data = datamodule_of(trainer)
        if not seen or not isinstance(data, ForecastingData):
            return
        assert isinstance(pl_module, Forecaster) and data.spec is not None
        order = torch.cat([rows for rows, _, _ in seen]).argsort()
        forecasts = torch.cat([forecast for _, forecast, _ in seen])[order]
        truth = Truth(*(torch.cat(parts)[order] for parts in zip(*(truth for _, _, truth in seen), strict=True)))
        panel, test = data.source.load()
        assert test is not None
        found = dict(self._baselines(data, panel, test))
        found["this model"] = forecasts[..., :1]
        for line in table(found, truth, panel, test):
            print(line, flush=True)
        for logger in trainer.loggers:
            errors = {name: errors_of(forecast, truth) for name, forecast in found.items() if name != "this model"}
            values = {f"baseline_{name}_{error}": value for name, row in errors.items() for error, value in row.items()}
            logger.log_metrics(values, trainer.global_step)

    def _baselines(self, data: ForecastingData, panel: Panel, test: Panel) -> Iterator[tuple[str, Tensor]]:
        """Forecasts ``[N, H, 1]`` in the units of the errors."""
        split = data.split("test")
        assert isinstance(split, PanelWindows) and data.spec is not None
        histories = histories_of(panel)
        center, unit = split.series.center[:, None], split.series.unit[:, None]
        for name in SHOWN:
            forecast = torch.from_numpy(np.asarray(BASELINES[name](histories, data.spec.horizon, data.spec.season)))
            yield name, ((forecast - center) / unit).unsqueeze(2)


def errors_of(forecast: Tensor, truth: Truth) -> dict[str, float]:
    """All point errors of ``[N, H, 1]``."""
    metrics = forecast_metrics()
    metrics.update(forecast, truth)
    return {name: float(value) for name, value in metrics.compute().items()}


def table(found: dict[str, Tensor], truth: Truth, panel: Panel, test: Panel) -> Iterator[str]:
    """A line for each forecast; where test segments stand in other series' training parts, without these as well."""
    there = {overlap.id for overlap in overlaps(panel, test)}
    without = torch.tensor([name not in there for name in panel.ids])
    for name, forecast in found.items():
        error = errors_of(forecast, truth)
        line = f"  test  OWA {error['owa']:.4f}  sMAPE {error['smape']:8.4f}  MASE {error['mase']:.4f}"
        if there:
            rest = errors_of(forecast[without], Truth(*(value[without] for value in truth)))
            line += f"  without {len(there)} overlapping series: OWA {rest['owa']:.4f}"
        yield f"{line}  {name}"
