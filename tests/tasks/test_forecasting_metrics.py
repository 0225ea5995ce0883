"""Metrics: M4's published table from its official forecast files, independent references, batches and processes."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from scipy import integrate, stats
from torch import Tensor

from tasks.forecasting import functional, probabilistic
from tasks.forecasting.metrics import SeriesMean, Truth, forecast_metrics

FOLDER = Path(os.environ.get("LIGHTNING_RNN_DATA", "data")) / "m4"
SEASONS = {"Hourly": 24, "Weekly": 1}
NAN = float("nan")
OFFICIAL = [
    ("024", "Hourly"),
    ("024", "Weekly"),
    ("Naive2", "Hourly"),
    ("Naive2", "Weekly"),
    ("Naive", "Hourly"),
    ("Naive", "Weekly"),
    ("SES", "Hourly"),
    ("SES", "Weekly"),
    ("sNaive", "Hourly"),
    ("sNaive", "Weekly"),
]
needs_m4 = pytest.mark.skipif(not FOLDER.is_dir(), reason="no m4 in LIGHTNING_RNN_DATA")


def read(name: str, header: bool = True) -> dict[str, Tensor]:
    """Series of one of M4's wide files."""
    with open(FOLDER / name, newline="") as file:
        rows = list(csv.reader(file))[int(header) :]
    return {row[0]: torch.tensor([float(x) for x in row[1:] if x.strip()], dtype=torch.float64) for row in rows}


def official(method: str, frequency: str) -> Tensor:
    forecasts = read(f"point_forecasts/{method}_{frequency}.csv", header=False)
    return torch.stack([forecasts[name] for name in read(f"{frequency}-test.csv")])


def published(method: str) -> dict[str, str]:
    with open(FOLDER / "m4_point_results_by_frequency.csv", newline="") as file:
        return next(row for row in csv.DictReader(file) if row["method"].lstrip("0") == method.lstrip("0"))


def truth_of(frequency: str) -> Truth:
    test, train = read(f"{frequency}-test.csv"), read(f"{frequency}-train.csv")
    target = torch.stack(list(test.values()))
    scales = [functional.seasonal_scale(train[name][None], SEASONS[frequency]) for name in test]
    squares = [functional.seasonal_scale(train[name][None], 1, power=2) for name in test]
    whole = torch.ones_like(target, dtype=torch.bool)
    return Truth(target, whole, torch.cat(scales), torch.cat(squares), official("Naive2", frequency))


def printed(value: Tensor, text: str) -> str:
    """The value with as many decimals as the table prints."""
    decimals = len(text.partition(".")[2])
    return f"{float(value):.{decimals}f}".rstrip("0").rstrip(".") if "." in text else f"{float(value):.0f}"


@needs_m4
@pytest.mark.parametrize(("method", "frequency"), OFFICIAL)
def test_official_forecasts_have_their_published_scores_to_every_printed_digit(method: str, frequency: str) -> None:
    truth, row = truth_of(frequency), published(method)
    forecast = official(method, frequency)
    smape = functional.mean_over_series(functional.smape(forecast, truth.target))
    mase = functional.mean_over_series(functional.mase(forecast, truth.target, truth.scale))
    assert printed(smape, row[f"sMAPE_{frequency}"]) == row[f"sMAPE_{frequency}"]
    assert printed(mase, row[f"MASE_{frequency}"]) == row[f"MASE_{frequency}"]
    # the table's OWA, 15 digits of it, is that of the rounded scores of the table
    base = published("Naive2")
    ours = {"sMAPE": round(float(smape), 3), "MASE": round(float(mase), 3)}
    rounded = [ours[name] / float(base[f"{name}_{frequency}"]) for name in ours]
    assert sum(rounded) / 2 == pytest.approx(float(row[f"OWA_{frequency}"]), abs=1e-14)
    metrics = forecast_metrics()
    metrics.update(forecast.unsqueeze(-1), truth)
    computed = metrics.compute()
    assert float(computed["owa"]) == pytest.approx(float(row[f"OWA_{frequency}"]), abs=3e-4)
    assert printed(computed["smape"], row[f"sMAPE_{frequency}"]) == row[f"sMAPE_{frequency}"]


@needs_m4
def test_naive2_daily_has_its_published_smape() -> None:
    test = read("Daily-test.csv")
    forecasts = read("point_forecasts/Naive2_Daily.csv", header=False)
    values = [functional.smape(forecasts[name][None], test[name][None]) for name in test]
    assert printed(torch.cat(values).mean(), published("Naive2")["sMAPE_Daily"]) == published("Naive2")["sMAPE_Daily"]


@needs_m4
@pytest.mark.parametrize(("frequency", "loss"), [("Hourly", 0.0483), ("Weekly", 0.0634)])
def test_weighted_quantile_loss_of_seasonal_naive_is_that_of_the_chronos_table(frequency: str, loss: float) -> None:
    quantiles = official("sNaive", frequency).unsqueeze(-1).expand(-1, -1, 9)
    levels = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    value = probabilistic.weighted_quantile_loss(quantiles, truth_of(frequency).target, levels)
    assert round(float(value), 4) == loss


def random_batch(series: int = 11, horizon: int = 6, quantiles: int = 5) -> tuple[Tensor, Truth]:
    rng = torch.Generator().manual_seed(5)
    target = torch.randn(series, horizon, generator=rng, dtype=torch.float64)
    target[torch.rand(series, horizon, generator=rng) < 0.2] = NAN
    target[3] = NAN
    mask = torch.rand(series, horizon, generator=rng) < 0.9
    scale = torch.rand(series, generator=rng, dtype=torch.float64) + 0.1
    scale[5] = 0  # a constant history: no MASE
    naive2 = torch.randn(series, horizon, generator=rng, dtype=torch.float64)
    predictions = torch.randn(series, horizon, 1 + quantiles, generator=rng, dtype=torch.float64)
    return predictions, Truth(target, mask, scale, scale**2, naive2)


def test_missing_steps_are_as_if_they_were_not_there() -> None:
    predictions, truth = random_batch()
    forecast = predictions[..., 0]
    for i in range(len(forecast)):
        keep = truth.mask[i] & ~truth.target[i].isnan()
        f, y = forecast[i, keep].numpy(), truth.target[i, keep].numpy()
        if not keep.any():
            assert functional.smape(forecast, truth.target, truth.mask)[i].isnan()
            continue
        percent = np.mean(200 * abs(y - f) / (abs(y) + abs(f)))
        assert float(functional.smape(forecast, truth.target, truth.mask)[i]) == pytest.approx(percent, rel=1e-12)
        assert float(functional.mae(forecast, truth.target, truth.mask)[i]) == pytest.approx(abs(y - f).mean())
        assert float(functional.mse(forecast, truth.target, truth.mask)[i]) == pytest.approx(((y - f) ** 2).mean())


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("season", [1, 4])
def test_the_scale_is_over_pairs_that_are_there_whatever_the_padding(season: int, padding: str) -> None:
    history = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    history[4] = NAN
    pairs = [abs(float(history[t] - history[t - season])) for t in range(season, 9)]
    expected = np.nanmean(pairs)
    blank = torch.full((7,), 9.9, dtype=torch.float64)
    parts, real = [history, blank], [torch.ones(9), torch.zeros(7)]
    if padding == "left":
        parts.reverse(), real.reverse()
    scale = functional.seasonal_scale(torch.cat(parts)[None], season, torch.cat(real).bool()[None])
    assert float(scale) == pytest.approx(expected, rel=1e-12)
    assert functional.seasonal_scale(history[None, :season], season).isnan().all()


def test_nothing_over_nothing_is_no_error_and_a_forecast_that_is_no_number_an_infinite_one() -> None:
    zero = torch.zeros(1, 2)
    assert functional.smape(zero, zero).item() == 0
    broken = torch.tensor([[NAN, 0.0]])
    for error in (functional.smape, functional.mae, functional.mse, functional.huber):
        assert error(broken, zero).item() == math.inf
        assert error(broken, zero, torch.tensor([[False, True]])).item() == 0
    judge = SeriesMean(lambda predictions, truth: functional.mae(predictions[..., 0], truth.target, truth.mask))
    judge.update(broken.unsqueeze(-1), Truth(zero, zero == 0, torch.ones(1), torch.ones(1), zero))
    assert judge.compute().item() == math.inf


def losses(levels: Tensor) -> dict[str, object]:
    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)
    y = torch.tensor([[1.0, NAN, 3.0], [0.5, -2.0, 0.0]], dtype=torch.float64)
    spread = torch.tensor([-1.0, 0.0, 0.4], dtype=torch.float64)
    return {
        "mae": lambda f: functional.mae(f, y),
        "mse": lambda f: functional.mse(f, y),
        "huber": lambda f: functional.huber(f, y, delta=0.7),
        "smape": lambda f: functional.smape(f, y),
        "mase": lambda f: functional.mase(f, y, scale, smallest_scale=0.01),
        "rmsse": lambda f: functional.rmsse(f, y, scale),
        "owa": lambda f: functional.owa(f, y, scale, (10.0, 2.0)),
        "pinball": lambda f: probabilistic.pinball(f.unsqueeze(-1) + spread, y, levels),
        "wql": lambda f: probabilistic.weighted_quantile_loss(f.unsqueeze(-1) + spread, y, levels),
        "crps_samples": lambda f: probabilistic.crps_samples(f.unsqueeze(-1) * (1 + spread), y),
        "crps_normal": lambda f: probabilistic.crps_normal(f),
        "crps_student_t": lambda f: probabilistic.crps_student_t(f, 2.5 + f.square()),
        "msis": lambda f: probabilistic.msis(f, f + 0.3, y, scale, 0.8),
    }


@pytest.mark.parametrize("name", list(losses(torch.zeros(3))))
def test_losses_have_the_gradient_of_finite_differences(name: str) -> None:
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    forecast = torch.tensor([[0.3, 0.7, 2.2], [1.7, -1.1, 0.6]], dtype=torch.float64, requires_grad=True)
    loss = losses(levels)[name]
    assert callable(loss)
    assert torch.autograd.gradcheck(loss, forecast)


def test_gradients_are_finite_where_forecast_and_target_are_zero_or_missing() -> None:
    target = torch.tensor([[0.0, NAN, 0.0], [NAN, NAN, NAN]])
    scale = torch.tensor([0.0, 1.0])
    for loss in (
        lambda f: functional.smape(f, target),
        lambda f: functional.mase(f, target, scale, smallest_scale=0.1),
        lambda f: functional.rmsse(f, target, scale),
        lambda f: functional.owa(f, target, scale, (1.0, 1.0)),
    ):
        forecast = torch.zeros(2, 3, requires_grad=True)
        functional.mean_over_series(loss(forecast)).backward()
        assert forecast.grad is not None
        assert forecast.grad.isfinite().all()


def test_a_tiny_scale_is_bounded_by_the_size_of_the_target() -> None:
    forecast, target, scale = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([1e-9])
    assert functional.mase(forecast, target, scale).item() > 1e8
    assert functional.mase(forecast, target, scale, smallest_scale=0.01).item() == pytest.approx(100)


@pytest.mark.parametrize("z", [-3.0, -0.2, 0.0, 0.9, 4.0])
def test_closed_forms_of_crps_equal_their_integral(z: float) -> None:
    for name, law in (("normal", stats.norm()), ("t3", stats.t(3)), ("t30", stats.t(30.5))):
        below = integrate.quad(lambda x, law=law: law.cdf(x) ** 2, -np.inf, z)[0]
        above = integrate.quad(lambda x, law=law: law.sf(x) ** 2, z, np.inf)[0]
        at = torch.tensor(z, dtype=torch.float64)
        df = torch.tensor(3.0 if name == "t3" else 30.5, dtype=torch.float64)
        value = probabilistic.crps_normal(at) if name == "normal" else probabilistic.crps_student_t(at, df)
        assert float(value) == pytest.approx(below + above, abs=1e-7), name


def test_crps_of_samples_is_the_mean_over_all_pairs_and_that_of_many_quantiles_the_same() -> None:
    samples = torch.randn(2, 3, 199, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([[0.3, NAN, -2.0], [0.0, 1.0, 5.0]], dtype=torch.float64)
    apart = (samples.unsqueeze(-1) - samples.unsqueeze(-2)).abs().mean((-1, -2))
    expected = ((samples - target.unsqueeze(-1)).abs().mean(-1) - apart / 2).nanmean(1)
    assert torch.allclose(probabilistic.crps_samples(samples, target), expected, atol=1e-12)
    levels = (torch.arange(199) + 0.5) / 199
    by_quantiles = probabilistic.crps_quantiles(samples.sort(-1).values, target, levels.double())
    assert torch.allclose(by_quantiles, expected, atol=1e-12)


def test_metrics_of_batches_and_merged_processes_equal_those_of_the_whole() -> None:
    predictions, truth = random_batch()
    levels = [0.025, 0.1, 0.5, 0.9, 0.975]
    whole, first, second = (forecast_metrics(levels) for _ in range(3))
    whole.update(predictions, truth)
    for metrics, start, stop in ((first, 0, 3), (first, 3, 4), (second, 4, 11)):
        metrics.update(predictions[start:stop], Truth(*(part[start:stop] for part in truth)))
    expected = whole.compute()
    for name, metric in first.items():
        metric.merge_state(second[name])
        assert metric.compute().item() == pytest.approx(expected[name].item(), rel=1e-6), name
    assert {"msis_95", "coverage_95", "msis_80", "coverage_80"} <= set(expected)
    assert all(value.isfinite() for value in expected.values())


def one_process(rank: int, folder: str) -> None:
    """One of two: the even or the odd series."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    predictions, truth = random_batch()
    metrics = forecast_metrics([0.1, 0.5, 0.9])
    metrics.update(predictions[rank::2, :, :4], Truth(*(part[rank::2] for part in truth)))
    torch.save(metrics.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.start_processes(one_process, (str(tmp_path),), nprocs=2, start_method="fork")
    predictions, truth = random_batch()
    metrics = forecast_metrics([0.1, 0.5, 0.9])
    metrics.update(predictions[..., :4], truth)
    for rank in (0, 1):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in metrics.compute().items():
            assert got[name].item() == pytest.approx(value.item(), rel=1e-6), name


def test_owa_of_naive2_is_one_and_skips_what_is_not_defined_on_both_sides() -> None:
    _, truth = random_batch()
    metrics = forecast_metrics()
    metrics.update(truth.naive2.unsqueeze(-1), truth)
    assert metrics.compute()["owa"].item() == 1
    assert metrics["smape"].series.item() == 10  # one has no target at all
    assert metrics["mase"].series.item() == 9  # and one no scale
