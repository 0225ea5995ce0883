"""Two processes train, measure and predict what one does, and write the same submission."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import quiet_trainer

from lightning_rnn.training.predictions import PredictionWriter
from tasks.rainfall import RainfallData, RainfallRegressor
from tasks.rainfall.callbacks import Baselines, SubmissionWriter
from tasks.rainfall.sources import SyntheticRain

pytestmark = pytest.mark.slow  # metrics and predictions are in test_distributed.py; here also what is printed


def whole_run(folder: Path, processes: int) -> tuple[dict[str, float], list[list[str]]]:
    data = RainfallData(
        SyntheticRain(train_hours=300, test_hours=101), batch_size=32 // processes, eval_batch_size=7, bucketing=False
    )
    data.setup("fit")
    model = RainfallRegressor(hidden_sizes=[8])
    model.spec = data.spec
    torch.manual_seed(0)
    model.configure_model()
    callbacks = [PredictionWriter(), SubmissionWriter(), Baselines()]
    fitted = quiet_trainer(folder, processes, 1, callbacks)
    fitted.fit(model, data)
    found = {name: float(value) for name, value in fitted.callback_metrics.items()}
    found |= quiet_trainer(folder, processes, 1, callbacks).test(model, data, verbose=False)[0]
    quiet_trainer(folder, processes, 1, callbacks).predict(model, data, return_predictions=False)
    return found, [line.split(",") for line in (folder / "submission.csv").read_text().splitlines()]


def test_two_processes_equal_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (one, rows), printed = whole_run(tmp_path / "one", 1), capfd.readouterr().out
    (two, shared_rows), shared_printed = whole_run(tmp_path / "two", 2), capfd.readouterr().out
    assert one.keys() == two.keys() >= {"train_loss", "val_mae", "test_mae", "test_mae_under_73"}
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=2e-4), name
    assert len(rows) == len(shared_rows) == 102 and rows[0] == ["Id", "Expected"]
    for (name, expected), (shared_name, shared_expected) in zip(rows[1:], shared_rows[1:], strict=True):
        assert name == shared_name and float(shared_expected) == pytest.approx(float(expected), rel=1e-4)
    lines = [[line for line in text.splitlines() if "Marshall" in line] for text in (printed, shared_printed)]
    assert lines[0] == lines[1] and len(lines[0]) == 1
