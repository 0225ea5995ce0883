"""A gradient that is no finite number harms no weight: training stops and names the rows, or leaves the step out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.errors import DataError
from lightning_rnn.training.module import StepResult
from lightning_rnn.training.non_finite import FILE, NonFinite
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData, SequenceClassifier

pytestmark = pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")


class Faulty(SequenceClassifier):
    """Its loss is NaN, or its gradient infinite, in the batches that hold one of these rows."""

    rows: tuple[int, ...] = ()
    factor = float("nan")

    def step(self, batch: SequenceBatch) -> StepResult:
        result = super().step(batch)
        assert batch.ids is not None
        if self.training and any(row in batch.ids.tolist() for row in self.rows):
            result.loss = result.loss * self.factor
        return result


class Weights(pl.Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.after: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.after.append({name: value.clone() for name, value in module.state_dict().items()})


def fit(folder: Path, action: Any, rows: tuple[int, ...], factor: float = float("nan"), **options: Any) -> Any:
    module = Faulty(cell="gru", hidden_size=4)
    module.rows, module.factor = rows, factor
    callback, weights = NonFinite(action), Weights()
    trainer = pl.Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 12,
            "limit_val_batches": 0,
            "callbacks": [callback, weights],
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            **options,
        }
    )
    trainer.fit(module, ClassificationData(batch_size=32))
    return callback, weights


def batch_rows(number: int) -> list[int]:
    data = ClassificationData(batch_size=32)
    data.setup("fit")
    return list(data.train_dataloader().batch_sampler)[number]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_stopping_names_epoch_batch_and_rows(factor: float, tmp_path: Path) -> None:
    rows = batch_rows(5)
    with pytest.raises(DataError, match=rf"epoch 1, batch 6 .*{FILE}.*--non_finite.action skip"):
        fit(tmp_path, "stop", (rows[3],), factor)
    (line,) = (tmp_path / FILE).read_text().splitlines()
    data = ClassificationData(batch_size=32)
    data.setup("fit")
    found = json.loads(line)
    assert found["ids"] == [data.split("train").row_id(row) for row in rows]
    assert (found["epoch"], found["batch"], found["step"], found["process"]) == (0, 5, 5, 0)


def test_skipping_leaves_weights_and_optimizer_as_they_are_and_counts(tmp_path: Path) -> None:
    bad = (batch_rows(2)[0], batch_rows(7)[0])
    callback, weights = fit(tmp_path, "skip", bad)
    assert callback.skipped == 2
    assert callback.state_dict() == {"skipped": 2}
    for number in range(1, 12):
        same = all(torch.equal(weights.after[number][k], weights.after[number - 1][k]) for k in weights.after[0])
        assert same == (number in (2, 7))
    assert all(value.isfinite().all() for value in weights.after[-1].values() if value.is_floating_point())


def test_of_accumulated_batches_all_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        fit(tmp_path, "stop", (batch_rows(4)[0],), accumulate_grad_batches=3)
    assert [json.loads(line)["batch"] for line in (tmp_path / FILE).read_text().splitlines()] == [3, 4, 5]


def test_nothing_happens_where_all_is_well(tmp_path: Path) -> None:
    callback, _ = fit(tmp_path, "stop", ())
    assert callback.skipped == 0
    assert not (tmp_path / FILE).exists()
