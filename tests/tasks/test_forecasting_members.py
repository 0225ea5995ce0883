"""Members that learn from windows of their own, and the units and the order of calibrated quantiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.types import SequenceBatch
from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.calibration import Calibration, error_unit, seasonal_change
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.source import GivenSeries
from tasks.forecasting.windows import PanelWindows

LENGTHS = (100, 40, 30)


def data_of(**options: Any) -> ForecastingData:
    rng = np.random.default_rng(0)
    panel = from_arrays([50 + rng.normal(size=length).cumsum() for length in LENGTHS], season=3)
    given: dict[str, Any] = {"horizon": 4, "lookback": 8, "epoch_windows": 300, "batch_size": 6, **options}
    data = ForecastingData(GivenSeries(panel), **given)
    data.setup("fit")
    return data


def model_of(data: ForecastingData, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    model = Forecaster(**{"hidden_size": 8, "loss": "mae", **options})
    model.spec = data.spec
    model.configure_model()
    return model.train()


def train_batch(data: ForecastingData) -> SequenceBatch:
    return data.split("train").__getitems__(list(range(6)))


def trainer_of(folder: Path) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip


def gradients(member: torch.nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in member.parameters()]


def test_every_row_brings_a_window_of_each_recency_drawn_apart() -> None:
    train = data_of(recent=[5, None, 5]).split("train")
    assert isinstance(train, PanelWindows) and len(train) == 300
    last = torch.tensor(LENGTHS) - 8
    ages = [last[series] - end for series, end in train.groups]
    assert [int(age.max()) < 5 for age in ages] == [True, False, True] and min(int(age.min()) for age in ages) == 0
    assert not torch.equal(train.groups[0][1], train.groups[2][1])
    batch = train.__getitems__([0, 7])
    assert batch.targets["group"].tolist() == [0, 0, 1, 1, 2, 2] and batch.ids.tolist() == [0, 7] * 3
    panel = train.series.y
    for place, (group, row) in enumerate([(0, 0), (0, 7), (1, 0), (1, 7), (2, 0), (2, 7)]):
        series, end = (int(numbers[row]) for numbers in train.groups[group])
        torch.testing.assert_close(batch.targets["y"][place], panel[series][end : end + 4])
    before = [end for _, end in train.groups]
    train.set_epoch(1)
    assert not any(torch.equal(end, old) for (_, end), old in zip(train.groups, before, strict=True))


def test_one_recency_is_the_same_as_a_list_of_it() -> None:
    one, listed = train_batch(data_of(recent=5)), train_batch(data_of(recent=[5]))
    assert torch.equal(one.inputs, listed.inputs) and one.targets.keys() == listed.targets.keys()


def test_a_member_learns_from_its_own_windows_alone() -> None:
    data = data_of(recent=[5, None])
    model, batch = model_of(data, members=3), train_batch(data)
    model.step(batch).loss.backward()  # type: ignore[no-untyped-call]
    before = [gradients(member) for member in model.network.members]
    model.zero_grad()
    changed = dict(batch.targets)
    changed["y"] = torch.where(changed["group"].unsqueeze(1) == 1, -changed["y"], changed["y"])
    model.step(SequenceBatch(batch.inputs, changed, lengths=batch.lengths)).loss.backward()  # type: ignore[no-untyped-call]
    same = [
        all(torch.equal(new, old) for new, old in zip(gradients(member), own, strict=True))
        for member, own in zip(model.network.members, before, strict=True)
    ]
    assert same == [True, False, True]


def test_the_loss_is_the_mean_over_the_members_each_on_its_rows() -> None:
    data = data_of(recent=[5, None])
    model, batch = model_of(data, members=2), train_batch(data)
    assert batch.lengths is not None
    result = model.step(batch)
    for group, member in enumerate(model.network.members):
        own = batch.targets["group"] == group
        mean = member.learn(batch.inputs[own], batch.lengths[own], batch.targets["y"][own]).mean
        torch.testing.assert_close(result.predictions[own, :, 0], mean.detach())
    error = (result.predictions[..., 0] - batch.targets["y"]).abs().mean()
    assert result.loss.item() == pytest.approx(error.item(), rel=1e-5)  # the groups have as many rows


def test_a_group_without_targets_does_not_silence_the_others() -> None:
    data = data_of(recent=[5, None])
    model, batch = model_of(data, members=2), train_batch(data)
    targets = dict(batch.targets)
    targets["y"] = torch.where(targets["group"].unsqueeze(1) == 0, torch.nan, targets["y"])
    result = model.step(SequenceBatch(batch.inputs, targets, lengths=batch.lengths))
    assert result.weight > 0 and result.loss > 0


def test_without_groups_all_members_learn_from_all_rows() -> None:
    data = data_of()
    model, batch = model_of(data, members=3), train_batch(data)
    means = [member.learn(batch.inputs, batch.lengths, batch.targets["y"]).mean for member in model.network.members]
    torch.testing.assert_close(model.step(batch).predictions[..., 0], torch.stack(means).mean(0).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recent": [5, None], "epoch_windows": None}, r"data\.recent has several entries: set data\.epoch_windows"),
        ({"recent": []}, r"data\.recent is an empty list"),
        ({"recent": [5, 0]}, r"data\.recent must be at least 1, got 0"),
    ],
)
def test_recencies_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data_of(**options)


def test_each_recency_needs_a_member() -> None:
    data = data_of(recent=[5, None])
    with pytest.raises(ConfigError, match=r"data\.recent has 2 entries, model\.members is 1"):
        model_of(data).step(train_batch(data))


def test_members_with_recencies_train_end_to_end(tmp_path: Path) -> None:
    data = data_of(recent=[5, None])
    model = Forecaster(hidden_size=8, members=2, lookbacks=[8, 4], loss="mae")
    start = trainer_of(tmp_path)
    start.fit(model, data)
    assert start.callback_metrics["val_mae"].isfinite()


def test_a_windows_unit_is_the_error_of_its_seasonal_naive_forecast() -> None:
    rng = np.random.default_rng(0)
    t, valid = torch.from_numpy(rng.normal(size=(3, 12))), torch.ones(3, 12, dtype=torch.bool)
    scale = torch.full((3,), 7.0, dtype=torch.float64)
    change = t[:, 4:] - t[:, :-4]
    torch.testing.assert_close(seasonal_change(t, valid, 4, scale), change.square().mean(1).sqrt())
    valid[0, :5] = False
    t[0, :5] = 1e6
    torch.testing.assert_close(seasonal_change(t, valid, 4, scale)[0], change[0, 5:].square().mean().sqrt())
    assert seasonal_change(t[:, :4], valid[:, :4], 4, scale).tolist() == [7, 7, 7]  # no two steps a season apart
    repeating = t[:, :4].repeat(1, 3)
    assert seasonal_change(repeating, torch.ones_like(valid), 4, scale).tolist() == pytest.approx([0.07] * 3)


def test_the_unit_of_errors_is_the_mean_of_change_and_spread_and_never_zero() -> None:
    rng = np.random.default_rng(1)
    members, change = rng.normal(size=(3, 2, 5)), np.array([0.5, 2.0])
    spread = np.abs(members - members.mean(0)).mean((0, 2))
    found = error_unit(torch.from_numpy(change), torch.from_numpy(members))
    assert found.numpy() == pytest.approx(np.sqrt(change * spread))
    one = torch.from_numpy(members[:1])
    assert error_unit(torch.from_numpy(change), one).numpy() == pytest.approx(change)
    assert error_unit(torch.from_numpy(change), one.repeat(2, 1, 1)).numpy() == pytest.approx(0.1 * change)


def test_intervals_are_wide_where_members_part() -> None:
    data = data_of(recent=[5, None])
    model = model_of(data, members=2, conformal=True, levels=[0.1, 0.9]).eval()
    batch = data.split("val").__getitems__([0, 1, 2])
    assert batch.lengths is not None
    _, before = model.network(batch.inputs, batch.lengths, model.device_levels)
    with torch.no_grad():
        for parameter in model.network.members[1].parameters():
            parameter.add_(0.3)
    _, after = model.network(batch.inputs, batch.lengths, model.device_levels)
    assert (after > before).all()


def test_widths_follow_the_unit_and_quantiles_that_cross_are_put_in_order() -> None:
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    calibration = Calibration(1, levels)
    unit = torch.rand(400) + 0.5
    target = unit.unsqueeze(1) * torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    head = torch.zeros(400, 1, 6)
    head[..., 1], head[..., 5] = -9.0, 9.0  # outer ones that are far too wide, inner ones too narrow
    calibration.update(head * unit[:, None, None], target, unit)
    calibration.finish()
    moved = calibration.around(torch.zeros(2, 1, 6), torch.tensor([1.0, 10.0]))
    assert (moved[..., 1:].diff(dim=-1) >= 0).all() and (moved[..., 0] == 0).all()
    torch.testing.assert_close(moved[1], 10 * moved[0])
    crossing = calibration.around(torch.tensor([[[0.0, 1.0, 0.0, 0.0, 0.0, -1.0]]]), torch.ones(1))
    assert (crossing[..., 1:].diff(dim=-1) >= 0).all()
