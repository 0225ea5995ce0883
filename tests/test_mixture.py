"""Mixtures of bivariate normal distributions: the density, its gradient, and what is drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.mixture import (
    bivariate_log_probs,
    bivariate_mixture,
    draw_points,
    mixture_log_prob,
    pick,
    tempered,
)


def random_raw(rows: int, components: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 6 * components, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_scipy(raw: Tensor, points: Tensor) -> list[float]:
    """Graves 2013, equations 18 to 25, with scipy's density."""
    found = []
    for numbers, point in zip(raw.numpy(), points.numpy(), strict=True):
        weights, x, y, log_x, log_y, slant = numbers.reshape(6, -1)
        weights, rho = np.exp(weights) / np.exp(weights).sum(), np.tanh(slant)
        parts = []
        for k, weight in enumerate(weights):
            sx, sy = np.exp(log_x[k]), np.exp(log_y[k])
            covariance = [[sx**2, rho[k] * sx * sy], [rho[k] * sx * sy, sy**2]]
            parts.append(np.log(weight) + multivariate_normal.logpdf(point, [x[k], y[k]], covariance))
        found.append(float(logsumexp(parts)))
    return found


@pytest.mark.parametrize("components", [1, 4])
def test_log_density_is_scipys(components: int) -> None:
    raw, points = random_raw(20, components), torch.randn(20, 2, dtype=torch.float64)
    found = mixture_log_prob(bivariate_mixture(raw), points)
    np.testing.assert_allclose(found.numpy(), by_scipy(raw, points), rtol=1e-9)


def test_density_is_one_in_all() -> None:
    axis = torch.linspace(-12, 12, 481, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mixture = bivariate_mixture(0.5 * random_raw(1, 3))
    density = mixture_log_prob(mixture, grid).exp()
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=1e-6)


def test_gradient_is_the_numerical_one() -> None:
    raw, points = random_raw(3, 2).requires_grad_(), torch.randn(3, 2, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(lambda r, p: mixture_log_prob(bivariate_mixture(r, 0.05), p), (raw, points))


@pytest.mark.parametrize("slant", [-12.0, 12.0])
def test_points_almost_on_a_line_keep_their_density_in_float32(slant: float) -> None:
    raw = torch.zeros(1, 6)
    raw[0, 5] = slant
    point = torch.tensor([[0.5, 0.5 if slant > 0 else -0.5]])
    raw.requires_grad_()
    found = mixture_log_prob(bivariate_mixture(raw), point)
    wide = mixture_log_prob(bivariate_mixture(raw.double()), point.double())
    torch.testing.assert_close(found.double(), wide)
    expected = -np.log(2 * np.pi) - 0.125 + abs(slant) - np.log(2)  # z²/2 along the line, log cosh r across
    assert found.item() == pytest.approx(expected, abs=1e-4)
    found.backward()
    assert raw.grad is not None and bool(raw.grad.isfinite().all())


@pytest.mark.parametrize("slant", [-60.0, 60.0])
@pytest.mark.parametrize("point", [[0.5, 0.5], [0.5, -0.5], [0.0, 0.0]])
def test_the_steepest_correlation_gives_no_nan(slant: float, point: list[float]) -> None:
    raw = torch.zeros(2, 6).flatten()
    raw[10] = slant
    raw.requires_grad_()
    found = mixture_log_prob(bivariate_mixture(raw), torch.tensor(point))
    found.backward()
    assert raw.grad is not None and bool(found.isfinite() and raw.grad.isfinite().all())


def test_points_far_away_have_a_finite_log_density_and_gradient() -> None:
    raw = random_raw(5, 3).float().requires_grad_()
    found = mixture_log_prob(bivariate_mixture(raw), torch.full((5, 2), 1e4))
    found.sum().backward()
    assert raw.grad is not None and bool(found.isfinite().all() and raw.grad.isfinite().all())


def test_deviations_are_above_the_lowest_and_close_to_it() -> None:
    raw = torch.full((1, 6), -30.0)
    assert bivariate_mixture(raw, 0.25).log_std.exp().tolist() == [[[0.25, 0.25]]]
    wide = bivariate_mixture(torch.full((1, 6), 2.0), 0.25).log_std.exp()
    torch.testing.assert_close(wide, torch.full((1, 1, 2), float(np.exp(2) + 0.25)))


def test_drawn_points_have_the_mixtures_moments() -> None:
    raw = 0.5 * random_raw(1, 3, seed=1)
    uniform = torch.rand(200_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixture = bivariate_mixture(raw.expand(len(uniform), -1))
    points = draw_points(mixture, uniform)
    weights, std, rho = mixture.log_weights[0].exp(), mixture.log_std[0].exp(), mixture.slant[0].tanh()
    mean = (weights[:, None] * mixture.mean[0]).sum(0)
    covariance = torch.zeros(2, 2, dtype=torch.float64)
    for k in range(3):
        cross = rho[k] * std[k, 0] * std[k, 1]
        own = torch.stack([torch.stack([std[k, 0] ** 2, cross]), torch.stack([cross, std[k, 1] ** 2])])
        apart = mixture.mean[0, k] - mean
        covariance += weights[k] * (own + torch.outer(apart, apart))
    torch.testing.assert_close(points.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(points.T.cov(), covariance, atol=0.05, rtol=0)


def test_temperature_scales_variances_and_sharpens_weights() -> None:
    mixture = bivariate_mixture(random_raw(4, 3))
    cold = tempered(mixture, 0.25)
    torch.testing.assert_close(cold.log_std.exp() ** 2, 0.25 * mixture.log_std.exp() ** 2)
    torch.testing.assert_close(cold.log_weights, (4 * mixture.log_weights).log_softmax(-1))
    same = tempered(mixture, 1.0)
    torch.testing.assert_close(
        bivariate_log_probs(same, torch.ones(4, 2)), bivariate_log_probs(mixture, torch.ones(4, 2))
    )


def test_extreme_uniform_numbers_give_finite_points() -> None:
    mixture = bivariate_mixture(random_raw(2, 3).float())
    uniform = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert bool(draw_points(mixture, uniform).isfinite().all())


def test_picked_shares_are_the_probabilities() -> None:
    log_probs = torch.tensor([0.1, 0.0, 0.6, 0.3]).log()
    places = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    counts = pick(log_probs.expand(10_000, 4), places).bincount(minlength=4)
    assert counts.tolist() == [1000, 0, 6000, 3000]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="7 numbers are not 6"):
        bivariate_mixture(torch.zeros(2, 7))
    with pytest.raises(ConfigError, match="temperature must be more than 0"):
        tempered(bivariate_mixture(torch.zeros(6)), 0)
    with pytest.raises(ConfigError, match="min_std"):
        bivariate_mixture(torch.zeros(6), -1)
