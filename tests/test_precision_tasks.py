"""Mixed precision in runs: near float32 for every task, refused where there is none, chosen by one key."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from precision_cases import TASKS
from processes import QUIET
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.precision import float32_precision
from lightning_rnn.plugins import available
from lightning_rnn.training.precision import PrecisionPolicy

BF16, LOGGER = torch.bfloat16, "lightning_rnn.training.precision"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged of precision."""
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


WITHOUT_LAYERS = ["word_vectors"]  # learned in float32, whatever the trainer's precision
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-2}}


def fit(folder: Path, model: Any, data: Any, precision: Any, optimizer: Any = None, **options: Any) -> pl.Trainer:
    """Train for some steps from the same weights."""
    data.setup("fit")
    model.spec = data.spec
    torch.manual_seed(0)
    model.configure_model()
    model.use_optimizer(optimizer or ADAM)
    callbacks = options.pop("callbacks", None) or [PrecisionPolicy()]
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        precision=precision,
        callbacks=callbacks,
        max_epochs=1,
        limit_val_batches=4,
        **QUIET,
        **options,
    )
    torch.manual_seed(1)
    trainer.fit(model, data)
    return trainer


def test_every_task_is_tested_here() -> None:
    ours = [name for name, point in available().items() if point.value.startswith("tasks.")]
    assert sorted([*TASKS, *WITHOUT_LAYERS]) == ours


@pytest.mark.parametrize("name", TASKS)
def test_bf16_mixed_stays_near_float32(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny, results = TASKS[name], []
    for precision in ("32-true", "bf16-mixed"):
        model, data = tiny.make()
        caplog.clear()
        with caplog.at_level(logging.INFO, LOGGER):
            trainer = fit(tmp_path, model, data, precision, limit_train_batches=20, gradient_clip_val=1.0)
        results.append({key: float(value) for key, value in trainer.callback_metrics.items()})
        said = lines(caplog)
        assert said[0] == f"precision: {precision}" and len(said) > 1
        assert all(("bfloat16" in line) == (precision == "bf16-mixed") for line in said[1:])
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        slots = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
        assert {value.dtype for value in slots} == {torch.float32}
    exact, low = results
    assert exact.keys() == low.keys()
    for key in ("train_loss", "val_loss"):
        assert low[key] == pytest.approx(exact[key], rel=tiny.loss) and low[key] != exact[key]
    for key, within in tiny.metrics.items():
        assert low[key] == pytest.approx(exact[key], abs=within), key


class Weights(pl.Callback):
    """Those that training begins with."""

    before: Tensor

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.before = parameters_to_vector(pl_module.parameters()).detach().clone()


@pytest.mark.parametrize(("algorithm", "length"), [("norm", 0.01), ("value", 0.001)])
def test_gradients_are_clipped_under_autocast(algorithm: str, length: float, tmp_path: Path) -> None:
    model, data = TASKS["sequence_classification"].make()
    clipped: dict[str, Any] = {"gradient_clip_val": length, "gradient_clip_algorithm": algorithm}
    weights, moves = Weights(), []
    for options in (clipped, {}):
        fit(tmp_path, model, data, "bf16-mixed", SGD, callbacks=[weights], limit_train_batches=1, **options)
        moves.append(parameters_to_vector(model.parameters()).detach() - weights.before)
    sizes = [float(move.norm() if algorithm == "norm" else move.abs().max()) for move in moves]
    assert sizes[0] == pytest.approx(length, rel=1e-3) and sizes[1] > 2 * length  # SGD at 1 moves by the gradient


# What is refused, and what one key chooses

DIGITS = ["--model", "tasks.sequence_classification.SequenceClassifier", "--model.hidden_size", "4"]


DIGITS += ["--data", "tasks.sequence_classification.ClassificationData", "--trainer.max_epochs", "1"]


DIGITS += ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "16"])
def test_float16_on_a_cpu_is_refused(
    verb: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, argv = tmp_path / "run", [verb, *DIGITS, "--trainer.precision", precision, "--trainer.accelerator", "cpu"]
    assert main([*argv, "--trainer.default_root_dir", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"trainer.precision {precision} is for GPUs" in error and "bf16-mixed" in error
    assert not root.exists()


@pytest.mark.parametrize("options", [{"precision": "16-true"}, {"plugins": [MixedPrecision("16-mixed", "cpu")]}])
@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available:UserWarning")
def test_float16_on_a_cpu_is_refused_in_python(options: dict[str, Any], tmp_path: Path) -> None:
    model, data = TASKS["sequence_classification"].make()
    with pytest.raises(ConfigError, match=r"trainer\.precision 16.* is for GPUs.* use bf16-mixed"):
        fit(tmp_path, model, data, options.pop("precision", None), **options)


def test_one_key_switches_tf32_for_a_run(tmp_path: Path) -> None:
    during: list[str] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            during.append(float32_precision())

    before = float32_precision()
    for policy in ("ieee", "tf32"):
        model, data = TASKS["sequence_classification"].make()
        fit(tmp_path, model, data, None, callbacks=[PrecisionPolicy(policy), Look()], limit_train_batches=1)  # type: ignore[arg-type]
        assert float32_precision() == before
    assert during == ["ieee", "tf32"]
    keys = ["--precision.float32", "tf32", "--precision.recurrent", "float32", "--trainer.precision", "bf16-mixed"]
    argv = ["fit", *DIGITS, *keys, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(argv) == 0
    config = (tmp_path / "run/config.yaml").read_text()
    assert "precision:\n  float32: tf32\n  recurrent: float32\n" in config


def test_recurrent_layers_stay_in_float32_where_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, data = TASKS["sequence_classification"].make()
    policy = PrecisionPolicy(recurrent="float32")
    with caplog.at_level(logging.INFO, LOGGER):
        trainer = fit(tmp_path, model, data, "bf16-mixed", callbacks=[policy], limit_train_batches=2)
    first, layer = lines(caplog)
    assert first == "precision: bf16-mixed, recurrent layers float32"
    assert "on cpu, float32 (not autocast's bfloat16), engine" in layer
    seen: list[torch.dtype] = []
    model.network.rnn.register_forward_hook(lambda _, __, output: seen.append(output.sequence.dtype))
    trainer.test(model, data, verbose=False)  # in every verb, and no longer afterwards
    assert set(seen) == {torch.float32}
    with torch.autocast("cpu", BF16):
        assert model.network.rnn(torch.zeros(2, 3, 8)).sequence.dtype == BF16
