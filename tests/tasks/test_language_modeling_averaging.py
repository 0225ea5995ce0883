"""Averaged SGD, triggered: it begins where the paper says, and averages what it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from processes import QUIET
from torch import Tensor

from lightning_rnn.data import TextLines
from lightning_rnn.errors import ConfigError
from lightning_rnn.plugins import Task
from lightning_rnn.testing.contract import check_resume
from lightning_rnn.training.nonmonotonic import NonMonotonicAveraging, stalled
from tasks.language_modeling import LanguageData, LanguageModel

AVERAGING = pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")


def algorithm_1(values: list[float], patience: int) -> int | None:
    """The validation at which averaging begins, as the paper's algorithm 1 has it; None: never."""
    logs: list[float] = []
    for t, value in enumerate(values):
        if t > patience and value > min(logs[: t - patience]):
            return t
        logs.append(value)
    return None


def test_averaging_begins_where_algorithm_1_says() -> None:
    rng = np.random.default_rng(1)
    begun = 0
    for _ in range(200):
        values, patience = rng.integers(0, 30, 12).tolist(), int(rng.integers(0, 6))
        ours = next((t for t in range(12) if stalled(values[: t + 1], patience)), None)
        assert ours == algorithm_1(values, patience)
        begun += ours is not None
    assert begun


def _short(folder: Path, **options: Any) -> LanguageData:
    lines = ["to be or not to be", "that is the question", "whether it is nobler"] * 12
    (folder / "a.txt").write_text("\n".join(lines))
    file = str(folder / "a.txt")
    return LanguageData(TextLines(file, file, file), **{"batch_size": 2, "chunk": 10} | options)


def _small(**options: Any) -> LanguageModel:
    return LanguageModel(**{"embedding_size": 6, "hidden_size": 8} | options)


class _Fixed(pl.Callback):
    """Gives validation the losses that a test wants."""

    def __init__(self, values: list[float]) -> None:
        self.values: Iterator[float] = iter(values)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callback_metrics["wanted"] = torch.tensor(next(self.values))


class _Weights(pl.Callback):
    """Keeps the head's bias after each step, and the one that each validation saw."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.steps.append(pl_module.network.head.bias.detach().clone())  # type: ignore[union-attr, operator, arg-type]

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.validated.append(pl_module.network.head.bias.detach().clone())  # type: ignore[union-attr, operator, arg-type]


@AVERAGING
def test_averaged_weights_are_the_mean_of_all_steps_since_the_trigger(tmp_path: Path) -> None:
    """As ``torch.optim.ASGD`` with ``t0 = 0`` and ``lambd = 0`` averages them, from the same moment on."""
    averaging, weights = NonMonotonicAveraging("wanted", patience=0), _Weights()
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[_Fixed([3.0, 2.0, 2.5, 2.0]), averaging, weights],
        **QUIET,
    )
    model = _small()
    model.use_optimizer({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}})
    trainer.fit(model, _short(tmp_path, eval_chunk=500))
    assert averaging.triggered and averaging.history == [3.0, 2.0, 2.5]
    each = len(weights.steps) // 4
    for epoch in range(3):  # before the trigger, validation sees the weights themselves
        torch.testing.assert_close(weights.validated[epoch], weights.steps[(epoch + 1) * each - 1], rtol=0, atol=0)
    expected = torch.stack(weights.steps[3 * each :]).mean(0)
    torch.testing.assert_close(weights.validated[3], expected)
    torch.testing.assert_close(model.network.head.bias.detach(), expected)
    assert not torch.allclose(expected, weights.steps[-1])


@AVERAGING
def test_a_run_with_averaging_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Checked by the contract's own resume, averaging from the first validation on."""

    class Averaged(LanguageModel):
        def configure_callbacks(self) -> list[pl.Callback]:
            averaging = NonMonotonicAveraging(patience=0)
            averaging.triggered = True
            return [averaging]

    data = lambda: _short(tmp_path)  # noqa: E731
    model = lambda: Averaged(embedding_size=6, hidden_size=8)  # noqa: E731
    check_resume(Task("language_modeling", model, data), tmp_path)  # type: ignore[arg-type]


@AVERAGING
def test_a_value_that_nobody_logs_cannot_trigger(tmp_path: Path) -> None:
    averaging = NonMonotonicAveraging(monitor="val_los")
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=[averaging], **QUIET)
    with pytest.raises(ConfigError, match=r"no val_los is logged: set monitor to one of .*val_loss"):
        trainer.fit(_small(), _short(tmp_path))
    with pytest.raises(ConfigError, match="patience must not be negative"):
        NonMonotonicAveraging(patience=-1)
