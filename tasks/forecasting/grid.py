"""Stamps on a regular grid: which one, and where they leave it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import ConfigError, DataError

from .columns import Stamps
from .frequency import DAY, LENGTHS, MONTHS, Frequency, Ints
from .long_format import Rows

_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # of a month, the fewest
Bools = npt.NDArray[np.bool_]


def _mode(values: Ints) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _at_month_ends(stamps: Ints) -> bool:
    """Whether every stamp lies on the last day of a month."""
    return bool((Frequency(1, "me").split(stamps)[1] >= -DAY).all())


def _in_months(stamps: Ints, same: Bools) -> Frequency | None:
    unit = "me" if _at_month_ends(stamps) else "m"
    months, rest = Frequency(1, unit).split(stamps)
    if np.diff(rest)[same].any():
        return None
    step = _mode(np.diff(months)[same])
    whole = next(name for name in ("y", "q", "m") if step % MONTHS[name] == 0)
    return Frequency(step // MONTHS[whole], whole + unit[1:])


def _in_business_days(stamps: Ints, same: Bools) -> bool:
    """Whether weekends, and there are some, are never there."""
    weekdays = (stamps // DAY + 3) % 7
    over = (np.diff(stamps) == 3 * DAY) & (weekdays[:-1] == 4) & same
    return bool((weekdays < 5).all() and over.any())


def infer(stamps: Ints, same: Bools, dated: bool) -> Frequency | None:
    """The most frequent step of sorted stamps; None where there is no step at all.

    Args:
        stamps: int64 ``[R]``, those of a series together and rising.
        same: ``[R - 1]``, whether a stamp is of the same series as the next.
        dated: whether they are dates.

    Example:
        >>> days = np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[us]").astype(np.int64)
        >>> infer(days, np.array([True, True]), True), infer(np.array([1, 3, 5]), np.array([True, True]), False)
        (Frequency(count=1, unit='me'), Frequency(count=2, unit='step'))
    """
    steps = np.diff(stamps)[same]
    if not len(steps):
        return None
    step = _mode(steps)
    if not dated:
        return Frequency(step)
    if step >= 28 * DAY and (found := _in_months(stamps, same)) is not None:
        return found
    if step == DAY and _in_business_days(stamps, same):
        return Frequency(1, "b")
    unit = next(name for name in ("w", "d", "h", "min", "s", "us") if step % LENGTHS[name] == 0)
    return Frequency(step // LENGTHS[unit], unit)


def _years(values: Ints) -> Ints:
    return (values - 1970).astype("datetime64[Y]").astype("datetime64[us]").astype(np.int64)


def settle(stamps: Stamps, same: Bools, frequency: Frequency | None, origin: str) -> tuple[Stamps, Frequency]:
    """The stamps and the frequency they have: the given one, or what :func:`infer` finds.

    Numbers with a frequency of years are years.

    Raises:
        ConfigError: a given frequency of dates where stamps are numbers, or the other way.
        DataError: none is given and no series has two steps, or the day of a stamp is not in every month; or numbers
            are all dates without dashes.
    """
    if not stamps.dated and frequency is None:
        _refuse_dates(stamps.values, origin)
    if frequency is None:
        found = infer(stamps.values, same, stamps.dated)
        if found is None and stamps.dated:
            raise DataError(f"{origin}: no series has two steps to see a frequency by: give the frequency, such as h")
        return stamps, _anchored(found or Frequency(), stamps.values, origin)
    if frequency.unit == "y" and not stamps.dated:
        stamps = Stamps(_years(stamps.values), True, None)
    if frequency.dated != stamps.dated:
        what = "dates" if stamps.dated else "numbers"
        raise ConfigError(f"{origin}: the frequency {frequency.alias} does not fit stamps that are {what}: change one")
    return stamps, _anchored(frequency, stamps.values, origin)


def _refuse_dates(numbers: Ints, origin: str) -> None:
    """Whether numbers are all dates, 20240131 or 202401: counted, these would have gaps behind every month or year."""
    months, days = (numbers // 100, numbers % 100) if numbers.min() >= 10**7 else (numbers, np.ones_like(numbers))
    years, months = months // 100, months % 100
    if len(numbers) > 1 and bool(
        ((years >= 1800) & (years < 2200) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all()
    ):
        raise DataError(
            f"{origin}: stamps such as {numbers[0]} are dates without dashes, which would be counted as numbers: write "
            "2024-01-31, or number the steps in another way"
        )


def _anchored(frequency: Frequency, stamps: Ints, origin: str) -> Frequency:
    """Months counted from their ends, where all stamps are on one."""
    if frequency.unit not in ("m", "q", "y"):
        return frequency
    if _at_month_ends(stamps):
        return Frequency(frequency.count, frequency.unit + "e")
    cycle = math.gcd(frequency.stride, 12)
    shortest = np.array([min(_DAYS[month::cycle]) for month in range(cycle)])
    months, rest = frequency.split(stamps)
    late = np.flatnonzero(rest >= shortest[months % cycle] * DAY)
    if len(late):
        raise DataError(
            f"{origin}: the stamp {frequency.text(int(stamps[late[0]]))} is on a day that not every month has: write "
            "all stamps by a month's first day, or all by its last"
        )
    return frequency


def positions(rows: Rows, frequency: Frequency) -> Ints:
    """How many steps each row is behind its series' first one, int64 ``[R]``.

    Args:
        rows: sorted by series and stamp.
        frequency: the steps between them.

    Raises:
        DataError: two rows of a series have one stamp, or a stamp lies between two steps.
    """
    stamps = rows.stamps.values
    same = np.diff(rows.series) == 0
    twice = np.flatnonzero(same & (np.diff(stamps) == 0))
    if len(twice):
        row = int(twice[0])
        one, other = sorted(rows.places[row : row + 2].tolist())
        more = f" ({len(twice)} such pairs in all)" if len(twice) > 1 else ""
        raise DataError(f"{rows.where(row)} stands in rows {one} and {other}{more}: keep one row a step")
    heads = np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(len(stamps)), 0))
    ordinals, rest = frequency.split(stamps)
    behind = ordinals - ordinals[heads]
    off = (rest != rest[heads]) | (behind % frequency.stride != 0)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        first = frequency.text(int(stamps[heads[row]]))
        advice = "give the frequency" if frequency.dated else "write dates as 2024-01-31"
        if rows.stamps.zone and frequency.unit not in ("us", "s", "min", "h"):
            advice = f"leave the time zone out: in UTC, days of {rows.stamps.zone} may begin at different hours"
        raise DataError(
            f"{rows.where(row)} is not a whole number of steps ({frequency.alias or 1}) after its first, {first}: mend "
            f"the stamp, or {advice}"
        )
    return behind // frequency.stride
