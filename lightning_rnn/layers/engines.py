"""Which kernel runs a recurrent layer, and why.

An engine runs one layer in one direction over a whole batch: ``(outputs, last, state)`` from ``(x, state, weights)``.
Both engines follow one specification (:func:`lightning_rnn.functional.scan`); the choice changes speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import _VF, Tensor
from torch.nn import functional as F

from lightning_rnn.functional import gru_step, lstm_step, reverse_sequence, scan, sequence_mask, simple_rnn_step
from lightning_rnn.functional.cells import Activation

Engine = Literal["auto", "fused", "scan"]
_FULL = 1e4  # saturates a gate exactly: sigmoid(1e4) == 1 and sigmoid(-1e4) == 0 in every floating dtype


class EngineChoice(NamedTuple):
    """The engine that runs a call, and the reasons for it."""

    engine: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CellKind:
    """One row of the table of cells: everything in which SimpleRNN, LSTM and GRU differ."""

    gates: int
    states: int
    step: Callable[..., tuple[Tensor, ...]]
    fused: dict[str, Callable[..., Any]]  # by activation
    carry: tuple[float, ...] | None = None  # per gate, the bias that makes a step keep its memory


KINDS: dict[str, CellKind] = {
    "simple_rnn": CellKind(1, 1, simple_rnn_step, {"tanh": _VF.rnn_tanh, "relu": _VF.rnn_relu}),
    "lstm": CellKind(4, 2, lstm_step, {"tanh": _VF.lstm}, carry=(-_FULL, _FULL, 0.0, 0.0)),
    "gru": CellKind(3, 1, gru_step, {"tanh": _VF.gru}),
}


class Weights(NamedTuple):
    """Parameters of one layer in one direction, as in ``torch.nn``."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None


class Run(NamedTuple):
    """How one direction is run."""

    kind: CellKind
    activation: Activation
    reverse: bool
    zero_output_for_mask: bool


Result = tuple[Tensor, Tensor, tuple[Tensor, ...]]


def choose(engine: Engine, kind: CellKind, activation: Activation, mask: Tensor | None) -> EngineChoice:
    """The engine for a call. Anything but ``auto`` raises with the reasons rather than fall back.

    Raises:
        ValueError: ``engine="fused"`` where no fused kernel does what is asked.
    """
    against = []
    if activation not in kind.fused:
        against.append(f"no fused kernel has the activation {activation!r}")
    if mask is not None:
        against.append("a mask may have holes, which the fused kernels do not take (lengths they do)")
    if engine == "scan":
        return EngineChoice("scan", ("engine='scan' was asked for",))
    if not against:
        kernel = "cuDNN on a GPU; on a CPU oneDNN for LSTM, torch's own loop for GRU and SimpleRNN"
        return EngineChoice("fused", (kernel,))
    if engine == "fused":
        raise ValueError(f"engine='fused' cannot run this call: {'; '.join(against)}. Use engine='auto' or 'scan'.")
    return EngineChoice("scan", tuple(against))


def run_scan(run: Run, x: Tensor, state: tuple[Tensor, ...], weights: Weights, mask: Tensor | None) -> Result:
    """The loop in Python; the input projection is one product outside of it."""
    projected = F.linear(x, weights.ih, weights.bias_ih)

    def step(x_t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return run.kind.step(x_t, state, weights.hh, weights.bias_hh, run.activation)

    state = tuple(s.to(projected.dtype) for s in state)
    return scan(step, projected, state, mask, reverse=run.reverse, zero_output_for_mask=run.zero_output_for_mask)


def run_fused(run: Run, x: Tensor, state: tuple[Tensor, ...], weights: Weights, lengths: Tensor | None) -> Result:
    """CuDNN or oneDNN on the padded batch: no packing, no host synchronisation, lengths of 0 are legal.

    The backward direction runs forward over rows reversed within their lengths. The state after the last valid step is
    read off the outputs; an LSTM's memory, which is not among them, is kept to the end by one more input feature, 1 on
    padding, that closes the input gate and opens the forget gate (exact: a gate of 1e4 saturates).
    """
    if not x.shape[1]:
        return x.new_zeros(x.shape[0], 0, weights.hh.shape[1]), torch.zeros_like(state[0]), state
    if run.reverse:
        x = reverse_sequence(x, lengths)
    if lengths is None:
        outputs, final = _call(run, x, state, weights)
        last = final[0]
    else:
        outputs, last, final = _call_padded(run, x, state, weights, lengths)
    return reverse_sequence(outputs, lengths) if run.reverse else outputs, last, final


def _call(run: Run, x: Tensor, state: tuple[Tensor, ...], w: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
    hidden = tuple(s.unsqueeze(0).contiguous() for s in state)
    flat = [w.ih, w.hh] if w.bias_ih is None else [w.ih, w.hh, w.bias_ih, w.bias_hh]
    outputs, *final = run.kind.fused[run.activation](
        x,
        hidden if run.kind.states > 1 else hidden[0],
        flat,
        w.bias_ih is not None,
        1,  # layers
        0.0,  # dropout
        torch.is_grad_enabled(),  # cuDNN keeps what backward needs, in eval mode too
        False,  # bidirectional
        True,  # batch first
    )
    return outputs, tuple(s.squeeze(0) for s in final)


def _call_padded(run: Run, x: Tensor, state: tuple[Tensor, ...], w: Weights, lengths: Tensor) -> Result:
    mask = sequence_mask(lengths, x.shape[1]).unsqueeze(2)
    x = torch.where(mask, x, 0)
    if run.kind.carry is not None:
        column = w.ih.new_tensor(run.kind.carry).repeat_interleave(w.hh.shape[1]).unsqueeze(1)
        x = torch.cat([x, (~mask).to(x.dtype)], dim=2)
        w = w._replace(ih=torch.cat([w.ih, column], dim=1))
    outputs, final = _call(run, x, state, w)
    empty = (lengths == 0).unsqueeze(1)
    index = (lengths.long() - 1).clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, outputs.shape[2])
    end = outputs.gather(1, index).squeeze(1)
    final = (torch.where(empty, state[0].to(end.dtype), end), *final[1:])
    end = torch.where(empty, 0, end)
    full = (lengths == x.shape[1]).unsqueeze(1)
    if run.reverse:  # padding was processed first: nothing to repeat yet
        return torch.where(mask, outputs, 0), end, final
    if run.zero_output_for_mask:
        return torch.where(mask, outputs, 0), torch.where(full, end, 0), final
    return torch.where(mask, outputs, end.unsqueeze(1)), end, final
