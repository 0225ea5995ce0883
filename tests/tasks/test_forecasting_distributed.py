"""Two processes train, measure and predict what one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from processes import quiet_trainer

from lightning_rnn.training.predictions import PredictionWriter
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.callbacks import Baselines, RollingBaselines, forecast_rows
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.source import GivenSeries

pytestmark = pytest.mark.slow  # metrics and predictions are in test_distributed.py; here also what is printed


def series() -> GivenSeries:
    """Seven of unequal lengths, with missing values: no batch divides evenly."""
    rng = np.random.default_rng(0)
    arrays = [50 + rng.normal(size=length).cumsum() for length in (60, 55, 50, 45, 44, 43, 60)]
    for array in arrays[::2]:
        array[5::7] = np.nan
    return GivenSeries(*from_arrays(arrays, ids=list("gfedcba"), season=3).split(8))


def whole_run(
    folder: Path, processes: int, model_options: dict[str, Any], options: dict[str, Any]
) -> tuple[dict[str, float], polars.DataFrame]:
    shared: dict[str, Any] = {"horizon": 4, "lookback": 8, "bucketing": False, "eval_batch_size": 3, **options}
    data = ForecastingData(series(), batch_size=32 // processes, **shared)
    data.setup("fit")
    model = Forecaster(hidden_size=8, **model_options)
    model.spec = data.spec
    torch.manual_seed(0)
    model.configure_model()
    callbacks = [PredictionWriter(forecast_rows), Baselines(), RollingBaselines()]
    fitted = quiet_trainer(folder, processes, 2, callbacks)
    fitted.fit(model, data)
    found = {name: float(value) for name, value in fitted.callback_metrics.items()}
    found |= quiet_trainer(folder, processes, 2, callbacks).test(model, data, verbose=False)[0]
    quiet_trainer(folder, processes, 2, callbacks).predict(model, data, return_predictions=False)
    return found, polars.read_parquet(folder / "predictions.parquet")


@pytest.mark.parametrize(
    ("model_options", "options"),
    [({"head": "quantile", "conformal": True, "levels": [0.3, 0.7]}, {}), ({"loss": "owa"}, {"eval_stride": 1})],
    ids=["conformal quantiles", "rolling owa"],
)
def test_two_processes_equal_one(
    model_options: dict[str, Any],
    options: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (one, rows), printed = whole_run(tmp_path / "one", 1, model_options, options), capfd.readouterr().out
    (two, shared_rows), shared_printed = whole_run(tmp_path / "two", 2, model_options, options), capfd.readouterr().out
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=2e-4, abs=1e-5), name
    assert rows.select("unique_id", "step", "ds").equals(shared_rows.select("unique_id", "step", "ds"))
    assert rows["unique_id"].unique(maintain_order=True).to_list() == list("gfedcba")
    for name in rows.columns[3:]:
        np.testing.assert_allclose(rows[name].to_numpy(), shared_rows[name].to_numpy(), rtol=1e-4)
    baselines = [[line for line in text.splitlines() if line.endswith("naive")] for text in (printed, shared_printed)]
    assert baselines[0] == baselines[1] and len(baselines[0]) == 2
