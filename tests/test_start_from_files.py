"""What was learned elsewhere starts a new run, and no run that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from lightning_rnn.data import TextLines
from lightning_rnn.training.module import SequenceModule
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.word_vectors import WordVectorData, WordVectors


class Counted(SequenceClassifier):
    """A classifier that counts how often it starts from files."""

    started = 0

    def start_from_files(self) -> None:
        self.started += 1


def trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder, limit_train_batches=2,
        limit_val_batches=0,
    )  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a run that started from files, once."""
    model, run = Counted(hidden_size=4), trainer(tmp_path, 1)
    run.fit(model, ClassificationData())
    trainer(tmp_path, 1).fit(model, ClassificationData())
    assert model.started == 1
    run.save_checkpoint(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_a_run_that_goes_on_does_not_start_from_files(checkpoint: Path) -> None:
    model = Counted(hidden_size=4)
    trainer(checkpoint.parent, 2).fit(model, ClassificationData(), ckpt_path=checkpoint)
    assert model.started == 0


def test_a_model_that_was_loaded_does_not_start_from_files(checkpoint: Path) -> None:
    model = Counted.load_from_checkpoint(checkpoint)
    assert isinstance(model, SequenceModule)
    trainer(checkpoint.parent, 1).fit(model, ClassificationData())
    assert model.started == 0


def test_words_that_go_on_keep_what_they_learned(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be that is the question\n" * 40)
    (tmp_path / "vectors.txt").write_text("to 1 2 3 4\nbe 4 3 2 1\n")
    found = []
    for path in (None, tmp_path / "a.ckpt"):
        model = WordVectors(4, learning_rate=0.5, start_from=str(tmp_path / "vectors.txt"))
        data = WordVectorData(TextLines(str(tmp_path / "a.txt")), val_fraction=0)
        run = trainer(tmp_path, 1)  # the second has nothing left to learn
        run.fit(model, data, ckpt_path=path)
        run.save_checkpoint(tmp_path / "a.ckpt")
        found.append(model.network.inputs.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(model.table.vectors[model.queries.number["to"]], torch.tensor([1.0, 2, 3, 4]))
