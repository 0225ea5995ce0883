"""Steps and calendars: equal to polars' ranges and date parts and pandas'."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pandas
import polars
import pytest
import torch

from lightning_rnn.errors import ConfigError, DataError
from tasks.forecasting.calendar import SIZES, Feature, calendar_features, features_for
from tasks.forecasting.frames import from_frame
from tasks.forecasting.frequency import Frequency

STARTS = ["1969-12-28 05:00:00", "2000-01-01 00:00:00", "2024-02-05 23:30:00"]
RANGES = {"7us": "7us", "30s": "30s", "10min": "10m", "h": "1h", "6h": "6h", "d": "1d", "w": "1w", "2w": "2w"}
RANGES |= {"m": "1mo", "2m": "2mo", "q": "1q", "y": "1y", "10y": "10y"}
SEASONS = {"h": 24, "d": 1, "w": 1, "m": 12, "q": 4, "y": 1, "10min": 144, "b": 5, "6h": 4, "5h": 24, "me": 12}


def micros(text: str) -> np.ndarray:
    return np.array(text, "datetime64[us]").astype(np.int64)


def date_range(start: str, every: str, steps: int = 60) -> polars.Series:
    begin = polars.Series([datetime.fromisoformat(start)])
    return polars.concat(
        [begin.dt.offset_by(f"{int(every[: -len(unit(every))]) * k}{unit(every)}") for k in range(steps)]
    )


def unit(every: str) -> str:
    return every.lstrip("0123456789")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("alias", "every"), RANGES.items())
def test_steps_equal_polars(alias: str, every: str, start: str) -> None:
    found = Frequency.parse(alias).shift(micros(start), np.arange(60))
    assert found.tolist() == date_range(start, every).dt.epoch("us").to_list()


@pytest.mark.parametrize(("alias", "months"), [("me", 1), ("qe", 3), ("ye", 12), ("2me", 2)])
def test_month_ends_equal_polars(alias: str, months: int) -> None:
    starts = date_range("1950-01-01 12:00:00", f"{months}mo", 300)
    ends = starts.dt.month_end().dt.epoch("us").to_numpy()
    assert Frequency.parse(alias).shift(ends[0], np.arange(300)).tolist() == ends.tolist()


def test_business_days_leave_weekends_out() -> None:
    days = Frequency.parse("b").shift(micros("1969-12-01 09:00"), np.arange(400)).astype("datetime64[us]")
    whole = np.arange("1969-12-01", "1980-01-01", dtype="datetime64[D]")
    assert (days == whole[np.is_busday(whole)][:400] + np.timedelta64(9, "h")).all()


@pytest.mark.parametrize(("alias", "season"), SEASONS.items())
def test_seasons(alias: str, season: int) -> None:
    assert Frequency.parse(alias).season == season


def test_names_of_one_frequency() -> None:
    for group in (["m", "M", "ms", "MS", "1mo"], ["min", "T", "1min"], ["y", "A", "YS", "1y"], ["h", "H"], ["w", "W"]):
        assert len({Frequency.parse(name) for name in group}) == 1


@pytest.mark.parametrize("alias", [*RANGES, "me", "qe", "ye", "b", "3h"])
def test_a_frequency_is_seen_in_spite_of_gaps_and_of_two_phases(alias: str) -> None:
    random, frequency = np.random.default_rng(0), Frequency.parse(alias)
    rows = []
    for name, start in (
        (("a", "2023-12-31"), ("b", "2021-12-31"))
        if alias.endswith("e")
        else (("a", "2024-01-01"), ("b", "2024-01-03"))
    ):
        stamps = frequency.shift(micros(start), np.arange(50)).astype("datetime64[us]")
        keep = np.sort(np.r_[0, 49, random.permutation(np.arange(1, 49))[:40]])
        rows.append(polars.DataFrame({"unique_id": name, "ds": stamps[keep], "y": keep.astype(float)}))
    panel = from_frame(polars.concat(rows))
    assert panel.frequency == frequency
    assert panel.lengths.tolist() == [50, 50]
    places = panel.y[1]
    assert (places.isnan() | (places == torch.arange(50))).all() and int(places.isnan().sum()) == 8


PARTS: dict[Feature, polars.Expr] = {
    "second": polars.col("ds").dt.second(),
    "minute": polars.col("ds").dt.minute(),
    "hour": polars.col("ds").dt.hour(),
    "weekday": polars.col("ds").dt.weekday() - 1,
    "day": polars.col("ds").dt.day() - 1,
    "day_of_year": polars.col("ds").dt.ordinal_day() - 1,
    "week": polars.col("ds").dt.week() - 1,
    "month": polars.col("ds").dt.month() - 1,
    "quarter": polars.col("ds").dt.quarter() - 1,
}


@pytest.mark.parametrize("feature", PARTS)
def test_features_equal_polars_parts_of_dates(feature: Feature) -> None:
    first, frequency, steps = (
        torch.from_numpy(micros("1959-11-30 20:11:13")),
        Frequency.parse("97747s"),
        torch.arange(40_000),
    )
    stamps = frequency.shift(first.numpy(), steps.numpy()).astype("datetime64[us]")
    part = polars.DataFrame({"ds": stamps}).select(PARTS[feature].cast(polars.Float64))["ds"].to_numpy()
    size = int(part.max()) + 1
    assert size == SIZES[feature]
    centred = calendar_features(first, frequency, steps, [feature], "centred")
    np.testing.assert_allclose(centred[:, 0].numpy(), part / (size - 1) - 0.5, atol=1e-6)
    cyclic = calendar_features(first, frequency, steps, [feature], "cyclic").numpy()
    np.testing.assert_allclose(cyclic[:, 0], np.sin(2 * math.pi * part / size), atol=1e-6)
    np.testing.assert_allclose(cyclic[:, 1], np.cos(2 * math.pi * part / size), atol=1e-6)


def test_features_of_a_batch_stand_side_by_side() -> None:
    first, steps = torch.tensor([[0], [3_600_000_000]]), torch.tensor([[0, 1, 2]])
    found = calendar_features(first, Frequency.parse("h"), steps, ["hour", "month"], "centred")
    assert found.shape == (2, 3, 2) and found.dtype == torch.float32
    assert torch.equal(found[0, 1], found[1, 0])
    assert calendar_features(first, Frequency.parse("h"), steps, ["hour", "month"]).shape == (2, 3, 4)


def test_features_change_within_what_a_frequency_steps_over() -> None:
    assert [features_for(Frequency.parse(alias)) for alias in ("y", None)] == [[], []]
    for alias in ("s", "min", "h", "d", "b", "w", "me", "q"):
        frequency = Frequency.parse(alias)
        first = torch.from_numpy(micros("1969-12-31"))
        found = calendar_features(first, frequency, torch.arange(100), features_for(frequency))
        assert found.shape[1] and (found[:-1] != found[1:]).any(1).all(), alias


def test_wrong_features_are_named() -> None:
    with pytest.raises(ConfigError, match="plain numbers have no calendar"):
        calendar_features(torch.tensor(0), Frequency(), torch.arange(2), ["hour"])
    with pytest.raises(ConfigError, match="no calendar feature 'moon'"):
        calendar_features(torch.tensor(0), Frequency(1, "h"), torch.arange(2), ["moon"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="'W-SUN' is not known"):
        Frequency.parse("W-SUN")


@pytest.mark.parametrize("alias", ["h", "D", "W", "MS", "ME", "QS", "YS", "YE", "B", "15min", "30s"])
def test_steps_equal_pandas(alias: str) -> None:
    expected = pandas.date_range("2019-12-15 06:00", periods=80, freq=alias).to_numpy("datetime64[us]")
    found = Frequency.parse(alias if not alias.startswith(("ME", "YE")) else alias.lower())
    assert (found.shift(expected[0].astype(np.int64), np.arange(80)).astype("datetime64[us]") == expected).all()


@pytest.mark.parametrize(("every", "form"), [("1d", "%Y%m%d"), ("1mo", "%Y%m")])
@pytest.mark.parametrize("kind", [polars.String, polars.Int64])
def test_dates_without_dashes_are_not_counted_as_numbers(every: str, form: str, kind: type[polars.DataType]) -> None:
    stamps = date_range("2023-12-01 00:00:00", every, 40).dt.strftime(form).cast(kind)
    with pytest.raises(DataError, match=f"such as {stamps[0]} are dates without dashes"):
        from_frame(polars.DataFrame({"unique_id": ["a"] * 40, "ds": stamps, "y": range(40)}))


@pytest.mark.parametrize("first", [0, 1990, 180_000, 20_240_101, 1_700_000_000])
def test_numbers_are_counted_where_not_all_are_dates(first: int) -> None:
    frame = polars.DataFrame({"unique_id": ["a"] * 40, "ds": range(first, first + 40), "y": range(40)})
    assert from_frame(frame).stamps(0, 1).tolist() == [first + 40]


def test_local_days_of_a_zone_with_summer_time_are_explained() -> None:
    days = pandas.date_range("2024-03-25", periods=20, tz="Europe/Berlin")
    with pytest.raises(DataError, match=r"leave the time zone out: in UTC, days of Europe/Berlin"):
        from_frame(pandas.DataFrame({"unique_id": "a", "ds": days, "y": range(20)}))
    hours = pandas.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    panel = from_frame(pandas.DataFrame({"unique_id": "a", "ds": hours, "y": range(60)}))
    assert panel.lengths.tolist() == [60] and panel.stamps(0, 1)[0] == np.datetime64("2024-04-01T11:00")
