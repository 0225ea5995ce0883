"""What a machine with a GPU is to be asked: do the GPU tests pass, and how long do the engines take?

    python benchmarks/gpu_check.py

Runs ``pytest -k gpu``, then times a training step of every engine that runs a row of the table, and writes
``benchmarks/results/gpu-check.json``. Where torch sees no GPU it says so, writes nothing and ends well.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RecurrentLayer, Regularization
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.graphs import graphed

RESULT = Path(__file__).parent / "results" / "gpu-check.json"
SHAPES = ((64, 28, 28, 64), (150, 28, 28, 150), (32, 100, 64, 256), (20, 35, 200, 200), (64, 784, 1, 128))
ROWS: dict[str, tuple[type[RecurrentLayer], dict[str, Any]]] = {
    "simple_rnn": (SimpleRNN, {}),
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "lstm peephole": (LSTM, {"step_options": StepOptions(peephole=True)}),
    "lstm recurrent dropout": (LSTM, {"regularization": Regularization(recurrent_dropout=0.2)}),
    "gru reset before": (GRU, {"step_options": StepOptions(reset_after=False)}),
}


def milliseconds(step: Callable[[], object], repeats: int = 30) -> float:
    """Median time of a step on the GPU."""
    for _ in range(3):
        step()
    times: list[float] = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def training(run: Callable[[torch.Tensor], Any], layer: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Forward and backward."""

    def step() -> None:
        layer.zero_grad()
        run(x).sequence.sum().backward()

    return step


def time_engines(row: str, shape: tuple[int, int, int, int]) -> dict[str, float | str]:
    """Milliseconds of each engine, also in a CUDA graph; the reason where it does not run."""
    cls, options = ROWS[row]
    batch, steps, features, hidden = shape
    x = torch.randn(batch, steps, features, device="cuda")
    found: dict[str, float | str] = {}
    for engine in (name for name in get_args(Engine) if name != "auto"):
        try:
            layer = cls(features, hidden, engine=engine, **options).cuda()
            layer(x)
        except ValueError as reason:
            found[engine] = str(reason)
            continue
        found[engine] = milliseconds(training(layer, layer, x))
        if steps > 100:
            continue
        try:
            found[f"{engine} in a graph"] = milliseconds(training(graphed(layer, x), layer, x))
        except RuntimeError as reason:
            found[f"{engine} in a graph"] = str(reason)
    return found


def main() -> int:
    """Test, measure, write."""
    if not torch.cuda.is_available():
        print("torch sees no GPU here: nothing was tested or measured, nothing was written")
        return 0
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-k", "gpu", "tests"], check=False).returncode
    times = {f"{row} {'x'.join(map(str, shape))}": time_engines(row, shape) for row in ROWS for shape in SHAPES}
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "tests": "passed" if tests == 0 else f"pytest ended with {tests}",
        "training step, ms": times,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"tests {result['tests']}; times are in {RESULT}")
    return tests


if __name__ == "__main__":
    sys.exit(main())
