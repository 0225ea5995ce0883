"""A mistake in the data is one sentence: what is wrong, where, and what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

from lightning_rnn.errors import ConfigError, DataError, UserError
from tasks.forecasting.checks import Categories, check_future
from tasks.forecasting.embedded import Airline
from tasks.forecasting.frames import from_arrays, from_frame, read_long
from tasks.forecasting.long_format import Layout
from tasks.forecasting.panel import Panel
from tasks.forecasting.sources import ETT, M3, M4, LongTable

HEAD = "unique_id,ds,y\n"
DAYS = HEAD + "".join(f"{name},2024-01-{day:02},{day}\n" for name in "ab" for day in (1, 2, 3, 4))


def with_row(row: str, text: str = DAYS) -> str:
    return text + row + "\n"


TABLES = {
    "duplicate": (with_row("a,2024-01-03,9"), r"series 'a' at 2024-01-03 stands in rows 4 and 10: keep one row a step"),
    "irregular": (with_row("b,2024-01-05 07:00,9"), r"row 10: series 'b' at 2024-01-05 07:00:00 is not a whole number"),
    "irregular numbers": (HEAD + "a,0,1\na,2,1\na,4,1\na,5,1\n", r"row 5: series 'a' at 5 is not a whole .* first, 0"),
    "far away": (with_row("b,2924-01-05,9"), r"series 'b' has 5 rows over 328,\d+ steps: mend a stamp"),
    "all missing": (HEAD + "a,1,2\na,2,3\nc,1,\nc,2,NA\n", r"series 'c' has no value at all"),
    "all missing, several": (HEAD + "a,1,2\na,2,3\nc,1,\nd,2,\n", r"series 'c' \(and 1 more\) has no value at all"),
    "infinite": (with_row("b,2024-01-05,inf"), r"row 10, column 'y': inf is not a finite number"),
    "no number": (
        with_row("b,2024-01-05,many"),
        r"row 10, column 'y': 'many' is not a number: mend it, leave it empty",
    ),
    "decimal comma": (with_row('b,2024-01-05,"1,5"'), r"row 10, column 'y': '1,5' is not a number"),
    "underscore": (with_row("b,2024-01-05,1_000"), r"row 10, column 'y': '1_000' is not a number"),
    "no date": (with_row("b,soon,9"), r"row 10, column 'ds': 'soon' is neither a date nor a whole number: write 2024-"),
    "american date": (
        HEAD + "a,1/31/2024,1\n",
        r"row 2, column 'ds': '1/31/2024' is neither a date nor a whole number",
    ),
    "no such day": (with_row("b,2024-02-30,9"), r"row 10, column 'ds': '2024-02-30' is neither a date"),
    "today": (with_row("b,today,9"), r"'today' is neither a date"),
    "year below 0": (HEAD + "a,-999-01-01,1\n", r"'-999-01-01' is neither a date"),
    "empty stamp": (with_row("b,,9"), r"row 10, column 'ds': '' is neither a date"),
    "date among numbers": (HEAD + "a,1,1\na,2024-01-01,1\n", r"row 3, column 'ds': '2024-01-01' is not a whole number"),
    "dates after numbers": (
        HEAD + "a,1,1\na,2,1\na,2024-01-01,1\n",
        r"row 4, column 'ds': (a date where the first stamp is a number|'2024-01-01' is not a whole number)",
    ),
    "broken number": (HEAD + "a,1,1\na,1.5,1\n", r"row 3, column 'ds': '1.5' is not a whole number"),
    "some zones": (
        with_row("b,2024-01-05T00:00Z,9"),
        r"row 10, column 'ds': .* in the time zone \+00:00 .* without one",
    ),
    "two zones": (
        HEAD + "a,2024-01-05T00:00+01:00,9\na,2024-01-06T00:00+02:00,9\n",
        r"row 3, column 'ds': a stamp in the time zone \+02:00 where the first is in \+01:00: write all stamps in UTC",
    ),
    "no name": (with_row(",2024-01-05,9"), r"row 10, column 'unique_id': the name of the series is empty"),
    "unknown column": (DAYS.replace("ds,y", "ds,Y"), r"row 2: no column 'y', only .*: did you mean 'Y'\?"),
    "short row": (with_row("b,2024-01-05"), r"row 10: 2 fields where the first row has 3"),
    "no frequency": (HEAD + "a,2024-01-05,1\n", r"no series has two steps to see a frequency by: give the frequency"),
    "late days": (HEAD + "a,2024-01-30,1\na,2024-03-30,1\na,2024-05-30,1\n", None),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("zoned_chunk", [65_536, 2])
def test_a_broken_table_is_named(tmp_path: Path, name: str, zoned_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.forecasting.long_format.CHUNK", zoned_chunk)
    text, message = TABLES[name]
    (tmp_path / "a.csv").write_text(text)
    if message is None:
        assert read_long(tmp_path / "a.csv", Layout()).y.values.isnan().sum() == 0
        return
    with pytest.raises(DataError, match=message) as caught:
        read_long(tmp_path / "a.csv", Layout())
    one_sentence(caught.value, tmp_path / "a.csv")


def one_sentence(error: UserError, path: Path | None = None) -> None:
    text = str(error)
    assert "\n" not in text and (": " in text or ", got " in text) and len(text) < 400
    assert path is None or text.startswith(str(path))


def frame(**columns: object) -> polars.DataFrame:
    return polars.DataFrame({"unique_id": ["a", "a", "b"], "ds": [0, 1, 0], "y": [1.0, 2.0, 3.0]} | columns)


def layout(**names: list[str]) -> Layout:
    return Layout(**names)  # type: ignore[arg-type]


def unseen() -> None:
    def of(shop: str) -> Panel:
        return from_frame(frame(shop=["n", "n", shop]), layout(categories=["shop"]))

    Categories.of(of("m")).encode(of("z"))


def no_category() -> None:
    Categories.of(from_frame(frame(shop=["n", "n", "m"]), layout(categories=["shop"]))).encode(from_frame(frame()))


def future(prices: list[float | None], horizon: int) -> None:
    rows = {"unique_id": ["a"] * 4, "ds": [0, 1, 2, 3], "y": [1.0, 2.0, None, None], "price": prices}
    check_future(from_frame(polars.DataFrame(rows), layout(future=["price"])), horizon)


def follow(first: int, ids: list[str], frequency: str | None = None) -> None:
    start: int | str = first if frequency is None else "2024-01-01"
    train = from_arrays([[1, 2], [3, 4, 5]], ["a", "b"])
    train.append(from_arrays([[1]] * len(ids), ids, start, frequency))


CALLS: dict[str, tuple[Callable[[], object], type[UserError], str]] = {
    "static changes": (
        lambda: from_frame(frame(size=[1, 2, 3]), layout(static=["size"])),
        DataError,
        r"row 1: series 'a' at 1, column 'size': 2.0 after 1.0, but a static column has one value a series",
    ),
    "category changes": (
        lambda: from_frame(frame(shop=["n", "m", "n"]), layout(categories=["shop"])),
        DataError,
        r"series 'a' at 1, column 'shop': 'm' after 'n'",
    ),
    "static missing": (
        lambda: from_frame(frame(size=[1, 1, None]), layout(static=["size"])),
        DataError,
        r"row 2: series 'b' at 0, column 'size': a static value is missing",
    ),
    "words in numbers": (
        lambda: from_frame(frame(size=["s", "s", "m"]), layout(static=["size"])),
        DataError,
        r"row 0, column 'size': 's' is not a number",
    ),
    "category empty": (
        lambda: from_frame(frame(shop=["n", "n", None]), layout(categories=["shop"])),
        DataError,
        r"row 2, column 'shop': the category is null",
    ),
    "unseen category": (
        unseen,
        DataError,
        r"series 'b', column 'shop': 'z' is not among .* \(m, n\): use one of these",
    ),
    "no category": (no_category, DataError, r"no static column 'shop', which the training series have"),
    "future too short": (
        lambda: future([1, 2, 3, 4], 3),
        DataError,
        r"'price' of series 'a' has no value at 4, step 3 of",
    ),
    "future with a gap": (
        lambda: future([1, 2, None, 4], 2),
        DataError,
        r"'price' of series 'a' has no value at 2, step 1",
    ),
    "unknown column": (
        lambda: from_frame(frame(), layout(past=["rain"])),
        DataError,
        r"the polars frame, row 0: no column 'rain', only 'unique_id', 'ds', 'y'",
    ),
    "declared twice": (lambda: Layout(past=["x"], future=["x"]), ConfigError, r"'x' is declared 2 times"),
    "not a frame": (lambda: from_frame({"y": [1]}), ConfigError, r"a frame of polars or pandas is wanted, got dict"),
    "empty frame": (lambda: from_frame(frame()[:0]), DataError, r"the polars frame has no rows"),
    "empty stamp": (
        lambda: from_frame(frame(ds=polars.Series([None, None, None], dtype=polars.Date))),
        DataError,
        r"row 0, column 'ds': the stamp is empty",
    ),
    "horizon": (
        lambda: from_arrays([[1], [1, 2, 3], [1, 2]], ["x", "y", "z"]).cut(2),
        DataError,
        r"series 'x' \(and 1 more\) has 1 steps, a horizon of 2 needs at least 3",
    ),
    "horizon 0": (lambda: from_arrays([1]).cut(0), ConfigError, r"horizon must be at least 1, got 0"),
    "test steps": (lambda: Airline(144).load(), DataError, r"series 'airline' has 144 steps, a horizon of 144"),
    "negative test steps": (lambda: Airline(-1).load(), ConfigError, r"test_steps must be 0 or more, got -1"),
    "season": (lambda: Airline(season=0).load(), ConfigError, r"season must be at least 1"),
    "infinite": (lambda: from_arrays([[1, math.inf]]), DataError, r"series '0', step 2: inf is not a finite number"),
    "all missing": (lambda: from_arrays([[math.nan]]), DataError, r"series '0' has no value at all"),
    "words": (lambda: from_arrays([["x"]]), DataError, r"series 0 is <U1 \[1\]: give numbers"),
    "empty array": (lambda: from_arrays([[1], []]), DataError, r"series 1 is float64 \[0\]"),
    "no array": (lambda: from_arrays([]), DataError, r"there are no series"),
    "three axes": (lambda: from_arrays(np.zeros((1, 2, 3))), DataError, r"\[1, 2, 3\] is no series"),
    "names": (lambda: from_arrays([[1], [2]], ["x"]), DataError, r"1 names for 2 series"),
    "same names": (lambda: from_arrays([[1], [2]], ["x", "x"]), DataError, r"2 series are called 'x'"),
    "date without frequency": (
        lambda: from_arrays([1], first="2024-01-01"),
        ConfigError,
        r"does not fit stamps that are",
    ),
    "frequency without date": (
        lambda: from_arrays([1], frequency="h"),
        ConfigError,
        r"frequency h does not fit stamps",
    ),
    "frequency": (lambda: from_arrays([1], first="2024-01-01", frequency="0h"), ConfigError, r"'0h' is not known"),
    "day 30": (
        lambda: from_arrays([1], first="2024-01-30", frequency="m"),
        DataError,
        r"2024-01-30 is on a day that not",
    ),
    "day 30, two months": (
        lambda: from_arrays([1], first="2024-12-30", frequency="2m"),
        DataError,
        r"2024-12-30 is on a day that not every month has",
    ),
    "not following": (lambda: follow(2, ["a", "b"]), DataError, r"series 'b' begins at 2, but .* just before 3"),
    "other series": (lambda: follow(2, ["a", "c"]), DataError, r"no series 'b', which is in"),
    "more series": (lambda: follow(2, ["a", "b", "c"]), DataError, r"series 'c' is not in"),
    "other frequency": (lambda: follow(2, ["a", "b"], "h"), DataError, r"the frequency h where .* has plain numbers"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_named(name: str) -> None:
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message) as caught:
        call()
    one_sentence(caught.value)


FILES: dict[str, tuple[dict[str, str], Callable[[], object], str]] = {
    "m4 number": ({"m4/Daily-train.csv": "V1,V2\nD1,x\n"}, lambda: M4("Daily").read(), r"row 2, .*'x' is not a number"),
    "m4 no name": (
        {"m4/Daily-train.csv": 'V1,V2\n"",1\n'},
        lambda: M4("Daily").read(),
        r"row 2: a series without a name",
    ),
    "m4 no value": (
        {"m4/Daily-train.csv": "V1,V2\nD1,\n"},
        lambda: M4("Daily").read(),
        r"row 2: a series without values",
    ),
    "m4 quote": ({"m4/Daily-train.csv": 'V1,V2\n"D,1",2\n'}, lambda: M4("Daily").read(), r"a quote or a comma inside"),
    "m4 empty": ({"m4/Daily-train.csv": "V1,V2\n"}, lambda: M4("Daily").read(), r"has no rows under its header"),
    "m4 other series": (
        {"m4/Daily-train.csv": "V1,V2\nD1,1\n", "m4/Daily-test.csv": "V1,V2\nD2,1\n"},
        lambda: M4("Daily").read(),
        r"Daily-test.csv: no series 'D1', which is in .*Daily-train.csv",
    ),
    "m3 head": (
        {"m3/m3_monthly.csv": "x\nM1,1990,one,12,1,3,4\n"},
        lambda: M3().read(),
        r"row 2, .*'one' is not a number",
    ),
    "m3 short": ({"m3/m3_monthly.csv": "x\nM1,1990\n"}, lambda: M3().read(), r"row 2: \['1990'\] are not four whole"),
    "m3 mixed": (
        {"m3/m3_monthly.csv": "x\nM1,1990,1,12,1,3,4\nM2,1990,1,12,2,3,4,5\n"},
        lambda: M3().read(),
        r"all series must have the same horizon and 1, 4",
    ),
    "ett short": (
        {"ett/ETTh1.csv": "date,OT\n2016-07-01 00:00:00,1\n2016-07-01 01:00:00,2\n"},
        lambda: ETT().read(),
        r"has 2 steps, the standard borders need 14400",
    ),
    "zones of the parts": (
        {"a.csv": HEAD + "a,2024-01-01,1\na,2024-01-02,1\n", "b.csv": HEAD + "a,2024-01-03T00:00Z,1\n"},
        lambda: LongTable("a.csv", "b.csv").read(),
        r"b.csv: the time zone UTC where .*a.csv has None",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_of_a_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    texts, call, message = FILES[name]
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        call()
    one_sentence(caught.value)
    assert re.search(str(tmp_path), str(caught.value))


def test_what_is_known_far_enough_is_let_through() -> None:
    future([1, 2, 3, 4], 2)
    future([None, 2, 3, 4], 2)
    check_future(from_arrays([1]), 5)
    known = Categories.of(from_frame(frame(shop=["n", "n", "m"]), layout(categories=["shop"])))
    assert known.sizes == [2]
    assert Categories.of(from_frame(frame(shop=["n", "n", "n"]), layout(categories=["shop"]))).known == {"shop": ["n"]}
    assert from_arrays([1], first="2024-01-30", frequency="2m").frequency.alias == "2m"
    assert known.encode(from_frame(frame(shop=["m", "m", "m"]), layout(categories=["shop"]))).tolist() == [[0], [0]]
    assert Categories.of(from_arrays([1])).encode(from_arrays([1])).shape == torch.Size([1, 0])
