"""Heads and conformal intervals: scipy's distributions, Monte Carlo and finite differences as references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError
from tasks.forecasting.conformal import Conformal, conformal_quantile
from tasks.forecasting.distributions import Mixture, NegativeBinomial, Normal, StudentT, positive
from tasks.forecasting.head import Head, Point
from tasks.forecasting.heads import HEADS, HeadOptions, build_head
from tasks.forecasting.quantile_heads import ImplicitQuantiles, Quantiles
from tasks.forecasting.special import regularized_beta, student_t_cdf, student_t_quantile

NAN = float("nan")
LEVELS = torch.tensor([0.025, 0.1, 0.3, 0.5, 0.75, 0.9, 0.975], dtype=torch.float64)
HEADS_AND_KINDS: dict[str, Head] = {
    **{name: build_head(name, HeadOptions()) for name in HEADS},
    "point_mse": Point("mse"),
    "point_huber": Point("huber"),
    "quantile_sorted": Quantiles([0.1, 0.5, 0.9], "sorted"),
    "normal_crps": Normal("crps"),
    "student_t_crps": StudentT("crps"),
    "mixture_t": Mixture(2, "student_t"),
}


def batch(head: Head, rows: int = 3, steps: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Raw numbers, counts as targets (some missing), a mask, scale and loc; float64."""
    rng = torch.Generator().manual_seed(7)
    raw = torch.randn(rows, steps, head.size, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 30, (rows, steps), generator=rng).double()
    target[0, 1] = NAN
    mask = torch.ones(rows, steps, dtype=torch.bool)
    mask[1, 2:] = False
    scale = torch.tensor([[2.0], [5.0], [0.5]], dtype=torch.float64)
    loc = torch.tensor([[1.0], [10.0], [-3.0]], dtype=torch.float64)
    return raw, target, mask, scale, torch.zeros_like(loc) if isinstance(head, NegativeBinomial) else loc


def in_double(head: Head) -> Head:
    return head.double()


@pytest.mark.parametrize("name", list(HEADS_AND_KINDS))
def test_the_loss_has_the_gradient_of_finite_differences_and_none_where_nothing_counts(name: str) -> None:
    head = in_double(HEADS_AND_KINDS[name])
    raw, target, mask, scale, loc = batch(head)
    raw.requires_grad_()

    def loss(numbers: Tensor) -> Tensor:
        torch.manual_seed(0)  # iqn draws levels
        return head.loss(numbers, target, mask, scale, loc)

    assert torch.autograd.gradcheck(loss, raw, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss(raw), raw)
    counts = mask & ~target.isnan()
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", list(HEADS_AND_KINDS))
def test_the_loss_is_the_mean_over_the_elements_that_count_whatever_the_others_hold(name: str) -> None:
    head = in_double(HEADS_AND_KINDS[name])
    raw, target, mask, scale, loc = batch(head)
    if name == "iqn":
        assert isinstance(head, ImplicitQuantiles)
        head.draws = 4096  # its loss is a mean over drawn levels
    torch.manual_seed(1)
    whole = head.loss(raw, target, mask, scale, loc)
    spoiled = raw.clone()
    spoiled[1, 2:] = NAN
    spoiled[0, 1] = 1e30
    torch.manual_seed(1)
    assert head.loss(spoiled, target.masked_fill(~mask, -7.5), mask, scale, loc).item() == whole.item()
    single = [
        head.loss(raw[i : i + 1, t : t + 1], target[i : i + 1, t : t + 1], None, scale[i : i + 1], loc[i : i + 1])
        for i in range(3)
        for t in range(4)
        if mask[i, t] and not target[i, t].isnan()
    ]
    assert torch.stack(single).mean().item() == pytest.approx(whole.item(), rel=0.03 if name == "iqn" else 1e-9)
    assert head.loss(raw, torch.full_like(target, NAN), mask, scale, loc).item() == 0


@pytest.mark.parametrize("name", list(HEADS_AND_KINDS))
def test_quantiles_ascend_and_follow_location_and_scale(name: str) -> None:
    head = in_double(HEADS_AND_KINDS[name])
    raw, _, _, scale, loc = batch(head)
    levels = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    values = head.quantiles(raw, levels, scale, loc)
    assert values.shape == (3, 4, 4)
    assert (values.diff(dim=-1) >= 0).all()
    if not isinstance(head, NegativeBinomial):
        unit = head.quantiles(raw, levels, torch.ones_like(scale), torch.zeros_like(loc))
        assert torch.allclose(values, loc.unsqueeze(-1) + scale.unsqueeze(-1) * unit)
    assert head.mean(raw, scale, loc).shape == (3, 4)


@pytest.mark.parametrize("name", [name for name in HEADS_AND_KINDS if not name.startswith("point")])
def test_draws_have_the_quantiles_and_the_mean_of_the_head(name: str) -> None:
    head = in_double(HEADS_AND_KINDS[name])
    raw, _, _, scale, loc = batch(head)
    count, levels = 20_000, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    draws = head.sample(raw, count, scale, loc, torch.Generator().manual_seed(3))
    assert draws.shape == (3, 4, count)
    quantiles = head.quantiles(raw, levels, scale, loc)
    below = (draws.unsqueeze(-1) < quantiles.unsqueeze(-2) - 1e-9).double().mean(-2)
    up_to = (draws.unsqueeze(-1) <= quantiles.unsqueeze(-2) + 1e-9).double().mean(-2)
    noise = 4.5 * (levels * (1 - levels) / count).sqrt()  # standard errors
    if name != "iqn":  # which may cross, untrained
        assert (below <= levels + noise).all()
        assert (up_to >= levels - noise).all()
    if name not in ("quantile", "quantile_sorted", "iqn", "student_t", "student_t_crps", "mixture_t"):
        error = draws.std(-1) / count**0.5
        assert ((draws.mean(-1) - head.mean(raw, scale, loc)).abs() < 4.5 * error).all()
    again = head.sample(raw, count, scale, loc, torch.Generator().manual_seed(3))
    assert torch.equal(draws, again)


def test_normal_and_student_t_are_those_of_scipy() -> None:
    for head in (Normal(), StudentT()):
        raw, target, _, scale, loc = batch(head)
        target = target.nan_to_num(4)
        mu, sigma = raw[..., 0].numpy(), positive(raw[..., 1]).numpy()
        law = stats.norm(mu, sigma) if head.size == 2 else stats.t(2 + np.logaddexp(0, raw[..., 2].numpy()), mu, sigma)
        z = ((target - loc) / scale).numpy()
        np.testing.assert_allclose(head.elements(raw, target, scale, loc).numpy(), -law.logpdf(z), rtol=1e-10)
        for place, level in enumerate(LEVELS.tolist()):
            expected = loc.numpy() + scale.numpy() * law.ppf(level)
            got = head.quantiles(raw, LEVELS, scale, loc)[..., place]
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-8, atol=1e-8)


def test_negative_binomial_is_that_of_scipy() -> None:
    head = NegativeBinomial()
    raw, target, _, scale, loc = batch(head)
    target = target.nan_to_num(4)
    mean = positive(raw[..., 0]) * scale
    alpha = positive(raw[..., 1]) / scale.sqrt()
    law = stats.nbinom((1 / alpha).numpy(), (1 / (1 + alpha * mean)).numpy())
    np.testing.assert_allclose(head.elements(raw, target, scale, loc).numpy(), -law.logpmf(target.numpy()), rtol=1e-9)
    np.testing.assert_allclose(head.mean(raw, scale, loc).numpy(), law.mean(), rtol=1e-10)
    for factor in (1.0, 300.0):  # large counts
        law = stats.nbinom((1 / alpha * factor**0.5).numpy(), (1 / (1 + alpha * mean * factor**0.5)).numpy())
        expected = np.stack([law.ppf(level) for level in LEVELS.tolist()], -1)
        np.testing.assert_array_equal(head.quantiles(raw, LEVELS, scale * factor, loc).numpy(), expected)


def test_mixtures_are_the_weighted_sum_of_their_parts() -> None:
    for family, law in (("normal", stats.norm()), ("student_t", None)):
        head = Mixture(3, "normal" if family == "normal" else "student_t")
        raw, target, _, scale, loc = batch(head)
        target = target.nan_to_num(4)
        part = raw.unflatten(-1, (3, -1)).numpy()
        weight = special.softmax(part[..., 0], -1)
        freedom = None if law else 2 + np.logaddexp(0, part[..., 3])
        each = law if law else stats.t(freedom)
        mu, sigma = part[..., 1], np.logaddexp(0, part[..., 2]) + 1e-4
        z = ((target - loc) / scale).numpy()[..., None]
        log_density = special.logsumexp(each.logpdf((z - mu) / sigma) - np.log(sigma), -1, weight)
        np.testing.assert_allclose(head.elements(raw, target, scale, loc).numpy(), -log_density, rtol=1e-9)
        quantiles = ((head.quantiles(raw, LEVELS, scale, loc) - loc[..., None]) / scale[..., None]).numpy()
        for place, level in enumerate(LEVELS.tolist()):
            below = (weight * each.cdf((quantiles[..., place, None] - mu) / sigma)).sum(-1)
            np.testing.assert_allclose(below, level, atol=1e-9)


@pytest.mark.parametrize("df", [1.0, 2.0, 3.7, 40.0, 1000.0])
def test_student_t_and_the_beta_function_equal_scipy(df: float) -> None:
    z = torch.tensor([-50.0, -3.0, -1e-3, 0.0, 0.5, 2.0, 200.0], dtype=torch.float64)
    freedom = torch.tensor(df, dtype=torch.float64)
    np.testing.assert_allclose(student_t_cdf(z, freedom).numpy(), stats.t(df).cdf(z.numpy()), atol=1e-13)
    levels = torch.tensor([1e-6, 0.01, 0.4999, 0.5, 0.9, 0.99999], dtype=torch.float64)
    got = student_t_quantile(levels, freedom).numpy()
    np.testing.assert_allclose(got, stats.t(df).ppf(levels.numpy()), rtol=1e-8, atol=1e-9)
    x = torch.tensor([0.0, 1e-9, 0.2, 0.5, 0.97, 1.0], dtype=torch.float64)
    for b in (0.3, 5.0, 3e4):
        got = regularized_beta(freedom, torch.tensor(b), x).numpy()
        np.testing.assert_allclose(got, special.betainc(df, float(np.float32(b)), x.numpy()), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("monotone", ["cumulative", "sorted"])
def test_training_quantiles_on_draws_finds_their_quantiles(monotone: str) -> None:
    levels = [0.1, 0.4, 0.5, 0.9]
    head = Quantiles(levels, "cumulative" if monotone == "cumulative" else "sorted")
    y = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=(4001, 1)))
    one = torch.ones(1, 1, dtype=torch.float64)

    def objective(raw: np.ndarray) -> float:
        numbers = torch.from_numpy(raw).expand(4001, 1, 4)
        return head.loss(numbers, y, None, one, 0 * one).item()

    best = optimize.minimize(objective, np.array([0.1, 0.2, 0.3, 0.4]), method="Nelder-Mead", options={"maxiter": 4000})
    found = head.at_levels(torch.from_numpy(best.x).view(1, 1, 4)).flatten()
    np.testing.assert_allclose(found.numpy(), np.quantile(y.numpy(), levels), atol=0.03)


def test_an_implicit_quantile_network_learns_a_distribution() -> None:
    torch.manual_seed(0)
    head = ImplicitQuantiles(size=16, cosines=32, draws=16)
    raw = torch.nn.Parameter(torch.randn(1, 1, 16))
    one = torch.ones(1, 1)
    optimizer = torch.optim.Adam([raw, *head.parameters()], lr=0.02)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=600)
    for _ in range(600):
        optimizer.zero_grad()
        y = torch.randn(256, 1) * 2 + 1
        head.loss(raw.expand(256, 1, 16), y, None, one, 0 * one).backward()
        optimizer.step()
        decay.step()
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    got = head.quantiles(raw, levels, one, 0 * one).flatten().detach().numpy()
    np.testing.assert_allclose(got, stats.norm(1, 2).ppf(levels.numpy()), atol=0.2)


def test_levels_beyond_those_of_a_quantile_head_are_refused() -> None:
    head, one = Quantiles([0.1, 0.5, 0.9]), torch.ones(1, 1)
    with pytest.raises(ConfigError, match=r"0\.05 to 0\.5 are wanted, the head was trained for 0\.1 to 0\.9"):
        head.quantiles(torch.zeros(1, 1, 3), torch.tensor([0.05, 0.5]), one, one)
    for levels in ([], [0.5, 0.1], [0.6, 0.9], [0.0, 0.5]):
        with pytest.raises(ConfigError, match="quantile levels"):
            Quantiles(levels)
    with pytest.raises(ConfigError, match="no head 'gauss'"):
        build_head("gauss", HeadOptions())


def test_counts_are_whole_and_their_windows_not_shifted() -> None:
    head, one = NegativeBinomial(), torch.ones(1, 1)
    for wrong in (0.5, -1.0):
        with pytest.raises(DataError, match=f"forecasts counts, the target has {wrong:g}"):
            head.loss(torch.zeros(1, 1, 2), torch.tensor([[wrong]]), None, one, 0 * one)
    with pytest.raises(ConfigError, match="scaled alone"):
        head.loss(torch.zeros(1, 1, 2), one, None, one, one)


def coverage_of(conformal: Conformal, point: Tensor, y: Tensor, scale: Tensor | None = None) -> Tensor:
    lower, upper = conformal.around(point, scale=scale)
    inside = (lower <= y.unsqueeze(-1)) & (y.unsqueeze(-1) <= upper)
    return inside.double().mean((0, 1))


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_coverage_on_exchangeable_data_is_the_level_and_at_most_a_rank_more(asymmetric: bool, scaled: bool) -> None:
    # over many calibration sets: E coverage = rank / (n + 1), in [level, level + 1/(n + 1)] a side
    rng = torch.Generator().manual_seed(0)
    n, horizon, repeats = 60, 3, 400
    levels, got = [0.8, 0.95], []
    for _ in range(repeats):
        size = torch.rand(n + 200, generator=rng) + 0.1
        noise = (torch.rand(n + 200, horizon, generator=rng).log() * size.unsqueeze(1)).double()  # skewed
        scale = size.double() if scaled else None
        conformal = Conformal.of_residuals(noise[:n], levels, None if scale is None else scale[:n], asymmetric)
        point = torch.zeros(200, horizon, dtype=torch.float64)
        got.append(coverage_of(conformal, point, noise[n:], None if scale is None else scale[n:]))
    mean, error = torch.stack(got).mean(0), torch.stack(got).std(0) / repeats**0.5
    for place, level in enumerate(levels):
        sides = 2 if asymmetric else 1
        assert level - 4 * error[place] <= mean[place] <= level + sides / (n + 1) + 4 * error[place]


def test_each_step_of_the_horizon_has_its_own_width_and_scaled_intervals_follow_the_scale() -> None:
    residuals = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0])
    conformal = Conformal.of_residuals(residuals, [0.9])
    assert conformal.above.flatten().numpy() == pytest.approx([1.645, 3 * 1.645], rel=0.1)
    lower, upper = conformal.around(torch.zeros(2, 2), scale=torch.tensor([1.0, 10.0]))
    assert torch.allclose(upper[1], 10 * upper[0])
    assert torch.allclose(lower, -upper)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_conformalized_quantiles_mend_too_narrow_and_too_wide_heads(asymmetric: bool) -> None:
    rng = torch.Generator().manual_seed(4)
    y = torch.randn(4000, 1, generator=rng, dtype=torch.float64)
    for wrong in (0.3, 3.0):
        ends = torch.full((4000, 1, 1), 1.2816 * wrong, dtype=torch.float64)
        conformal = Conformal.of_quantiles(-ends[:2000], ends[:2000], y[:2000], [0.8], asymmetric=asymmetric)
        lower, upper = conformal.around(-ends[2000:], ends[2000:])
        inside = (lower <= y[2000:, :, None]) & (y[2000:, :, None] <= upper)
        assert inside.double().mean().item() == pytest.approx(0.8, abs=0.03)
        assert upper.mean().item() == pytest.approx(1.2816, abs=0.12)


def test_the_rank_is_that_of_the_theorem_and_missing_residuals_do_not_count() -> None:
    scores = torch.arange(1.0, 21.0).flip(0).unsqueeze(1).repeat(1, 2)
    scores[:10, 1] = NAN  # leaves 1 ... 10
    assert conformal_quantile(scores, 0.8).tolist() == [17, 9]  # ceil(21 * .8), ceil(11 * .8)
    with pytest.raises(
        DataError, match=r"step 2 of the horizon has 10 errors to calibrate with, a level of 0\.95 needs 19"
    ):
        conformal_quantile(scores, 0.95)
    assert conformal_quantile(scores[1:, :1], 0.95).item() == 19
    with pytest.raises(ConfigError, match="level of 80"):
        Conformal.of_residuals(scores, [80])


def test_a_calibration_is_loaded_from_plain_tensors(tmp_path: Path) -> None:
    conformal = Conformal.of_residuals(torch.randn(50, 3), [0.5, 0.8], asymmetric=True)
    torch.save(conformal.tensors(), tmp_path / "c.pt")
    loaded = Conformal.from_tensors(torch.load(tmp_path / "c.pt", weights_only=True))
    for ours, theirs in zip(conformal.around(torch.ones(2, 3)), loaded.around(torch.ones(2, 3)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_head_has_no_buffer_in_its_state() -> None:
    assert build_head("quantile", HeadOptions()).state_dict() == {}
    assert set(build_head("iqn", HeadOptions()).state_dict()) == {
        "embedding.weight",
        "embedding.bias",
        "output.weight",
        "output.bias",
    }
