"""Mixed precision: near float32 for every task and float64 for every layer, refused where there is none, and told."""

from __future__ import annotations

import copy
import importlib
import logging
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from precision_cases import TASKS
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, RNN, SimpleRNN
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.quantized import quantize_dynamic
from lightning_rnn.training.precision import hold_float32, log_engine_once

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
