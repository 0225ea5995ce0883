"""Time in chunks: backward computes a chunk again instead of keeping what it needs of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Ran, Resets, length_of
from lightning_rnn.layers.gates import Gates
from lightning_rnn.types import Nest

Function = Callable[[list[Tensor]], list[Tensor]]


def run_chunks(
    run: Callable[..., Ran],
    stepper: Any,
    x: Nest,
    state: Nest,
    valid: Valid | None,
    resets: Resets | None,
    all_states: bool,
    size: int | None,
) -> Ran:
    """An engine over all steps at once or, where ``size`` is given, chunk by chunk of that many steps."""
    steps = length_of(x)
    if size is None or size >= steps:
        return run(stepper, x, state, valid, resets, all_states)
    leaves, spec = pytree.tree_flatten(x)
    rans = []
    for i, part in enumerate(zip(*[leaf.split(size, dim=1) for leaf in leaves], strict=True)):
        start, stop = i * size, min((i + 1) * size, steps)
        ran = _again(
            run,
            stepper,
            pytree.tree_unflatten(list(part), spec),
            state,
            None if valid is None else valid.chunk(start, stop),
            None if resets is None else Resets(resets.mask[:, start:stop], resets.state),
            all_states,
        )
        state = ran.state
        rans.append(ran)
    outputs = pytree.tree_map(lambda *parts: torch.cat(parts, dim=1), *[ran.outputs for ran in rans])
    kept = None
    if all_states:
        kept = pytree.tree_map(lambda *parts: torch.cat(parts, dim=1), *[ran.all_states for ran in rans])
    return Ran(outputs, state, kept)


def _again(
    run: Callable[..., Ran],
    stepper: Any,
    x: Nest,
    state: Nest,
    valid: Valid | None,
    resets: Resets | None,
    all_states: bool,
) -> Ran:
    """One chunk under a checkpoint: ours where all tensors are known and nothing is drawn, else torch's."""
    inputs, spec = pytree.tree_flatten((x, state, *(() if resets is None else (resets.state,))))
    known = isinstance(stepper, Gates) and not stepper.draws and not torch.is_autocast_enabled(inputs[0].device.type)
    if not known or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        ran: Ran = checkpoint(run, stepper, x, state, valid, resets, all_states, use_reentrant=False)
        return ran
    if not torch.is_grad_enabled():
        return run(stepper, x, state, valid, resets, all_states)
    structure: list[Any] = []

    def function(tensors: list[Tensor]) -> list[Tensor]:
        x, state, *fresh = pytree.tree_unflatten(tensors, spec)
        starts = None if resets is None else Resets(resets.mask, fresh[0])
        leaves, found = pytree.tree_flatten(tuple(run(stepper, x, state, valid, starts, all_states))[: 2 + all_states])
        structure[:] = [found]
        return leaves

    outputs = _Chunk.apply(function, len(inputs), *inputs, *stepper.tensors())  # type: ignore[no-untyped-call]
    return Ran(*pytree.tree_unflatten(list(outputs), structure[0]))


class _Chunk(torch.autograd.Function):
    """A function of tensors, and of weights that it holds; nothing in between is kept.

    ``torch.utils.checkpoint`` does the same for any function by hooks on every tensor saved, which on short steps cost
    more than the steps.
    """

    @staticmethod
    def forward(ctx: Any, function: Function, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.count = function, count
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        outputs = function(list(tensors[:count]))
        return tuple(output.clone() if any(output is t for t in tensors) else output for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        twice = torch.is_grad_enabled()  # create_graph=True
        tensors = list(ctx.saved_tensors)
        needs = ctx.needs_input_grad[2:]
        inputs = tensors[: ctx.count]
        if not twice:
            inputs = [t.detach().requires_grad_(n) for t, n in zip(inputs, needs, strict=False)]
        with torch.enable_grad():
            outputs = ctx.function(inputs)
        targets = [*inputs, *tensors[ctx.count :]]
        wanted = [target for target, need in zip(targets, needs, strict=True) if need]
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True, create_graph=twice
            )
        )
        return None, None, *[next(found) if need else None for need in needs]
