"""Every measure over a set of series equals its formula written with NumPy, missing values left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.forecasting.functional import seasonal_scale
from tasks.forecasting.metrics import Truth, forecast_metrics

SEASON, LEVELS = 3, [0.025, 0.1, 0.5, 0.9, 0.975]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_measures_equal_their_formulas(missing: float) -> None:
    rng = np.random.default_rng(0)
    history, y = rng.normal(50, 9, (5, 40)), rng.normal(50, 9, (5, 8))
    for values in (history, y):
        values[rng.random(values.shape) < missing] = np.nan
    quantiles = np.sort(rng.normal(50, 9, (5, 8, len(LEVELS))), -1)
    point, naive2 = rng.normal(50, 9, (5, 8)), rng.normal(50, 9, (5, 8))

    def mean(values: np.ndarray) -> float:
        """Over the steps of a series, then over the series."""
        return float(np.nanmean(np.nanmean(values, 1)))

    season = np.nanmean(np.abs(history[:, SEASON:] - history[:, :-SEASON]), 1, keepdims=True)
    square = np.nanmean((history[:, 1:] - history[:, :-1]) ** 2, 1)
    low, high = quantiles[..., 0], quantiles[..., -1]
    outside = 40 * np.maximum(low - y, 0) + 40 * np.maximum(y - high, 0)  # 2 / 0.05
    error = y[..., None] - quantiles
    pinball = np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean(-1)
    expected = {
        "mae": mean(np.abs(y - point)),
        "mse": mean((y - point) ** 2),
        "smape": mean(200 * np.abs(y - point) / (np.abs(y) + np.abs(point))),
        "mase": mean(np.abs(y - point) / season),
        "rmsse": float(np.mean(np.sqrt(np.nanmean((y - point) ** 2, 1) / square))),
        "pinball": mean(pinball),
        "crps": 2 * mean(pinball),
        "wql": float(2 * np.nansum(pinball) / np.nansum(np.abs(y))),
        "coverage_95": mean(np.where(np.isnan(y), np.nan, (low <= y) & (y <= high))),
        "msis_95": mean((high - low + outside) / season),
    }
    reference = mean(200 * np.abs(y - naive2) / (np.abs(y) + np.abs(naive2))), mean(np.abs(y - naive2) / season)
    expected["owa"] = (expected["smape"] / reference[0] + expected["mase"] / reference[1]) / 2

    scale, squares = (seasonal_scale(torch.from_numpy(history), *options) for options in ((SEASON,), (1, None, 2)))
    target = torch.from_numpy(y)
    metrics = forecast_metrics(LEVELS)
    forecasts = torch.from_numpy(np.concatenate([point[..., None], quantiles], -1))
    for rows in (slice(0, 2), slice(2, 5)):
        truth = Truth(target, ~target.isnan(), scale, squares, torch.from_numpy(naive2))
        metrics.update(forecasts[rows], Truth(*(values[rows] for values in truth)))
    found = {name: float(value) for name, value in metrics.compute().items()}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
