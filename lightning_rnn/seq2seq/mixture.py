r"""Mixtures of bivariate normal distributions: what a network that writes points in the plane puts out.

Bishop 1994 ("Mixture Density Networks", NCRG/94/004) gives a network the parameters of a mixture to put out; Graves
2013 (arXiv 1308.0850, section 4.1) does so at every step of a recurrent one, with a correlation ``ρ`` for pen strokes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.errors import require

STEEPEST = 20.0  # artanh of a correlation, at most
PER_COMPONENT = 6  # numbers that a network gives for a component: weight, two means, two deviations, correlation


class BivariateMixture(NamedTuple):
    """``M`` normal distributions in the plane and their weights.

    Attributes:
        log_weights: ``log π``, ``[..., M]``; their exponentials add up to 1.
        mean: ``μ``, ``[..., M, 2]``.
        log_std: ``log σ``, ``[..., M, 2]``.
        slant: ``artanh ρ`` of the correlation ``ρ``, ``[..., M]``: near ``ρ = ±1`` nothing of it is rounded away.
    """

    log_weights: Tensor
    mean: Tensor
    log_std: Tensor
    slant: Tensor


def bivariate_mixture(raw: Tensor, min_std: float = 0.0) -> BivariateMixture:
    r"""A mixture from the outputs of a layer (Graves 2013, equations 19 to 22).

    ``π = softmax(π̂)``, ``μ = μ̂``, ``σ = exp(σ̂) + min_std``, ``ρ = tanh(ρ̂)``, of ``raw = (π̂, μ̂_x, μ̂_y, σ̂_x, σ̂_y, ρ̂)``;
    ``ρ̂`` beyond ±20, where ``ρ`` is ±1 in float64 too and the density's ``exp(2ρ̂)`` would overflow, is cut there.

    Args:
        raw: ``[..., 6 M]``, the ``M`` weights first, then as above; computed in float32 at least.
        min_std: lowest ``σ``, in the points' unit. Without one, the density of points that stand on a grid (whole
            pixels) has no upper bound: a component narrows on one of them for ever.

    Raises:
        ValueError: the last axis is no multiple of 6.
        ConfigError: ``min_std`` is negative.

    Example:
        >>> mixture = bivariate_mixture(torch.zeros(4, 12))
        >>> mixture.log_weights.exp()[0].tolist(), mixture.mean.shape
        ([0.5, 0.5], torch.Size([4, 2, 2]))
    """
    if raw.shape[-1] % PER_COMPONENT:
        raise ValueError(f"bivariate_mixture: {raw.shape[-1]} numbers are not {PER_COMPONENT} for each component")
    require(min_std >= 0, f"min_std must not be negative, got {min_std}")
    wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
    wide = wide.view(*raw.shape[:-1], PER_COMPONENT, raw.shape[-1] // PER_COMPONENT)
    weights, x, y, log_x, log_y, slant = wide.unbind(-2)
    log_std = torch.stack([log_x, log_y], -1)
    if min_std:
        log_std = torch.logaddexp(log_std, log_std.new_tensor(math.log(min_std)))
    return BivariateMixture(weights.log_softmax(-1), torch.stack([x, y], -1), log_std, slant.clamp(-STEEPEST, STEEPEST))


def bivariate_log_probs(mixture: BivariateMixture, points: Tensor) -> Tensor:
    r"""Log-density of points under each component (Graves 2013, equations 24 and 25).

    With ``z = (x − μ) / σ`` and ``ρ = tanh r``, ``z₁² + z₂² − 2ρz₁z₂`` over ``1 − ρ²`` is a sum of terms that are not
    negative, ``½ ((z₁ + z₂)² (1 + e⁻²ʳ) + (z₁ − z₂)² (1 + e²ʳ)) / 2``, and ``−½ log(1 − ρ²) = log cosh r``: nothing
    cancels, however near to a line the points are.

    Args:
        mixture: ``[..., M]``.
        points: ``[..., 2]``.

    Returns:
        ``[..., M]``, natural logarithm, per unit of area.

    Example:
        >>> mixture = bivariate_mixture(torch.zeros(6, dtype=torch.float64))
        >>> round(bivariate_log_probs(mixture, torch.tensor([1.0, 0.0])).item(), 4)  # -log 2π - 1/2
        -2.3379
    """
    z = (points.to(mixture.mean.dtype).unsqueeze(-2) - mixture.mean) * (-mixture.log_std).exp()
    along, across = (z.sum(-1) ** 2, (z[..., 0] - z[..., 1]) ** 2)
    slant = mixture.slant
    square = (along * (1 + (-2 * slant).exp()) + across * (1 + (2 * slant).exp())) / 4
    log_cosh = F.softplus(2 * slant) - slant - math.log(2)
    return log_cosh - square / 2 - mixture.log_std.sum(-1) - math.log(2 * math.pi)


def mixture_log_prob(mixture: BivariateMixture, points: Tensor) -> Tensor:
    r"""Log-density of points, ``log Σ_k π_k N(x; μ_k, σ_k, ρ_k)`` (Graves 2013, equation 23).

    Its mean's negative is the first part of a drawing model's loss (Ha and Eck 2017, arXiv 1704.03477, equation 9).

    Args:
        mixture: ``[..., M]``.
        points: ``[..., 2]``.

    Returns:
        ``[...]``, nats; positive where the points are denser than one per unit of area.

    Example:
        >>> mixture = bivariate_mixture(torch.zeros(3, 12))
        >>> mixture_log_prob(mixture, torch.zeros(3, 2))
        tensor([-1.8379, -1.8379, -1.8379])
    """
    return (mixture.log_weights + bivariate_log_probs(mixture, points)).logsumexp(-1)


def tempered(mixture: BivariateMixture, temperature: float) -> BivariateMixture:
    """The mixture at a temperature ``τ``: ``log π / τ``, normalized again, and ``σ² τ`` (Ha and Eck 2017, equation 8).

    Raises:
        ConfigError: a temperature of 0 or less.

    Example:
        >>> cold = tempered(bivariate_mixture(torch.zeros(6)), 0.25)
        >>> cold.log_std.exp().tolist()
        [[0.5, 0.5]]
    """
    require(temperature > 0, f"temperature must be more than 0, got {temperature}")
    return mixture._replace(
        log_weights=(mixture.log_weights / temperature).log_softmax(-1),
        log_std=mixture.log_std + math.log(temperature) / 2,
    )


def draw_points(mixture: BivariateMixture, uniform: Tensor) -> Tensor:
    """One point of each mixture, a function of numbers drawn before.

    Args:
        mixture: ``[..., M]``.
        uniform: ``[..., 3]`` in ``[0, 1)``: for the component, and for the two axes.

    Returns:
        ``[..., 2]``.

    Example:
        >>> draw_points(bivariate_mixture(torch.zeros(6)), torch.tensor([0.3, 0.5, 0.5])).tolist()
        [0.0, 0.0]
    """
    component = pick(mixture.log_weights, uniform[..., 0])[..., None]
    slant = mixture.slant.gather(-1, component).squeeze(-1)
    mean, std = (
        part.gather(-2, component[..., None].expand(*component.shape, 2)).squeeze(-2)
        for part in (mixture.mean, mixture.log_std.exp())
    )
    tiny = 2.0**-24
    one, other = torch.special.ndtri(uniform[..., 1:].clamp(tiny, 1 - tiny).to(mean.dtype)).unbind(-1)
    turned = torch.stack([one, slant.tanh() * one + other / slant.cosh()], -1)
    return mean + std * turned


def pick(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """The index whose share of the interval from 0 to 1 holds a number.

    Args:
        log_probs: ``[..., M]``.
        uniform: ``[...]`` in ``[0, 1)``.

    Returns:
        int64 ``[...]``.

    Example:
        >>> pick(torch.tensor([0.2, 0.5, 0.3]).log().expand(3, 3), torch.tensor([0.1, 0.6, 0.999])).tolist()
        [0, 1, 2]
    """
    upto = log_probs.double().exp().cumsum(-1)
    below = uniform.double()[..., None] * upto[..., -1:] >= upto
    return below.sum(-1).clamp(max=log_probs.shape[-1] - 1)
