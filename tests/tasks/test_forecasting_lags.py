"""Lagged values of recursive networks: those of the right steps, in training and where they are their own forecasts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch
from tasks.forecasting import Forecaster
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.panel import Panel
from tasks.forecasting.prepare import to_series
from tasks.forecasting.recursive import RecursiveNetwork, lagged
from tasks.forecasting.spec import ForecastSpec
from tasks.forecasting.windows import Origins, PanelWindows

HORIZON, LOOKBACK = 6, 12
SPEC = ForecastSpec(horizon=HORIZON, lookback=LOOKBACK, season=4, positive=True)
LAGS = [4, 2, 12]


def model_of(spec: ForecastSpec = SPEC, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    model = Forecaster(**{"decode": "recursive", "hidden_size": 8, "lags": LAGS, **options})
    model.spec = spec
    model.configure_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def panel_of(*lengths: int, missing: bool = False) -> Panel:
    rng = np.random.default_rng(0)
    series = [50 + rng.normal(size=length).cumsum() for length in lengths]
    if missing:
        for one in series:
            one[rng.random(len(one)) < 0.25] = np.nan
    return from_arrays(series, season=4)


def batch_of(panel: Panel, ends: list[int], spec: ForecastSpec = SPEC) -> SequenceBatch:
    origins = Origins(torch.tensor(ends), torch.ones(len(ends), dtype=torch.int64))
    return PanelWindows(to_series(panel, spec), spec, origins).__getitems__(list(range(len(ends))))


@torch.no_grad()
def forecasts(model: Forecaster, panel: Panel, ends: list[int]) -> Tensor:
    return model._forecasts(batch_of(panel, ends))[0]


def network_of(model: Forecaster) -> RecursiveNetwork:
    network = model.network.first
    assert isinstance(network, RecursiveNetwork)
    return network


def fed(network: RecursiveNetwork) -> list[Tensor]:
    """What enters the recurrent layers from now on, call by call."""
    calls: list[Tensor] = []
    network.rnn.register_forward_pre_hook(lambda _, given: calls.append(given[0].detach()))
    return calls


def test_a_lag_counts_from_the_step_that_is_forecast() -> None:
    rng = np.random.default_rng(0)
    z, valid = rng.normal(size=(3, 20)), rng.random((3, 20)) < 0.7
    found = lagged(torch.from_numpy(np.where(valid, z, 0)), torch.from_numpy(valid), [1, 3, 20]).numpy()
    for row in range(3):
        for step in range(20):
            places = [step + 1 - lag for lag in (1, 3, 20)]
            there = [place >= 0 and valid[row, place] for place in places]
            values = [z[row, place] if ok else 0 for place, ok in zip(places, there, strict=True)]
            np.testing.assert_array_equal(found[row, step], [*values, *there])


def test_lags_longer_than_the_steps_are_missing() -> None:
    assert lagged(torch.ones(1, 3), torch.ones(1, 3), [9]).abs().sum() == 0


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("end", [30, 9, 3, 1])
def test_one_pass_over_its_own_forecasts_sees_bit_by_bit_what_each_step_saw(missing: bool, end: int) -> None:
    """The truth of a training pass is what the network forecast: both go over the same values."""
    model, batch = model_of(), batch_of(panel_of(40, 33, missing=missing), [end, end])
    network, lengths = network_of(model), batch.lengths
    assert lengths is not None
    calls = fed(network)
    with torch.no_grad():
        own = network(batch.inputs, lengths, torch.zeros(0))[0][..., 0]
        window, *steps = calls
        calls.clear()
        network.learn(batch.inputs, lengths, own)
    (whole,) = calls
    assert len(steps) == HORIZON - 1
    for row, length in enumerate(network.window(batch.inputs, lengths)[0].lengths.tolist()):
        assert torch.equal(whole[row, :length], window[row, :length])
        assert torch.equal(whole[row, length : length + HORIZON - 1], torch.cat(steps, 1)[row])


@pytest.mark.parametrize("head", ["student_t", "normal"])
def test_step_by_step_equals_one_pass_over_each_path(head: str) -> None:
    """In double precision: the head's numbers along a sampled path, and those of a pass that is given the path."""
    count, panel = 3, panel_of(40, 33, missing=True)
    model, batch = model_of(head=head, samples=count, num_layers=2, cell="lstm").double(), batch_of(panel, [30, 7])
    network, inputs, lengths = network_of(model), batch.inputs.double(), batch.lengths
    assert lengths is not None
    raws: list[Tensor] = []
    network.output.register_forward_hook(lambda _module, _given, raw: raws.append(raw.detach()))
    with torch.no_grad():
        window, scaled = network.window(inputs, lengths)
        paths = network.paths(window, scaled)
        stepwise = torch.stack(raws, 1)  # [B * S, H, size]
        twice = [one.repeat_interleave(count, 0) for one in (inputs, lengths)]
        learned = network.learn(twice[0], twice[1], paths.transpose(1, 2).flatten(0, 1))
    ends = window.lengths.repeat_interleave(count, 0)
    for row, end in enumerate(ends.tolist()):
        torch.testing.assert_close(learned.raw[row, end - 1 : end - 1 + HORIZON], stepwise[row], rtol=1e-10, atol=1e-12)


def test_lagged_values_change_the_forecast() -> None:
    """Of a network that sees nothing else: the value a season before alone."""
    panel, model = panel_of(40), model_of(lags=[LOOKBACK], cell="simple_rnn", scale="none")
    before = forecasts(model, panel, [30])
    network = network_of(model)
    with torch.no_grad():
        for name, weight in network.rnn.named_parameters():
            if "weight_ih" in name:
                weight[:, [0, 1, 3]] = 0
            elif "weight_hh" in name:
                weight.zero_()
    values = panel.y.values.clone()
    values[30 - LOOKBACK + 2] += 0.5  # what the third step of the forecast looks back to
    other = replace(panel, y=replace(panel.y, values=values))
    found, moved = forecasts(model, panel, [30]), forecasts(model, other, [30])
    assert not torch.equal(before, found)
    assert ((found != moved)[0, :, 0].nonzero()[:, 0]).tolist() == [2]


def test_of_logarithms_the_point_and_the_quantiles_are_those_of_the_paths_turned_back() -> None:
    """The mean of the paths themselves is at the mercy of the widest draw: that of exp(Student's t) is infinite."""
    model, batch = model_of(head="student_t", log=True, levels=[0.1, 0.5]), batch_of(panel_of(40, 33), [30, 7])
    network, lengths = network_of(model), batch.lengths
    assert lengths is not None
    with torch.no_grad():
        found = network(batch.inputs, lengths, torch.tensor([0.1, 0.5]))[0].double().numpy()
        paths = network.paths(*network.window(batch.inputs, lengths)).double().numpy()
    np.testing.assert_allclose(found[..., 0], np.exp(paths.mean(2)), rtol=1e-5)
    np.testing.assert_allclose(found[..., 1:], np.exp(np.quantile(paths, [0.1, 0.5], axis=2)).transpose(1, 2, 0), 1e-5)
    assert (found[..., 0] < np.exp(paths).mean(2)).all()


@pytest.mark.parametrize("head", ["point", "student_t"])
def test_missing_steps_in_front_and_left_padding_change_nothing(head: str) -> None:
    short, long = np.random.default_rng(0).normal(50, 3, size=7), np.random.default_rng(1).normal(50, 3, size=40)
    model = model_of(head=head, samples=5)
    expected = model.forecast_values(from_arrays([short], season=4))
    for padding in (1, 3, 5, 20):
        padded = from_arrays([np.concatenate([np.full(padding, np.nan), short])], season=4)
        assert torch.equal(model.forecast_values(padded), expected), padding
    if head == "point":  # draws are a batch's own
        beside = model.forecast_values(from_arrays([short, long], season=4))[:1]
        torch.testing.assert_close(beside, expected, rtol=1e-5, atol=1e-5)


def test_steps_before_the_lookback_and_behind_the_origin_change_no_forecast() -> None:
    panel, model = panel_of(40), model_of()
    values = panel.y.values.clone()
    values[: 30 - LOOKBACK], values[30:] = 1e6, 1e6
    other = replace(panel, y=replace(panel.y, values=values))
    assert torch.equal(forecasts(model, panel, [30]), forecasts(model, other, [30]))


def test_a_missing_lagged_value_is_told_from_a_zero() -> None:
    panel, model = panel_of(40), model_of(scale="none")
    values = panel.y.values.clone()
    values[20] = torch.nan
    missing = replace(panel, y=replace(panel.y, values=values))
    zero = replace(panel, y=replace(panel.y, values=values.nan_to_num()))
    assert not torch.allclose(forecasts(model, missing, [30]), forecasts(model, zero, [30]))


def test_without_lags_a_network_has_the_parameters_it_had() -> None:
    sizes = [network_of(model_of(lags=lags)).rnn.state_dict() for lags in (None, [4, 2])]
    widths = [next(value.shape[1] for name, value in one.items() if "weight_ih" in name) for one in sizes]
    assert widths == [2, 6]


def test_lags_that_cannot_be_are_refused() -> None:
    for decode in ("segment", "direct"):
        with pytest.raises(ConfigError, match=r"model\.lags is of decode=recursive"):
            Forecaster(decode=decode, lags=[24])
    for lags, words in (([0], "at least 1, got 0"), ([1, 4], "has 1"), ([4, 4], "one twice")):
        with pytest.raises(ConfigError, match=rf"model\.lags .*{words}"):
            Forecaster(decode="recursive", lags=lags)
    with pytest.raises(ConfigError, match=r"model\.lags has 13, windows have 12 steps"):
        model_of(lags=[13])
    with pytest.raises(ConfigError, match=r"model\.lags has 12, windows have 6 steps"):
        model_of(members=2, lookbacks=[12, 6])
