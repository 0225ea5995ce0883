"""Scores of quantiles, intervals, samples and distributions; conventions as in :mod:`tasks.forecasting.functional`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .functional import difference, mean_over_steps, scaled, valid_steps
from .special import student_t_cdf


def pinball_elements(quantiles: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """``max(q (y − f), (q − 1)(y − f))`` of each element (Koenker and Bassett 1978).

    Args:
        quantiles: ``[..., Q]``.
        target: ``[...]``, without NaN.
        levels: ``[Q]`` or ``[..., Q]``, between 0 and 1.

    Example:
        >>> pinball_elements(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0]), torch.tensor([0.1, 0.9]))
        tensor([[0.1000, 0.9000]])
    """
    error = target.unsqueeze(-1) - quantiles
    return torch.maximum(levels * error, (levels - 1) * error)


def pinball(quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean pinball loss of each series and level: ``[B, Q]``.

    Args:
        quantiles: ``[B, H, Q]``.
        target: ``[B, H]``.
        levels: ``[Q]``.
        mask: bool ``[B, H]``.

    Example:
        >>> pinball(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[2.0, 2.0]]), torch.tensor([0.9]))
        tensor([[0.5000]])
    """
    valid = valid_steps(target, mask)
    kept = torch.where(valid.unsqueeze(-1), quantiles, 0)
    return mean_over_steps(pinball_elements(kept, torch.where(valid, target, 0), levels), valid)


def weighted_quantile_sums(
    quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the weighted quantile loss divides: ``2 Σ pinball``, mean over the levels, and ``Σ |y|``; both ``[B]``."""
    valid = valid_steps(target, mask)
    steps = valid.sum(1)
    mean = pinball(quantiles, target, levels, mask).mean(-1)
    loss = 2 * torch.where(steps > 0, mean, 0) * steps
    return loss, torch.where(valid, target, 0).abs().sum(1)


def weighted_quantile_loss(quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None) -> Tensor:
    """``2 Σ pinball / Σ |y|`` over all series and steps, mean over the levels: a scalar.

    GluonTS ``mean_weighted_sum_quantile_loss``, Chronos' WQL (there with levels .1, .2, ..., .9); equal to ``Σ|y − f| /
    Σ|y|`` where all quantiles are one point. Arguments as for :func:`pinball`.

    Example:
        >>> quantiles = torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])
        >>> weighted_quantile_loss(quantiles, torch.tensor([[2.0, 2.0]]), torch.tensor([0.1, 0.9]))
        tensor(0.5000)
    """
    loss, size = weighted_quantile_sums(quantiles, target, levels, mask)
    return loss.sum() / size.sum()


def crps_quantiles(quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Continuous ranked probability score from quantiles at evenly spaced levels: ``[B]``.

    ``CRPS = 2 ∫ pinball_q dq`` (Gneiting and Ranjan 2011), the integral as the mean over the levels. Arguments as for
    :func:`pinball`.

    Example:
        >>> crps_quantiles(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[2.0, 2.0]]), torch.tensor([0.5]))
        tensor([1.])
    """
    return 2 * pinball(quantiles, target, levels, mask).mean(-1)


def crps_samples(samples: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """CRPS of the samples' empirical distribution, ``E|X − y| − ½ E|X − X'|``: ``[B]``.

    Gneiting and Raftery 2007, §4.2; with ``E|X − X'| = 2/S² Σ (2i − S − 1) x_(i)`` of the sorted samples.

    Args:
        samples: ``[B, H, S]``.
        target: ``[B, H]``.
        mask: bool ``[B, H]``.

    Example:
        >>> crps_samples(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[1.0]]))
        tensor([0.5000])
    """
    valid = valid_steps(target, mask)
    ordered = torch.where(valid.unsqueeze(-1), samples, 0).sort(-1).values
    count = samples.shape[-1]
    weights = (2 * torch.arange(1, count + 1, device=samples.device) - count - 1) / count**2
    apart = (ordered * weights).sum(-1)
    return mean_over_steps((ordered - torch.where(valid, target, 0).unsqueeze(-1)).abs().mean(-1) - apart, valid)


def crps_normal(z: Tensor) -> Tensor:
    """CRPS of the standard normal at ``z``, of each element; times σ at ``z = (y − μ) / σ``.

    ``z (2Φ(z) − 1) + 2φ(z) − 1/√π`` (Gneiting and Raftery 2007, §4.2).

    Example:
        >>> crps_normal(torch.tensor(0.0))
        tensor(0.2337)
    """
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    below: Tensor = torch.special.ndtr(z)
    return z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi)


def crps_student_t(z: Tensor, df: Tensor) -> Tensor:
    """CRPS of Student's t with ``df`` > 1 degrees of freedom at ``z``, of each element; times σ at ``(y − μ) / σ``.

    ``z (2F(z) − 1) + 2 f(z) (ν + z²)/(ν − 1) − 2√ν/(ν − 1) · B(½, ν − ½)/B(½, ν/2)²`` (Jordan, Krüger and Lerch 2019,
    scoringRules, appendix A).

    Example:
        >>> crps_student_t(torch.tensor(0.0), torch.tensor(3.0))
        tensor(0.2757)
    """
    half = torch.full_like(df, 0.5)
    log_density = -_log_beta(half, df / 2) - df.log() / 2 - (df + 1) / 2 * torch.log1p(z.square() / df)
    spread = 2 * df.sqrt() / (df - 1) * torch.exp(_log_beta(half, df - 0.5) - 2 * _log_beta(half, df / 2))
    tail = 2 * log_density.exp() * (df + z.square()) / (df - 1)
    return z * (2 * student_t_cdf(z, df) - 1) + tail - spread


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def msis(
    lower: Tensor, upper: Tensor, target: Tensor, scale: Tensor, level: float, mask: Tensor | None = None
) -> Tensor:
    """Mean scaled interval score of a central interval: ``[B]``.

    ``mean [(U − L) + 2/α (L − y)₊ + 2/α (y − U)₊] / scale`` with ``α = 1 − level`` (Gneiting and Raftery 2007, §6.2;
    M4 Competitors' Guide, level .95).

    Args:
        lower: ``[B, H]``.
        upper: ``[B, H]``.
        target: ``[B, H]``.
        scale: :func:`~tasks.forecasting.functional.seasonal_scale` of the history, ``[B]``; NaN where it is 0.
        level: share of the values that the interval is to hold.
        mask: bool ``[B, H]``.

    Example:
        >>> lower, upper = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> msis(lower, upper, torch.tensor([[0.5, 2.0]]), torch.tensor([1.0]), level=0.5)
        tensor([3.])
    """
    valid = valid_steps(target, mask)
    below, above = difference(lower, target, valid).relu(), -difference(upper, target, valid)
    width = torch.where(valid, upper - lower, 0)
    return scaled(mean_over_steps(width + 2 / (1 - level) * (below + above.relu()), valid), scale)


def coverage(lower: Tensor, upper: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the targets within ``L ≤ y ≤ U``: ``[B]``; all arguments ``[B, H]``.

    Example:
        >>> coverage(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5, 2.0]]))
        tensor([0.5000])
    """
    valid = valid_steps(target, mask)
    return mean_over_steps(((lower <= target) & (target <= upper)).to(lower.dtype), valid)
