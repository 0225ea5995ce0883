"""Every layer on every engine, in every precision, against the same layer in float64 on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import ConvGRU2d, ConvLSTM2d
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.precision import Precision, use_float32_precision
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.table import CellName, recurrent

STEPS, INPUTS, HIDDEN = 20, 16, 32
LENGTHS = [20, 3, 0, 14]


def _table() -> dict[str, Callable[[], SequenceLayer]]:
    def plain(cell: CellName) -> Callable[[], SequenceLayer]:
        return lambda: recurrent(cell, INPUTS, HIDDEN)

    return {cell: plain(cell) for cell in get_args(CellName)} | {
        "simple_rnn 2 layers": lambda: SimpleRNN(INPUTS, HIDDEN, 2),
        "lstm both ways": lambda: LSTM(INPUTS, HIDDEN, 2, bidirectional=True),
        "gru both ways": lambda: GRU(INPUTS, HIDDEN, 2, bidirectional=True),
        "lstm projected": lambda: LSTM(INPUTS, HIDDEN, proj_size=8),
        "lstm peephole": lambda: LSTM(INPUTS, HIDDEN, step_options=StepOptions(peephole=True)),
        "gru reset before": lambda: GRU(INPUTS, HIDDEN, step_options=StepOptions(reset_after=False)),
        "conv_lstm": lambda: ConvLSTM2d(INPUTS, 4, 3),
        "conv_gru": lambda: ConvGRU2d(INPUTS, 4, 3),
    }


LAYERS = _table()


class Distance(NamedTuple):
    """Norm of the difference by the norm of what is right: of output and state, and of all gradients together."""

    forward: float
    gradient: float


@dataclass(frozen=True)
class Mode:
    """A precision: autocast's dtype (None without), float32's products, and what it may differ from float64."""

    autocast: torch.dtype | None
    float32: Precision
    within: Distance


MODES = {
    "float32": Mode(None, "ieee", Distance(2e-6, 2e-5)),
    "tf32": Mode(None, "tf32", Distance(4e-3, 8e-3)),
    "bfloat16": Mode(torch.bfloat16, "ieee", Distance(1e-2, 2e-2)),
    "float16": Mode(torch.float16, "ieee", Distance(2e-3, 4e-3)),
}
# Activations with a kink, where rounding takes the other side; a division by the spread of a memory that is near 0.
KINKED, DIVIDED = Distance(1, 5), Distance(3, 20)
TIMES = {"min_gru": KINKED, "min_lstm": KINKED, "ind_rnn": KINKED, "nas": KINKED, "layer_norm_lstm": DIVIDED}


def allowed(row: str, mode: str) -> Distance:
    """What a row of the table may differ by."""
    limits, times = MODES[mode].within, TIMES.get(row, Distance(1, 1))
    return Distance(limits.forward * times.forward, limits.gradient * times.gradient)


def distance(row: str, engine: Engine, mode: str, device: str = "cpu", seed: int = 0) -> Distance:
    """One row, engine and precision.

    Raises:
        ValueError: the engine does not run this layer there, with the reason.
    """
    torch.manual_seed(seed)
    layer = LAYERS[row]()
    layer.engine = engine
    space = (6, 6) if row.startswith("conv") else ()
    return apart(layer, torch.randn(len(LENGTHS), STEPS, INPUTS, *space), torch.tensor(LENGTHS), MODES[mode], device)


def apart(layer: SequenceLayer, x: Tensor, lengths: Tensor, mode: Mode, device: str = "cpu") -> Distance:
    """A layer against itself in float64, by the loop on a CPU.

    Raises:
        ValueError: its engine does not run the call, with the reason.
    """
    exact = copy.deepcopy(layer).double()
    exact.engine = "scan"
    cast = nullcontext() if mode.autocast is None else torch.autocast(device, mode.autocast)
    with use_float32_precision(mode.float32):
        mine = _results(layer.to(device), x.to(device), lengths.to(device), cast)
    its = _results(exact, x.double(), lengths, nullcontext())
    return Distance(*(_relative(a, b) for a, b in zip(mine, its, strict=True)))


def _results(layer: SequenceLayer, x: Tensor, lengths: Tensor, cast: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs with states, and the gradients of a random sum of them."""
    x = x.requires_grad_()
    with cast:
        output = layer(x, lengths=lengths)
    found = [output.sequence, *pytree.tree_leaves(output.state)]
    generator, total = torch.Generator().manual_seed(1), torch.zeros((), dtype=torch.float64, device=x.device)
    for leaf in found:
        total = total + (leaf.double() * torch.randn(leaf.shape, generator=generator).to(x.device)).sum()
    sources = [x, *layer.parameters()]
    return found, list(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))


def _relative(mine: list[Tensor], its: list[Tensor]) -> float:
    a, b = (torch.cat([one.detach().double().cpu().flatten() for one in some]) for some in (mine, its))
    return float((a - b).norm() / b.norm())


def compare(device: str, rows: list[str] | None = None) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """``(name, distances, within)`` of each row, engine and precision; the reason where an engine does not run."""
    modes = [name for name in MODES if device != "cpu" or name not in ("tf32", "float16")]
    for row in LAYERS if rows is None else rows:
        for engine in (name for name in get_args(Engine) if name != "auto"):
            for mode in modes:
                name = f"{row}, {engine}, {mode}"
                try:
                    found = distance(row, engine, mode, device)
                except ValueError as reason:
                    yield f"{row}, {engine}", {"not run": str(reason)}, True
                    break
                limits = allowed(row, mode)
                within = found.forward <= limits.forward and found.gradient <= limits.gradient  # False for nan
                yield name, {**found._asdict(), "allowed": limits._asdict()}, within
