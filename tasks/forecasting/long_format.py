"""Rows of a long table, one step of one series each, from files and data frames."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars

from lightning_rnn.data.cells import Record
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import ConfigError, DataError, require

from .columns import Column, Floats, Stamps, numbers, shown, stamps, words, zone_fault
from .frequency import Ints

_imported_by = os.getpid()
CHUNK = 65_536  # rows held as Python objects at once


@dataclass(frozen=True)
class Layout:
    """What the columns of a long table are.

    Attributes:
        series: names of the series; None where the table is one series.
        time: stamps, dates or whole numbers; None counts the rows of a table that is one series.
        value: values.
        static: numbers that are the same in all rows of a series.
        categories: names that are.
        past: numbers known as long as the value is.
        future: numbers known beyond the last value: rows at the end of a series whose value is empty hold them.
    """

    series: str | None = "unique_id"
    time: str | None = "ds"
    value: str = "y"
    static: Sequence[str] = ()
    categories: Sequence[str] = ()
    past: Sequence[str] = ()
    future: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = self.names()
        require(
            self.time is not None or self.series is None, "a table of many series needs a column of stamps: name it"
        )
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"the column {name!r} is declared {names.count(name)} times: declare it once")

    def names(self) -> list[str]:
        """All columns that a table must have."""
        first = [name for name in (self.series, self.time) if name is not None]
        return [*first, self.value, *self.static, *self.categories, *self.past, *self.future]


@dataclass(frozen=True)
class Rows:
    """Rows of a long table, ``R`` of them, of ``N`` series.

    Attributes:
        origin: the table, for messages.
        ids: names of the series, in the order of their first rows.
        series: int64 ``[R]``, the series of each row.
        stamps: of each row.
        numbers: float64 ``[R]`` by column; the value is one of them.
        words: int64 ``[R]`` by column, places in ``known``.
        known: the names there are, by column.
        places: int64 ``[R]``, the rows' numbers in the table.
    """

    origin: str
    ids: list[str]
    series: Ints
    stamps: Stamps
    numbers: dict[str, Floats]
    words: dict[str, Ints]
    known: dict[str, list[str]]
    places: Ints

    def take(self, order: Ints) -> Rows:
        """The rows named (int64 ``[M]``), in that order."""
        return Rows(
            self.origin,
            self.ids,
            self.series[order],
            self.stamps._replace(values=self.stamps.values[order]),
            {name: values[order] for name, values in self.numbers.items()},
            {name: values[order] for name, values in self.words.items()},
            self.known,
            self.places[order],
        )

    def where(self, row: int) -> str:
        """How a message names a row."""
        stamp = shown(int(self.stamps.values[row]), self.stamps.dated)
        return f"{self.origin}, row {self.places[row]}: series {self.ids[self.series[row]]!r} at {stamp}"


@dataclass
class _Names:
    """Numbers for names, in the order in which they come."""

    known: dict[str, int] = field(default_factory=dict)

    def numbers(self, names: Iterable[str]) -> Ints:
        known = self.known
        return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


class _Reader:
    """Takes a table chunk by chunk; what it keeps of each is arrays."""

    def __init__(self, layout: Layout, origin: str) -> None:
        self.layout, self.origin = layout, origin
        self.names = {name: _Names() for name in (layout.series, *layout.categories) if name is not None}
        self.coded: dict[str, list[Ints]] = {name: [] for name in self.names}
        self.floats: dict[str, list[Floats]] = {
            name: [] for name in (layout.value, *layout.static, *layout.past, *layout.future)
        }
        self.stamps: list[Stamps] = []
        self.places: list[Ints] = []

    def take(self, columns: dict[str, Column]) -> None:
        for name in self.names:
            what = "name of the series" if name == self.layout.series else "category"
            self.coded[name].append(self.names[name].numbers(words(columns[name], what)))
        for name in self.floats:
            self.floats[name].append(numbers(columns[name]))
        places = columns[self.layout.value].rows
        self._take_stamps(None if self.layout.time is None else columns[self.layout.time], len(places))
        self.places.append(np.asarray(places, np.int64))

    def _take_stamps(self, column: Column | None, count: int) -> None:
        if column is None:
            self.stamps.append(Stamps(np.arange(count) + sum(map(len, self.places)), False, None))
            return
        found = stamps(column)
        first = self.stamps[0] if self.stamps else found
        if found.dated != first.dated:
            raise column.wrong(0, "a date where the first stamp is a number, or the other way: write all in one way")
        if found.zone != first.zone:
            raise column.wrong(0, zone_fault(found.zone, first.zone))
        self.stamps.append(found)

    def rows(self) -> Rows:
        coded = {name: np.concatenate(parts) for name, parts in self.coded.items()}
        known = {name: list(names.known) for name, names in self.names.items()}
        places = np.concatenate(self.places)
        one = self.layout.series is None
        return Rows(
            self.origin,
            [Path(self.origin).name.split(".")[0]] if one else known.pop(str(self.layout.series)),
            np.zeros(len(places), np.int64) if one else coded.pop(str(self.layout.series)),
            self.stamps[0]._replace(values=np.concatenate([part.values for part in self.stamps])),
            {name: np.concatenate(parts) for name, parts in self.floats.items()},
            coded,
            known,
            places,
        )


def _parquet_frame(path: Path, names: list[str]) -> polars.DataFrame | None:
    """The columns wanted, at once; None in a forked process, where polars could wait for ever, or where it fails.

    What is None is read row by row, with the fault and its place named.
    """
    if path.suffix != ".parquet" or os.getpid() != _imported_by:
        return None
    try:
        return polars.scan_parquet(path, glob=False).select(names).collect(engine="in-memory")
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError):
        return None


def _chunks(path: Path) -> Iterator[list[Record]]:
    records = read_records(path)
    while chunk := list(islice(records, CHUNK)):
        yield chunk


def rows_of_file(path: Path, layout: Layout) -> Rows:
    """The rows of a table that :func:`lightning_rnn.data.tables.read_records` reads: CSV, TSV, JSON lines, Parquet.

    Args:
        path: of the file, as it is.
        layout: its columns; others are not read.

    Raises:
        DataError: the file is broken, has no rows or no such column, or a cell is not what its column is.
    """
    frame = _parquet_frame(path, layout.names())
    if frame is not None and len(frame):
        return _rows_of_columns({name: _polars_column(frame[name], str(path), 1) for name in frame.columns}, layout)
    reader = _Reader(layout, str(path))
    for chunk in _chunks(path):
        places = [record.number for record in chunk]
        columns = dict[str, Column]()
        for name in layout.names():
            chunk[0].get(name)  # names what is absent
            cells = [record.cells.get(name) for record in chunk]
            columns[name] = Column(name, cells, str(path), places)
        reader.take(columns)
    return reader.rows()


def _rows_of_columns(columns: dict[str, Column], layout: Layout) -> Rows:
    reader = _Reader(layout, next(iter(columns.values())).origin)
    reader.take(columns)
    return reader.rows()


def _polars_column(values: polars.Series, origin: str, begin: int = 0) -> Column:
    name, places, kind = values.name, range(begin, begin + len(values)), values.dtype
    if isinstance(kind, polars.Datetime | polars.Date):
        zone = kind.time_zone if isinstance(kind, polars.Datetime) else None
        plain = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else values
        return Column(name, plain.cast(polars.Datetime("us")).to_numpy(), origin, places, zone)
    if kind.is_numeric() and not kind.is_decimal() and not values.null_count():
        return Column(name, values.to_numpy(), origin, places)
    return Column(name, values.to_list(), origin, places)


def _pandas_column(values: Any, name: str, origin: str) -> Column:
    """Of a pandas Series, without pyarrow."""
    places, kind = range(len(values)), values.dtype.kind
    if kind == "M":
        zone = values.dt.tz
        values = values if zone is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return Column(name, values.to_numpy("datetime64[us]"), origin, places, zone and str(zone))
    if kind in "fiub" and not values.isna().any():
        return Column(name, values.to_numpy(), origin, places)
    cells = values.astype(object)
    return Column(name, cells.where(cells.notna(), None).tolist(), origin, places)


def rows_of_frame(frame: Any, layout: Layout) -> Rows:
    """The rows of a polars or pandas DataFrame; messages count them from 0.

    Raises:
        ConfigError: it is neither.
        DataError: as :func:`rows_of_file`, or two columns have one name.
    """
    pandas = sys.modules.get("pandas")  # who has one of its frames has imported it
    of_polars = isinstance(frame, polars.DataFrame)
    if not of_polars and (pandas is None or not isinstance(frame, pandas.DataFrame)):
        raise ConfigError(f"a frame of polars or pandas is wanted, got {type(frame).__name__}: build one of these")
    origin = "the polars frame" if of_polars else "the pandas frame"
    if not len(frame):
        raise DataError(f"{origin} has no rows: put some in")
    names = [str(name) for name in frame.columns]
    absent = Record(Path(origin), 0, dict.fromkeys(names))
    columns = dict[str, Column]()
    for name in layout.names():
        absent.get(name)
        place = names.index(name)
        if names.count(name) > 1:
            raise DataError(f"{origin}: the column {name!r} is there {names.count(name)} times: rename one")
        if of_polars:
            columns[name] = _polars_column(frame.to_series(place), origin)
        else:
            columns[name] = _pandas_column(frame.iloc[:, place], name, origin)
    return _rows_of_columns(columns, layout)
