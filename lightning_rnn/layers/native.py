"""The native engine: C++ kernels for the CPU (``lightning_rnn/csrc``) that know every option of the three cells.

One product a step, with the state's matrix laid out once a call; the input's share in blocks of steps that stay in the
cache; weight gradients as one product over many steps; the batch split over threads, each of which goes through all of
time without waiting for another. Masks, resets, time reversed and the filling of masked outputs are inside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_rnn.functional.masks import Valid, fill_masked
from lightning_rnn.functional.options import NORMS
from lightning_rnn.functional.scan import Ran, Resets, scan
from lightning_rnn.layers.gates import KINDS, Gates
from lightning_rnn.layers.native_library import why_not
from lightning_rnn.layers.replay import Operands, Plan, against_transforms, batched, gradients, operands, ran, replay

# In the order of csrc/activations.h. softmax mixes units, a function of the user's is unknown to C++.
ACTIVATIONS = (
    "tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "hard_sigmoid_keras2", "elu", "selu", "relu6", "leaky_relu",
    "softplus", "softsign", "exponential", "hard_tanh", "gelu", "silu", "mish",
)  # fmt: skip
MEMORY = ("none", "read", "stored")
FILLS = ("carry", "repeat", "zero")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_ROWS = 4  # a thread has at least so many


def against_native(stepper: object, call: Any) -> list[str]:
    """Why the native engine does not run this; empty where it does."""
    if not isinstance(stepper, Gates):
        return [f"the native engine has no step of {type(stepper).__name__}"]
    options, weight = stepper.options, stepper.weights.weight_hh
    against = [
        f"the native engine has no activation {name if isinstance(name, str) else 'given as a function'!r}"
        for name in (options.activation, options.recurrent_activation)
        if name not in ACTIVATIONS
    ]
    if weight.device.type != "cpu":
        against.append(f"the native engine is for the CPU, the weights are on {weight.device}")
    if weight.dtype not in DTYPES:
        against.append(f"the native engine has no {weight.dtype}")
    against += against_transforms("the native engine", call)
    if torch.compiler.is_compiling():
        against.append("the native engine is not traced by torch.compile")
    missing = None if against else why_not()
    return [missing] if missing else against


def run_native(
    gates: Gates,
    x: Tensor,
    state: Any,
    valid: Valid | None,
    resets: Resets | None,
    all_states: bool,
    *,
    reverse: bool = False,
    fill: str = "carry",
) -> Ran:
    """One call of the kernels.

    Args:
        gates: the cell.
        x: ``[B, T, D]``, zero at masked steps.
        state: before the first step processed.
        valid: which steps are real.
        resets: episode starts.
        all_states: whether to keep the state after every step.
        reverse: from the last step to the first; outputs stay at their own time.
        fill: what outputs of masked steps are: ``carry`` the state, ``repeat`` the last output, or ``zero``.
    """
    if not x.shape[0] or not x.shape[1]:
        return scan(gates, x, state, valid, resets, all_states)
    plan, row = operands(gates, x, state, valid, resets, all_states)
    dtype = row.x.dtype
    if dtype not in (torch.float32, torch.float64):
        row = row.cast(torch.float32)
    blocks = max(1, min(torch.get_num_threads(), x.shape[0] // _ROWS))
    call = _Call(plan, reverse, fill if valid is not None else "carry", blocks)
    differentiated = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in row)
    results = _Native.apply(call, *row) if differentiated else _forward(call, row, save=False)  # type: ignore[no-untyped-call]
    return ran(plan, results if row.x.dtype == dtype else [result.to(dtype) for result in results])


class _Call(NamedTuple):
    """A call beside its tensors; the rows are split into ``blocks``, in backward as in forward."""

    plan: Plan
    reverse: bool
    fill: str
    blocks: int


def _arguments(call: _Call, row: Operands) -> list[Any]:
    """What the kernels take, see csrc/engine.cpp."""
    plan = call.plan
    options, form = plan.options, NORMS.get((plan.kind, plan.options.layer_norm))
    dropped = row.dropped
    if dropped is not None and dropped.ndim == 3:  # the same at every step
        dropped = dropped.unsqueeze(1).expand(-1, row.x.shape[1], -1, -1)
    integers = [
        list(KINDS).index(plan.kind),
        ACTIVATIONS.index(str(options.activation)),
        ACTIVATIONS.index(str(options.recurrent_activation)),
        int(options.reset_after),
        int(call.reverse),
        FILLS.index(call.fill),
        int(form is not None),
        int(form is not None and form.apart),
        1 if form is None else form.groups,
        0 if form is None else MEMORY.index(form.memory),
        int(plan.all_states and row.c is not None),
        call.blocks,
    ]
    eps = 0.0 if form is None else options.layer_norm_eps or form.eps
    return [
        integers,
        [options.cell_clip or 0.0, options.proj_clip or 0.0, plan.zone, eps],
        _inner(row.x, 1),
        [state.contiguous() for state in (row.h, row.c) if state is not None],
        [None if weight is None else weight.contiguous() for weight in row.weights],
        row.valid,
        row.starts,
        None if dropped is None else _inner(dropped, 2),
        None if row.zoned is None else _inner(row.zoned.to(row.x.dtype), 1),
        [fresh.contiguous() for fresh in (row.fresh_h, row.fresh_c) if fresh is not None],
    ]


def _inner(x: Tensor, dimensions: int) -> Tensor:
    """``x`` with its last dimensions in one piece; batch and time may lie anyhow."""
    wanted = 1
    for size, stride in zip(reversed(x.shape[-dimensions:]), reversed(x.stride()[-dimensions:]), strict=True):
        if stride != wanted and size != 1:
            return x.contiguous()
        wanted *= size
    return x


def _forward(call: _Call, row: Operands, save: bool) -> list[Tensor]:
    found: list[Tensor] = torch.ops.lightning_rnn.native_forward(*_arguments(call, row), save)
    return found


class _Native(torch.autograd.Function):
    """The kernels, and their backward; where that must itself be differentiable, the loop."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        *results, memory = _forward(call, Operands(*tensors), save=True)  # type: ignore[arg-type]
        ctx.call = call
        ctx.save_for_backward(*tensors, memory)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        *tensors, memory = ctx.saved_tensors
        row, call = Operands(*tensors), ctx.call
        twice = torch.is_grad_enabled()  # create_graph=True
        if twice or batched(grads):
            with torch.enable_grad():
                results = _replayed(call, row)
            return None, *gradients(results, tensors, grads, create_graph=twice)
        lstm = row.c is not None
        flows = [None if g is None else _inner(g, 1) if i in (0, 3) else g.contiguous() for i, g in enumerate(grads)]
        flows += [None] * (4 - len(flows))
        arguments = _arguments(call, row)
        dx, *rest = torch.ops.lightning_rnn.native_backward(*arguments, memory, flows, ctx.needs_input_grad[1])
        states = [rest.pop(0), rest.pop(0) if lstm else None]
        fresh = [None if t is None else rest.pop(0) for t in (row.fresh_h, row.fresh_c)]
        return None, dx, *states, *fresh, *rest, None, None, None, None


def _replayed(call: _Call, row: Operands) -> list[Tensor]:
    """The same results by the loop."""
    valid = None if row.valid is None else Valid(row.valid)
    turned = row
    if call.reverse:
        each = row.dropped is not None and row.dropped.ndim > 3  # else the same at every step
        names = ("x", "valid", "starts", "zoned", *(("dropped",) if each else ()))
        turned = row._replace(**{name: getattr(row, name).flip(1) for name in names if getattr(row, name) is not None})
    outputs, *rest = replay(call.plan, turned)
    if call.reverse:
        outputs = outputs.flip(1)
        rest = [state.flip(1) if state.ndim > 2 else state for state in rest]
    if call.fill != "carry":
        outputs = fill_masked(outputs, valid, reverse=call.reverse, zero=call.fill == "zero")
    return [outputs, *rest]
