"""Functions that torch lacks: the incomplete beta function, Student's t and the negative binomial from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

STEPS = 1000  # of the continued fraction; it takes about √max(a, b) of them


def regularized_beta(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Regularized incomplete beta function ``I_x(a, b)``, in float64; differentiable.

    The continued fraction of Press et al. 2007 (Numerical Recipes, §6.4), taken at ``1 − x`` where it is slow at ``x``.

    Args:
        a: positive.
        b: positive.
        x: 0 to 1; all three broadcast.

    Example:
        >>> regularized_beta(torch.tensor(2.0), torch.tensor(3.0), torch.tensor(0.5))
        tensor(0.6875, dtype=torch.float64)
    """
    a, b, x = _broadcast(a.double(), b.double(), x.double())
    swap = x > (a + 1) / (a + b + 2)
    first, second, at = torch.where(swap, b, a), torch.where(swap, a, b), torch.where(swap, 1 - x, x)
    inside = (at > 0) & (at < 1)
    at = torch.where(inside, at, 0.5)
    log_front = first * at.log() + second * torch.log1p(-at) - first.log()
    log_front = log_front + torch.lgamma(first + second) - torch.lgamma(first) - torch.lgamma(second)
    part = torch.where(inside, log_front.exp() * _fraction(first, second, at), 0)
    return torch.where(swap, 1 - part, part)


def _broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))  # torch's own has no types
    return tuple(tensor.expand(shape) for tensor in tensors)


def _fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The continued fraction by Lentz's method; elements that have converged take no more steps."""
    shape, (a, b, x) = x.shape, (a.flatten(), b.flatten(), x.flatten())
    place, c = torch.arange(len(x), device=x.device), torch.ones_like(x)
    d = _apart_from_zero(1 - (a + b) * x / (a + 1)).reciprocal()
    value, places, values = d, list[Tensor](), list[Tensor]()
    for m in range(1, STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            d, c = _apart_from_zero(1 + term * d).reciprocal(), _apart_from_zero(1 + term / c)
            value = value * c * d
        if m % 8 and len(x) > 64:
            continue
        moving = (value - before).abs() > 1e-15 * value.abs()
        places.append(place[~moving])
        values.append(value[~moving])
        place, a, b, x, c, d, value = (part[moving] for part in (place, a, b, x, c, d, value))
        if not len(x):
            break
    order = torch.cat([*places, place]).argsort()
    return torch.cat([*values, value])[order].reshape(shape)


def _apart_from_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-300, 1e-300, x)


def student_t_cdf(z: Tensor, df: Tensor) -> Tensor:
    """Distribution function of Student's t: ``1 − ½ I_{ν/(ν+z²)}(ν/2, ½)`` for ``z ≥ 0``, in the dtype of ``z``.

    Example:
        >>> student_t_cdf(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(1.0))
        tensor([0.2500, 0.5000, 0.7500])
    """
    precise, freedom = z.double(), df.double()
    # near 0 the other tail of the beta function keeps the digits, and a gradient
    middle = regularized_beta(
        torch.full_like(freedom, 0.5), freedom / 2, precise.square() / (freedom + precise.square())
    )
    return (0.5 + torch.where(precise < 0, -middle, middle) / 2).to(z.dtype)


def student_t_quantile(levels: Tensor, df: Tensor) -> Tensor:
    """Inverse of :func:`student_t_cdf`, in the dtype of ``df``; the two broadcast. Not differentiable.

    Newton's method from the normal quantile, which lies between 0 and the root, where the function is concave: every
    step ends short of the root, so that it cannot fail.

    Example:
        >>> student_t_quantile(torch.tensor([0.25, 0.975]), torch.tensor(1.0))
        tensor([-1.0000, 12.7062])
    """
    level, freedom = _broadcast(levels.detach().double(), df.detach().double())
    tail, half = torch.minimum(level, 1 - level), freedom / 2
    z = -torch.special.ndtri(tail)
    log_front = torch.lgamma(half + 0.5) - torch.lgamma(half) - torch.log(freedom * torch.pi) / 2
    for _ in range(100):
        beyond = regularized_beta(half, torch.full_like(half, 0.5), freedom / (freedom + z.square())) / 2
        log_density = log_front - (half + 0.5) * torch.log1p(z.square() / freedom)
        step = (beyond - tail) / log_density.exp()
        z = z + step
        if bool((step.abs() <= 1e-12 * (1 + z)).all()):
            break
    return torch.where(level < 0.5, -z, z).to(df.dtype)


def negative_binomial_cdf(count: Tensor, mean: Tensor, shape: Tensor) -> Tensor:
    """``P(Y ≤ k) = I_p(r, k + 1)`` with ``r = 1/α``, ``p = 1/(1 + αμ)``; float64.

    Args:
        count: k, whole numbers, at least 0.
        mean: μ.
        shape: α, the variance being ``μ + α μ²``.

    Example:
        >>> negative_binomial_cdf(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0))
        tensor(0.5000, dtype=torch.float64)
    """
    mean, shape = mean.double(), shape.double()
    return regularized_beta(1 / shape, count.double() + 1, 1 / (1 + shape * mean))


def bisect(increasing: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Narrow the brackets ``low, high`` of where ``increasing`` becomes at least 0, by a factor of ``2^steps``.

    Example:
        >>> low, high = bisect(lambda x: x - 2.5, torch.tensor(0.0), torch.tensor(8.0), steps=3)
        >>> low, high
        (tensor(2.), tensor(3.))
    """
    for _ in range(steps):
        middle = (low + high) / 2
        reached = increasing(middle) >= 0
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return low, high
