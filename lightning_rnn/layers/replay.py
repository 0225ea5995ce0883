"""A call of SimpleRNN, LSTM or GRU as a flat row of tensors, as an ``autograd.Function`` takes it, and its replay.

An engine with a backward of its own gives first derivatives. Where those must themselves be differentiable
(``create_graph=True``), backward goes through :func:`replay`: the loop in operations that have every derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_rnn.functional import StepOptions, Weights
from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Ran, Resets, scan
from lightning_rnn.layers.gates import KINDS, Gates, Noise
from lightning_rnn.types import LSTMState


@dataclass(frozen=True)
class Plan:
    """What a call is beside its tensors.

    Attributes:
        kind: name of the cell, a key of ``KINDS``.
        options: variants of the step.
        zone: share of its old value that a unit keeps, in eval mode with zoneout; while training the units are drawn.
        all_states: whether the state after every step is wanted.
    """

    kind: str
    options: StepOptions
    zone: float = 0.0
    all_states: bool = False


class Operands(NamedTuple):
    """Every tensor of a call, None where it has none; the first is cast and differentiated, the last four are not.

    ``x [B, T, D]`` with its dropout applied, the state, the state at which episodes start, the weights as in
    :class:`Weights`, ``valid [B, T]`` and ``starts [B, T]`` bool, ``dropped [B, T, G, P]`` or, the same at every step,
    ``[B, G, P]``, ``zoned [B, T, P]`` bool.
    """

    x: Tensor
    h: Tensor
    c: Tensor | None
    fresh_h: Tensor | None
    fresh_c: Tensor | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    weight_ch: Tensor | None
    norm_ih_weight: Tensor | None
    norm_ih_bias: Tensor | None
    norm_hh_weight: Tensor | None
    norm_hh_bias: Tensor | None
    norm_c_weight: Tensor | None
    norm_c_bias: Tensor | None
    valid: Tensor | None
    starts: Tensor | None
    dropped: Tensor | None
    zoned: Tensor | None

    def cast(self, dtype: torch.dtype) -> Operands:
        """All floating tensors in this dtype."""
        return Operands._make(t.to(dtype) if t is not None and t.is_floating_point() else t for t in self)

    @property
    def weights(self) -> Weights:
        """The parameters."""
        return Weights(*self[5 : 5 + len(Weights._fields)])  # type: ignore[arg-type]


def against_transforms(what: str, call: Any) -> list[str]:
    """Why no kernel, and no backward by hand, runs a call whatever its options; ``what`` has no rule for transforms."""
    against = ["unroll=True asks for the loop"] if call.unroll else []
    if torch._C._are_functorch_transforms_active():
        against.append(f"there is no rule of {what} for torch.func transforms such as vmap")
    return against


def operands(
    gates: Gates, x: Tensor, state: Any, valid: Valid | None, resets: Resets | None, all_states: bool
) -> tuple[Plan, Operands]:
    """The row of a call. Draws its noise, in the order in which the loop does; under autocast, casts."""
    x = gates.enter(x)
    noise = gates.draw(x)

    def pair(nest: Any) -> tuple[Tensor | None, Tensor | None]:
        return (nest, None) if isinstance(nest, Tensor) else tuple(nest)

    row = Operands(
        x,
        *pair(state),  # type: ignore[arg-type]
        *((None, None) if resets is None else pair(resets.state)),
        *gates.weights,  # type: ignore[arg-type]
        None if valid is None else valid.mask,
        None if resets is None else resets.mask,
        gates.dropped if noise.dropped is None else noise.dropped,
        noise.zoned,
    )
    if torch.is_autocast_enabled(x.device.type):  # cast here, so that no engine sees mixed dtypes
        dtype = torch.get_autocast_dtype(x.device.type)
        row = row.cast(dtype)
    zone = 0.0 if gates.training else gates.zoneout
    return Plan(gates.kind.name, gates.options, zone, all_states), row


def ran(plan: Plan, results: Sequence[Tensor]) -> Ran:
    """What an engine returns, from ``(outputs, h, c, every c)``: the outputs are every h, the last two an LSTM's."""
    outputs, h, *rest = results
    state = LSTMState(h, rest[0]) if rest else h
    every = LSTMState(outputs, rest[1]) if plan.all_states and rest else outputs
    return Ran(outputs, state, every if plan.all_states else None)


def replay(plan: Plan, row: Operands) -> list[Tensor]:
    """``(outputs, h)`` or ``(outputs, h, c)``, and every ``c`` where asked for, by the loop that autograd follows."""
    each = row.dropped is not None and row.dropped.ndim > 3
    gates = _Given(
        KINDS[plan.kind],
        row.weights,
        plan.options,
        dropped=None if each else row.dropped,
        zoneout=1.0 if row.zoned is not None else plan.zone,
        training=row.zoned is not None,
        noise=Noise(row.dropped if each else None, row.zoned),
    )
    state = LSTMState(row.h, row.c) if row.c is not None else row.h
    resets = None
    if row.starts is not None and row.fresh_h is not None:
        start = LSTMState(row.fresh_h, row.fresh_c) if row.fresh_c is not None else row.fresh_h
        resets = Resets(row.starts, start)
    valid = None if row.valid is None else Valid(row.valid)
    found = scan(gates, row.x, state, valid, resets, all_states=True)
    if row.c is None:
        return [found.all_states, found.state]
    return [found.all_states.h, *found.state, *([found.all_states.c] if plan.all_states else [])]


@dataclass(frozen=True, eq=False)
class _Given(Gates):
    """A cell whose noise is drawn already, and applied to the input already."""

    noise: Noise | None = None

    def draw(self, x: Tensor) -> Noise:
        return self.noise or Noise()


def gradients(
    outputs: Sequence[Tensor], tensors: Sequence[Tensor | None], grads: Sequence[Tensor | None], **options: bool
) -> list[Tensor | None]:
    """Gradients of ``tensors``, None where one needs none or is none."""
    wanted = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
    found = iter(
        torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True, **options)
    )
    return [next(found) if t is not None and t.requires_grad else None for t in tensors]


def batched(grads: Sequence[Tensor | None]) -> bool:
    """Whether a backward runs for many gradients at once, under vmap, where nothing can be written in place."""
    return any(grad is not None and not torch._C._has_storage(grad) for grad in grads)
