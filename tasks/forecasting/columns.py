"""Cells of a table's column as numbers, stamps or names, each one checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lightning_rnn.data.cells import as_name, name_fault
from lightning_rnn.errors import DataError

from .frequency import Ints, stamp_text

Floats = npt.NDArray[np.float64]
Value = TypeVar("Value")
MISSING = frozenset(("", "nan", "na", "null"))  # in lower case
_DIGITS = "0123456789"
_TWO = [_DIGITS, _DIGITS]
_DATE = re.compile(
    r"(\d{4}-\d\d(?:-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.\d{1,6})?)?)?)?)?)(?: ?(Z|UTC|[+-]\d\d(?::?\d\d)?))?"
)
_WIDTHS = (7, 10, 13, 16, 19)  # letters of a month, a day, an hour, a minute, a second
_PATTERN = [_DIGITS] * 4 + ["-", *_TWO, "-", *_TWO, " T", *_TWO, ":", *_TWO, ":", *_TWO]


@dataclass(frozen=True)
class Column:
    """One column of a table, or a part of it.

    Attributes:
        name: of the column.
        cells: an array of numbers or of datetime64[us], or any objects.
        origin: the table, for messages.
        rows: the rows' numbers, for messages.
        zone: of an array of datetime64, then in UTC.
    """

    name: str
    cells: Sequence[Any] | npt.NDArray[Any]
    origin: str
    rows: Sequence[int] | Ints
    zone: str | None = None

    def wrong(self, row: int, fault: str) -> DataError:
        """An error that names the place."""
        return DataError(f"{self.origin}, row {self.rows[row]}, column {self.name!r}: {fault}")


class Stamps(NamedTuple):
    """Stamps of rows: int64 ``[R]`` microseconds since 1970 in UTC or without a zone, or numbers."""

    values: Ints
    dated: bool
    zone: str | None


def _each(column: Column, value: Callable[[Any], Value], fault: str) -> list[Value]:
    """``value`` of every cell; a ValueError of it is told with ``fault`` and the cell's place."""
    try:
        return [value(cell) for cell in column.cells]
    except (ValueError, OverflowError):
        for row, cell in enumerate(column.cells):
            try:
                value(cell)
            except (ValueError, OverflowError) as error:
                raise column.wrong(row, f"{cell!r} {fault}") from error
        raise


def _number(cell: Any) -> float:
    if isinstance(cell, str):
        if "_" in cell:
            raise ValueError  # Python takes 1_000 for a number
        return math.nan if cell.strip().lower() in MISSING else float(cell)
    if cell is None:
        return math.nan
    if isinstance(cell, int | float | Decimal | np.number | np.bool_):
        return float(cell)
    raise ValueError


def _plain_numbers(cells: Sequence[Any] | npt.NDArray[Any]) -> Floats | None:
    """All cells at once where every one is the text of a number; else None."""
    try:
        return None if "_" in "".join(cells) else np.array([*map(float, cells)], np.float64)
    except (TypeError, ValueError):
        return None


def numbers(column: Column) -> Floats:
    """The cells as float64 ``[R]``, NaN where one is empty (or ``NA``, ``NaN``, ``null``).

    Raises:
        DataError: one is no number, or an infinite one.

    Example:
        >>> numbers(Column("y", ["1.5", "", None, 2], "a.csv", range(2, 6))).tolist()
        [1.5, nan, nan, 2.0]
    """
    if isinstance(column.cells, np.ndarray) and column.cells.dtype.kind in "fiub":
        values = column.cells.astype(np.float64)
    elif (quick := _plain_numbers(column.cells)) is not None:
        values = quick
    else:
        hint = "is not a number: mend it, leave it empty where a value is missing, or write words as columns of 0 and 1"
        values = np.array(_each(column, _number, hint), np.float64)
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise column.wrong(row, f"{values[row]} is not a finite number: mend it, or leave it empty where it is missing")
    return values


def words(column: Column, what: str) -> list[str]:
    """The cells as names, numbers as they are written; ``what`` they name, for messages.

    Raises:
        DataError: one is empty.
    """
    for row, cell in enumerate(column.cells.tolist() if isinstance(column.cells, np.ndarray) else column.cells):
        if not (type(cell) is str and cell.strip()) and (fault := name_fault(cell, what)):
            raise column.wrong(row, fault)
    return [as_name(cell.item() if isinstance(cell, np.generic) else cell) for cell in column.cells]


def _whole(cell: Any) -> int:
    value = _number(cell)
    if not value.is_integer():
        raise ValueError
    return int(cell) if isinstance(cell, int) else int(value)


class _Dated(NamedTuple):
    stamp: str | datetime
    zone: str


def _of_text(cell: Any) -> _Dated:
    found = _DATE.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if found is None:
        raise ValueError
    np.datetime64(found[1], "us")  # whether there is such a day
    zone = found[2] or ""
    return _Dated(found[1], "+00:00" if zone in ("Z", "UTC") else zone)


def _plain_dates(cells: Sequence[Any] | npt.NDArray[Any]) -> Ints | None:
    """All cells at once where every one is a date without a zone, written as long as the first; else None."""
    width = len(cells[0])
    if width not in _WIDTHS or set(map(type, cells)) != {str} or set(map(len, cells)) != {width}:
        return None
    letters = np.array(cells).view(np.uint32).reshape(-1, width)
    for place, allowed in enumerate(_PATTERN[:width]):
        if not np.isin(letters[:, place], [ord(letter) for letter in allowed]).all():
            return None
    try:
        return np.array(cells, "datetime64[us]").astype(np.int64)
    except ValueError:
        return None  # a 13th month: the slow way names it


def _of_object(cell: Any) -> _Dated:
    if not isinstance(cell, date):
        raise ValueError
    if not isinstance(cell, datetime):
        return _Dated(cell.isoformat(), "")
    if cell.tzinfo is None:
        return _Dated(cell, "")
    return _Dated(cell.astimezone(UTC).replace(tzinfo=None), str(cell.tzinfo))


def _offset(zone: str) -> int:
    """Microseconds of ``+01:00``, ``+0100`` or ``+01``."""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) // timedelta(microseconds=1)
    return -shift if zone[0] == "-" else shift


def _is_number(cell: Any) -> bool:
    try:
        return not math.isnan(_number(cell))
    except ValueError:
        return False


def stamps(column: Column) -> Stamps:
    """The cells as time stamps: all numbers, or all dates (ISO 8601, datetime, date).

    Raises:
        DataError: one is neither, is of the other kind than the first, or has another time zone than the first.

    Example:
        >>> stamps(Column("ds", ["1970-01-01 00:00:01"], "a.csv", [2]))
        Stamps(values=array([1000000]), dated=True, zone=None)
        >>> stamps(Column("ds", ["7", "8"], "a.csv", [2, 3])).values.tolist()
        [7, 8]
    """
    cells = column.cells
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        empty = np.flatnonzero(np.isnat(cells))
        if len(empty):
            raise column.wrong(int(empty[0]), "the stamp is empty: fill it in or take the row out")
        return Stamps(cells.astype("datetime64[us]").astype(np.int64), True, column.zone)
    if len(cells) and _is_number(cells[0]):
        hint = "is not a whole number, as the first stamp is: write all stamps in one way"
        return Stamps(np.array(_each(column, _whole, hint), np.int64), False, None)
    of_text = bool(len(cells)) and isinstance(cells[0], str)
    if of_text and (quick := _plain_dates(cells)) is not None:
        return Stamps(quick, True, None)
    hint = "is neither a date nor a whole number: write 2024-01-31 or 2024-01-31 06:00:00"
    dated = _each(column, _of_text if of_text else _of_object, hint)
    zone = dated[0].zone if dated else ""
    for row, other in enumerate(dated):
        if other.zone != zone:
            raise column.wrong(row, zone_fault(other.zone, zone))
    values = np.array([each.stamp for each in dated], "datetime64[us]").astype(np.int64)
    return Stamps(values - _offset(zone) if of_text and zone else values, True, zone or None)


def zone_fault(zone: str | None, first: str | None) -> str:
    """What is wrong with a stamp of another zone than the first."""
    return (
        f"a stamp {f'in the time zone {zone}' if zone else 'without a time zone'} where the first is "
        f"{f'in {first}' if first else 'without one'}: write all stamps in UTC, or all without a zone"
    )


def shown(stamp: int, dated: bool) -> str:
    """A stamp as messages write it."""
    return stamp_text(stamp) if dated else str(stamp)
