"""What a run leaves: metrics.csv, figures, predictions, lines on the console; the same from 1 and 2 processes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from matplotlib.image import imread
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from waves import NAMES, Classifier, Waves, make_trainer, waves

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.classification_figures import ConfusionMatrix, WorstMistakes, to_probabilities
from lightning_rnn.training.console import EpochLines, progress_bar
from lightning_rnn.training.drawing import draw_confusion_matrix, draw_learning_curves
from lightning_rnn.training.figures import LearningCurves
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.module import StepResult
from lightning_rnn.training.predictions import PredictionWriter
from lightning_rnn.types import SequenceBatch

pytestmark = [  # Lightning's own warnings, about what is so on purpose
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are using a custom batch sampler"),
    pytest.mark.filterwarnings("ignore:It is recommended to use .*sync_dist=True"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run: fit, test, predict."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    callbacks = [LearningCurves(), ConfusionMatrix(), WorstMistakes(), PredictionWriter()]
    trainer = make_trainer(folder, callbacks, [CSVLogger(folder)])
    module, data = Classifier(), Waves()
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    trainer.predict(module, data, return_predictions=False)
    return folder


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# metrics.csv


def test_metrics_have_one_row_per_epoch_and_one_for_test(run: Path) -> None:
    rows = read(run)
    assert list(rows[0])[:2] == ["epoch", "step"]
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "7"), ("1", "15"), ("2", "16")]
    assert all(
        rows[i][f"{stage}_{name}"] for i in (0, 1) for stage in ("train", "val") for name in ("loss", "accuracy")
    )
    assert rows[2]["test_loss"]
    assert not rows[2]["train_loss"]
    assert not rows[0]["test_loss"]


def test_a_later_process_goes_on_with_the_file(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path)
    first.log_metrics({"epoch": 0, "train_loss": 0.5, "a, b": 1 / 3}, 7)
    first.finalize("success")
    later = CSVLogger(tmp_path)
    later.log_metrics({"epoch": 1, "test_loss": 0.25}, 8)
    later.save()
    assert read(tmp_path) == [
        {"epoch": "0", "step": "7", "train_loss": "0.5", "a, b": "0.333333333", "test_loss": ""},
        {"epoch": "1", "step": "8", "train_loss": "", "a, b": "", "test_loss": "0.25"},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]  # no temporary file


def test_a_resumed_run_does_not_repeat_rows(tmp_path: Path) -> None:
    killed = CSVLogger(tmp_path)
    for step in (4, 9, 14):
        killed.log_metrics({"epoch": step // 5, "loss": step}, step)
        killed.save()
    resumed = CSVLogger(tmp_path)
    resumed.truncate_after(9)
    assert [row["step"] for row in read(tmp_path)] == ["4", "9"]
    resumed.log_metrics({"epoch": 2, "loss": 1.0}, 13)
    resumed.log_metrics({"epoch": 1, "loss": 2.0}, 9)  # logged again: takes the old one's place
    resumed.save()
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("4", "4"), ("9", "2"), ("13", "1")]


def test_truncating_nothing_writes_nothing(tmp_path: Path) -> None:
    CSVLogger(tmp_path).truncate_after(5)
    assert not list(tmp_path.iterdir())


def test_a_torn_last_line_is_dropped_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,loss\n0,4,0.5\n1,9,0.")
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"epoch": 2, "loss": 1.0}, 14)
    logger.save()
    assert [row["step"] for row in read(tmp_path)] == ["4", "14"]
    path.write_text("time,value\n1,2\n")
    with pytest.raises(DataError, match=r"not a metrics\.csv"):
        CSVLogger(tmp_path).log_metrics({"loss": 1.0}, 1)


def test_appended_rows_equal_rewritten_ones(tmp_path: Path) -> None:
    one, many = CSVLogger(tmp_path / "one"), CSVLogger(tmp_path / "many")
    for step in range(20):
        for logger in (one, many):
            logger.log_metrics({"epoch": step // 5, "loss": 1 / (1 + step)}, step)
        many.save()
    one.save()
    assert one.path.read_bytes() == many.path.read_bytes()


# Figures


@pytest.mark.parametrize(
    "name",
    ["learning_curves", "confusion_matrix_val", "confusion_matrix_test", "worst_mistakes_val", "worst_mistakes_test"],
)
def test_figures_are_drawn(run: Path, name: str) -> None:
    picture = imread(run / "figures" / f"{name}.png")
    assert picture.shape[0] > 300
    assert picture.shape[1] > 300
    assert picture[..., :3].std() > 0.05


def test_the_history_survives_a_resume(tmp_path: Path) -> None:
    def fit(epochs: int, resume: str | None) -> dict[str, dict[int, float]]:
        curves = LearningCurves()
        keep = ModelCheckpoint(tmp_path / "checkpoints", save_last=True, save_on_train_epoch_end=True)
        options: dict[str, Any] = {"max_epochs": epochs, "enable_checkpointing": True}
        make_trainer(tmp_path, [curves, keep], **options).fit(Classifier(), Waves(), ckpt_path=resume)
        return curves.history

    first = fit(2, None)
    resumed = fit(3, str(tmp_path / "checkpoints" / "last.ckpt"))
    assert all(list(values) == [1, 2, 3] for values in resumed.values())
    assert {name: {e: values[e] for e in (1, 2)} for name, values in resumed.items()} == first


def test_history_is_what_the_logger_got(run: Path, tmp_path: Path) -> None:
    curves = LearningCurves()
    make_trainer(tmp_path, [curves], [CSVLogger(tmp_path)]).fit(Classifier(), Waves())
    for epoch, row in enumerate(read(tmp_path), start=1):
        for name, values in curves.history.items():
            assert values[epoch] == pytest.approx(float(row[name]))


def test_confusion_matrix_counts_every_row_once(tmp_path: Path) -> None:
    module, data, matrix = Classifier(), Waves(), ConfusionMatrix()
    trainer = make_trainer(tmp_path, [matrix])
    trainer.test(module, data, verbose=False)
    assert matrix.state is not None
    assert matrix.state.sum() == 33
    assert torch.equal(matrix.state.sum(1), torch.bincount(data.split("test").targets, minlength=3))  # type: ignore[arg-type]
    assert matrix.state.trace() / 33 == pytest.approx(float(trainer.callback_metrics["test_accuracy"]))


def test_worst_mistakes_are_the_worst(tmp_path: Path) -> None:
    few, all_of_them, data = WorstMistakes(3), WorstMistakes(100), Waves()
    trainer = make_trainer(tmp_path, [all_of_them, few])
    trainer.test(Classifier(), data, verbose=False)
    assert few.state == all_of_them.state[:3] == sorted(all_of_them.state, reverse=True)[:3]
    targets = data.split("test").targets
    assert targets is not None
    assert all(m.true == targets[m.row] != m.said for m in all_of_them.state)
    assert len(all_of_them.state) / 33 == pytest.approx(1 - float(trainer.callback_metrics["test_accuracy"]))


def test_no_mistakes_gives_a_figure_that_says_so(tmp_path: Path) -> None:
    class Perfect(Classifier):
        def step(self, batch: SequenceBatch) -> StepResult:
            result = super().step(batch)
            assert batch.targets is not None
            result.predictions = torch.eye(3)[batch.targets]
            return result

    make_trainer(tmp_path, [WorstMistakes()]).test(Perfect(), Waves(), verbose=False)
    assert imread(tmp_path / "figures" / "worst_mistakes_test.png").shape[0] > 300


def test_many_classes_are_drawn_without_numbers() -> None:
    names = [f"class number {i}" for i in range(50)]
    axes = draw_confusion_matrix(torch.eye(50, dtype=torch.int64), names, "val").axes[0]
    assert not axes.texts
    assert len(axes.get_xticks()) <= 40


def test_one_epoch_without_validation_can_be_drawn() -> None:
    assert len(draw_learning_curves({"train_loss": {1: 0.5}, "train_accuracy": {1: 0.5}}).axes) == 2


def test_probabilities_are_left_as_they_are() -> None:
    logits = torch.randn(5, 3)
    assert torch.equal(to_probabilities(logits), logits.softmax(-1))
    assert torch.equal(to_probabilities(logits.softmax(-1)), logits.softmax(-1))


def test_wrong_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        WorstMistakes(0)


# Loggers that take figures


def test_wandb_offline_gets_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in {"MODE": "offline", "SILENT": "true", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logger = WandbLogger(project="test", save_dir=tmp_path, settings=wandb.Settings(x_disable_stats=True))
    try:
        make_trainer(tmp_path, [LearningCurves()], [logger], max_epochs=1).fit(Classifier(), Waves())
        images = json.loads(json.dumps(logger.experiment.summary["learning_curves"], default=dict))
        assert images["_type"] == "images/separated"
        assert images["count"] == 1
    finally:
        wandb.finish()
        wandb.teardown()
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/learning_curves*.png"))) == 1


def test_tensorboard_gets_the_figure(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    logger = TensorBoardLogger(tmp_path, name="", version="")
    make_trainer(tmp_path, [LearningCurves()], [logger], max_epochs=1).fit(Classifier(), Waves())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["learning_curves"]


# Predictions


def test_predictions_are_in_the_order_of_the_source(run: Path) -> None:
    frame, source = polars.read_parquet(run / "predictions.parquet"), waves(33, 2)
    assert frame.columns == ["id", "said", "length", "p_0", "p_1", "p_2"]
    assert frame["id"].to_list() == [f"w{i}" for i in range(33)]
    assert frame["length"].to_list() == source.inputs.lengths.tolist()
    best = frame.select("p_0", "p_1", "p_2").to_numpy().argmax(1)
    assert frame["said"].to_list() == [NAMES[i] for i in best]
    assert polars.read_csv(run / "predictions.csv")["id"].to_list() == frame["id"].to_list()


# Console


def test_lines_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path, [EpochLines()], enable_progress_bar=True, check_val_every_n_epoch=2)
    module, data = Classifier(), Waves()
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    first, second, test = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("epoch 1/2  ")
    assert "train_loss" in first
    assert "val_" not in first
    assert second.startswith("epoch 2/2  ")
    assert "train_accuracy" in second
    assert "val_loss" in second
    assert test.startswith("test  test_loss ")


def test_validate_alone_leaves_a_line_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path, [EpochLines(), ConfusionMatrix()], enable_progress_bar=True)
    trainer.validate(Classifier(), Waves(), verbose=False)
    assert capsys.readouterr().out.startswith("validate  val_loss ")
    assert (tmp_path / "figures" / "confusion_matrix_val.png").exists()


def test_the_bar_suits_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(progress_bar(), RichProgressBar)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert isinstance(progress_bar(), EpochLines)
