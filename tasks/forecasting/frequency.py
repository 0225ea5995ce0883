"""How far apart the steps of a series are, and what stamp a step has."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import ConfigError

Ints = npt.NDArray[np.int64]
DAY = 86_400_000_000  # microseconds
LENGTHS = {"us": 1, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": DAY, "w": 7 * DAY}
MONTHS = {"m": 1, "me": 1, "q": 3, "qe": 3, "y": 12, "ye": 12}
SEASONS = {"s": 3600, "min": 1440, "h": 24, "b": 5, "m": 12, "me": 12, "q": 4, "qe": 4}
_SYNONYMS = {"t": "min", "mo": "m", "ms": "m", "qs": "q", "ys": "y", "a": "y", "as": "y", "ae": "ye"}
_ALIAS = re.compile(r"(\d*)([a-z]+)")
_EPOCH = np.datetime64("1970-01-01", "D")


def _month_starts(months: Ints) -> Ints:
    return months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


@dataclass(frozen=True)
class Frequency:
    """A number of steps of one unit.

    Stamps are int64: microseconds since 1970 (no zone, or UTC), or plain numbers with the unit ``step``.

    Attributes:
        count: units a step.
        unit: ``us s min h d`` (day) ``b`` (Monday to Friday) ``w m q y``; ``me qe ye`` count from a month's end, the
            other two of months from its beginning; ``step`` is a number without a date.

    Example:
        >>> Frequency.parse("10min"), Frequency.parse("MS").season
        (Frequency(count=10, unit='min'), 12)
        >>> first = np.array("2024-01-31", "datetime64[us]").astype(np.int64)
        >>> Frequency.parse("me").shift(first, np.arange(3)).astype("datetime64[us]").astype("datetime64[D]").tolist()
        [datetime.date(2024, 1, 31), datetime.date(2024, 2, 29), datetime.date(2024, 3, 31)]
    """

    count: int = 1
    unit: str = "step"

    @classmethod
    def parse(cls, alias: str | None) -> Frequency:
        """From an alias in either case: ``h``, ``D``, ``2w``, ``MS``, ``1mo``, ``15min``; None is plain numbers.

        As in pandas, ``m`` and ``ms`` are months, never minutes or milliseconds; whether they are counted from a
        month's beginning or end follows from the stamps.

        Raises:
            ConfigError: there is no such frequency.
        """
        if alias is None:
            return cls()
        found = _ALIAS.fullmatch(alias.lower())
        count, unit = (int(found[1] or 1), _SYNONYMS.get(found[2], found[2])) if found else (0, "")
        if not count or unit not in (*LENGTHS, *MONTHS, "b"):
            raise ConfigError(
                f"frequency {alias!r} is not known: write one of {', '.join(LENGTHS)}, b, m, q, y, with a number "
                "before it where it is not 1, such as 15min (the day of a week or a month follows from the stamps)"
            )
        return cls(count, unit)

    @property
    def alias(self) -> str | None:
        """What :meth:`parse` takes; None for plain numbers one apart."""
        text = f"{self.count if self.count > 1 else ''}{self.unit}"
        return None if text == "step" else text

    @property
    def dated(self) -> bool:
        """Whether stamps are dates."""
        return self.unit != "step"

    @property
    def season(self) -> int:
        """Steps of a season where nothing else is said: M4's (hour 24, month 12, quarter 4, else 1), GluonTS' below."""
        base = SEASONS.get(self.unit, 1)
        return base if base % self.count else base // self.count

    @property
    def stride(self) -> int:
        """How far the ordinals of :meth:`split` are apart from step to step."""
        return self.count * MONTHS.get(self.unit, 1)

    def split(self, stamps: Ints) -> tuple[Ints, Ints]:
        """Stamps as ordinals of the unit (of months, for those longer) and what is left, both int64 of that shape."""
        ordinals = self._ordinals(stamps)
        return ordinals, stamps - self._starts(ordinals)

    def _ordinals(self, stamps: Ints) -> Ints:
        if self.unit in MONTHS:
            return stamps.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        if self.unit == "b":
            days = stamps.astype("datetime64[us]").astype("datetime64[D]")
            return np.asarray(np.busday_count(_EPOCH, days), np.int64)
        return stamps // LENGTHS.get(self.unit, 1)

    def _starts(self, ordinals: Ints) -> Ints:
        if self.unit in MONTHS:
            return _month_starts(ordinals + self.unit.endswith("e"))
        if self.unit == "b":
            days = np.busday_offset(_EPOCH, ordinals)
            return np.asarray(days, "datetime64[us]").astype(np.int64)
        return ordinals * LENGTHS.get(self.unit, 1)

    def shift(self, first: Ints, positions: Ints) -> Ints:
        """The stamps ``positions`` steps after ``first``; int64, the two are broadcast."""
        ordinals, rest = self.split(np.asarray(first, np.int64))
        return self._starts(ordinals + np.asarray(positions, np.int64) * self.stride) + rest

    def text(self, stamp: int) -> str:
        """A stamp as messages write it."""
        if not self.dated:
            return str(stamp)
        return stamp_text(stamp)


def stamp_text(stamp: int) -> str:
    """Microseconds since 1970 as a date, with the time where it is not midnight.

    Example:
        >>> stamp_text(0), stamp_text(3_600_000_000)
        ('1970-01-01', '1970-01-01 01:00:00')
    """
    unit = "D" if stamp % DAY == 0 else "us" if stamp % 10**6 else "s"
    return str(np.datetime64(stamp, "us").astype(f"datetime64[{unit}]")).replace("T", " ")
