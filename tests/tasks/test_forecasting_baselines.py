"""Baselines: the contest's own forecast files and table, R's vectors, and brute force as references."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import optimize

from lightning_rnn.errors import DataError
from tasks.forecasting import functional
from tasks.forecasting.baselines import BASELINES, filled, naive2, seasonal_naive, ses, theta
from tasks.forecasting.seasonality import is_seasonal, seasonal_indices
from tasks.forecasting.smoothing import DAMPED, HOLT, SES, Smoothing, smooth

Array = npt.NDArray[np.float64]
DATA = Path(os.environ.get("LIGHTNING_RNN_DATA", "data"))
SEASONS = {"Hourly": 24, "Weekly": 1}
NAMES = {"naive": "Naive", "seasonal_naive": "sNaive", "naive2": "Naive2", "ses": "SES", "theta": "Theta"}
needs_m4 = pytest.mark.skipif(not (DATA / "m4").is_dir(), reason="no m4 in LIGHTNING_RNN_DATA")
NAN = float("nan")


def read(name: str, header: bool = True) -> dict[str, Array]:
    with open(DATA / "m4" / name, newline="") as file:
        rows = list(csv.reader(file))[int(header) :]
    return {row[0]: np.array([float(x) for x in row[1:] if x.strip()]) for row in rows}


def contest(frequency: str) -> tuple[list[Array], Array]:
    test, train = read(f"{frequency}-test.csv"), read(f"{frequency}-train.csv")
    return [train[name] for name in test], np.stack(list(test.values()))


@needs_m4
@pytest.mark.parametrize("frequency", ["Hourly", "Weekly"])
@pytest.mark.parametrize("method", ["naive", "seasonal_naive", "naive2"])
def test_forecasts_equal_the_official_files(method: str, frequency: str) -> None:
    histories, target = contest(frequency)
    files = read(f"point_forecasts/{NAMES[method]}_{frequency}.csv", header=False)
    official = np.stack([files[name] for name in read(f"{frequency}-test.csv")])
    ours = BASELINES[method](histories, target.shape[1], SEASONS[frequency])
    np.testing.assert_allclose(ours, official, rtol=1e-8)
    if method == "naive2" and frequency == "Hourly":
        assert (np.ptp(official, axis=1) > 0).sum() > 300  # seasonal ones


@needs_m4
@pytest.mark.parametrize("frequency", ["Hourly", "Weekly"])
@pytest.mark.parametrize("method", ["ses", "theta"])
def test_fitted_baselines_score_as_in_the_published_table(method: str, frequency: str) -> None:
    histories, target = contest(frequency)
    y, season = torch.from_numpy(target), SEASONS[frequency]
    scale = torch.cat([functional.seasonal_scale(torch.from_numpy(history)[None], season) for history in histories])

    def scores(name: str) -> tuple[float, float]:
        forecast = torch.from_numpy(BASELINES[name](histories, y.shape[1], season))
        return float(functional.smape(forecast, y).mean()), float(functional.mase(forecast, y, scale).mean())

    (smape, mase), (smape2, mase2) = scores(method), scores("naive2")
    with open(DATA / "m4/m4_point_results_by_frequency.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == NAMES[method])
    assert (smape / smape2 + mase / mase2) / 2 == pytest.approx(float(row[f"OWA_{frequency}"]), abs=0.0005)
    assert smape == pytest.approx(float(row[f"sMAPE_{frequency}"]), abs=0.0015)
    assert mase == pytest.approx(float(row[f"MASE_{frequency}"]), abs=0.0015)


@pytest.mark.skipif(not (DATA / "series/gluonts").is_dir(), reason="no series/gluonts in LIGHTNING_RNN_DATA")
def test_naive2_gives_what_r_gives() -> None:
    inputs, outputs = (
        np.genfromtxt(DATA / f"series/gluonts/r_naive_2_{part}.csv", delimiter=",", skip_header=1)
        for part in ("inputs", "outputs")
    )
    # their frequency is 1 (the contest's example): the seasonal path is held by the official hourly file above
    np.testing.assert_allclose(naive2(list(inputs), 6, season=1), outputs, rtol=1e-12)


def squared_error(history: Array, alpha: float, beta: float, phi: float, level: float, trend: float) -> float:
    total = 0.0
    for value in history:
        error = value - level - phi * trend
        level, trend = level + phi * trend + alpha * error, phi * trend + beta * error
        total += error**2
    return float(total)


def own_error(history: Array, kind: Smoothing) -> float:
    """Least squared error that scipy finds from many starts, within R's bounds."""

    def objective(x: Array) -> float:
        beta = max(x[1] * x[0], 1e-4) if kind.parameters > 1 else 0.0
        phi = x[2] if kind.parameters > 2 else float(kind.parameters > 1)
        return squared_error(history, x[0], beta, phi, x[3], x[4] if kind.parameters > 1 else 0.0)

    bounds = [(1e-4, 0.9999), (1e-4, 1), (0.8, 0.98), (None, None), (None, None)]
    starts = [(a, b, p, history[0], 0.1) for a in (0.1, 0.5, 0.9) for b in (0.05, 0.5) for p in (0.85, 0.95)]
    return float(min(optimize.minimize(objective, start, bounds=bounds).fun for start in starts))


@pytest.mark.parametrize("kind", [SES, HOLT, DAMPED], ids=["ses", "holt", "damped"])
def test_smoothing_finds_as_small_an_error_as_a_general_optimizer(
    kind: Smoothing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.forecasting import smoothing

    rng = np.random.default_rng(2)
    histories = [rng.normal(size=n).cumsum() + rng.normal(size=n) + 0.1 * np.arange(n) for n in (40, 25)]
    errors: list[Array] = []
    inner = smoothing._errors

    def spy(*arguments: npt.NDArray[np.generic]) -> tuple[Array, Array, Array]:
        found = inner(*arguments)
        errors.append(found[0].min(1))
        return found

    monkeypatch.setattr(smoothing, "_errors", spy)
    smooth(histories, 1, kind)
    for ours, history in zip(errors[-1], histories, strict=True):
        assert ours <= own_error(history, kind) * 1.002


def test_series_of_different_lengths_are_forecast_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    histories = [rng.normal(size=n).cumsum() + 50 for n in (30, 7, 61, 1, 2)]
    for name in set(BASELINES) - {"linear"}:  # which is one model of all
        together = BASELINES[name](histories, 3, 4)
        alone = np.concatenate([BASELINES[name]([history], 3, 4) for history in histories])
        np.testing.assert_allclose(together, alone, rtol=1e-9, err_msg=name)
        assert np.isfinite(together).all(), name


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_missing_value_is_the_value_before_it(name: str) -> None:
    history = np.array([NAN, NAN, *np.random.default_rng(1).normal(10, 1, 30)])
    history[[9, 10, -1]] = NAN
    whole = history[2:].copy()
    whole[[7, 8]], whole[-1] = whole[6], whole[-2]
    np.testing.assert_array_equal(BASELINES[name]([history], 4, 4), BASELINES[name]([whole], 4, 4))


def test_a_series_without_values_is_named() -> None:
    with pytest.raises(DataError, match="series 1 has no value"):
        filled([np.ones(3), np.full(3, NAN)])
    with pytest.raises(DataError, match="longest history has 3 steps"):
        BASELINES["linear"]([np.ones(3)], 3, 1)


@pytest.mark.parametrize("name", list(BASELINES))
def test_no_forecast_sees_the_scale_of_another_unit(name: str) -> None:
    histories = [np.random.default_rng(3).normal(20, 2, 60) + 5 * np.tile([1.0, 2, 3, 4], 15)]
    forecast = BASELINES[name](histories, 6, 4)
    np.testing.assert_allclose(BASELINES[name]([1000 * histories[0]], 6, 4), 1000 * forecast, rtol=1e-6)


@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_seasons_of_any_sign_are_found_and_put_back(shift: float) -> None:
    history = np.tile([12.0, 15.0, 11.0, 14.0, 10.0], 8) + shift
    for method in (naive2, ses, theta):
        np.testing.assert_allclose(method([history[:-2]], 7, 5)[0], np.tile(history[:5], 3)[3:10], rtol=1e-6)
    assert seasonal_indices(history, 5, additive=True).sum() == pytest.approx(0, abs=1e-9)


def test_seasonality_needs_three_seasons_and_more_than_noise() -> None:
    wave = np.sin(np.arange(48) * np.pi / 6)
    assert is_seasonal(wave, 12)
    assert not is_seasonal(wave[:35], 12)
    assert not is_seasonal(np.ones(48), 12)
    noise = np.random.default_rng(0).normal(size=(400, 60))
    share = np.mean([is_seasonal(row, 6) for row in noise])
    assert 0.04 < share < 0.14  # a test at 90 %


def test_seasonal_naive_of_less_than_a_season_repeats_what_there_is() -> None:
    assert seasonal_naive([np.array([1.0, 2.0])], 5, season=4).tolist() == [[1, 2, 1, 2, 1]]


@needs_m4
@pytest.mark.parametrize("frequency", ["Hourly", "Weekly"])
def test_the_linear_model_beats_naive2(frequency: str) -> None:
    histories, target = contest(frequency)
    y, season = torch.from_numpy(target), SEASONS[frequency]
    errors = [
        float(functional.smape(torch.from_numpy(BASELINES[name](histories, y.shape[1], season)), y).mean())
        for name in ("linear", "naive2")
    ]
    assert errors[0] < 0.95 * errors[1]
