"""Networks: nothing of the future is seen, windows scale as they say, decoders do what they are called."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.types import SequenceBatch
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.heads import HEADS
from tasks.forecasting.level_season import Smoothing
from tasks.forecasting.network import window_of
from tasks.forecasting.panel import Panel
from tasks.forecasting.prepare import naive2_of, reference_of, to_series
from tasks.forecasting.scaling import SCALINGS
from tasks.forecasting.source import GivenSeries
from tasks.forecasting.spec import ForecastSpec
from tasks.forecasting.stack import DilatedStack
from tasks.forecasting.windows import Origins, PanelWindows

SPEC = ForecastSpec(horizon=4, lookback=12, season=3, positive=True)
DECODES = ["segment", "direct", "recursive"]


def panel_of(*lengths: int, seed: int = 0) -> Panel:
    rng = np.random.default_rng(seed)
    return from_arrays([50 + rng.normal(size=length).cumsum() + np.arange(length) % 3 for length in lengths], season=3)


def model_of(spec: ForecastSpec = SPEC, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    model = Forecaster(**{"hidden_size": 8, **options})
    model.spec = spec
    model.configure_model()
    with torch.no_grad():  # the skip starts at zero and would not be seen
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch_of(panel: Panel, ends: list[int], spec: ForecastSpec = SPEC) -> SequenceBatch:
    origins = Origins(torch.tensor(ends), torch.ones(len(ends), dtype=torch.int64))
    return PanelWindows(to_series(panel, spec), spec, origins).__getitems__(list(range(len(ends))))


@torch.no_grad()
def forecasts(model: Forecaster, batch: SequenceBatch) -> Tensor:
    return model._forecasts(batch)[0]


@pytest.mark.parametrize("decode", DECODES)
def test_what_comes_after_the_origin_changes_no_forecast(decode: str) -> None:
    panel, model = panel_of(40, 33), model_of(decode=decode)
    values = panel.y.values.clone()
    values[20:40], values[55:] = values[20:40].flip(0), 1e6
    other = replace(panel, y=replace(panel.y, values=values))
    assert torch.equal(forecasts(model, batch_of(panel, [20, 15])), forecasts(model, batch_of(other, [20, 15])))


@pytest.mark.parametrize("decode", DECODES)
def test_what_comes_before_the_lookback_changes_no_forecast(decode: str) -> None:
    panel, model = panel_of(40), model_of(decode=decode)
    values = panel.y.values.clone()
    values[:8] = 1e6
    other = replace(panel, y=replace(panel.y, values=values))
    assert torch.equal(forecasts(model, batch_of(panel, [20])), forecasts(model, batch_of(other, [20])))


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("scale", ["std", "last", "season", "robust", "revin", "smoothing"])
def test_another_unit_of_the_series_is_another_unit_of_the_forecast(decode: str, scale: str) -> None:
    if (decode, scale) == ("recursive", "smoothing"):
        return  # refused
    panel, model = panel_of(40, 33), model_of(decode=decode, scale=scale)
    other = replace(panel, y=replace(panel.y, values=panel.y.values * 7 - 200))
    expected = forecasts(model, batch_of(panel, [20, 9])) * 7 - 200
    torch.testing.assert_close(forecasts(model, batch_of(other, [20, 9])), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("scale", sorted(set(SCALINGS) - {"none", "mean"}))  # these two do not shift
def test_of_logarithms_the_unit_is_a_factor(scale: str) -> None:
    panel, model = panel_of(40, 33), model_of(scale=scale, log=True)
    other = replace(panel, y=replace(panel.y, values=panel.y.values * 1000))
    expected = forecasts(model, batch_of(panel, [20, 9])) * 1000
    torch.testing.assert_close(forecasts(model, batch_of(other, [20, 9])), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("scale", ["none", "mean"])
def test_logarithms_that_are_not_shifted_reach_far_from_zero(decode: str, scale: str) -> None:
    panel = from_arrays([[1e6] * 20, [1e-6] * 20])
    model, batch = model_of(scale=scale, log=True, skip=False, decode=decode), batch_of(panel, [20, 20])
    output = model.network.first.output
    assert isinstance(output, torch.nn.Linear)
    for row, y in enumerate((1e6, 1e-6)):
        unit = 1 + abs(math.log(y)) if scale == "mean" else 1
        with torch.no_grad():
            output.weight.zero_()
            output.bias.fill_(math.log(y) / unit)
        assert forecasts(model, batch)[row].flatten().tolist() == pytest.approx([y] * 4, rel=1e-3)


def test_a_short_series_is_one_whose_beginning_is_missing() -> None:
    model, panel = model_of(), panel_of(30)
    y = panel.y.values.clone()
    y[:20] = torch.nan
    long, short = replace(panel, y=replace(panel.y, values=y)), from_arrays(y[20:], season=3)
    torch.testing.assert_close(
        forecasts(model, batch_of(long, [26])), forecasts(model, batch_of(short, [6])), rtol=1e-5, atol=1e-5
    )


def test_missing_steps_are_told_from_zeros() -> None:
    panel, model = panel_of(40), model_of(scale="none")
    y = panel.y.values.clone()
    y[15] = torch.nan
    missing = replace(panel, y=replace(panel.y, values=y))
    zero = replace(panel, y=replace(panel.y, values=y.nan_to_num()))
    assert not torch.allclose(forecasts(model, batch_of(missing, [20])), forecasts(model, batch_of(zero, [20])))


def test_the_recursive_network_is_fed_its_own_forecasts() -> None:
    """Teacher forcing with the forecasts as truth gives these forecasts again."""
    panel, model = panel_of(40, 33), model_of(decode="recursive", cell="simple_rnn", activation="relu")
    batch = batch_of(panel, [20, 7])
    own = forecasts(model, batch)[..., 0]
    assert batch.lengths is not None
    learned = model.network.first.learn(batch.inputs, batch.lengths, own)
    torch.testing.assert_close(learned.mean, own, rtol=1e-4, atol=1e-4)


def test_teacher_forcing_supervises_every_step_with_the_next() -> None:
    panel, model = panel_of(40, 33), model_of(decode="recursive")
    batch = batch_of(panel, [20, 7])
    assert batch.lengths is not None and batch.targets is not None
    learned = model.network.first.learn(batch.inputs, batch.lengths, batch.targets["y"])
    y = panel.y[1].float()[1 : 7 + 4]
    torch.testing.assert_close(learned.target[1, : len(y)], y)
    assert learned.target[1, len(y) :].isnan().all()


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_learns_with_every_decoder(decode: str, head: str) -> None:
    counts = from_arrays([np.random.default_rng(0).poisson(20, 40), np.random.default_rng(1).poisson(3, 30)])
    spec = ForecastSpec(horizon=4, lookback=12)
    model = model_of(spec, decode=decode, head=head, scale="mean", samples=20)
    batch = batch_of(counts, [20, 12], spec)
    model.train()
    result = model.step(batch)
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    found = forecasts(model.eval(), batch)
    assert found.shape == (2, 4, 1 + len(model.levels)) and found.isfinite().all()
    assert (found[..., 1:].diff(dim=-1) >= -1e-5).all()


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("scale", sorted(SCALINGS))
def test_missing_targets_leave_every_gradient_a_number(decode: str, scale: str) -> None:
    if (decode, scale) == ("recursive", "smoothing"):
        return  # refused
    model, batch = model_of(decode=decode, scale=scale), batch_of(panel_of(40, 14), [20, 12])  # the second is short
    assert batch.targets["y"].isnan().any()
    model.train().step(batch).loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("loss", ["head", "mase"])
def test_a_batch_without_any_target_teaches_nothing_and_is_told(loss: str, caplog: pytest.LogCaptureFixture) -> None:
    y = np.r_[np.arange(1.0, 9), [np.nan] * 12, np.arange(9.0, 15)]
    data = ForecastingData(GivenSeries(from_arrays(y)), horizon=4, lookback=4, batch_size=1, bucketing=False)
    model = Forecaster(hidden_size=4, loss=loss)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    trainer.fit(model, data)
    assert "a batch without a valid element: its loss is 0" in caplog.text
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("cell", ["lstm", "simple_rnn", "min_gru", "mgu"])
@pytest.mark.parametrize("decode", DECODES)
def test_any_cell_will_do(cell: str, decode: str) -> None:
    found = forecasts(model_of(cell=cell, decode=decode, num_layers=1), batch_of(panel_of(40), [20]))
    assert found.shape == (1, 4, 1) and found.isfinite().all()


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    batch, model = batch_of(panel_of(40, 33), [20, 9]), model_of(members=3, lookbacks=[12, 6])
    assert batch.lengths is not None
    members = list(model.network.members)
    assert [member.lookback for member in members] == [12, 6, 12]
    with torch.no_grad():
        each = [member(batch.inputs, batch.lengths, torch.zeros(0))[0] for member in members]
    torch.testing.assert_close(forecasts(model, batch), torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[2])


def test_the_skip_starts_at_zero() -> None:
    torch.manual_seed(0)
    model = Forecaster(hidden_size=8)
    model.spec = SPEC
    model.configure_model()
    batch = batch_of(panel_of(40), [20])
    before = forecasts(model.eval(), batch)
    model.network.first.skip = None
    assert torch.equal(before, forecasts(model, batch))


def test_the_owa_loss_is_owa() -> None:
    panel = panel_of(60, 50, 45)
    spec = replace(SPEC, reference=reference_of(panel, 4, 3))
    head, _ = panel.split(4)
    model = model_of(spec, loss="owa")
    series = to_series(panel, spec, head)
    naive2 = naive2_of(head, 4, 3)
    windows = PanelWindows(series, spec, Origins(head.lengths, torch.ones(3, dtype=torch.int64)), naive2=naive2)
    result = model.step(windows.__getitems__([0, 1, 2]))
    metrics = model.build_metrics(spec, "val")
    metrics.update(result.predictions.detach(), result.targets)
    assert float(result.loss.detach()) == pytest.approx(float(metrics.compute()["owa"]), rel=1e-4)


def test_errors_are_in_units_of_the_training_part_without_the_official_validation_part() -> None:
    class Source(GivenSeries):
        val_steps = 10

    panel = panel_of(50)
    data = ForecastingData(Source(*panel.split(12)), horizon=4, lookback=8, eval_stride=1, standardize=True)
    for stage, split in (("fit", "val"), ("test", "test")):
        data.setup(stage)
        targets = data.split(split).__getitems__([0]).targets
        assert targets["center"].item() == pytest.approx(panel.y[0][:28].mean().item())
        assert targets["unit"].item() == pytest.approx(panel.y[0][:28].std(correction=0).item())


def test_windows_are_right_aligned() -> None:
    window = window_of(torch.ones(1, 3, 2).cumsum(1), torch.tensor([2]), ForecastSpec(), 4)
    assert window.y.tolist() == [[0, 0, 1, 2]] and window.valid.tolist() == [[False, False, True, True]]


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.loss=owa is of a point forecast"):
        Forecaster(head="normal", loss="owa")
    with pytest.raises(ConfigError, match=r"model\.scale must be one of"):
        Forecaster(scale="minmax")
    with pytest.raises(ConfigError, match=r"model\.log needs series that are positive"):
        model_of(replace(SPEC, positive=False), log=True)
    with pytest.raises(ConfigError, match="cannot use past columns"):
        model_of(replace(SPEC, past=["wind"]), decode="recursive")
    with pytest.raises(ConfigError, match=r"model\.lookbacks has 99"):
        model_of(lookbacks=[99])
    with pytest.raises(DataError, match="not positive"):
        forecasts(model_of(log=True), batch_of(from_arrays([np.arange(20)], season=3), [10]))


def test_smoothing_is_holt_winters() -> None:
    rng, m, horizon = np.random.default_rng(0), 3, 5
    y = rng.normal(size=14)
    there = rng.random(14) > 0.2
    smoothing = Smoothing(m)
    alpha, gamma = smoothing.coefficients.sigmoid().tolist()
    level, season = y[there].mean(), [0.0] * m
    for step in range(14):
        if there[step]:
            level = alpha * (y[step] - season[step % m]) + (1 - alpha) * level
            season[step % m] = gamma * (y[step] - level) + (1 - gamma) * season[step % m]
    found = smoothing(torch.from_numpy(y).float()[None], torch.from_numpy(there)[None], horizon)
    assert found.level.item() == pytest.approx(level, rel=1e-5)
    expected = [season[(14 + step) % m] for step in range(horizon)]
    np.testing.assert_allclose(found.ahead.detach().numpy()[0], expected, rtol=1e-5)


def test_a_dilated_layer_takes_its_state_from_so_many_steps_before() -> None:
    torch.manual_seed(0)
    stack = DilatedStack("gru", 4, [3], residual=False)
    cell = torch.nn.GRUCell(4, 4)
    cell.load_state_dict({name.removesuffix("_l0"): one for name, one in stack.layers[0].state_dict().items()})
    x, states = torch.randn(2, 8, 4), [torch.zeros(2, 4)] * 3
    for step in range(7):
        states.append(cell(x[:, step], states[step]))
    before = stack(x[:, :7])
    torch.testing.assert_close(before.sequence, torch.stack(states[3:], 1), rtol=1e-5, atol=1e-6)
    after = stack(x[:, 7:], before.state)
    torch.testing.assert_close(after.last, cell(x[:, 7], states[7]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decode", ["segment", "direct"])
def test_dilated_residual_stacks_forecast(decode: str) -> None:
    model = model_of(decode=decode, segment=2, dilations=[1, 2, 4], residual=True)
    assert forecasts(model, batch_of(panel_of(40, 33), [20, 9])).isfinite().all()
