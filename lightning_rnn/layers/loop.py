"""SimpleRNN, LSTM and GRU in a loop whose backward is written by hand: no autograd graph for each step.

One product gives the input's share of all steps, each step has one product for the state's share (two where the reset
gate acts first, or where there is a projection) and a few pointwise operations, and gradients of the weights are one
product over all steps. The pointwise work is a pair of functions (:mod:`lightning_rnn.layers.pointwise`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.options import derivative
from lightning_rnn.functional.scan import Ran, Resets, scan
from lightning_rnn.layers.gates import KINDS, Gates
from lightning_rnn.layers.loop_memory import Buffers, Matrices, Work, allocate, matrices, start_work, turned
from lightning_rnn.layers.loop_phases import Pairs, episodes, outer, phases_back, phases_of
from lightning_rnn.layers.pointwise import POINTWISE
from lightning_rnn.layers.replay import Operands, Plan, against_transforms, batched, gradients, operands, ran, replay
from lightning_rnn.layers.tape import Tape, known, there, value

CACHED = 1 << 21  # numbers of gates that a stretch of steps may have


def against_loop(stepper: object, call: Any) -> list[str]:
    """Why the hand-written backward does not run this; empty where it does."""
    if not isinstance(stepper, Gates):
        return [f"the backward of {type(stepper).__name__} is not written by hand"]
    options = stepper.options
    against = []
    if options.layer_norm != "none":
        against.append("layer normalization inside the step has no backward by hand")
    for name in dict.fromkeys((options.activation, options.recurrent_activation)):
        if derivative(name) is None:
            against.append(f"the activation {name!r} has no derivative by hand")
    against += against_transforms("a backward by hand", call)
    if torch.compiler.is_compiling():
        against.append("torch.compile sees through the plain loop")
    return against


def run_loop(gates: Gates, x: Tensor, state: Any, valid: Valid | None, resets: Resets | None, all_states: bool) -> Ran:
    """The engine: :func:`lightning_rnn.functional.scan.scan` with a backward by hand."""
    return run_with(POINTWISE, gates, x, state, valid, resets, all_states)


def run_with(
    pairs: Pairs, gates: Gates, x: Tensor, state: Any, valid: Valid | None, resets: Resets | None, all_states: bool
) -> Ran:
    """The same with other pairs of pointwise functions."""
    if not x.shape[0] or not x.shape[1]:
        return scan(gates, x, state, valid, resets, all_states)
    plan, row = operands(gates, x, state, valid, resets, all_states)
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in row):
            return ran(plan, _Loop.apply(pairs, plan, *row))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            return ran(plan, run_forward(pairs, plan, row, keep=False)[0])


class _Loop(torch.autograd.Function):
    """The loop, forward and backward."""

    @staticmethod
    def forward(ctx: Any, pairs: Pairs, plan: Plan, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        row = Operands(*tensors)  # type: ignore[arg-type]
        outputs, buffers = run_forward(pairs, plan, row, keep=True)
        ctx.pairs, ctx.plan = pairs, plan
        ctx.save_for_backward(*row, *buffers)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        row, buffers = Operands(*saved[: len(Operands._fields)]), Buffers(*saved[len(Operands._fields) :])
        with torch.autocast(row.x.device.type, enabled=False):
            twice = torch.is_grad_enabled()  # create_graph=True
            if twice or batched(grads):
                with torch.enable_grad():
                    results = replay(ctx.plan, row)
                return None, None, *gradients(results, row, grads, create_graph=twice)
            needs = Operands(*ctx.needs_input_grad[2:])
            return None, None, *run_backward(ctx.pairs, ctx.plan, row, buffers, grads, needs)


def run_forward(pairs: Pairs, plan: Plan, row: Operands, keep: bool) -> tuple[list[Tensor], Buffers]:
    """``(outputs, h, c, every c)``, as many as there are, and the memory that backward reads."""
    batch, steps, _ = row.x.shape
    length = max(1, min(steps, CACHED // (batch * row.weight_hh.shape[0])))
    buffers, m = allocate(plan, row, keep, length), matrices(plan, row)
    emitted = None
    if row.weight_hr is not None:
        emitted = row.x.new_empty(1, batch, row.weight_hr.shape[1]).expand(steps, -1, -1)
    whole, x, transposed = buffers.tape(plan, row, emitted), row.x.transpose(0, 1), m.weight_ih.t()
    for start in range(0, steps, length):
        stop = min(start + length, steps)
        tape = whole.part(start, stop)
        if len(buffers.gates) < steps:
            tape = replace(tape, gates=buffers.gates[: stop - start])
        inputs, sums = x[start:stop].flatten(0, 1), tape.gates.flatten(0, 1)
        if m.bias is None:
            torch.mm(inputs, transposed, out=sums)
        else:
            torch.addmm(m.bias, inputs, transposed, out=sums)
        phases = [*episodes(row, buffers, start, stop), *phases_of(pairs, plan, row, m.part(start, stop), tape)]
        for j in range(stop - start):
            for phase in phases:
                phase(j)
    return _results(plan, buffers), buffers


def _results(plan: Plan, buffers: Buffers) -> list[Tensor]:
    """What the engine returns; final states are copies, which outlive the rest."""
    hs, cs = buffers.hs, buffers.cs
    results = [hs[1:].transpose(0, 1), hs[-1].clone()]
    if cs is None:
        return results
    results.append(cs[-1].clone())
    return [*results, cs[1:].transpose(0, 1)] if plan.all_states else results


def run_backward(
    pairs: Pairs, plan: Plan, row: Operands, buffers: Buffers, given: tuple[Tensor | None, ...], needs: Operands
) -> Operands:
    """Gradients of the operands that need one, from those of what forward returned."""
    m = matrices(plan, row)
    work = start_work(plan, row, buffers, given)
    batch, steps, _ = row.x.shape
    length = max(1, min(steps, CACHED // (batch * row.weight_hh.shape[0])))
    whole = buffers.tape(plan, row, work.emitted)
    for stop in range(steps, 0, -length):
        start = max(0, stop - length)
        tape = whole.part(start, stop)
        phases = phases_back(pairs, plan, row, m.part(start, stop), tape, work.part(start, stop))
        for j in range(stop - start - 1, -1, -1):
            for phase in phases:
                phase(j)
    return totals(plan, row, m, whole, work, needs)


def totals(plan: Plan, row: Operands, m: Matrices, tape: Tape, work: Work, needs: Operands) -> Operands:
    """Gradients over all steps at once: of the input, the weights, the states."""
    lstm = plan.kind == "lstm"
    hidden = m.weight_hh.shape[0] // KINDS[plan.kind].gates
    four = work.gates.shape[2] > m.weight_hh.shape[0]
    of_x = work.gates[..., hidden:] if four else work.gates
    of_h = work.gates[..., : 3 * hidden] if four else work.gates

    def back(tensor: Tensor) -> Tensor:
        return tensor.roll(-hidden, 0) if lstm else tensor

    found: dict[str, Tensor] = {}
    if needs.x:
        found["x"] = (of_x.flatten(0, 1) @ m.weight_ih).view(*of_x.shape[:2], -1).transpose(0, 1)
    if needs.weight_ih:
        found["weight_ih"] = back(outer(of_x, row.x.transpose(0, 1)))
    if needs.weight_hh:
        found["weight_hh"] = back(_of_weight_hh(plan, m, tape, of_h, hidden))
    if needs.bias_ih:
        found["bias_ih"] = back(of_x.sum((0, 1)))
    if needs.bias_hh:
        found["bias_hh"] = of_h.sum((0, 1)).roll(-hidden, 0) if four else back(of_h.sum((0, 1)))
    if needs.weight_hr and work.projected is not None:
        phi, sigma = known(plan.options.activation), known(plan.options.recurrent_activation)
        shaped = value(there(tape.inner), phi) if phi.of_output else value(there(tape.c_new), phi)
        found["weight_hr"] = outer(work.projected, value(tape.gates[..., :hidden], sigma) * shaped)
    if needs.weight_ch:
        a_o, a_i, a_f, _ = work.gates.chunk(4, 2)
        old, new = there(tape.c_old), there(tape.c_new)
        found["weight_ch"] = torch.stack([(a * c).sum((0, 1)) for a, c in ((a_i, old), (a_f, old), (a_o, new))])
    states = {"h": work.hs[0], "c": work.memory, "fresh_h": work.fresh_h, "fresh_c": work.fresh_c}
    found |= {name: grad for name, grad in states.items() if grad is not None}
    return Operands._make(found.get(name) if need else None for name, need in zip(needs._fields, needs, strict=True))


def _of_weight_hh(plan: Plan, m: Matrices, tape: Tape, of_h: Tensor, hidden: int) -> Tensor:
    if plan.kind != "gru":
        return outer(of_h, tape.h_old, m.dropped)
    if plan.options.reset_after:
        dropped = None if m.dropped is None else turned(m.dropped, 3, 2)
        return outer(of_h, tape.h_old, dropped).roll(-hidden, 0)
    first, last = (None, None) if m.dropped is None else (m.dropped[:, :, :2], m.dropped[:, :, 2:])
    cut = 2 * hidden
    return torch.cat([outer(of_h[..., :cut], tape.h_old, first), outer(of_h[..., cut:], there(tape.inner), last)])
