"""Series of files: tables in long format, the competitions' own files, the ETT set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.errors import DataError
from lightning_rnn.paths import existing

from .checks import check_series
from .columns import Column, numbers
from .frames import chosen_season, read_columns, read_long
from .frequency import Frequency
from .long_format import Layout
from .panel import Panel, in_order
from .source import SeriesSource, held_out
from .wide import parse_values, read_cells, read_wide

Group = Literal["Yearly", "Quarterly", "Monthly", "Weekly", "Daily", "Hourly"]
M4_SEASONS: dict[str, int] = {"Yearly": 1, "Quarterly": 4, "Monthly": 12, "Weekly": 1, "Daily": 1, "Hourly": 24}
_OF_PERIODS = {1: "y", 4: "q", 12: "m"}


class LongTable(SeriesSource):
    """A table with one row a step of a series: CSV, TSV, JSON lines (compressed or not) or Parquet.

    Rows may be in any order; steps that are absent inside a series, and empty values, are missing. With known-future
    columns, rows at the end of a series whose value is empty are its future, not missing values.

    Args:
        path: of the table, relative to the data folder.
        test_path: of a table of the same columns that goes on where the first ends; None is none.
        test_steps: in its place, the last steps of every series that are the test part.
        id_column: names of the series; None where the table is one series.
        time_column: dates (ISO 8601) or whole numbers.
        value_column: the values, empty where one is missing.
        static: columns of numbers, the same in all rows of a series.
        categories: columns of names, the same in all rows of a series.
        past: columns of numbers that are known as long as the value is.
        future: columns of numbers that are known beyond it.
        frequency: what lies between two steps (``h``, ``15min``, ``d``, ``b``, ``w``, ``m``, ``q``, ``y``); None takes
            the most frequent step.
        season: steps of a season; None takes the frequency's.
        predict_path: of a table of the same columns, of the series to forecast, new ones say; None: those of ``path``.
    """

    def __init__(
        self,
        path: str = "series.csv",
        test_path: str | None = None,
        test_steps: int = 0,
        id_column: str | None = "unique_id",
        time_column: str = "ds",
        value_column: str = "y",
        static: list[str] | None = None,
        categories: list[str] | None = None,
        past: list[str] | None = None,
        future: list[str] | None = None,
        frequency: str | None = None,
        season: int | None = None,
        predict_path: str | None = None,
    ) -> None:
        self.path, self.test_path, self.test_steps, self.predict_path = path, test_path, test_steps, predict_path
        self.layout = Layout(
            id_column, time_column, value_column, static or [], categories or [], past or [], future or []
        )
        self.frequency, self.season = frequency, season

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        panel = read_long(existing(self.path), self.layout, self.frequency, self.season)
        if self.test_path is None:
            return held_out(panel, self.test_steps)
        test = read_long(existing(self.test_path), self.layout, panel.frequency, self.season)
        if self.layout.series is None:
            test = replace(test, ids=panel.ids)  # files have other names
        return panel, panel.following(test)

    def new(self) -> Panel | None:
        """See :meth:`SeriesSource.new`."""
        if self.predict_path is None:
            return None
        return read_long(existing(self.predict_path), self.layout, self.frequency, self.season)


class WideTable(SeriesSource):
    """A table with one row a step and one column a series, as the long-horizon benchmarks have them.

    Args:
        path: of the table (CSV, TSV, JSON lines, Parquet), relative to the data folder.
        test_steps: last steps of every series that are the test part; 0 is none.
        time_column: dates (ISO 8601) or whole numbers; None counts rows.
        frequency: what lies between two steps; None takes the most frequent step.
        season: steps of a season; None takes the frequency's.
        predict_path: of a table like it, of the series to forecast, new ones say; None: those of ``path``.
    """

    def __init__(
        self,
        path: str = "series.csv",
        test_steps: int = 0,
        time_column: str | None = "date",
        frequency: str | None = None,
        season: int | None = None,
        predict_path: str | None = None,
    ) -> None:
        self.path, self.test_steps, self.predict_path, self.time_column = path, test_steps, predict_path, time_column
        self.frequency, self.season = frequency, season

    def _read(self, path: str) -> Panel:
        return read_columns(existing(path), self.time_column, self.frequency, self.season)

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        return held_out(self._read(self.path), self.test_steps)

    def new(self) -> Panel | None:
        """See :meth:`SeriesSource.new`."""
        return None if self.predict_path is None else self._read(self.predict_path)


class M4(SeriesSource):
    """A frequency of the M4 competition (2018) in its own files, ``Hourly-train.csv`` and ``Hourly-test.csv``.

    The files have no dates: steps are counted from 0. The test part is the competition's horizon.

    Args:
        group: of the series: Yearly, Quarterly, Monthly, Weekly, Daily or Hourly.
        folder: of the files, relative to the data folder.
        season: steps of a season; None takes the competition's.
        predict_path: of a file like them, of the series to forecast, new ones say; None: those of the competition.
    """

    def __init__(
        self, group: Group = "Hourly", folder: str = "m4", season: int | None = None, predict_path: str | None = None
    ) -> None:
        self.group, self.folder, self.season, self.predict_path = group, folder, season, predict_path

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        train, test = (self._part(f"{self.folder}/{self.group}-{name}.csv") for name in ("train", "test"))
        return train, train.following(replace(test.select(in_order(train, test)), first=train.lengths))

    def new(self) -> Panel | None:
        """See :meth:`SeriesSource.new`."""
        return None if self.predict_path is None else self._part(self.predict_path)

    def _part(self, name: str) -> Panel:
        season = chosen_season(self.season or M4_SEASONS[self.group], Frequency())
        path = existing(name)
        names, series = read_wide(path)
        panel = Panel(names, series, torch.zeros(len(names), dtype=torch.int64), Frequency(), season, str(path))
        check_series(panel)
        return panel


class M3(SeriesSource):
    """Series of the M3 competition (2000), one a row: name, year and period of the first step, periods a year, horizon.

    The values follow, the horizon among them: the last ``horizon`` of a row are the test part.

    Args:
        path: of the file, relative to the data folder.
        season: steps of a season; None takes the periods of a year.
    """

    def __init__(self, path: str = "m3/m3_monthly.csv", season: int | None = None) -> None:
        self.path, self.season = path, season

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`."""
        path = existing(self.path)
        _, rows = read_cells(path)
        heads = np.array([_head(fields, path, number) for number, fields in rows], np.int64)
        years, periods, of_year, horizon = heads.T
        if len(set(of_year)) > 1 or len(set(horizon)) > 1 or int(of_year[0]) not in _OF_PERIODS:
            raise DataError(
                f"{path}: all series must have the same horizon and 1, 4 or 12 periods a year: split the file"
            )
        months = (years - 1970) * 12 + (periods - 1) * (12 // of_year)
        first = torch.from_numpy(months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64))
        frequency = Frequency(1, _OF_PERIODS[int(of_year[0])])
        y = Ragged.from_list([_values(fields, path, number) for number, fields in rows])
        names = [fields[0] for _, fields in rows]
        panel = Panel(names, y, first, frequency, self.season or frequency.season, str(path))
        check_series(panel)
        return held_out(panel, int(horizon[0]))


def _head(fields: list[str], path: Path, number: int) -> list[int]:
    values = numbers(Column("start_year to horizon", fields[1:5], str(path), [number] * 4))
    if len(values) < 4 or not (values == values.round()).all():
        raise DataError(f"{path}, row {number}: {fields[1:5]} are not four whole numbers: mend this row")
    return [int(value) for value in values]


def _values(fields: list[str], path: Path, number: int) -> Tensor:
    return parse_values(fields[5:], path, number)


class ETT(SeriesSource):
    """Oil temperature and loads of a transformer (Zhou et al. 2021, Informer): the columns as series of one frame.

    The standard borders: 12 months to train, 4 to validate, 4 to test, of 30 days each; what follows is left out.

    Args:
        path: of ``ETTh1.csv`` or another of the set, relative to the data folder.
        season: steps of a season; None takes a day.
    """

    def __init__(self, path: str = "ett/ETTh1.csv", season: int | None = None) -> None:
        self.path, self.season = path, season

    @property
    def borders(self) -> tuple[int, int, int]:
        """Steps to train, to validate and to test on: 8640, 2880, 2880 by the hour, four times these by 15 minutes."""
        month = 30 * 24 * (4 if Path(self.path).name.startswith("ETTm") else 1)
        return 12 * month, 4 * month, 4 * month

    @property
    def val_steps(self) -> int:
        """The steps of the four months to validate on."""
        return self.borders[1]

    def load(self) -> tuple[Panel, Panel | None]:
        """See :meth:`SeriesSource.load`; the validation part is in the first, at its end."""
        path = existing(self.path)
        panel = read_columns(path, "date", None, self.season)
        train, val, test = self.borders
        whole = int(panel.lengths[0])
        if whole < train + val + test:
            raise DataError(
                f"{path} has {whole} steps, the standard borders need {train + val + test}: download it again"
            )
        return panel.head(train + val + test).split(test)
