"""The pointwise part of a step as one Triton kernel, forward and backward; see ``pointwise.py`` for the equations.

Numbers are read in any floating dtype, computed in float32 and written back. Rows are ``[B, n * H]`` in one piece;
masks come with their strides. Without Triton this module can be read, by documentation for one, but not run.
"""

# Triton reads this source: calls by position, plain arithmetic, no annotations but constexpr.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, no-untyped-def, no-untyped-call"
from __future__ import annotations

from types import SimpleNamespace

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = SimpleNamespace(jit=lambda function: function)

CODES = {
    name: code
    for code, name in enumerate(
        (
            "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "hard_sigmoid_keras2", "elu", "selu", "relu6",
            "leaky_relu", "softsign", "exponential", "hard_tanh", "gelu", "silu", "softplus", "mish",
        )
    )
}  # fmt: skip
BLOCK = 1024


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    t = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -t, t)


@triton.jit
def _softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _clip(x, low, high):
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def _act(x, CODE: tl.constexpr):
    """The activation of a sum."""
    if CODE == 1:
        y = _tanh(x)
    elif CODE == 2:
        y = _sigmoid(x)
    elif CODE == 3:
        y = tl.maximum(x, 0.0)
    elif CODE == 4:
        y = _clip(x + 3.0, 0.0, 6.0) / 6.0
    elif CODE == 5:
        y = _clip(0.2 * x + 0.5, 0.0, 1.0)
    elif CODE == 6:
        y = tl.where(x > 0, x, tl.exp(tl.minimum(x, 0.0)) - 1.0)
    elif CODE == 7:
        y = 1.0507009873554805 * tl.where(x > 0, x, 1.6732632423543772 * (tl.exp(tl.minimum(x, 0.0)) - 1.0))
    elif CODE == 8:
        y = _clip(x, 0.0, 6.0)
    elif CODE == 9:
        y = tl.where(x > 0, x, 0.2 * x)
    elif CODE == 10:
        y = x / (1.0 + tl.abs(x))
    elif CODE == 11:
        y = tl.exp(x)
    elif CODE == 12:
        y = _clip(x, -1.0, 1.0)
    elif CODE == 13:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif CODE == 14:
        y = x * _sigmoid(x)
    elif CODE == 15:
        y = _softplus(x)
    elif CODE == 16:
        y = x * _tanh(_softplus(x))
    else:
        y = x
    return y


@triton.jit
def _slope(k, CODE: tl.constexpr):
    """The derivative, from what is kept: the output, or from code 13 on the sum."""
    if CODE == 1:
        s = 1.0 - k * k
    elif CODE == 2:
        s = k * (1.0 - k)
    elif CODE == 3:
        s = tl.where(k > 0, 1.0, 0.0)
    elif CODE == 4:
        s = tl.where((k > 0) & (k < 1), 1.0 / 6.0, 0.0)
    elif CODE == 5:
        s = tl.where((k > 0) & (k < 1), 0.2, 0.0)
    elif CODE == 6:
        s = tl.where(k > 0, 1.0, k + 1.0)
    elif CODE == 7:
        s = tl.where(k > 0, 1.0507009873554805, k + 1.7580993408473766)
    elif CODE == 8:
        s = tl.where((k > 0) & (k < 6), 1.0, 0.0)
    elif CODE == 9:
        s = tl.where(k > 0, 1.0, 0.2)
    elif CODE == 10:
        s = (1.0 - tl.abs(k)) * (1.0 - tl.abs(k))
    elif CODE == 11:
        s = k
    elif CODE == 12:
        s = tl.where((k > -1) & (k < 1), 1.0, 0.0)
    elif CODE == 13:
        s = 0.5 * (1.0 + tl.erf(k * 0.7071067811865476)) + k * 0.3989422804014327 * tl.exp(-0.5 * k * k)
    elif CODE == 14:
        s = _sigmoid(k) * (1.0 + k * (1.0 - _sigmoid(k)))
    elif CODE == 15:
        s = _sigmoid(k)
    elif CODE == 16:
        t = _tanh(_softplus(k))
        s = t + k * _sigmoid(k) * (1.0 - t * t)
    else:
        s = k * 0.0 + 1.0
    return s


@triton.jit
def _value(k, CODE: tl.constexpr):
    """The activation, from what is kept."""
    if CODE >= 13:  # noqa: SIM108
        y = _act(k, CODE)
    else:
        y = k
    return y


@triton.jit
def _kept(x, y, CODE: tl.constexpr):
    """What is kept of a sum and its activation."""
    if CODE >= 13:  # noqa: SIM108
        k = x
    else:
        k = y
    return k


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
    y = _act(x, PHI)
    tl.store(gates + at, _kept(x, y, PHI), mask=on)
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
    tl.store(a + at, (1.0 - share) * flow * _slope(_load(gates, at, on), PHI), mask=on)


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
    i, f, g = _act(x_i, SIGMA), _act(x_f, SIGMA), _act(x_g, PHI)
    c = f * old + i * g
    if LIMIT > 0:
        c = _clip(c, -LIMIT, LIMIT)
    if PEEPHOLE:
        x_o += _load(peephole, col + 2 * size, on) * c
    o, q = _act(x_o, SIGMA), _act(c, PHI)
    tl.store(gates + first, _kept(x_o, o, SIGMA), mask=on)
    tl.store(gates + first + size, _kept(x_i, i, SIGMA), mask=on)
    tl.store(gates + first + 2 * size, _kept(x_f, f, SIGMA), mask=on)
    tl.store(gates + first + 3 * size, _kept(x_g, g, PHI), mask=on)
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
    a_o = flow * _value(k_q, PHI) * _slope(k_o, SIGMA)
    s = before + flow * _value(k_o, SIGMA) * _slope(k_q, PHI)
    if PEEPHOLE:
        s += a_o * _load(peephole, col + 2 * size, on)
    if LIMIT > 0:
        s = tl.where(tl.abs(c) < LIMIT, s, 0.0)
    a_i = s * _value(k_g, PHI) * _slope(k_i, SIGMA)
    a_f = s * old * _slope(k_f, SIGMA)
    a_g = s * _value(k_i, SIGMA) * _slope(k_g, PHI)
    after = s * _value(k_f, SIGMA)
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
    r, z = _act(x_r, SIGMA), _act(x_z, SIGMA)
    x_n = _load(gates, first + 2 * size, on) + r * _load(inner, at, on)
    n, old = _act(x_n, PHI), _load(h_old, at, on)
    tl.store(gates + first, _kept(x_r, r, SIGMA), mask=on)
    tl.store(gates + first + size, _kept(x_z, z, SIGMA), mask=on)
    tl.store(gates + first + 2 * size, _kept(x_n, n, PHI), mask=on)
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
    z, flow = _value(k_z, SIGMA), _load(d, at, on)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    rest = (1.0 - share) * flow
    tl.store(into + at, _load(into, at, on) + share * flow + z * rest, mask=on)
    a_x = rest * (1.0 - z) * _slope(k_n, PHI)
    a_r = a_x * _load(inner, at, on) * _slope(k_r, SIGMA)
    a_z = rest * (_load(h_old, at, on) - _value(k_n, PHI)) * _slope(k_z, SIGMA)
    out = row * 4 * size + col
    tl.store(a + out, a_x * _value(k_r, SIGMA), mask=on)
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
    r, z = _act(x_r, SIGMA), _act(x_z, SIGMA)
    tl.store(gates + first, _kept(x_r, r, SIGMA), mask=on)
    tl.store(gates + first + size, _kept(x_z, z, SIGMA), mask=on)
    tl.store(inner + at, r * _load(h_old, at, on), mask=on)


@triton.jit
def reset_back(gates, h_old, d, a, into, size, count, SIGMA: tl.constexpr, BLOCK: tl.constexpr):
    """Its gradient."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    first = at // size * 3 * size + at % size
    k_r, flow = _load(gates, first, on), _load(d, at, on)
    tl.store(a + first, flow * _load(h_old, at, on) * _slope(k_r, SIGMA), mask=on)
    tl.store(into + at, _load(into, at, on) + flow * _value(k_r, SIGMA), mask=on)


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
    z, x_n = _value(_load(gates, first + size, on), SIGMA), _load(gates, first + 2 * size, on)
    n, old = _act(x_n, PHI), _load(h_old, at, on)
    tl.store(gates + first + 2 * size, _kept(x_n, n, PHI), mask=on)
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
    z = _value(k_z, SIGMA)
    share = _share(keep, row, col, keep_row, keep_col, on, ZONE, KEEP)
    rest = (1.0 - share) * flow
    tl.store(into + at, _load(into, at, on) + share * flow + z * rest, mask=on)
    tl.store(a + first + size, rest * (_load(h_old, at, on) - _value(k_n, PHI)) * _slope(k_z, SIGMA), mask=on)
    tl.store(a + first + 2 * size, rest * (1.0 - z) * _slope(k_n, PHI), mask=on)
