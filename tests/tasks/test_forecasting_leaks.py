"""What forecasts depend on: the last steps of a series and what is declared as known; nothing else changes a bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars
import pytest
import torch
from torch import Tensor

from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.frames import from_arrays, from_frame
from tasks.forecasting.long_format import Layout
from tasks.forecasting.panel import Panel
from tasks.forecasting.source import GivenSeries

HORIZON, LOOKBACK, STEPS = 4, 12, 60
NETWORKS = [
    {"decode": "segment", "head": "quantile"},
    {"decode": "direct", "head": "normal", "scale": "robust"},
    {"decode": "recursive", "head": "student_t", "samples": 5},
]


def table(y: np.ndarray, past: np.ndarray, future: np.ndarray, names: tuple[str, ...] = ("a", "b")) -> Panel:
    """Series of 60 steps, known for four more; a NaN is a missing value."""
    rows = len(y[0])
    frame = polars.DataFrame(
        {
            "unique_id": np.repeat(names, rows),
            "ds": np.tile(np.arange(rows), len(names)),
            "y": y.ravel(),
            "past": past.ravel(),
            "future": future.ravel(),
            "shop": np.repeat(["north", "south"], rows),
        }
    ).fill_nan(None)
    return from_frame(frame, Layout(categories=["shop"], past=["past"], future=["future"]), season=4)


def columns() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    y, past, future = (50 + rng.normal(size=(2, STEPS + HORIZON)).cumsum(1) for _ in range(3))
    y[:, STEPS:] = np.nan
    y[0, 50:53] = past[:, STEPS:] = np.nan
    return [y, past, future]


def built(panel: Panel, **options: Any) -> Forecaster:
    data = ForecastingData(GivenSeries(panel), horizon=HORIZON, lookback=LOOKBACK)
    data.setup("fit")
    model = Forecaster(hidden_size=8, **options)
    model.spec = data.spec
    model.configure_model()
    with torch.no_grad():  # the skip starts at zero, and would hide what reaches it
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def without_past(panel: Panel) -> Panel:
    return replace(panel, past=None)


def usable(panel: Panel, options: dict[str, Any]) -> Panel:
    """A recursive network takes no past columns."""
    return without_past(panel) if options["decode"] == "recursive" else panel


def test_values(model: Forecaster, panel: Panel, rest: Panel) -> Tensor:
    """The forecasts that a test of the datamodule measures."""
    data = ForecastingData(GivenSeries(panel, rest), horizon=HORIZON, lookback=LOOKBACK)
    data.spec = model.spec
    data.setup("test")
    with torch.no_grad():
        model.eval()
        return torch.as_tensor(model.step(next(iter(data.test_dataloader()))).predictions)


test_values.__test__ = False  # type: ignore[attr-defined]  # no test


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["decode"])
def test_the_truth_behind_the_origin_changes_no_forecast(options: dict[str, Any]) -> None:
    y, past, future = columns()
    whole = usable(table(np.nan_to_num(y, nan=7.0), np.nan_to_num(past, nan=7.0), future), options)
    head, tail = whole.split(HORIZON)
    model = built(head, **options)
    expected = test_values(model, head, tail)
    rng = np.random.default_rng(1)
    shuffled = replace(tail.y, values=tail.y.values[torch.from_numpy(rng.permutation(len(tail.y.values)))])
    other = replace(tail, y=shuffled)
    if tail.past is not None:
        other = replace(other, past=replace(tail.past, rows=replace(tail.past.rows, values=-5 * tail.past.rows.values)))
    assert torch.equal(test_values(model, head, other), expected)
    assert torch.equal(model.forecast_values(head), expected)


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["decode"])
def test_what_is_declared_as_known_counts_and_only_over_the_horizon(options: dict[str, Any]) -> None:
    y, past, future = columns()
    panel = usable(table(y, past, future), options)
    model = built(panel, **options)
    expected = model.forecast_values(panel)
    moved = future.copy()
    moved[:, -1] += 9
    assert not torch.equal(model.forecast_values(usable(table(y, past, moved), options)), expected)
    longer = [np.concatenate([column, np.full((2, 3), fill)], 1) for column, fill in zip((y, past, future), (np.nan, np.nan, 99.0), strict=True)]  # fmt: skip # noqa: E501
    assert torch.equal(model.forecast_values(usable(table(*longer), options)), expected)


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["decode"])
def test_steps_before_the_lookback_change_no_forecast(options: dict[str, Any]) -> None:
    y, past, future = columns()
    model = built(usable(table(y, past, future), options), **options)
    expected = model.forecast_values(usable(table(y, past, future), options))
    for column in (y, past, future):
        column[:, : STEPS - LOOKBACK] *= -3
    assert torch.equal(model.forecast_values(usable(table(y, past, future), options)), expected)


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["decode"])
def test_missing_steps_in_front_of_a_series_change_no_forecast(options: dict[str, Any]) -> None:
    short = np.random.default_rng(0).normal(50, 3, size=7)
    long = np.random.default_rng(1).normal(50, 3, size=40)
    model = built(from_arrays([long, long[::-1]], season=4), **options)
    expected = model.forecast_values(from_arrays([short], season=4))
    for padding in (1, 3, 20):
        padded = np.concatenate([np.full(padding, np.nan), short])
        assert torch.equal(model.forecast_values(from_arrays([padded], season=4)), expected), padding


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["decode"])
def test_company_and_order_change_no_forecast(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    panel = from_arrays([rng.normal(50, 3, size=length) for length in (40, 5, 13, 60, 2, 1)], season=4)
    model = built(panel, **options)
    if options["decode"] == "recursive":  # draws are a batch's own: the point alone, which has none
        model = built(panel, decode="recursive")
    expected = model.forecast_values(panel)
    torch.testing.assert_close(model.forecast_values(panel, batch_size=1), expected)
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    torch.testing.assert_close(model.forecast_values(panel.select(order)), expected[order])


def test_what_stands_at_a_missing_step_is_not_seen() -> None:
    y, past, future = columns()
    model = built(table(y, past, future), decode="segment")
    expected = model.forecast_values(table(y, past, future))
    other = y.copy()
    other[0, 50:53] = 0.0
    assert not torch.equal(model.forecast_values(table(other, past, future)), expected)  # a zero is a value
    absent = table(y, past, future)
    assert absent.y[0][50:53].isnan().all()
