"""The loop with Triton's kernels for the pointwise part of a step: on a GPU, for the options that cuDNN lacks.

Products are cuBLAS', all the rest of a step is one kernel (two where the reset gate acts before the product). Triton is
no requirement: without it the engine says so and others run. With ``TRITON_INTERPRET=1`` in the environment when Triton
is first imported the kernels run on a CPU, slowly, which is how they are tested.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Ran, Resets
from lightning_rnn.layers.gates import Gates
from lightning_rnn.layers.loop import against_loop, run_with
from lightning_rnn.layers.tape import Grads, Pair, Step, Tape, made, there

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def available() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs kernels on a CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def against_triton(stepper: object, call: Any) -> list[str]:
    """Why Triton's kernels do not run this; empty where they do."""
    against = against_loop(stepper, call)
    if not isinstance(stepper, Gates):
        return against
    weight = stepper.weights.weight_hh
    if not available():
        against.append("Triton is not installed")
    if not weight.is_cuda and not interpreted():
        against.append(f"Triton's kernels are for a GPU, the weights are on {weight.device}")
    if weight.dtype not in DTYPES:
        against.append(f"Triton's kernels have no {weight.dtype}")
    return against


def run_triton(
    gates: Gates, x: Tensor, state: Any, valid: Valid | None, resets: Resets | None, all_states: bool
) -> Ran:
    """The engine: :func:`lightning_rnn.functional.scan.scan` with a kernel a step."""
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # Triton launches there; backward does by itself
        return run_with(PAIRS, gates, x, state, valid, resets, all_states)


@cache
def _kernels() -> ModuleType:
    from lightning_rnn.layers import triton_kernels

    return triton_kernels


def _launch(name: str, count: int, flags: dict[str, Any], *arguments: Any) -> None:
    kernels = _kernels()
    grid = (-(-count // kernels.BLOCK),)
    getattr(kernels, name)[grid](*arguments, count, **flags, BLOCK=kernels.BLOCK)


def _flags(tape: Tape, sigma: bool = True) -> dict[str, Any]:
    codes = _kernels().CODES
    flags = {"PHI": codes[tape.options.activation], "ZONE": float(tape.zone), "KEEP": tape.keep is not None}
    return flags | ({"SIGMA": codes[tape.options.recurrent_activation]} if sigma else {})


def _lstm_flags(tape: Tape) -> dict[str, Any]:
    return _flags(tape) | {
        "LIMIT": float(tape.options.cell_clip or 0),
        "SKIP": tape.skip is not None,
        "PEEPHOLE": tape.peephole is not None,
        "PROJECTED": tape.projected,
    }


def _carries(tape: Tape) -> dict[str, Any]:
    return {"CARRY": tape.keep is not None or tape.zone > 0}


Mask = tuple[Tensor, int, int]


def _mask(mask: Tensor | None, none: Tensor) -> list[Mask]:
    """A mask step by step, with the strides of its rows and columns; where there is none, what no kernel reads."""
    if mask is None:
        return [(none, 0, 0)] * none.shape[0]
    strides = mask.stride(1), mask.stride(2) if mask.shape[2] > 1 else 0
    return [(step, *strides) for step in mask.unbind(0)]


def simple_rnn_forward(tape: Tape) -> Step:
    """See :func:`lightning_rnn.layers.pointwise.simple_rnn_forward`."""
    gates, old, new, keep = tape.gates.unbind(0), tape.olds, tape.news, _mask(tape.keep, tape.gates)
    flags, size, count = _flags(tape, sigma=False), tape.gates.shape[2], gates[0].numel()
    return lambda j: _launch("simple_rnn", count, flags, gates[j], old[j], new[j], *keep[j], size)


def simple_rnn_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`simple_rnn_forward`."""
    gates, d, a, into = tape.gates.unbind(0), grads.d, grads.gates.unbind(0), grads.into
    flags, keep = _flags(tape, sigma=False) | _carries(tape), _mask(tape.keep, tape.gates)
    size, count = tape.gates.shape[2], d[0].numel()
    return lambda j: _launch("simple_rnn_back", count, flags, gates[j], d[j], a[j], into[j], *keep[j], size)


def _memory(tape: Tape) -> list[tuple[Tensor, ...]]:
    """What an LSTM's kernels read and write beside the output: gates, memory before and after, its activation."""
    return list(zip(*(there(t).unbind(0) for t in (tape.gates, tape.c_old, tape.c_new, tape.inner)), strict=True))


def lstm_forward(tape: Tape) -> Step:
    """See :func:`lightning_rnn.layers.pointwise.lstm_forward`."""
    steps, old, out = _memory(tape), tape.olds, made(tape) if tape.projected else tape.news
    flags, size, count = _lstm_flags(tape), tape.gates.shape[2] // 4, steps[0][1].numel()
    keep, skip = _mask(tape.keep, tape.gates), _mask(tape.skip, tape.gates)
    peephole = tape.gates if tape.peephole is None else tape.peephole.contiguous()

    def step(j: int) -> None:
        _launch("lstm", count, flags, *steps[j], old[j], out[j], peephole, *keep[j], *skip[j][:2], size)

    return step


def lstm_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`lstm_forward`."""
    steps, d, a, into, memory = _memory(tape), grads.d, grads.gates.unbind(0), grads.into, there(grads.memory)
    flags, size, count = _lstm_flags(tape) | _carries(tape), tape.gates.shape[2] // 4, memory.numel()
    keep, skip = _mask(tape.keep, tape.gates), _mask(tape.skip, tape.gates)
    peephole = tape.gates if tape.peephole is None else tape.peephole.contiguous()

    def step(j: int) -> None:
        outs = d[j], a[j], memory, into[j]
        _launch("lstm_back", count, flags, *steps[j], *outs, peephole, *keep[j], *skip[j][:2], size)

    return step


def gru_forward(tape: Tape) -> Step:
    """See :func:`lightning_rnn.layers.pointwise.gru_forward`."""
    gates, inner, old, new = tape.gates.unbind(0), there(tape.inner).unbind(0), tape.olds, tape.news
    flags, keep, size, count = _flags(tape), _mask(tape.keep, tape.gates), tape.gates.shape[2] // 3, inner[0].numel()
    return lambda j: _launch("gru", count, flags, gates[j], inner[j], old[j], new[j], *keep[j], size)


def gru_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`gru_forward`."""
    gates, inner, old = tape.gates.unbind(0), there(tape.inner).unbind(0), tape.h_old.unbind(0)
    d, a, into, keep = grads.d, grads.gates.unbind(0), grads.into, _mask(tape.keep, tape.gates)
    flags, size, count = _flags(tape), tape.gates.shape[2] // 3, inner[0].numel()
    return lambda j: _launch("gru_back", count, flags, gates[j], inner[j], old[j], d[j], a[j], into[j], *keep[j], size)


def reset_forward(tape: Tape) -> Step:
    """See :func:`lightning_rnn.layers.pointwise.reset_forward`."""
    gates, inner, old = tape.gates.unbind(0), there(tape.inner).unbind(0), tape.olds
    flags, size, count = {"SIGMA": _flags(tape)["SIGMA"]}, tape.gates.shape[2] // 3, inner[0].numel()
    return lambda j: _launch("reset", count, flags, gates[j], old[j], inner[j], size)


def reset_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`reset_forward`."""
    gates, old, a, into, inner = tape.gates.unbind(0), tape.h_old, grads.gates.unbind(0), grads.into, there(grads.inner)
    flags, size, count = {"SIGMA": _flags(tape)["SIGMA"]}, tape.gates.shape[2] // 3, inner.numel()
    return lambda j: _launch("reset_back", count, flags, gates[j], old[j], inner, a[j], into[j], size)


def candidate_forward(tape: Tape) -> Step:
    """See :func:`lightning_rnn.layers.pointwise.candidate_forward`."""
    gates, old, new = tape.gates.unbind(0), tape.olds, tape.news
    flags, keep, size, count = _flags(tape), _mask(tape.keep, tape.gates), tape.gates.shape[2] // 3, new[0].numel()
    return lambda j: _launch("candidate", count, flags, gates[j], old[j], new[j], *keep[j], size)


def candidate_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`candidate_forward`."""
    gates, old, d, a, into = tape.gates.unbind(0), tape.h_old, grads.d, grads.gates.unbind(0), grads.into
    flags, keep, size, count = _flags(tape), _mask(tape.keep, tape.gates), tape.gates.shape[2] // 3, d[0].numel()
    return lambda j: _launch("candidate_back", count, flags, gates[j], old[j], d[j], a[j], into[j], *keep[j], size)


PAIRS: dict[str, Pair] = {
    "simple_rnn": Pair(simple_rnn_forward, simple_rnn_backward),
    "lstm": Pair(lstm_forward, lstm_backward),
    "gru": Pair(gru_forward, gru_backward),
    "reset": Pair(reset_forward, reset_backward),
    "candidate": Pair(candidate_forward, candidate_backward),
}
