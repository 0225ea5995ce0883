"""Series from tables, frames, arrays and the competitions' files: values and stamps as written, nothing lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
import torch

from lightning_rnn.data import Ragged
from lightning_rnn.errors import DataError
from tasks.forecasting import long_format
from tasks.forecasting.embedded import AIRLINE, SUNSPOTS, Airline, BookSeries, Embedded
from tasks.forecasting.frames import from_arrays, from_frame, read_long
from tasks.forecasting.long_format import Layout
from tasks.forecasting.overlaps import Overlap, overlaps
from tasks.forecasting.panel import Channels, Panel
from tasks.forecasting.source import GivenSeries, SeriesSource
from tasks.forecasting.sources import ETT, M3, M4, LongTable, WideTable

LAYOUT = Layout(static=["size"], categories=["shop"], past=["rain"], future=["price", "open"])


def long_frame() -> polars.DataFrame:
    """Two shops by day: ``b`` begins later, both have two known-future rows, and each misses a value."""
    rows = []
    for name, first, steps, shop in (("b", 3, 6, "north"), ("a", 0, 9, "é, east")):
        for step in range(steps):
            known = step < steps - 2
            y = step + 0.5 if known and step != 2 else None
            rows.append(
                (name, first + step, y, 1.5 * first, shop, float(step) if known else None, step / 4, step % 2 == 0)
            )
    names = ["unique_id", "ds", "y", "size", "shop", "rain", "price", "open"]
    frame = polars.DataFrame(rows, schema=names, orient="row")
    return frame.with_columns(polars.date(2024, 2, 27).dt.offset_by(polars.format("{}d", "ds")).alias("ds"))


def same(one: Panel, other: Panel) -> bool:
    """Whether all fields are equal, NaN to NaN; origins may differ."""
    return all(
        equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Panel) if field.name != "origin"
    )


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and bool(torch.equal(one.nan_to_num(-7), other.nan_to_num(-7)))
    if isinstance(one, Ragged) and isinstance(other, Ragged):
        return equal(one.values, other.values) and equal(one.offsets, other.offsets)
    if isinstance(one, Channels) and isinstance(other, Channels):
        return one.names == other.names and equal(one.rows, other.rows)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[name]) for name, value in one.items())
    return one == other


def test_a_long_table_keeps_every_value_at_its_stamp() -> None:
    panel = from_frame(long_frame(), LAYOUT)
    assert panel.ids == ["b", "a"] and panel.lengths.tolist() == [4, 7] and panel.frequency.alias == "d"
    assert panel.y[0].nan_to_num(-1).tolist() == [0.5, 1.5, -1, 3.5] and panel.y.values.dtype == torch.float64
    assert panel.static["size"].tolist() == [4.5, 0.0] and panel.categories["shop"] == ["north", "é, east"]
    assert panel.past is not None and panel.past.rows[1][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert panel.future is not None and panel.future.rows[0].tolist() == [
        [step / 4, step % 2 == 0] for step in range(6)
    ]
    assert [str(stamp)[:10] for stamp in panel.stamps(0, 2)] == ["2024-03-05", "2024-03-06"]
    assert str(panel.stamps(1, 1, 0)[0])[:10] == "2024-02-27"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.jsonl"])
def test_files_of_every_kind_give_what_the_frame_gives(tmp_path: Path, name: str) -> None:
    frame, path = long_frame(), tmp_path / name
    plain = frame.with_columns(polars.col("ds").cast(str), polars.col("open").cast(int))
    writers: dict[str, Callable[[], object]] = {
        "a.csv": lambda: plain.write_csv(path),
        "a.tsv": lambda: plain.write_csv(path, separator="\t", quote_style="never"),
        "a.parquet": lambda: frame.write_parquet(path),
        "a.jsonl": lambda: plain.write_ndjson(path),
    }
    writers[name]()
    assert same(read_long(path, LAYOUT), from_frame(frame, LAYOUT))


def test_parquet_read_in_a_forked_process_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = long_frame().with_columns(polars.col("ds").cast(polars.Datetime("us", "Europe/Berlin")))
    frame.write_parquet(tmp_path / "a.parquet")
    quick = read_long(tmp_path / "a.parquet", LAYOUT)
    monkeypatch.setattr(long_format, "_imported_by", -1)
    assert same(read_long(tmp_path / "a.parquet", LAYOUT), quick) and quick.zone == "UTC"


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_frame().write_csv(tmp_path / "a.csv")
    with_bool = Layout(static=["size"], categories=["shop"], past=["rain"], future=["price"])
    whole = read_long(tmp_path / "a.csv", with_bool)
    monkeypatch.setattr(long_format, "CHUNK", 2)
    assert same(read_long(tmp_path / "a.csv", with_bool), whole)


def test_the_order_of_rows_changes_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    frame = long_frame()
    shuffled = polars.concat([frame[:1], frame[1:].sample(fraction=1, shuffle=True, seed=1)])
    with caplog.at_level(logging.INFO):
        assert same(from_frame(shuffled, LAYOUT), from_frame(frame, LAYOUT))
    assert "not in the order of their stamps: sorted" in caplog.text


def test_absent_steps_become_missing_values_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    frame = long_frame()
    panel = from_frame(frame.filter(~((polars.col("unique_id") == "a") & polars.col("rain").is_in([3.0, 4.0]))), LAYOUT)
    whole = from_frame(frame, LAYOUT)
    assert panel.lengths.tolist() == whole.lengths.tolist()
    assert panel.y[1].isnan().tolist() == [False, False, True, True, True, False, False]
    assert panel.past is not None and panel.past.rows[1][3:5].isnan().all()
    assert "2 time steps are absent inside 1 of 2 series (most in 'a': 2)" in caplog.text


def test_a_panel_survives_the_way_through_its_frame() -> None:
    panel = from_frame(long_frame(), LAYOUT)
    assert same(from_frame(panel.to_frame(), LAYOUT), panel)
    steps = from_arrays([[1, math.nan, 3], [4, 5]], first=7)
    assert same(from_frame(steps.to_frame()), steps)


def test_split_and_append_are_inverse() -> None:
    panel = from_frame(long_frame(), LAYOUT)
    head, tail = panel.split(3)
    assert head.lengths.tolist() == [1, 4] and tail.lengths.tolist() == [3, 3]
    assert same(head.append(tail), panel)
    assert same(head.append(tail.select(torch.tensor([1, 0]))), panel)
    assert equal(head.future, panel.future), "the future of a shorter series is known further"
    assert (head.stamps(1, 3) == panel.stamps(1, 3, 4)).all()


def test_selected_series_keep_what_is_theirs() -> None:
    panel = from_frame(long_frame(), LAYOUT)
    one = panel.select(torch.tensor([1]))
    only = from_frame(long_frame().filter(polars.col("unique_id") == "a"), LAYOUT)
    assert same(one, only)
    assert panel.longer_than(4).tolist() == [1]


def test_zones_are_turned_to_utc() -> None:
    texts = polars.DataFrame({"ds": ["2024-01-01T00:00+01:00", "2024-01-01T01:00+01:00"], "y": [1, 2]})
    zoned = texts.with_columns(polars.col("ds").str.to_datetime("%Y-%m-%dT%H:%M%:z", time_unit="ms"))
    berlin = zoned.with_columns(polars.col("ds").dt.convert_time_zone("Europe/Berlin"))
    short = texts.with_columns(polars.col("ds").str.replace("+01:00", "+01", literal=True))
    panels = [from_frame(frame, Layout(series=None)) for frame in (texts, short, zoned, berlin)]
    for panel in panels:
        assert panel.zone == "UTC" and str(panel.stamps(0, 1, 0)[0]) == "2023-12-31T23:00:00.000000"
    assert panels[0].to_frame()["ds"].dtype == polars.Datetime("us", "UTC")


def test_arrays_of_all_shapes() -> None:
    values = np.arange(6.0)
    assert from_arrays(values).lengths.tolist() == [6]
    assert from_arrays(values.reshape(2, 3)).y[1].tolist() == [3, 4, 5]
    assert from_arrays(torch.arange(6).view(3, 2)).lengths.tolist() == [2, 2, 2]
    assert from_arrays([1, 2.5]).y.values.tolist() == [1, 2.5]
    ragged = from_arrays([values, values[:2].astype("f4")], ids=["x", "y"], first="2024-03-31", frequency="me")
    assert ragged.lengths.tolist() == [6, 2] and str(ragged.stamps(1, 1)[0])[:10] == "2024-05-31"


def test_pandas_frames_give_what_polars_frames_give() -> None:
    frame = long_frame()
    columns = frame.with_columns(polars.col("ds").cast(polars.Datetime("us"))).to_dict(as_series=False)
    other = pandas.DataFrame(columns)
    expected = from_frame(frame, LAYOUT)
    assert same(from_frame(other, LAYOUT), expected)
    odd = other.astype({"shop": "category", "open": "boolean", "y": "Float64", "unique_id": object})
    assert same(from_frame(odd, LAYOUT), expected)
    zoned = other.assign(ds=other["ds"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    assert from_frame(zoned, LAYOUT).zone == "UTC" and equal(from_frame(zoned, LAYOUT).first, expected.first)


def test_test_tables_continue_the_training_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "a.csv").write_text(
        "unique_id,ds,y\n" + "".join(f"{s},2024-01-0{d},{d}\n" for s in "xy" for d in (1, 2, 3))
    )
    (tmp_path / "b.csv").write_text("unique_id,ds,y\ny,2024-01-04,8\nx,2024-01-04,9\n")
    train, test = LongTable("a.csv", "b.csv").load()
    assert test is not None and test.ids == ["x", "y"] and test.y.values.tolist() == [9, 8]
    held = LongTable("a.csv", test_steps=1).test()
    assert held is not None and held.y.values.tolist() == [3, 3]
    assert LongTable("a.csv").test() is None
    (tmp_path / "c.csv").write_text("unique_id,ds,y\nx,10,1\nx,14,2\nx,12,\n")
    (tmp_path / "d.csv").write_text("unique_id,ds,y\nx,16,1\n")
    by_two = LongTable("c.csv", "d.csv").read()
    assert by_two.frequency.alias == "2step" and by_two.stamps(0, 2).tolist() == [16, 18]
    given = GivenSeries(train, test.select(torch.tensor([1, 0]))).load()
    assert given[0] is train and given[1] is not None and same(given[1], test)


def test_wide_tables_give_a_series_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    (tmp_path / "a.csv").write_text("date,u,v\n2024-01-01 00:00,1,4\n2024-01-01 02:00,3,\n2024-01-01 01:00,2,5\n")
    panel = WideTable("a.csv").read()
    assert panel.ids == ["u", "v"] and panel.y.values.nan_to_num(-1).tolist() == [1, 2, 3, 4, 5, -1]
    assert panel.frequency.alias == "h" and panel.season == 24
    (tmp_path / "b.csv").write_text("u\n1\n2\n3\n")
    monkeypatch.setattr(long_format, "CHUNK", 2)
    assert WideTable("b.csv", time_column=None).read().y.values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("source", [Embedded(), Airline(), BookSeries()], ids=lambda source: type(source).__name__)
def test_embedded_sources_need_no_file(source: SeriesSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", "/nowhere")
    train, test = source.load()
    assert test is not None and len(train) == 1
    whole = train.append(test)
    assert not whole.y.values.isnan().any() and whole.lengths.item() in (309, 144, 300)


def test_the_book_series_is_its_formula() -> None:
    train, test = BookSeries().load()
    assert test is not None
    values = torch.cat([train.y.values, test.y.values])
    expected = [k / 10 * math.sin(k / 10) / 3 + 2 * math.sin(k / 2) for k in range(300)]
    assert values.tolist() == pytest.approx(expected, abs=1e-12)


def test_written_numbers_equal_the_published_files(data_root: Path) -> None:
    sunspots = polars.read_csv(data_root / "series/statsmodels/sunspots.csv")
    assert sunspots["YEAR"].to_list() == list(range(1700, 2009)) and sunspots["SUNACTIVITY"].to_list() == [*SUNSPOTS]
    airline = polars.read_csv(data_root / "series/darts/AirPassengers.csv")
    assert airline["#Passengers"].to_list() == [*AIRLINE] and airline["Month"][0] == "1949-01"
    train, test = Airline().load()
    read = WideTable("series/darts/AirPassengers.csv", 24, "Month").read()
    assert test is not None and equal(train.y, read.y) and equal(train.first, read.first)
    assert (train.frequency, train.season) == (read.frequency, read.season)
    years = LongTable("series/statsmodels/sunspots.csv", None, 22, None, "YEAR", "SUNACTIVITY", frequency="y").read()
    assert equal(years.y, Embedded().read().y) and equal(years.first, Embedded().read().first)


@pytest.mark.parametrize(
    ("group", "series", "steps", "horizon", "season", "last"),
    [("Hourly", 414, (700, 960), 48, 24, (13, 39)), ("Weekly", 359, (80, 2597), 13, 1, (3965, 2874))],
)
def test_m4_files(
    data_root: Path, group: str, series: int, steps: tuple[int, int], horizon: int, season: int, last: tuple[int, int]
) -> None:
    train, test = M4(group).load()  # type: ignore[arg-type]
    assert test is not None and len(train) == series and train.season == season
    assert (int(train.lengths.min()), int(train.lengths.max())) == steps and set(test.lengths.tolist()) == {horizon}
    lines = (data_root / f"m4/{group}-train.csv").read_text().splitlines()
    for row in (0, series // 2, series - 1):
        fields = [field.strip('"') for field in lines[row + 1].split(",")]
        assert train.ids[row] == fields[0] and train.y[row].tolist() == [float(field) for field in fields[1:] if field]
    assert train.append(test).lengths.equal(train.lengths + horizon)


def test_m3_file(data_root: Path) -> None:
    train, test = M3().load()
    assert test is not None and len(train) == 1428 and set(test.lengths.tolist()) == {18} and train.season == 12
    assert train.ids[0] == "M1078" and train.y[0][:3].tolist() == [14300, 14230, 15580]
    assert str(train.stamps(0, 1, 0)[0])[:10] == "1994-07-01" and int(train.lengths.min()) == 48


def test_ett_has_the_standard_borders(data_root: Path) -> None:
    source = ETT()
    train, test = source.load()
    assert test is not None and source.borders == (8640, 2880, 2880) and source.val_steps == 2880
    table = polars.read_csv(data_root / "ett/ETTh1.csv")
    assert train.ids == table.columns[1:] and train.frequency.alias == "h"
    whole = train.append(test).y.values.view(7, -1).T
    assert torch.equal(whole, torch.from_numpy(table[:14400].drop("date").to_numpy()))
    assert test.stamps(0, 1, 0).astype(str)[0][:19] == table["date"][11520].replace(" ", "T")


def by_brute_force(train: Panel, test: Panel) -> list[Overlap]:
    found = []
    for row, name in enumerate(test.ids):
        segment = test.y[row].tolist()
        places = [
            Overlap(name, other, step)
            for number, other in enumerate(train.ids)
            for step in range(int(train.lengths[number]) - len(segment) + 1)
            if other != name and train.y[number][step : step + len(segment)].tolist() == segment
        ]
        found += places[:1]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_overlaps_equal_a_plain_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    train = from_arrays([random.integers(0, 2, random.integers(3, 40)) for _ in range(8)])
    test = from_arrays([random.integers(0, 2, random.integers(2, 8)) for _ in range(8)])
    found = overlaps(train, test)
    assert found == by_brute_force(train, test) and len(found) > 0


def test_overlaps_inside_m4(data_root: Path) -> None:
    for group, names in (("Weekly", ["W53", "W221", "W222", "W290"]), ("Hourly", [])):
        train, test = M4(group).load()  # type: ignore[arg-type]
        assert test is not None
        assert [overlap.id for overlap in overlaps(train, test)] == names


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", "/nowhere")
    for source in (M4(), M3(), ETT(), LongTable(), WideTable()):
        with pytest.raises(DataError, match=r"no file /nowhere/.*LIGHTNING_RNN_DATA"):
            source.read()
