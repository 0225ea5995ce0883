"""What a step of the loop consists of: its products, the projection, episode starts; forward and backward."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_rnn.layers.gates import KINDS
from lightning_rnn.layers.loop_memory import Buffers, Matrices, Work, turned
from lightning_rnn.layers.replay import Operands, Plan
from lightning_rnn.layers.tape import Grads, Pair, Step, Steps, Tape, blocks, carry, share_kept, there

Pairs = Mapping[str, Pair]


def _adds(
    out: Tensor, weight: Tensor, states: Steps, dropped: Tensor | None = None, start: Tensor | None = None
) -> Step:
    """``out[j] += states[j] @ weight.T``, or from ``start`` on instead of what is there.

    Each gate sees the state through its own ``dropped [K, B, n, P]``.
    """
    outs = out.unbind(0)
    if dropped is None:
        transposed = weight.t().contiguous()
        if start is not None:
            return lambda j: torch.addmm(start, states[j], transposed, out=outs[j])
        return lambda j: outs[j].addmm_(states[j], transposed)
    count = dropped.shape[2]
    gates = blocks(out, count).transpose(1, 2).unbind(0)
    matrices, masks = weight.view(count, -1, weight.shape[1]).transpose(1, 2), dropped.transpose(1, 2).unbind(0)
    scratch = out.new_empty(count, *states[0].shape)

    def step(j: int) -> None:
        if start is not None:
            outs[j].copy_(start)
        torch.mul(states[j], masks[j], out=scratch)
        gates[j].baddbmm_(scratch, matrices)

    return step


def _adds_back(a: Tensor, weight: Tensor, into: Steps, dropped: Tensor | None) -> Step:
    """Gradient of :func:`_adds` for the state: ``into[j] += a[j] @ weight``."""
    if dropped is None:
        rows = a.unbind(0)
        return lambda j: into[j].addmm_(rows[j], weight)
    count = dropped.shape[2]
    rows = blocks(a, count).transpose(1, 2).unbind(0)
    matrices, masks = weight.view(count, -1, weight.shape[1]), dropped.transpose(1, 2).unbind(0)
    scratch = a.new_empty(count, a.shape[1], weight.shape[1])

    def step(j: int) -> None:
        torch.bmm(rows[j], matrices, out=scratch)
        into[j].add_(scratch.mul_(masks[j]).sum(0))

    return step


def outer(a: Tensor, seen: Tensor, dropped: Tensor | None = None) -> Tensor:
    """Gradient of :func:`_adds` for the weight, over all steps: ``[n*H, P]``."""
    if dropped is None:
        return a.flatten(0, 1).t() @ seen.flatten(0, 1)
    blocks = zip(a.chunk(dropped.shape[2], 2), dropped.unbind(2), strict=True)
    return torch.cat([outer(block, seen * mask) for block, mask in blocks])


def _settle(tape: Tape, weight_hr: Tensor) -> Step:
    """The projection: ``h = clip(emitted @ weight_hr.T)``, or kept."""
    emitted, transposed, limit, keeps = tape.emitted.unbind(0), weight_hr.t(), tape.options.proj_clip, carry(tape)
    fresh = tape.news if keeps is None else tape.fresh.unbind(0)

    def step(j: int) -> None:
        torch.mm(emitted[j], transposed, out=fresh[j])
        if limit is not None:
            fresh[j].clamp_(-limit, limit)
        if keeps is not None:
            keeps(j)

    return step


def _settle_back(tape: Tape, weight_hr: Tensor, d: Steps, projected: Tensor, grads: Grads) -> Step:
    """Gradient of :func:`_settle`: of what it projects to into ``projected [K, B, P]``, then into ``grads.emitted``."""
    limit, share, into = tape.options.proj_clip, share_kept(tape), grads.into
    factor = torch.ones_like(tape.fresh[:1]) if limit is None else (tape.fresh.abs() < limit).to(projected.dtype)
    if share is not None:
        factor = factor * (1 - share)
    factor = factor.expand(projected.shape)
    out, emitted, factors = projected.unbind(0), grads.d, factor.unbind(0)
    shares = None if share is None else share.unbind(0)

    def step(j: int) -> None:
        torch.mul(d[j], factors[j], out=out[j])
        torch.mm(out[j], weight_hr, out=emitted[j])
        if shares is not None:
            into[j].addcmul_(d[j], shares[j])

    return step


def _start(starts: Tensor, fresh: Tensor, states: Tensor, seen: Tensor) -> Step:
    """``seen[j]`` is the state, or in rows where an episode starts ``fresh``."""
    masks, olds, outs = starts.unbind(0), states.unbind(0), seen.unbind(0)
    return lambda j: torch.where(masks[j], fresh, olds[j], out=outs[j])


def phases_of(pairs: Pairs, plan: Plan, row: Operands, m: Matrices, tape: Tape) -> list[Step]:
    """What a step consists of, in order."""
    size = tape.gates.shape[2] // KINDS[plan.kind].gates
    dropped, cut = m.dropped, 2 * size
    if plan.kind != "gru":
        phases = [_adds(tape.gates, m.weight_hh, tape.olds, dropped), pairs[plan.kind].forward(tape)]
        return phases if row.weight_hr is None else [*phases, _settle(tape, row.weight_hr)]
    first, last = (None, None) if dropped is None else (dropped[:, :, :2], dropped[:, :, 2:])
    product = _adds(tape.gates[..., :cut], m.weight_hh[:cut], tape.olds, first)
    inner = there(tape.inner)
    if plan.options.reset_after:
        return [product, _adds(inner, m.weight_hh[cut:], tape.olds, last, m.bias_n), pairs["gru"].forward(tape)]
    second = _adds(tape.gates[..., cut:], m.weight_hh[cut:], inner.unbind(0), last)
    return [product, pairs["reset"].forward(tape), second, pairs["candidate"].forward(tape)]


def episodes(row: Operands, buffers: Buffers, start: int, stop: int) -> list[Step]:
    """Before a step: the state that it sees, where episodes start."""
    if row.starts is None:
        return []
    starts = row.starts.t().unsqueeze(2)[start:stop]
    pairs = ((row.fresh_h, buffers.hs, buffers.h_seen), (row.fresh_c, buffers.cs, buffers.c_seen))
    return [
        _start(starts, fresh, states[start:stop], seen[start:stop])
        for fresh, states, seen in pairs
        if fresh is not None and states is not None and seen is not None
    ]


def phases_back(pairs: Pairs, plan: Plan, row: Operands, m: Matrices, tape: Tape, work: Work) -> list[Step]:
    """What a step of backward consists of, in order."""
    steps = tape.h_new.shape[0]
    hs = work.hs.unbind(0)
    into = hs[:-1] if work.seen is None else (work.seen,) * steps
    emitted, d = (work.hs[1:], hs[1:]) if work.emitted is None else (work.emitted, work.emitted.unbind(0))
    grads = Grads(work.gates, emitted, d, into, work.memory, work.inner)
    phases: list[Step] = []
    memory = work.memory
    if work.every_c is not None and memory is not None:
        each = work.every_c.unbind(0)
        phases.append(lambda j: memory.add_(each[j]))
    seen = work.seen
    if seen is not None:
        phases.append(lambda j: seen.zero_())
    if row.weight_hr is not None:
        phases.append(_settle_back(tape, row.weight_hr, hs[1:], there(work.projected), grads))
    return [*phases, *_steps_back(pairs, plan, m, tape, grads), *_episodes_back(work)]


def _steps_back(pairs: Pairs, plan: Plan, m: Matrices, tape: Tape, grads: Grads) -> list[Step]:
    """The pointwise work and the products."""
    dropped, size = m.dropped, m.weight_hh.shape[1]
    if plan.kind != "gru":
        return [pairs[plan.kind].backward(tape, grads), _adds_back(grads.gates, m.weight_hh, grads.into, dropped)]
    if plan.options.reset_after:
        masks = None if dropped is None else turned(dropped, 3, 2)
        product = _adds_back(grads.gates[..., : 3 * size], turned(m.weight_hh, 3), grads.into, masks)
        return [pairs["gru"].backward(tape, grads), product]
    first, last = (None, None) if dropped is None else (dropped[:, :, :2], dropped[:, :, 2:])
    inner, cut = there(grads.inner), 2 * size
    return [
        pairs["candidate"].backward(tape, grads),
        lambda j: inner.zero_(),
        _adds_back(grads.gates[..., cut:], m.weight_hh[cut:], (inner,) * len(grads.into), last),
        pairs["reset"].backward(tape, grads),
        _adds_back(grads.gates[..., :cut], m.weight_hh[:cut], grads.into, first),
    ]


def _episodes_back(work: Work) -> list[Step]:
    """Gradients of a state that a step saw go to the state before it or, where an episode starts, to its start."""
    if work.starts is None or work.seen is None or work.fresh_h is None:
        return []
    starts, going, hs = work.starts.unbind(0), (1 - work.starts).unbind(0), work.hs.unbind(0)
    seen, fresh_h, fresh_c, memory = work.seen, work.fresh_h, work.fresh_c, work.memory

    def step(j: int) -> None:
        hs[j].addcmul_(seen, going[j])
        fresh_h.addcmul_(seen, starts[j])
        if fresh_c is not None and memory is not None:
            fresh_c.addcmul_(memory, starts[j])
            memory.mul_(going[j])

    return [step]
