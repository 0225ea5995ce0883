"""The pointwise part of a step, forward and backward by hand, in torch's operations.

A *pair* is two functions ``Tape -> Step`` and ``(Tape, Grads) -> Step``: made ready for a stretch of steps, then called
for each of them, ``step(j)``. What a backward step multiplies is known before it: gradients of a step are linear in
those of its results. So those factors are computed for a whole stretch at once, options and masks folded in, and a step
is a few products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_rnn.functional.options import Derivative
from lightning_rnn.layers.tape import Grads, Pair, Step, Tape, blocks, carry, known, made, share_kept, there, value


def _place(kept: Tensor, how: Derivative) -> Tensor:
    """Where the activation of ``kept [K, B, H]`` goes: over it, or where each step overwrites the one before."""
    return kept if how.of_output else kept.new_empty(kept.shape[1:]).expand(kept.shape)


def _twice(sums: Tensor, place: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The steps of both, which may be one."""
    each = sums.unbind(0)
    return each, each if place.data_ptr() == sums.data_ptr() else place.unbind(0)


def _then(step: Step, after: Step | None) -> Step:
    if after is None:
        return step

    def both(j: int) -> None:
        step(j)
        after(j)

    return both


def simple_rnn_forward(tape: Tape) -> Step:
    """``h = phi(gates)``."""
    write, fresh = known(tape.options.activation).write, made(tape)
    sums = fresh if tape.gates.data_ptr() == tape.fresh.data_ptr() else tape.gates.unbind(0)
    return _then(lambda j: write(sums[j], fresh[j]), carry(tape))


def simple_rnn_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`simple_rnn_forward`; ``grads.gates`` may be ``grads.emitted``."""
    slope, share = known(tape.options.activation).slope, share_kept(tape)
    kept, d, into = tape.gates.unbind(0), grads.d, grads.into
    a = d if grads.gates.data_ptr() == grads.emitted.data_ptr() else grads.gates.unbind(0)
    if share is None:
        return lambda j: slope(d[j], kept[j], a[j])
    shares, rests = share.unbind(0), (1 - share).unbind(0)

    def step(j: int) -> None:
        into[j].addcmul_(d[j], shares[j])
        slope(d[j].mul_(rests[j]), kept[j], a[j])

    return step


def lstm_forward(tape: Tape) -> Step:
    """``c = f * c + i * g``, ``emitted = o * phi(c)``; gates see the memory where there are peepholes."""
    phi, sigma, limit = known(tape.options.activation), known(tape.options.recurrent_activation), tape.options.cell_clip
    size, peephole = tape.gates.shape[2] // 4, tape.peephole
    gate_sums, g_sums = tape.gates[..., : 3 * size], tape.gates[..., 3 * size :]
    gates, candidate, c_old, c_new = _place(gate_sums, sigma), _place(g_sums, phi), there(tape.c_old), there(tape.c_new)
    first = size if peephole is not None else 0  # o waits for the memory that it sees
    sums, g = _twice(g_sums, candidate)
    early_sums, early = _twice(gate_sums[..., first:], gates[..., first:])
    late_sums, o = _twice(gate_sums[..., :size], gates[..., :size])
    seen = early if peephole is None else blocks(gate_sums[..., size:], 2).unbind(0)
    i, f = gates[..., size : 2 * size].unbind(0), gates[..., 2 * size :].unbind(0)
    old, shaped, emitted = c_old.unbind(0), there(tape.inner).unbind(0), made(tape)
    new, skip = c_new.unbind(0), None if tape.skip is None else tape.skip.unbind(0)
    memory = new if skip is None else [torch.empty_like(new[0])] * len(new)

    def step(j: int) -> None:
        if peephole is not None:
            seen[j].addcmul_(peephole[:2], old[j].unsqueeze(1))
        sigma.write(early_sums[j], early[j])
        phi.write(sums[j], g[j])
        c = memory[j]
        torch.mul(f[j], old[j], out=c)
        c.addcmul_(i[j], g[j])
        if limit is not None:
            c.clamp_(-limit, limit)
        if peephole is not None:
            late_sums[j].addcmul_(peephole[2], c)
            sigma.write(late_sums[j], o[j])
        phi.write(c, shaped[j])
        torch.mul(o[j], shaped[j], out=emitted[j])
        if skip is not None:
            torch.where(skip[j], old[j], c, out=new[j])

    return step if tape.projected else _then(step, carry(tape))


def lstm_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`lstm_forward`."""
    phi, sigma, limit = known(tape.options.activation), known(tape.options.recurrent_activation), tape.options.cell_clip
    kept = tape.gates.chunk(4, 2)
    o, i, f = (value(one, sigma) for one in kept[:3])
    shaped = there(tape.inner) if phi.of_output else there(tape.c_new)
    a_o, a_i, a_f, a_g = grads.gates.chunk(4, 2)
    three = blocks(grads.gates[..., o.shape[2] :], 3)
    sigma.slope(value(shaped, phi), kept[0], a_o)
    sigma.slope(value(kept[3], phi), kept[1], a_i)
    sigma.slope(there(tape.c_old), kept[2], a_f)
    phi.slope(i, kept[3], a_g)
    back, remembered = phi.slope(o, shaped, torch.empty_like(shaped)), f
    if limit is not None:
        inside = there(tape.c_new).abs() < limit
        three.mul_(inside.unsqueeze(2))
        remembered = f * inside
    if tape.peephole is not None:
        back.addcmul_(a_o, tape.peephole[2])
        remembered = remembered + a_i * tape.peephole[0] + a_f * tape.peephole[1]
    if tape.skip is not None:
        grads.gates.mul_(~tape.skip)
        back.mul_(~tape.skip)
        remembered = torch.where(tape.skip, 1, remembered)
    share = None if tape.projected else share_kept(tape)
    if share is not None:
        a_o.mul_(1 - share)
        back.mul_(1 - share)
    d, o_steps, threes = grads.d, a_o.unbind(0), three.unbind(0)
    memory = there(grads.memory)
    row, backs, keeps = memory.unsqueeze(1), back.unbind(0), remembered.unbind(0)

    def step(j: int) -> None:
        memory.addcmul_(d[j], backs[j])
        threes[j].mul_(row)
        o_steps[j].mul_(d[j])
        memory.mul_(keeps[j])

    if share is None:
        return step
    shares, into = share.unbind(0), grads.into
    return _then(step, lambda j: into[j].addcmul_(d[j], shares[j]))


def _through(factors: Tensor, z: Tensor, share: Tensor | None, grads: Grads) -> Step:
    """A GRU's gradients: of its sums by ``factors [K, B, n, H]``, which become them, of the old state by ``z``."""
    if share is not None:
        factors.mul_((1 - share).unsqueeze(2))
        z = z + share * (1 - z)
    gates, lines = factors.unbind(0), grads.emitted.unsqueeze(2).unbind(0)
    d, rows, into = grads.d, z.unbind(0), grads.into

    def step(j: int) -> None:
        gates[j].mul_(lines[j])
        into[j].addcmul_(d[j], rows[j])

    return step


def gru_forward(tape: Tape) -> Step:
    """``n = phi(x_n + r * inner)``, ``h = (1 - z) * n + z * h``."""
    phi, sigma = known(tape.options.activation), known(tape.options.recurrent_activation)
    size = tape.gates.shape[2] // 3
    gate_sums, n_sums = tape.gates[..., : 2 * size], tape.gates[..., 2 * size :]
    gates, candidate = _place(gate_sums, sigma), _place(n_sums, phi)
    r, z = (one.unbind(0) for one in gates.chunk(2, 2))
    rz_sums, rz = _twice(gate_sums, gates)
    sums, n = _twice(n_sums, candidate)
    inner, old, fresh = there(tape.inner).unbind(0), tape.olds, made(tape)

    def step(j: int) -> None:
        sigma.write(rz_sums[j], rz[j])
        sums[j].addcmul_(r[j], inner[j])
        phi.write(sums[j], n[j])
        torch.lerp(n[j], old[j], z[j], out=fresh[j])

    return _then(step, carry(tape))


def gru_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`gru_forward`."""
    phi, sigma = known(tape.options.activation), known(tape.options.recurrent_activation)
    kept_r, kept_z, kept_n = tape.gates.chunk(3, 2)
    r, z, n = value(kept_r, sigma), value(kept_z, sigma), value(kept_n, phi)
    a_h, a_r, a_z, a_x = grads.gates.chunk(4, 2)
    phi.slope(1 - z, kept_n, a_x)
    torch.mul(a_x, r, out=a_h)
    sigma.slope(a_x * there(tape.inner), kept_r, a_r)
    sigma.slope(tape.h_old - n, kept_z, a_z)
    return _through(blocks(grads.gates, 4), z, share_kept(tape), grads)


def reset_forward(tape: Tape) -> Step:
    """``r, z = sigma(gates)``, ``inner = r * h``: the first half of a GRU whose reset gate acts before the product."""
    sigma = known(tape.options.recurrent_activation)
    gate_sums = tape.gates[..., : tape.gates.shape[2] // 3 * 2]
    gates = gate_sums if sigma.of_output else torch.empty_like(gate_sums)
    sums, both, r = gate_sums.unbind(0), gates.unbind(0), gates.chunk(2, 2)[0].unbind(0)
    inner, old = there(tape.inner).unbind(0), tape.olds

    def step(j: int) -> None:
        sigma.write(sums[j], both[j])
        torch.mul(r[j], old[j], out=inner[j])

    return step


def candidate_forward(tape: Tape) -> Step:
    """``n = phi(gates)``, ``h = (1 - z) * n + z * h``: the second half."""
    phi, sigma = known(tape.options.activation), known(tape.options.recurrent_activation)
    _, z_sums, n_sums = tape.gates.chunk(3, 2)
    candidate = _place(n_sums, phi)
    sums, n, z = n_sums.unbind(0), candidate.unbind(0), z_sums.unbind(0)
    old, fresh = tape.olds, made(tape)

    def step(j: int) -> None:
        phi.write(sums[j], n[j])
        torch.lerp(n[j], old[j], value(z[j], sigma), out=fresh[j])

    return _then(step, carry(tape))


def candidate_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`candidate_forward`."""
    phi, sigma = known(tape.options.activation), known(tape.options.recurrent_activation)
    _, kept_z, kept_n = tape.gates.chunk(3, 2)
    z, n = value(kept_z, sigma), value(kept_n, phi)
    _, a_z, a_n = grads.gates.chunk(3, 2)
    sigma.slope(tape.h_old - n, kept_z, a_z)
    phi.slope(1 - z, kept_n, a_n)
    return _through(blocks(grads.gates[..., z.shape[2] :], 2), z, share_kept(tape), grads)


def reset_backward(tape: Tape, grads: Grads) -> Step:
    """Gradient of :func:`reset_forward`, whose z has its own from the other half."""
    sigma = known(tape.options.recurrent_activation)
    kept = tape.gates.chunk(3, 2)[0]
    a = grads.gates.chunk(3, 2)[0]
    sigma.slope(tape.h_old, kept, a)
    rows, r, into, inner = a.unbind(0), value(kept, sigma).unbind(0), grads.into, there(grads.inner)

    def step(j: int) -> None:
        rows[j].mul_(inner)
        into[j].addcmul_(inner, r[j])

    return step


POINTWISE: dict[str, Pair] = {
    "simple_rnn": Pair(simple_rnn_forward, simple_rnn_backward),
    "lstm": Pair(lstm_forward, lstm_backward),
    "gru": Pair(gru_forward, gru_backward),
    "reset": Pair(reset_forward, reset_backward),
    "candidate": Pair(candidate_forward, candidate_backward),
}
