"""What a machine with a GPU is to be asked: is it right there, in every precision, and how long does it take?

    python benchmarks/gpu_check.py
    python benchmarks/gpu_check.py --device cpu --steps 5   # the same without a GPU, to try it; writes nothing

Runs ``pytest -k gpu``; compares every layer on every engine with float64 (``gpu/equality.py``); trains every task for
200 steps in float32, TF32, bf16-mixed and 16-mixed (``gpu/tasks.py``); times a training step of every engine
(``gpu/times.py``); and writes ``benchmarks/results/gpu-check.json``. Where torch sees no GPU it says so, writes nothing
and ends well.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from gpu import equality, tasks, times

RESULT = Path(__file__).parent / "results" / "gpu-check.json"
Finding = tuple[str, dict[str, Any], bool]


def collect(title: str, findings: Iterable[Finding]) -> dict[str, Any]:
    """All findings of a part, and the names of those that are out of bounds, printed as they come."""
    found: dict[str, Any] = {}
    failed: list[str] = []
    for name, values, good in findings:
        found[name] = values
        if not good:
            failed.append(name)
            print(f"{title}: {name} is out of bounds: {values}", flush=True)
    print(f"{title}: {len(found) - len(failed)} of {len(found)} within bounds", flush=True)
    return {"failed": failed, "found": found}


def check(device: str, steps: int, repeats: int, rows: list[str] | None = None) -> dict[str, Any]:
    """Layers, tasks and times.

    Args:
        device: ``cuda`` or ``cpu``.
        steps: of training of each task.
        repeats: of each timed step.
        rows: of layers and tasks; None: all.
    """
    layers = None if rows is None else [row for row in rows if row in equality.LAYERS]
    names = None if rows is None else [row for row in rows if row not in equality.LAYERS]
    timed = times.ROWS if layers is None else [row for row in layers if row in times.ROWS]
    shapes = times.SHAPES if device != "cpu" else times.SHAPES[:1]
    with tempfile.TemporaryDirectory() as folder:
        return {
            "layers": collect("layers", equality.compare(device, layers)),
            "tasks": collect("tasks", tasks.compare(steps, device, Path(folder), names)),
            "training step, ms": {
                f"{row} {'x'.join(map(str, shape))}": times.time_engines(row, shape, device, repeats)
                for row in timed
                for shape in shapes
            },
        }


def machine() -> dict[str, Any]:
    """The GPU and the versions."""
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}


def main(argv: list[str] | None = None) -> int:
    """Test, compare, train, measure, write. Returns 0 where all is within bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each task")
    parser.add_argument("--repeats", type=int, default=30, help="of each timed step")
    parser.add_argument("--rows", nargs="+", help="these layers and tasks only; nothing is written then")
    asked = parser.parse_args(argv)
    gpu = asked.device == "cuda"
    if gpu and not torch.cuda.is_available():
        print("torch sees no GPU here: nothing was tested or measured, nothing was written")
        return 0
    tests = 0
    if gpu:
        tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-k", "gpu", "tests"], check=False).returncode
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's on short runs
        found = check(asked.device, asked.steps, asked.repeats, asked.rows)
    failed = found["layers"]["failed"] + found["tasks"]["failed"]
    if gpu and asked.rows is None:
        result = machine() | {"tests": "passed" if tests == 0 else f"pytest ended with {tests}", **found}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(f"tests {result['tests']}; all that was found is in {RESULT}")
    return 1 if failed or tests else 0


if __name__ == "__main__":
    sys.exit(main())
