"""Heads that are distributions, by likelihood or CRPS."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.errors import DataError, require

from .head import Head, LocationScale, uniform
from .probabilistic import crps_normal, crps_student_t
from .special import bisect, negative_binomial_cdf, student_t_cdf, student_t_quantile

Objective = Literal["nll", "crps"]
Family = Literal["normal", "student_t"]
SMALLEST = 1e-4  # of a standard deviation of z: a constant window would make the likelihood infinite
LARGEST_DF = 1e3  # beyond, Student's t is a normal distribution


def positive(raw: Tensor) -> Tensor:
    """``softplus(raw) + 1e-4``."""
    return F.softplus(raw) + SMALLEST


def degrees_of_freedom(raw: Tensor) -> Tensor:
    """``2 + softplus(raw)``, so that there is a variance; at most 1,000."""
    return (2 + F.softplus(raw)).clamp(max=LARGEST_DF)


def normal_nll(z: Tensor, sigma: Tensor) -> Tensor:
    """``½ (z/σ)² + ln σ + ½ ln 2π``.

    Example:
        >>> normal_nll(torch.tensor(0.0), torch.tensor(1.0))
        tensor(0.9189)
    """
    return (z / sigma).square() / 2 + sigma.log() + math.log(2 * math.pi) / 2


def student_t_nll(z: Tensor, sigma: Tensor, df: Tensor) -> Tensor:
    """``(ν+1)/2 ln(1 + (z/σ)²/ν) + ln σ + ½ ln νπ + ln Γ(ν/2) − ln Γ((ν+1)/2)``.

    Example:
        >>> student_t_nll(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0)).exp() / torch.pi
        tensor(1.0000)
    """
    front = torch.lgamma(df / 2) - torch.lgamma((df + 1) / 2) + (df * math.pi).log() / 2
    return front + sigma.log() + (df + 1) / 2 * torch.log1p((z / sigma).square() / df)


def student_t_sample(df: Tensor, rng: torch.Generator | None) -> Tensor:
    """A draw of Student's t for each element of ``df``: ``√(ν (U^{−2/ν} − 1)) cos 2πV`` (Bailey 1994)."""
    u, v = (torch.rand(df.shape, generator=rng, device=df.device, dtype=torch.float64) for _ in range(2))
    radius = (df * torch.expm1(-2 / df * (1 - u).log())).sqrt()
    return (radius * torch.cos(2 * math.pi * v)).to(df.dtype)


class Normal(LocationScale):
    """``z ~ N(μ, σ²)``; raw: μ, σ before softplus.

    Args:
        objective: ``nll``, the negative log-likelihood, or ``crps``.

    Example:
        >>> head, one = Normal(), torch.ones(1, 1)
        >>> head.quantiles(torch.zeros(1, 1, 2), torch.tensor([0.5, 0.9]), one, one)
        tensor([[[1.0000, 1.8884]]])
    """

    size = 2

    def __init__(self, objective: Objective = "nll") -> None:
        super().__init__()
        self.objective = objective

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        mu, sigma = raw[..., 0], positive(raw[..., 1])
        return normal_nll(z - mu, sigma) if self.objective == "nll" else sigma * crps_normal((z - mu) / sigma)

    def z_mean(self, raw: Tensor) -> Tensor:
        return raw[..., 0]

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        z: Tensor = torch.special.ndtri(levels.to(raw))
        return raw[..., :1] + positive(raw[..., 1:]) * z

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        noise = torch.randn(*raw.shape[:2], count, generator=rng, device=raw.device, dtype=raw.dtype)
        return raw[..., :1] + positive(raw[..., 1:]) * noise


class StudentT(LocationScale):
    """``(z − μ)/σ ~ t_ν``; raw: μ, σ before softplus, ν before ``2 + softplus``.

    Args:
        objective: ``nll`` or ``crps``.

    Example:
        >>> head, one = StudentT(), torch.ones(1, 1)
        >>> head.mean(torch.zeros(1, 1, 3), one, one)
        tensor([[1.]])
    """

    size = 3

    def __init__(self, objective: Objective = "nll") -> None:
        super().__init__()
        self.objective = objective

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        mu, sigma, df = raw[..., 0], positive(raw[..., 1]), degrees_of_freedom(raw[..., 2])
        if self.objective == "nll":
            return student_t_nll(z - mu, sigma, df)
        return sigma * crps_student_t((z - mu) / sigma, df)

    def z_mean(self, raw: Tensor) -> Tensor:
        return raw[..., 0]

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        return raw[..., :1] + positive(raw[..., 1:2]) * student_t_quantile(levels, degrees_of_freedom(raw[..., 2:]))

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        df = degrees_of_freedom(raw[..., 2:]).expand(*raw.shape[:2], count)
        return raw[..., :1] + positive(raw[..., 1:2]) * student_t_sample(df, rng)


class NegativeBinomial(Head):
    """Counts with mean ``μ = scale · softplus(raw_0)`` and variance ``μ + α μ²``, ``α = softplus(raw_1) / √scale``.

    Salinas et al. 2020, DeepAR, §3.1 and 3.3. The window may be scaled, not shifted.

    Example:
        >>> head, one = NegativeBinomial(), torch.ones(1, 1)
        >>> head.quantiles(torch.zeros(1, 1, 2), torch.tensor([0.1, 0.5, 0.95]), 10 * one, 0 * one)
        tensor([[[ 2.,  6., 15.]]])
    """

    size = 2

    def parameters_of(self, raw: Tensor, scale: Tensor, loc: Tensor) -> tuple[Tensor, Tensor]:
        """μ and α, ``[B, H]``, float64: differences of ln Γ of large counts lose a float32's digits.

        Raises:
            ConfigError: ``loc`` is not 0.
        """
        require(
            not bool(loc.any()), "the negative_binomial head needs windows that are scaled alone: no mean, no logarithm"
        )
        wide = raw.double()
        return positive(wide[..., 0]) * scale, positive(wide[..., 1]) / scale.double().sqrt()

    def elements(self, raw: Tensor, target: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        """Negative log-likelihood.

        Raises:
            DataError: a target is not a whole number of at least 0.
        """
        wrong = (target < 0) | (target != target.round())
        if bool(wrong.any()):
            raise DataError(
                f"the negative_binomial head forecasts counts, the target has {float(target[wrong][0]):.6g}: "
                "give whole numbers of at least 0, or take another head"
            )
        mean, alpha = self.parameters_of(raw, scale, loc)
        shape, count = 1 / alpha, target.double()
        choices = torch.lgamma(count + shape) - torch.lgamma(count + 1) - torch.lgamma(shape)
        odds = torch.log1p(alpha * mean)
        return -(choices - shape * odds + count * ((alpha * mean).log() - odds)).to(raw.dtype)

    def mean(self, raw: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        return self.parameters_of(raw, scale, loc)[0].to(raw.dtype)

    def quantiles(self, raw: Tensor, levels: Tensor, scale: Tensor, loc: Tensor) -> Tensor:
        """The smallest count of which the distribution function is at least the level."""
        mean, alpha = (value.detach().unsqueeze(-1) for value in self.parameters_of(raw, scale, loc))
        wanted = levels.double().expand(*raw.shape[:2], len(levels))

        def excess(x: Tensor) -> Tensor:
            return torch.where(x < 0, -1, negative_binomial_cdf(x.floor().clamp(min=0), mean, alpha) - wanted)

        # Cantelli's inequality: no quantile is further from the mean
        deviation, odds = (mean + alpha * mean.square()).sqrt(), (wanted / (1 - wanted)).sqrt()
        low = (mean - deviation / odds).floor().clamp(min=0) - 1
        high = (mean + deviation * odds).ceil() + 1
        steps = math.ceil(math.log2(float((high - low).max()))) + 1
        return bisect(excess, low, high, steps)[1].floor().to(raw.dtype)

    def sample(self, raw: Tensor, count: int, scale: Tensor, loc: Tensor, rng: torch.Generator | None) -> Tensor:
        """A Poisson draw with a gamma draw as its rate."""
        mean, alpha = (value.unsqueeze(-1) for value in self.parameters_of(raw, scale, loc))
        shape = (1 / alpha).expand(*raw.shape[:2], count).contiguous()
        rate = torch._standard_gamma(shape, generator=rng) * alpha * mean
        return torch.poisson(rate, generator=rng).to(raw.dtype)


class Mixture(LocationScale):
    """``Σ w_k N(μ_k, σ_k²)``, or of Student's t, by negative log-likelihood.

    Raw is, for each component, the logit of w, μ, σ before softplus (and ν before ``2 + softplus``).

    Args:
        components: how many.
        family: of what.

    Example:
        >>> head, one = Mixture(2), torch.ones(1, 1)
        >>> raw = torch.tensor([[[0.0, -1.0, 0.0, 0.0, 1.0, 0.0]]])
        >>> head.quantiles(raw, torch.tensor([0.5]), one, one)
        tensor([[[1.]]])
    """

    def __init__(self, components: int = 3, family: Family = "normal") -> None:
        super().__init__()
        require(components >= 1, f"a mixture needs at least 1 component, got {components}")
        self.components, self.family = components, family
        self.size = components * (3 if family == "normal" else 4)

    def parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weight, μ, σ and ν (1 where there is none), ``[B, H, K]`` each."""
        each = raw.reshape(*raw.shape[:-1], self.components, -1)
        df = torch.ones_like(each[..., 0]) if self.family == "normal" else degrees_of_freedom(each[..., 3])
        return each[..., 0].log_softmax(-1), each[..., 1], positive(each[..., 2]), df

    def z_loss(self, raw: Tensor, z: Tensor) -> Tensor:
        log_weight, mu, sigma, df = self.parts(raw)
        apart = z.unsqueeze(-1) - mu
        nll = normal_nll(apart, sigma) if self.family == "normal" else student_t_nll(apart, sigma, df)
        return -torch.logsumexp(log_weight - nll, -1)

    def z_mean(self, raw: Tensor) -> Tensor:
        log_weight, mu, _, _ = self.parts(raw)
        return (log_weight.exp() * mu).sum(-1)

    def z_quantiles(self, raw: Tensor, levels: Tensor) -> Tensor:
        """By bisection, between the lowest and the highest quantile of a component."""
        log_weight, mu, sigma, df = (part.unsqueeze(-2) for part in self.parts(raw.detach().double()))
        wanted = levels.double().unsqueeze(-1)
        normal = self.family == "normal"
        each = mu + sigma * (torch.special.ndtri(wanted) if normal else student_t_quantile(wanted, df))

        def excess(z: Tensor) -> Tensor:
            apart = (z.unsqueeze(-1) - mu) / sigma
            below = torch.special.ndtr(apart) if normal else student_t_cdf(apart, df)
            return (log_weight.exp() * below).sum(-1) - wanted.squeeze(-1)

        return bisect(excess, each.amin(-1), each.amax(-1), 35)[1].to(raw.dtype)

    def z_sample(self, raw: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
        log_weight, mu, sigma, df = self.parts(raw)
        edges = log_weight.exp().cumsum(-1)[..., :-1].contiguous()
        chosen = torch.searchsorted(edges, uniform(raw, count, rng))
        mu, sigma, df = (part.gather(-1, chosen) for part in (mu, sigma, df))
        if self.family == "student_t":
            return mu + sigma * student_t_sample(df, rng)
        return mu + sigma * torch.randn(mu.shape, generator=rng, device=raw.device, dtype=raw.dtype)
