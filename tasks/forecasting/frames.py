"""Long tables, data frames and arrays as panels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import ConfigError, DataError, require

from .checks import check_series
from .columns import Column, Floats
from .columns import stamps as stamps_of
from .frequency import Frequency, Ints
from .grid import positions, settle
from .long_format import Layout, Rows, rows_of_file, rows_of_frame
from .panel import Channels, Panel, span

log = logging.getLogger(__name__)
MOST_FILLED = 100  # steps for one row: beyond, a stamp is wrong rather than a step missing


def read_long(path: Path, layout: Layout, frequency: Frequency | str | None = None, season: int | None = None) -> Panel:
    r"""A table in long format, ``.csv .tsv .txt .jsonl`` (or one of these compressed) or ``.parquet``.

    Rows may be in any order. Steps that are absent inside a series become missing values.

    Args:
        path: of the file, as it is.
        layout: what its columns are.
        frequency: itself or what :meth:`Frequency.parse` takes; None takes the most frequent step.
        season: steps of a season; None takes the frequency's.

    Raises:
        ConfigError: an unknown frequency, or dates where it is for numbers.
        DataError: the table is broken; names the row, the column or the series.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.csv").write_text("ds,y\n2024-01-01,1\n2024-01-03,\n2024-01-02,3\n")
        ...     panel = read_long(Path(folder, "a.csv"), Layout(series=None))
        >>> panel.ids, panel.y.values.tolist(), panel.frequency.alias
        (['a'], [1.0, 3.0, nan], 'd')
    """
    return to_panel(rows_of_file(path, layout), layout, _parsed(frequency), season)


def read_columns(path: Path, time: str | None, frequency: str | None = None, season: int | None = None) -> Panel:
    """A table of one row a step and one column a series, otherwise as :func:`read_long`.

    Args:
        path: of the file, as it is.
        time: the column of stamps; None counts rows.
        frequency: see :func:`read_long`.
        season: see :func:`read_long`.
    """
    names = [name for name in next(read_records(path)).cells if name != time]
    if not names:
        raise DataError(f"{path} has no column beside {time!r}: add one a series")
    layout = Layout(None, time, names[0], past=names[1:])
    one = to_panel(rows_of_file(path, layout), layout, _parsed(frequency), season)
    values = one.y.values[:, None] if one.past is None else torch.cat([one.y.values[:, None], one.past.rows.values], 1)
    panel = replace(one, ids=names, y=Ragged.from_dense(values.T), first=one.first.expand(len(names)), past=None)
    check_series(panel)
    return panel


def from_frame(
    frame: Any, layout: Layout | None = None, frequency: str | None = None, season: int | None = None
) -> Panel:
    """A long pandas or polars DataFrame, otherwise as :func:`read_long`; messages count its rows from 0.

    Example:
        >>> import polars
        >>> from_frame(polars.DataFrame({"unique_id": ["a", "a"], "ds": [1, 2], "y": [0.5, None]})).y.values
        tensor([0.5000,    nan], dtype=torch.float64)
    """
    layout = layout or Layout()
    return to_panel(rows_of_frame(frame, layout), layout, _parsed(frequency), season)


def from_arrays(
    arrays: npt.ArrayLike | Sequence[npt.ArrayLike],
    ids: Sequence[str] | None = None,
    first: int | str | date = 0,
    frequency: str | None = None,
    season: int | None = None,
) -> Panel:
    """Numbers as series: one array ``[T]`` is one, ``[N, T]`` is one a row, a list of arrays may be of many lengths.

    Args:
        arrays: the values, NaN where one is missing.
        ids: names; None takes 0, 1, 2 ...
        first: the stamp of every series' first step: a date where there is a frequency, else a number.
        frequency: see :meth:`Frequency.parse`; None counts steps.
        season: steps of a season; None takes the frequency's.

    Raises:
        ConfigError: an unknown frequency, or a first stamp that does not fit it.
        DataError: an array is not one of numbers, is empty or holds an infinite number, or names are not one a series.

    Example:
        >>> from_arrays([[1, 2, 3], [4, 5]], first="2024-01-01", frequency="h").stamps(1, 1)
        array(['2024-01-01T02:00:00.000000'], dtype='datetime64[us]')
    """
    rows = _series_of(arrays)
    names = [str(row) for row in range(len(rows))] if ids is None else list(ids)
    if len(names) != len(rows):
        raise DataError(f"the arrays: {len(names)} names for {len(rows)} series: give one a series")
    start = stamps_of(Column("first", [first], "the arrays", [0]))
    start, step = settle(start, np.zeros(0, bool), _parsed(frequency) or Frequency(), "the arrays")
    y = Ragged.from_list([torch.from_numpy(row) for row in rows])
    panel = Panel(
        names,
        y,
        torch.full((len(rows),), int(start.values[0])),
        step,
        chosen_season(season, step),
        "the arrays",
        start.zone and "UTC",
    )
    check_series(panel)
    return panel


def to_panel(rows: Rows, layout: Layout, frequency: Frequency | None, season: int | None) -> Panel:
    """Rows of a long table as series; see :func:`read_long`."""
    rows = _sorted(rows)
    stamps, step = settle(rows.stamps, np.diff(rows.series) == 0, frequency, rows.origin)
    rows = replace(rows, stamps=stamps)
    place = positions(rows, step)
    heads = np.flatnonzero(np.diff(rows.series, prepend=-1))
    whole = place[np.r_[heads[1:], len(place)] - 1] + 1
    _tell_of_gaps(rows, whole, heads)
    offsets = np.concatenate([[0], whole.cumsum()])
    at = offsets[rows.series] + place
    value = _spread(rows.numbers[layout.value][:, None], at, offsets)
    future = _channels(rows, layout.future, at, offsets)
    end = torch.from_numpy(_observed(value) if future else whole)
    panel = Panel(
        rows.ids,
        span(Ragged(value.values[:, 0], value.offsets), torch.zeros_like(end), end),
        torch.from_numpy(stamps.values[heads]),
        step,
        chosen_season(season, step),
        rows.origin,
        stamps.zone and "UTC",
        {name: _constant(rows, name, heads) for name in layout.static},
        {name: _constant_words(rows, name, heads) for name in layout.categories},
        _cut(_channels(rows, layout.past, at, offsets), end),
        future,
    )
    check_series(panel)
    return panel


def chosen_season(season: int | None, frequency: Frequency) -> int:
    """The season given, or the frequency's."""
    require(season is None or season >= 1, f"the season must be at least 1 step, got {season}")
    return season or frequency.season


def _parsed(frequency: Frequency | str | None) -> Frequency | None:
    return Frequency.parse(frequency) if isinstance(frequency, str) else frequency


def _sorted(rows: Rows) -> Rows:
    """By series and stamp."""
    step, series = np.diff(rows.stamps.values), np.diff(rows.series)
    if ((series > 0) | ((series == 0) & (step >= 0))).all():
        return rows
    if ((series == 0) & (step < 0)).any():
        log.info("%s: rows of a series are not in the order of their stamps: sorted", rows.origin)
    return rows.take(np.lexsort((rows.stamps.values, rows.series)))


def _tell_of_gaps(rows: Rows, whole: Ints, heads: Ints) -> None:
    there = np.diff(np.r_[heads, len(rows.series)])
    absent = whole - there
    if absent.sum() > MOST_FILLED * len(rows.series):
        row = int(absent.argmax())
        raise DataError(
            f"{rows.origin}: series {rows.ids[row]!r} has {there[row]} rows over {whole[row]:,} steps: mend a stamp "
            "that is far away, or give a longer frequency"
        )
    if absent.any():
        row = int(absent.argmax())
        log.warning(
            "%s: %d time steps are absent inside %d of %d series (most in %r: %d): taken as missing values",
            rows.origin,
            absent.sum(),
            (absent > 0).sum(),
            len(whole),
            rows.ids[row],
            absent[row],
        )


def _spread(values: Floats, at: Ints, offsets: Ints) -> Ragged:
    """Values ``[R, K]`` at their steps, NaN elsewhere."""
    filled = np.full((int(offsets[-1]), values.shape[1]), np.nan)
    filled[at] = values
    return Ragged(torch.from_numpy(filled), torch.from_numpy(offsets))


def _channels(rows: Rows, names: Sequence[str], at: Ints, offsets: Ints) -> Channels | None:
    if not names:
        return None
    return Channels(list(names), _spread(np.stack([rows.numbers[name] for name in names], 1), at, offsets))


def _cut(channels: Channels | None, end: Tensor) -> Channels | None:
    return channels and Channels(channels.names, span(channels.rows, torch.zeros_like(end), end))


def _observed(value: Ragged) -> Ints:
    """Steps of each series up to its last value that is there."""
    there = ~value.values[:, 0].isnan().numpy()
    place = np.arange(len(there)) + 1
    start = value.offsets[:-1].numpy()
    last: Ints = np.maximum.reduceat(np.where(there, place, 0), start)
    steps: Ints = np.maximum(last, start) - start
    return steps


def _check_constant(rows: Rows, name: str, values: npt.NDArray[Any], heads: Ints, texts: list[str] | None) -> None:
    other = np.flatnonzero(values != values[heads][rows.series])
    if not len(other):
        return
    row = int(other[0])
    both = values[[heads[rows.series[row]], row]].tolist()
    old, new = both if texts is None else (repr(texts[code]) for code in both)
    raise DataError(
        f"{rows.where(row)}, column {name!r}: {new} after {old}, but a static column has one value a series: mend it, "
        "or declare it as past or future"
    )


def _constant(rows: Rows, name: str, heads: Ints) -> Tensor:
    values = rows.numbers[name]
    empty = np.flatnonzero(np.isnan(values))
    if len(empty):
        raise DataError(f"{rows.where(int(empty[0]))}, column {name!r}: a static value is missing: fill it in")
    _check_constant(rows, name, values, heads, None)
    return torch.from_numpy(values[heads])


def _constant_words(rows: Rows, name: str, heads: Ints) -> list[str]:
    codes, known = rows.words[name], rows.known[name]
    _check_constant(rows, name, codes, heads, known)
    return [known[code] for code in codes[heads].tolist()]


def _series_of(arrays: npt.ArrayLike | Sequence[npt.ArrayLike]) -> list[Floats]:
    """Float64 ``[T]`` each."""
    if not isinstance(arrays, np.ndarray | Tensor | Sequence):
        raise ConfigError(f"arrays of numbers are wanted, got {type(arrays).__name__}: give an array or a list of them")
    if not len(arrays):
        raise DataError("the arrays: there are no series: give one at least")
    one = isinstance(arrays, np.ndarray | Tensor) or (isinstance(arrays, Sequence) and np.isscalar(arrays[0]))
    parts = np.atleast_2d(np.asarray(arrays)) if one else arrays
    if isinstance(parts, np.ndarray) and parts.ndim != 2:
        raise DataError(
            f"the arrays: {list(parts.shape)} is no series: give [steps], [series, steps] or a list of them"
        )
    return [_one_series(np.asarray(part), row) for row, part in enumerate(parts)]


def _one_series(part: npt.NDArray[Any], row: int) -> Floats:
    if part.ndim != 1 or not len(part) or part.dtype.kind not in "fiub":
        raise DataError(
            f"the arrays: series {row} is {part.dtype} {list(part.shape)}: give numbers [steps], at least one"
        )
    return part.astype(np.float64)
