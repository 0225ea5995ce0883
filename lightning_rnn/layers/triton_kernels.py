"""The pointwise part of a step as one Triton kernel, forward and backward; see ``pointwise.py`` for the equations.

Numbers are read in any floating dtype, computed in float32 and written back. Rows are ``[B, n * H]`` in one piece;
masks come with their strides. Without Triton this module can be read, by documentation for one, but not run.
"""

# Triton reads this source: calls by position, plain arithmetic, no annotations but constexpr.
# mypy: disable-error-code="attr-defined, untyped-decorator, no-untyped-def, no-untyped-call"
from __future__ import annotations

from lightning_rnn.layers.triton_activations import CODES as CODES
from lightning_rnn.layers.triton_activations import act, clip, kept, slope, tl, triton, value

BLOCK = 1024


@triton.jit
def _load(p, at, on):
    return tl.load(p + at, mask=on, other=0.0).to(tl.float32)


@triton.jit
def _share(keep, row, col, keep_row, keep_col, on, ZONE: tl.constexpr, KEEP: tl.constexpr):
    """Share of the old output in the new one."""
    share = tl.zeros(row.shape, tl.float32) + ZONE
    if KEEP:
        share = tl.where(tl.load(keep + row * keep_row + col * keep_col, mask=on, other=0) != 0, 1.0, share)
    return share


@triton.jit
def _carried(new, old, share):
    """The output, of which a share is kept: exactly the old or the new one where that is 1 or 0."""
    mixed = new + share * (old - new)
    return tl.where(share == 1.0, old, tl.where(share == 0.0, new, mixed))


@triton.jit
def simple_rnn(
    gates, h_old, h_new, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of SimpleRNN."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    x = _load(gates, at, on)
    y = act(x, PHI)
    tl.store(gates + at, kept(x, y, PHI), mask=on)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    tl.store(h_new + at, _carried(y, _load(h_old, at, on), share), mask=on)


@triton.jit
def simple_rnn_back(
    gates, d, a, into, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, CARRY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Its gradient."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    flow = _load(d, at, on)
    if CARRY:
        tl.store(into + at, _load(into, at, on) + share * flow, mask=on)
    tl.store(a + at, (1.0 - share) * flow * slope(_load(gates, at, on), PHI), mask=on)


@triton.jit
def lstm(
    gates, c_old, c_new, inner, h_old, out, peephole, keep, keep_row, keep_col, skip, skip_row, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, LIMIT: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr,
    SKIP: tl.constexpr, PEEPHOLE: tl.constexpr, PROJECTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of LSTM; gates are o, i, f, g."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 4 * size + col
    x_o, x_i = _load(gates, first, on), _load(gates, first + size, on)
    x_f, x_g = _load(gates, first + 2 * size, on), _load(gates, first + 3 * size, on)
    old = _load(c_old, at, on)
    if PEEPHOLE:
        x_i += _load(peephole, col, on) * old
        x_f += _load(peephole, col + size, on) * old
    i, f, g = act(x_i, SIGMA), act(x_f, SIGMA), act(x_g, PHI)
    c = f * old + i * g
    if LIMIT > 0:
        c = clip(c, -LIMIT, LIMIT)
    if PEEPHOLE:
        x_o += _load(peephole, col + 2 * size, on) * c
    o, q = act(x_o, SIGMA), act(c, PHI)
    tl.store(gates + first, kept(x_o, o, SIGMA), mask=on)
    tl.store(gates + first + size, kept(x_i, i, SIGMA), mask=on)
    tl.store(gates + first + 2 * size, kept(x_f, f, SIGMA), mask=on)
    tl.store(gates + first + 3 * size, kept(x_g, g, PHI), mask=on)
    tl.store(inner + at, q, mask=on)
    h = o * q
    if not PROJECTED:
        share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
        h = _carried(h, _load(h_old, at, on), share)
    tl.store(out + at, h, mask=on)
    if SKIP:
        c = tl.where(tl.load(skip + row * skip_row, mask=on, other=0) != 0, old, c)
    tl.store(c_new + at, c, mask=on)


@triton.jit
def lstm_back(
    gates, c_old, c_new, inner, d, a, memory, into, peephole, keep, keep_row, keep_col, skip, skip_row, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, LIMIT: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr,
    SKIP: tl.constexpr, PEEPHOLE: tl.constexpr, PROJECTED: tl.constexpr, CARRY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Its gradient."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 4 * size + col
    k_o, k_i = _load(gates, first, on), _load(gates, first + size, on)
    k_f, k_g = _load(gates, first + 2 * size, on), _load(gates, first + 3 * size, on)
    old, c, before = _load(c_old, at, on), _load(c_new, at, on), _load(memory, at, on)
    if PHI >= 13:  # noqa: SIM108
        k_q = c
    else:
        k_q = _load(inner, at, on)
    flow = _load(d, at, on)
    if not PROJECTED:
        share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
        if CARRY:
            tl.store(into + at, _load(into, at, on) + share * flow, mask=on)
        flow = flow * (1.0 - share)
    a_o = flow * value(k_q, PHI) * slope(k_o, SIGMA)
    s = before + flow * value(k_o, SIGMA) * slope(k_q, PHI)
    if PEEPHOLE:
        s += a_o * _load(peephole, col + 2 * size, on)
    if LIMIT > 0:
        s = tl.where(tl.abs(c) < LIMIT, s, 0.0)
    a_i = s * value(k_g, PHI) * slope(k_i, SIGMA)
    a_f = s * old * slope(k_f, SIGMA)
    a_g = s * value(k_i, SIGMA) * slope(k_g, PHI)
    after = s * value(k_f, SIGMA)
    if PEEPHOLE:
        after += a_i * _load(peephole, col, on) + a_f * _load(peephole, col + size, on)
    if SKIP:
        skipped = tl.load(skip + row * skip_row, mask=on, other=0) != 0
        after = tl.where(skipped, before, after)
        a_o, a_i = tl.where(skipped, 0.0, a_o), tl.where(skipped, 0.0, a_i)
        a_f, a_g = tl.where(skipped, 0.0, a_f), tl.where(skipped, 0.0, a_g)
    tl.store(a + first, a_o, mask=on)
    tl.store(a + first + size, a_i, mask=on)
    tl.store(a + first + 2 * size, a_f, mask=on)
    tl.store(a + first + 3 * size, a_g, mask=on)
    tl.store(memory + at, after, mask=on)


@triton.jit
def gru(
    gates, inner, h_old, h_new, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of GRU; gates are r, z, n."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 3 * size + col
    x_r, x_z = _load(gates, first, on), _load(gates, first + size, on)
    r, z = act(x_r, SIGMA), act(x_z, SIGMA)
    x_n = _load(gates, first + 2 * size, on) + r * _load(inner, at, on)
    n, old = act(x_n, PHI), _load(h_old, at, on)
    tl.store(gates + first, kept(x_r, r, SIGMA), mask=on)
    tl.store(gates + first + size, kept(x_z, z, SIGMA), mask=on)
    tl.store(gates + first + 2 * size, kept(x_n, n, PHI), mask=on)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    tl.store(h_new + at, _carried(n + z * (old - n), old, share), mask=on)


@triton.jit
def gru_back(
    gates, inner, h_old, d, a, into, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Its gradient: of the state's share of n, of r, of z, of the input's share of n."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 3 * size + col
    k_r, k_z, k_n = _load(gates, first, on), _load(gates, first + size, on), _load(gates, first + 2 * size, on)
    z, flow = value(k_z, SIGMA), _load(d, at, on)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    rest = (1.0 - share) * flow
    tl.store(into + at, _load(into, at, on) + share * flow + z * rest, mask=on)
    a_x = rest * (1.0 - z) * slope(k_n, PHI)
    a_r = a_x * _load(inner, at, on) * slope(k_r, SIGMA)
    a_z = rest * (_load(h_old, at, on) - value(k_n, PHI)) * slope(k_z, SIGMA)
    out = row * 4 * size + col
    tl.store(a + out, a_x * value(k_r, SIGMA), mask=on)
    tl.store(a + out + size, a_r, mask=on)
    tl.store(a + out + 2 * size, a_z, mask=on)
    tl.store(a + out + 3 * size, a_x, mask=on)


@triton.jit
def reset(gates, h_old, inner, size, count, SIGMA: tl.constexpr, BLOCK: tl.constexpr):
    """The first half of a GRU whose reset gate acts before the product."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    first = at // size * 3 * size + at % size
    x_r, x_z = _load(gates, first, on), _load(gates, first + size, on)
    r, z = act(x_r, SIGMA), act(x_z, SIGMA)
    tl.store(gates + first, kept(x_r, r, SIGMA), mask=on)
    tl.store(gates + first + size, kept(x_z, z, SIGMA), mask=on)
    tl.store(inner + at, r * _load(h_old, at, on), mask=on)


@triton.jit
def reset_back(gates, h_old, d, a, into, size, count, SIGMA: tl.constexpr, BLOCK: tl.constexpr):
    """Its gradient."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    first = at // size * 3 * size + at % size
    k_r, flow = _load(gates, first, on), _load(d, at, on)
    tl.store(a + first, flow * _load(h_old, at, on) * slope(k_r, SIGMA), mask=on)
    tl.store(into + at, _load(into, at, on) + flow * value(k_r, SIGMA), mask=on)


@triton.jit
def candidate(
    gates, h_old, h_new, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The second half."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 3 * size + col
    z, x_n = value(_load(gates, first + size, on), SIGMA), _load(gates, first + 2 * size, on)
    n, old = act(x_n, PHI), _load(h_old, at, on)
    tl.store(gates + first + 2 * size, kept(x_n, n, PHI), mask=on)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    tl.store(h_new + at, _carried(n + z * (old - n), old, share), mask=on)


@triton.jit
def candidate_back(
    gates, h_old, d, a, into, keep, keep_row, keep_col, size, count,
    PHI: tl.constexpr, SIGMA: tl.constexpr, ZONE: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Its gradient."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    row, col = at // size, at % size
    first = row * 3 * size + col
    k_z, k_n, flow = _load(gates, first + size, on), _load(gates, first + 2 * size, on), _load(d, at, on)
    z = value(k_z, SIGMA)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    rest = (1.0 - share) * flow
    tl.store(into + at, _load(into, at, on) + share * flow + z * rest, mask=on)
    tl.store(a + first + size, rest * (_load(h_old, at, on) - value(k_n, PHI)) * slope(k_z, SIGMA), mask=on)
    tl.store(a + first + 2 * size, rest * (1.0 - z) * slope(k_n, PHI), mask=on)
