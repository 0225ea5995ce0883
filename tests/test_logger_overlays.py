"""The overlays in configs/logger go after any task's config; TensorBoard's file holds the rows and the figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from lightning_rnn.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
OVERLAYS = sorted((CONFIGS / "logger").glob("*.yaml"))
SHORT = "--trainer.max_epochs 2 --trainer.limit_train_batches 4 --data.baselines false"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.stem))
def test_an_overlay_changes_the_logger_only(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = []
    for extra in ("", f"--config {overlay} "):
        assert main(f"fit --config {CONFIGS}/grammar_acceptance/adding.yaml {extra}--print_config".split()) == 0
        text = capsys.readouterr().out
        configs.append(yaml.safe_load(text[text.index("seed_everything") :]))
    assert configs[0]["trainer"].pop("logger") is None
    assert overlay.stem in configs[1]["trainer"].pop("logger")["class_path"].lower()
    assert configs[0] == configs[1]


def test_tensorboard_holds_metrics_csv_and_the_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    configs = f"--config {CONFIGS}/sequence_classification/digits.yaml --config {CONFIGS}/logger/tensorboard.yaml"
    assert main(f"fit {configs} {SHORT} --trainer.default_root_dir {tmp_path}".split()) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("val_loss", "train_loss", "val_accuracy"):
        expected = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(expected, rel=1e-6), name
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} <= set(events.Tags()["images"])
