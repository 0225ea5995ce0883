"""Mixed precision: near float32 for every task and float64 for every layer, refused where there is none, and told."""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import pytorch_lightning as pl
import torch
from processes import QUIET
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from lightning_rnn import GRU, LSTM, RNN, SimpleRNN
from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.precision import float32_precision
from lightning_rnn.layers.quantized import quantize_dynamic
from lightning_rnn.plugins import available
from lightning_rnn.training.precision import PrecisionPolicy, hold_float32, log_engine_once
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.embedded import Airline
from tasks.generation import GenerationData, Generator
from tasks.grammar_acceptance import GrammarData, GrammarModel
from tasks.grammar_acceptance.sources import Strings
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.rainfall import RainfallData, RainfallRegressor
from tasks.rainfall.sources import SyntheticRain
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.translation import TranslationData, Translator
from tasks.translation.sources import Numbers
from tasks.video_classification import VideoClassifier, VideoData
from tasks.video_classification.moving import MovingDigits

ROOT = Path(__file__).parents[1]
BF16, LOGGER = torch.bfloat16, "lightning_rnn.training.precision"
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts of ``benchmarks/gpu_check.py`` by name, as that script imports them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(name if name == "gpu_check" else f"gpu.{name}")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged of precision."""
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


# Layers

ROWS = (
    "simple_rnn", "lstm", "gru", "min_gru", "min_lstm", "ind_rnn", "mgu", "ugrnn", "cifg", "nas", "slstm",
    "layer_norm_lstm", "layer_norm_gru", "simple_rnn 2 layers", "lstm both ways", "gru both ways", "lstm projected",
    "lstm peephole", "gru reset before", "conv_lstm", "conv_gru",
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_bfloat16_is_near_float64_on_every_engine(row: str, gpu: Any) -> None:
    equality, ran = gpu("equality"), 0
    limits = equality.allowed(row, "bfloat16")
    for engine in get_args(Engine)[1:]:
        try:
            found = equality.distance(row, engine, "bfloat16")
        except ValueError:
            continue
        ran += 1
        assert 1e-3 < found.forward <= limits.forward, engine  # float32 is within 2e-6: this was bfloat16
        assert 1e-3 < found.gradient <= limits.gradient, engine
    assert ran


def test_every_layer_of_the_check_is_tested_here(gpu: Any) -> None:
    assert sorted(ROWS) == sorted(gpu("equality").LAYERS)


def told(layer: nn.Module, caplog: pytest.LogCaptureFixture, dtype: torch.dtype | None = BF16) -> str:
    """What the log says of a call under autocast (None: without)."""
    caplog.clear()
    log_engine_once("layer", layer)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, LOGGER), torch.autocast("cpu", dtype, enabled=dtype is not None):
        layer(x=torch.randn(3, 7, 8))
        layer(torch.randn(3, 7, 8))  # said once
    (line,) = lines(caplog)
    return line


ROUNDED = "float32 products of numbers rounded to bfloat16, bfloat16 state and output"
PROMOTED = "bfloat16 products, float32 state and output"
TOLD: dict[str, tuple[str, str, str]] = {
    "native": (ROUNDED, ROUNDED, ROUNDED),
    "fused": ("bfloat16", "bfloat16", "bfloat16"),
    "loop": ("bfloat16", "bfloat16", "bfloat16"),
    "scan": ("bfloat16", PROMOTED, PROMOTED),
}


@pytest.mark.parametrize("engine", TOLD)
def test_the_log_tells_what_each_engine_computes_in(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    for cls, expected in zip((SimpleRNN, LSTM, GRU), TOLD[engine], strict=True):
        layer = cls(8, 4, engine=engine)
        if engine == "native" and "native" not in layer.explain(torch.zeros(3, 7, 8)).engine:
            pytest.skip("no native engine here")
        assert f" on cpu, {expected}, engine {engine} (" in told(layer, caplog)
        assert f" on cpu, float32, engine {engine} (" in told(layer, caplog, None)
        assert f" on cpu, float32, engine {engine} (" in told(copy.deepcopy(layer), caplog, None)


class Sum(nn.Module):
    """A cell without a product."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 8)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x + state, x + state


def test_the_log_tells_of_layers_that_do_not_follow_autocast(caplog: pytest.LogCaptureFixture) -> None:
    assert " on cpu, float32 (not autocast's bfloat16), engine scan" in told(RNN(Sum()), caplog)
    with torch.no_grad():
        quantized = told(quantize_dynamic(GRU(8, 4)), caplog)
    assert " on cpu, int8 products, float32 state and output, engine scan" in quantized
    held = GRU(8, 4)
    hold_float32(held)
    assert " on cpu, float32 (not autocast's bfloat16), engine " in told(held, caplog)


def test_a_call_that_fails_leaves_nothing_behind() -> None:
    layer = GRU(8, 4)
    log_engine_once("layer", layer)
    with pytest.raises(ValueError, match="expected x of shape"):
        layer(torch.zeros(3, 7, 9))
    assert not layer._forward_hooks and not layer._forward_pre_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_layers_held_in_float32_keep_long_memories_that_bfloat16_loses() -> None:
    layer, x = LSTM(4, 16, initializer="chrono", engine="loop"), torch.randn(2, 400, 4)
    exact = copy.deepcopy(layer).double()(x.double()).sequence

    def error() -> float:
        with torch.autocast("cpu", BF16):
            return float((layer(x).sequence.double() - exact).norm().detach() / exact.norm().detach())

    assert error() > 0.02
    handles = hold_float32(layer)
    assert error() < 1e-5
    for handle in handles:
        handle.remove()
    assert error() > 0.02


# Tasks


@dataclass(frozen=True)
class Tiny:
    """A task on its embedded source, and how far bf16-mixed may be from float32 after 20 steps.

    Attributes:
        make: model and data.
        loss: of both losses, relative.
        metrics: absolute, of the metrics that the loss does not already bound.
    """

    make: Callable[[], tuple[Any, Any]]
    loss: float
    metrics: dict[str, float]


TASKS = {
    "sequence_classification": Tiny(
        lambda: (SequenceClassifier(cell="gru", hidden_size=32), ClassificationData()),
        2e-3,
        {"val_accuracy": 0.03},
    ),
    "grammar_acceptance": Tiny(
        lambda: (GrammarModel(cell="lstm", hidden_size=16), GrammarData(Strings(rows=300, eval_rows=100))),
        1e-3,
        {"val_accuracy": 0.03},
    ),
    "forecasting": Tiny(
        lambda: (Forecaster(hidden_size=16), ForecastingData(Airline(), lookback=24)),
        2e-3,
        {"val_smape": 0.2},
    ),
    "rainfall": Tiny(
        lambda: (
            RainfallRegressor(hidden_sizes=[16]),
            RainfallData(SyntheticRain(train_hours=500, test_hours=100), batch_size=16),
        ),
        1.5e-2,
        {"val_mae": 0.03},
    ),
    "translation": Tiny(
        lambda: (
            Translator(embedding_size=16, hidden_size=16),
            TranslationData(Numbers(train=300, val=40, test=30, highest=999), vocab_size=60, batch_size=16),
        ),
        1e-3,
        {"val_chrf": 1.0},
    ),
    "language_modeling": Tiny(
        lambda: (LanguageModel(embedding_size=16, hidden_size=16), LanguageData(min_count=3, chunk=20)),
        1e-3,
        {"val_bits_per_character": 0.01},
    ),
    "generation": Tiny(
        lambda: (Generator(hidden_size=16, embedding_size=8, val_rows=0), GenerationData()),
        5e-3,
        {},
    ),
    "video_classification": Tiny(
        lambda: (
            VideoClassifier(hidden_size=16),
            VideoData(MovingDigits(train=160, val=40, test=10), batch_size=16),
        ),
        5e-3,
        {"val_accuracy": 0.1},
    ),
}
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


# What runs where there is a GPU; on a CPU the parts of the check themselves


def test_the_check_of_a_gpu_runs_on_a_cpu_and_finds_what_is_wrong(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check, equality = gpu("gpu_check"), gpu("equality")
    argv = ["--device", "cpu", "--steps", "2", "--repeats", "1", "--rows", "gru", "sequence_classification"]
    assert check.main(argv) == 0
    found = check.check("cpu", 1, 1, ["lstm peephole"])["training step, ms"]["lstm peephole 64x28x28x64"]
    assert "peephole" in found["fused"] and found["loop bfloat16"] > 0
    monkeypatch.setitem(equality.MODES, "bfloat16", equality.Mode(BF16, "ieee", equality.Distance(1e-4, 1e-4)))
    capsys.readouterr()
    assert check.main(["--device", "cpu", "--repeats", "1", "--rows", "gru"]) == 1
    assert "layers: gru, scan, bfloat16 is out of bounds" in capsys.readouterr().out


def test_the_check_takes_no_loss_that_is_far_from_float32(gpu: Any) -> None:
    exact = {"weights": ["float32"], "train_loss": 2.0, "val_loss": 2.0}
    near = gpu("tasks").near
    assert near(exact | {"train_loss": 2.05}, exact)
    for wrong in ({"train_loss": 2.2}, {"val_loss": 1.8}, {"val_loss": math.nan}, {"weights": ["bfloat16"]}):
        assert not near(exact | wrong, exact)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_check_says_that_there_is_no_gpu(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check = gpu("gpu_check")
    before = check.RESULT.exists()
    assert check.main([]) == 0 and check.RESULT.exists() == before
    assert "torch sees no GPU here" in capsys.readouterr().out


@no_gpu
@pytest.mark.parametrize("row", ROWS)
def test_gpu_float16_is_near_float64_on_every_engine(row: str, gpu: Any) -> None:
    findings = list(gpu("equality").compare("cuda", [row]))
    assert findings and not [name for name, _, good in findings if not good]


@no_gpu
@pytest.mark.parametrize("name", TASKS)
def test_gpu_16_mixed_scales_gradients_and_stays_near_float32(name: str, gpu: Any, tmp_path: Path) -> None:
    tasks = gpu("tasks")
    exact, low = (tasks.train(name, precision, 20, "cuda", tmp_path) for precision in ("float32", "16-mixed"))
    assert low["log"][0] == "precision: 16-mixed, gradients scaled, float32 products ieee"
    assert all("float16" in line for line in low["log"][1:]) and tasks.near(low, exact)
