"""Milliseconds of a training step of each engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, get_args

import torch

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RecurrentLayer, Regularization
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.graphs import graphed

Shape = tuple[int, int, int, int]
SHAPES: tuple[Shape, ...] = (
    (64, 28, 28, 64), (150, 28, 28, 150), (32, 100, 64, 256), (20, 35, 200, 200), (64, 784, 1, 128),
)  # fmt: skip
ROWS: dict[str, tuple[type[RecurrentLayer], dict[str, Any]]] = {
    "simple_rnn": (SimpleRNN, {}),
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "lstm peephole": (LSTM, {"step_options": StepOptions(peephole=True)}),
    "lstm recurrent dropout": (LSTM, {"regularization": Regularization(recurrent_dropout=0.2)}),
    "gru reset before": (GRU, {"step_options": StepOptions(reset_after=False)}),
}
LOW = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def milliseconds(step: Callable[[], object], device: str = "cuda", repeats: int = 30) -> float:
    """Median time of a step."""
    for _ in range(3):
        step()
    times: list[float] = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def training(
    run: Callable[[torch.Tensor], Any], layer: torch.nn.Module, x: torch.Tensor, low: torch.dtype | None = None
) -> Callable[[], object]:
    """Forward, under autocast where a dtype is given, and backward."""

    def step() -> None:
        layer.zero_grad()
        with torch.autocast(x.device.type, low, enabled=low is not None):
            total = run(x).sequence.sum()
        total.backward()

    return step


def time_engines(row: str, shape: Shape, device: str = "cuda", repeats: int = 30) -> dict[str, float | str]:
    """Milliseconds of each engine and precision, on a GPU also in a CUDA graph; the reason where it does not run."""
    cls, options = ROWS[row]
    batch, steps, features, hidden = shape
    x = torch.randn(batch, steps, features, device=device)
    found: dict[str, float | str] = {}
    for engine in (name for name in get_args(Engine) if name != "auto"):
        try:
            layer = cls(features, hidden, engine=engine, **options).to(device)
            layer(x)
        except ValueError as reason:
            found[engine] = str(reason)
            continue
        for name, low in LOW.items():
            if device != "cpu" or name != "float16":
                found[f"{engine} {name}"] = milliseconds(training(layer, layer, x, low), device, repeats)
        if device == "cpu" or steps > 100:
            continue
        try:
            found[f"{engine} in a graph"] = milliseconds(training(graphed(layer, x), layer, x), device, repeats)
        except RuntimeError as reason:
            found[f"{engine} in a graph"] = str(reason)
    return found
