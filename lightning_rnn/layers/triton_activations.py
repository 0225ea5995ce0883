"""Activations and their derivatives as functions of Triton's, chosen by a number when a kernel is compiled.

Without Triton this module can be read, by documentation for one, but not run.
"""

# Triton reads this source: calls by position, plain arithmetic, no annotations but constexpr.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, no-untyped-def, no-untyped-call"
from __future__ import annotations

from types import SimpleNamespace

try:
    import triton
    import triton.language as tl
except ImportError:
    triton, tl = SimpleNamespace(jit=lambda function: function), None

CODES = {
    name: code
    for code, name in enumerate(
        (
            "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "hard_sigmoid_keras2", "elu", "selu", "relu6",
            "leaky_relu", "softsign", "exponential", "hard_tanh", "gelu", "silu", "softplus", "mish",
        )
    )
}  # fmt: skip


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
def clip(x, low, high):
    """The nearest number from ``low`` to ``high``."""
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def act(x, CODE: tl.constexpr):
    """The activation of a sum."""
    if CODE == 1:
        y = _tanh(x)
    elif CODE == 2:
        y = _sigmoid(x)
    elif CODE == 3:
        y = tl.maximum(x, 0.0)
    elif CODE == 4:
        y = clip(x + 3.0, 0.0, 6.0) / 6.0
    elif CODE == 5:
        y = clip(0.2 * x + 0.5, 0.0, 1.0)
    elif CODE == 6:
        y = tl.where(x > 0, x, tl.exp(tl.minimum(x, 0.0)) - 1.0)
    elif CODE == 7:
        y = 1.0507009873554805 * tl.where(x > 0, x, 1.6732632423543772 * (tl.exp(tl.minimum(x, 0.0)) - 1.0))
    elif CODE == 8:
        y = clip(x, 0.0, 6.0)
    elif CODE == 9:
        y = tl.where(x > 0, x, 0.2 * x)
    elif CODE == 10:
        y = x / (1.0 + tl.abs(x))
    elif CODE == 11:
        y = tl.exp(x)
    elif CODE == 12:
        y = clip(x, -1.0, 1.0)
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
def slope(k, CODE: tl.constexpr):
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
def value(k, CODE: tl.constexpr):
    """The activation, from what is kept."""
    if CODE >= 13:  # noqa: SIM108
        y = act(k, CODE)
    else:
        y = k
    return y


@triton.jit
def kept(x, y, CODE: tl.constexpr):
    """What is kept of a sum and its activation."""
    if CODE >= 13:  # noqa: SIM108
        k = x
    else:
        k = y
    return k
