"""Windows over series: those of numpy, padded on the left and masked, aligned with their targets, never copied."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from lightning_rnn import LSTM
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.sampler import BucketBatchSampler
from lightning_rnn.data.windows import Windows
from lightning_rnn.errors import ConfigError


def ramps(*lengths: int) -> Ragged:
    """Series ``i`` has the values ``1000 i + 1, 1000 i + 2, ...``: no value is 0, none in two series."""
    return Ragged.from_list([1000.0 * i + torch.arange(1.0, n + 1).unsqueeze(1) for i, n in enumerate(lengths)])


def slow(
    series: Ragged, lookback: int, horizon: int, stride: int, gap: int, least: int
) -> list[tuple[list[float], ...]]:
    """Input (padded) and target of every window, one by one."""
    windows = []
    for i in range(len(series)):
        x = series[i].flatten().tolist()
        for end in range(least, len(x) + 1, stride):
            target = x[end + gap : end + gap + horizon] if horizon else []
            if len(target) == horizon and (not horizon or end + gap + horizon <= len(x)):
                seen = x[max(0, end - lookback) : end]
                windows.append(([0.0] * (lookback - len(seen)) + seen, target))
    return windows


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.integers(1, 8),
    st.integers(0, 4),
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(1, 8),
)
def test_windows_equal_a_loop(
    lengths: list[int], lookback: int, horizon: int, stride: int, gap: int, least: int
) -> None:
    least = min(least, lookback)
    series = ramps(*lengths, 40)
    windows = Windows(series, lookback, horizon, stride=stride, gap=gap, min_lookback=least)
    wanted = slow(series, lookback, horizon, stride, gap, least)
    batch = windows.__getitems__(list(range(len(windows))))
    assert batch.inputs.squeeze(2).tolist() == [window for window, _ in wanted]
    assert (batch.targets is None) == (horizon == 0)
    if batch.targets is not None:
        assert batch.targets.squeeze(2).tolist() == [target for _, target in wanted]
    valid = batch.inputs.squeeze(2) != 0
    assert torch.equal(valid, torch.ones_like(valid) if batch.mask is None else batch.mask)
    assert torch.equal(windows.lengths, valid.sum(1))


def test_windows_equal_numpys() -> None:
    x = torch.randn(50, 3)
    windows = Windows(Ragged.from_list([x]), 7, 2)
    batch = windows.__getitems__(list(range(len(windows))))
    both = sliding_window_view(x.numpy(), 9, axis=0).transpose(0, 2, 1)
    assert np.array_equal(batch.inputs.numpy(), both[:, :7]) and np.array_equal(batch.targets.numpy(), both[:, 7:])
    assert batch.mask is None


def test_targets_begin_one_step_after_the_inputs() -> None:
    batch = Windows(ramps(20), 4, 3)[0]
    assert batch.inputs.flatten().tolist() == [1, 2, 3, 4] and batch.targets.flatten().tolist() == [5, 6, 7]
    batch = Windows(ramps(20), 4, 3, gap=2)[0]
    assert batch.targets.flatten().tolist() == [7, 8, 9]
    assert Windows(ramps(20), 4, 3)[-1 + 14].targets.flatten().tolist() == [18, 19, 20]


def test_the_last_window_of_each_series_ends_where_its_series_ends() -> None:
    series = ramps(12, 3, 8)
    held_out = Windows(series, 5, 2, min_lookback=1, last_only=True, stride=3)
    batch = held_out.__getitems__([0, 1, 2])
    assert batch.targets.squeeze(2).tolist() == [[11, 12], [1002, 1003], [2007, 2008]]
    assert batch.inputs.squeeze(2)[1].tolist() == [0, 0, 0, 0, 1001]
    future = Windows(series, 5, min_lookback=1, last_only=True)  # nothing is known after the window
    batch = future.__getitems__([0, 1, 2])
    assert batch.targets is None and batch.inputs[:, -1, 0].tolist() == [12, 1003, 2008]


def test_rows_are_named_by_series_and_end() -> None:
    windows = Windows(ramps(6, 7), 4, 1, stride=2, ids=["H1", "H2"])
    assert [windows.row_id(row) for row in range(len(windows))] == ["H1:4", "H2:4", "H2:6"]
    series, end = windows.position(torch.tensor([2, 0]))
    assert series.tolist() == [1, 0] and end.tolist() == [6, 4]
    batch = windows.__getitems__([2, 0])
    assert batch.ids is not None and batch.ids.tolist() == [2, 0]


def test_some_columns_are_targets() -> None:
    x = torch.randn(10, 4)
    batch = Windows(Ragged.from_list([x]), 3, 2, target_columns=[3, 1])[0]
    assert torch.equal(batch.inputs[0], x[:3]) and torch.equal(batch.targets[0], x[3:5][:, [3, 1]])


def test_left_padding_changes_nothing_in_a_masked_layer() -> None:
    layer, series = LSTM(1, 4), ramps(3, 9)
    series = Ragged(series.values / 1000, series.offsets)
    batch = Windows(series, 6, min_lookback=1, last_only=True).__getitems__([0, 1])
    assert batch.mask is not None
    padded = layer(batch.inputs, mask=batch.mask).last
    for row, x in enumerate((series[0], series[1][-6:])):
        torch.testing.assert_close(padded[row], layer(x.unsqueeze(0)).last[0], atol=1e-6, rtol=0)


def test_full_batches_have_no_mask() -> None:
    windows = Windows(ramps(9), 4, 1, min_lookback=2)
    order = BucketBatchSampler(windows.lengths, 2, shuffle=False)
    masks = [windows.__getitems__(rows).mask for rows in order]
    assert masks[0] is not None and not masks[0].all() and masks[-1] is None


def test_a_million_windows_keep_a_few_numbers_per_series() -> None:
    series = Ragged(torch.zeros(1_100_000, 2), torch.tensor([0, 300_000, 1_100_000]))
    windows = Windows(series, 48, 24)
    assert len(windows) == 1_100_000 - 2 * 71
    own = [value for value in vars(windows).values() if isinstance(value, Tensor)]
    assert sum(value.untyped_storage().nbytes() for value in [*own, windows.lengths]) < 200
    assert windows.inputs.values is series.values


def test_short_series_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        windows = Windows(ramps(9, 4, 5), 4, 1, ids=["a", "b", "c"])
    assert caplog.messages == ["1 of 3 series are shorter than the 5 steps that a window needs: b (4)"]
    assert windows.skipped.tolist() == [1] and len(windows) == 6
    with pytest.raises(ConfigError, match=r"every series is shorter than the 12 steps .* 0 \(9\), 1 \(4\)"):
        Windows(ramps(9, 4), 8, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lookback": 0}, "lookback must be at least 1, got 0"),
        ({"horizon": -1}, "horizon must be at least 0, got -1"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"gap": -1}, "gap must be at least 0, got -1"),
        ({"min_lookback": 5}, "min_lookback must be 1 to 4, got 5"),
        ({"min_lookback": 0}, "min_lookback must be 1 to 4, got 0"),
        ({"target_columns": [0, 1]}, r"target_columns \[1\] are not among the series' 1 columns"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Windows(ramps(20), **{"lookback": 4, **options})  # type: ignore[arg-type]


def test_m4s_hold_out_follows_its_history(data_root: Path) -> None:
    def rows(name: str) -> list[Tensor]:
        with (data_root / "m4" / name).open() as file:
            return [torch.tensor([float(x) for x in row[1:] if x]) for row in list(csv.reader(file))[1:41]]

    train, test = rows("Weekly-train.csv"), rows("Weekly-test.csv")
    series = Ragged.from_list([torch.cat(both) for both in zip(train, test, strict=True)])
    windows = Windows(series, 26, 13, last_only=True)
    batch = windows.__getitems__(list(range(len(windows))))
    assert torch.equal(batch.targets, torch.stack(test))
    assert torch.equal(batch.inputs, torch.stack([x[-26:] for x in train]))


def test_ett_by_the_hour(data_root: Path) -> None:
    x = torch.from_numpy(
        np.loadtxt(data_root / "ett" / "ETTh1.csv", np.float32, skiprows=1, delimiter=",", usecols=range(1, 8))
    )
    windows = Windows(Ragged.from_list([x]), 96, 24, target_columns=[6])
    assert len(windows) == 17_420 - 119
    batch = windows.__getitems__([0, 17_300, 5000])
    for row, start in enumerate((0, 17_300, 5000)):
        assert torch.equal(batch.inputs[row], x[start : start + 96])
        assert torch.equal(batch.targets[row, :, 0], x[start + 96 : start + 120, 6])
