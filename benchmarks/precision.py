"""How far bfloat16 is from float64 on each engine, over short and long sequences: the table of docs/precision.md.

python benchmarks/precision.py            # half a minute
python benchmarks/precision.py --device cuda
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import get_args

import torch
from gpu.equality import MODES, apart

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.layers import RecurrentLayer
from lightning_rnn.layers.engines import Engine
from lightning_rnn.training.precision import hold_float32

BATCH, INPUTS, HIDDEN, LENGTHS = 8, 16, 64, (28, 784)


def layers(steps: int) -> Iterator[tuple[str, RecurrentLayer]]:
    """The three cells, the LSTM also with gates that keep a memory as long as the sequence (chrono, Tallec 2018)."""
    for cls in (SimpleRNN, LSTM, GRU):
        yield cls.__name__, cls(INPUTS, HIDDEN)
    torch.manual_seed(steps)
    yield "LSTM, chrono", LSTM(INPUTS, HIDDEN, initializer="chrono")


def row(layer: RecurrentLayer, steps: int, device: str) -> Iterator[str]:
    """Outputs and gradients of each engine, and of the first one when it is held in float32."""
    x, lengths = torch.randn(BATCH, steps, INPUTS), torch.full((BATCH,), steps)
    for engine in (name for name in get_args(Engine) if name != "auto"):
        layer.engine = engine
        try:
            found = apart(layer.cpu(), x, lengths, MODES["bfloat16"], device)
        except ValueError:
            continue
        yield f"{engine} {found.forward:.1e} {found.gradient:.1e}"
    layer.engine = "auto"
    handles = hold_float32(layer)
    found = apart(layer.cpu(), x, lengths, MODES["bfloat16"], device)
    for handle in handles:
        handle.remove()
    yield f"held in float32 {found.forward:.1e} {found.gradient:.1e}"


def main() -> None:
    """Print a line for each layer and length."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    device = parser.parse_args().device
    for steps in LENGTHS:
        torch.manual_seed(0)
        for name, layer in layers(steps):
            print(f"T={steps} {name}: {'; '.join(row(layer, steps, device))}", flush=True)


if __name__ == "__main__":
    main()
