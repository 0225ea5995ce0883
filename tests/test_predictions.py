"""Predictions that a run leaves: the same from 1 and 2 processes, and what is refused."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from matplotlib.image import imread
from pytorch_lightning.strategies import DDPStrategy
from waves import Classifier, Waves, make_trainer

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.classification_figures import ConfusionMatrix, WorstMistakes
from lightning_rnn.training.figures import LearningCurves
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.predictions import PredictionWriter, to_columns
from lightning_rnn.types import SequenceBatch

pytestmark = [  # Lightning's own warnings, about what is so on purpose
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are using a custom batch sampler"),
    pytest.mark.filterwarnings("ignore:It is recommended to use .*sync_dist=True"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def two_processes() -> dict[str, Any]:
    strategy = DDPStrategy(
        start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60), find_unused_parameters=False
    )
    return {"strategy": strategy, "devices": 2}


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    seen: list[Path] = []
    for name, options in {"one": {}, "two": two_processes()}.items():
        folder = tmp_path / name
        seen.append(folder)
        torch.manual_seed(0)
        module, data = Classifier(), Waves()
        callbacks = [PredictionWriter(), ConfusionMatrix(), WorstMistakes(), LearningCurves()]
        trainer = make_trainer(folder, callbacks, [CSVLogger(folder)], max_epochs=0, **options)
        trainer.test(module, data, verbose=False)
        trainer.predict(module, data, return_predictions=False)
    one, two = (polars.read_parquet(folder / "predictions.parquet") for folder in seen)
    assert len(one) == 33
    assert one.columns == two.columns
    assert one["id"].equals(two["id"])
    assert one.select("p_0").to_numpy() == pytest.approx(two.select("p_0").to_numpy(), abs=1e-6)
    assert float(read(seen[0])[0]["test_loss"]) == pytest.approx(float(read(seen[1])[0]["test_loss"]), abs=1e-6)
    pictures = [imread(folder / "figures" / "confusion_matrix_test.png") for folder in seen]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] == pictures[1]).all()
    assert (seen[1] / "figures" / "worst_mistakes_test.png").exists()


def spoil(writer: PredictionWriter, change: Callable[[SequenceBatch], None]) -> PredictionWriter:
    """A writer that gets batches with other row numbers."""
    take = writer.on_predict_batch_end

    def on_predict_batch_end(trainer: Any, module: Any, outputs: Any, batch: SequenceBatch, index: int) -> None:
        change(batch)
        take(trainer, module, outputs, batch, index)

    writer.on_predict_batch_end = on_predict_batch_end  # type: ignore[assignment,method-assign]
    return writer


def drop_last_row(batch: SequenceBatch) -> None:
    assert batch.ids is not None
    batch.ids = torch.where(batch.ids == 32, 31, batch.ids)


def test_a_row_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [spoil(PredictionWriter(), drop_last_row)])
    with pytest.raises(DataError, match=r"row 31 .* more than once"):
        trainer.predict(Classifier(), Waves(), return_predictions=False)
    assert not list(tmp_path.glob("predictions*"))


def test_a_missing_row_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Waves()
    data.setup("predict")
    short = data.predict_dataloader()
    monkeypatch.setattr(short.batch_sampler, "start", 1)
    monkeypatch.setattr(data, "predict_dataloader", lambda: short)
    with pytest.raises(DataError, match="of the source's 33 rows"):
        make_trainer(tmp_path, [PredictionWriter()]).predict(Classifier(), data, return_predictions=False)


def test_a_limit_leaves_rows_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path, [PredictionWriter()], limit_predict_batches=1)
    with caplog.at_level(logging.INFO, "lightning_rnn.training.predictions"):
        trainer.predict(Classifier(), Waves(), return_predictions=False)
    assert 0 < len(polars.read_csv(tmp_path / "predictions.csv")) < 33
    assert "predictions.parquet" in caplog.text
    assert "predictions.csv" in caplog.text


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trainer = make_trainer(tmp_path / "file" / "run", [PredictionWriter()])
    with pytest.raises(DataError, match=r"cannot write .*predictions\.parquet"):
        trainer.predict(Classifier(), Waves(), return_predictions=False)


def test_columns_are_of_one_or_two_axes() -> None:
    assert list(to_columns({"x": torch.ones(2, dtype=torch.bfloat16)})["x"]) == [1.0, 1.0]
    with pytest.raises(ConfigError, match=r"\(2, 3, 4\)"):
        to_columns({"x": torch.zeros(2, 3, 4)})
