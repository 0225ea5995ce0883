"""Many series of one frequency, with what is known beside them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.errors import DataError, require

from .frequency import Frequency, Ints

log = logging.getLogger(__name__)
Stamps = npt.NDArray[np.datetime64] | Ints


@dataclass(frozen=True)
class Channels:
    """Columns that change from step to step.

    Attributes:
        names: of the columns.
        rows: float64 ``[S, K]``, NaN where a value is missing.
    """

    names: list[str]
    rows: Ragged


@dataclass(frozen=True)
class Panel:
    """Many series of one frequency.

    Attributes:
        ids: names of the series.
        y: their values, float64 ``[S]``, NaN where one is missing.
        first: the stamp of each series' first step, int64 ``[N]``: microseconds since 1970, or a number.
        frequency: what lies between two steps, see :class:`Frequency`.
        season: steps of a season, as MASE and the baselines take it.
        origin: where they were read, for messages.
        zone: ``UTC`` where stamps had a time zone (they are turned to UTC), else None.
        static: numbers that a series has once, float64 ``[N]`` by column.
        categories: the same for names.
        past: columns known as long as ``y`` is, or None.
        future: columns known beyond the end of ``y``, or None; rows as long as those of ``y`` or longer.

    Example:
        >>> y = Ragged.from_list([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0])]).values.double()
        >>> panel = Panel(["a", "b"], Ragged(y, torch.tensor([0, 3, 5])), torch.tensor([0, 1]))
        >>> panel.lengths.tolist(), panel.cut(1).y.values.tolist(), panel.stamps(0, 2).tolist()
        ([3, 2], [1.0, 2.0, 5.0], [3, 4])
    """

    ids: list[str]
    y: Ragged
    first: Tensor
    frequency: Frequency = field(default_factory=Frequency)
    season: int = 1
    origin: str = "the series"
    zone: str | None = None
    static: dict[str, Tensor] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)
    past: Channels | None = None
    future: Channels | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Steps of each series, int64 ``[N]``."""
        return self.y.lengths

    def select(self, rows: Tensor) -> Panel:
        """The series named (int64 ``[M]``), in that order."""
        index = rows.tolist()
        return replace(
            self,
            ids=[self.ids[row] for row in index],
            y=self.y.select(rows),
            first=self.first[rows],
            static={name: values[rows] for name, values in self.static.items()},
            categories={name: [values[row] for row in index] for name, values in self.categories.items()},
            past=self.past and Channels(self.past.names, self.past.rows.select(rows)),
            future=self.future and Channels(self.future.names, self.future.rows.select(rows)),
        )

    def cut(self, steps: int) -> Panel:
        """Every series without its last ``steps``; known-future columns stay, and then reach so many steps further.

        Raises:
            DataError: a series has no more than ``steps``; see :meth:`longer_than`.
        """
        check_horizon(self, steps)
        return self.head(self.lengths - steps)

    def head(self, lengths: Tensor | int) -> Panel:
        """Every series' first steps, at most ``lengths`` (int64 ``[N]`` or one for all); the future stays."""
        rest = self.lengths.minimum(torch.as_tensor(lengths))
        past = self.past and Channels(self.past.names, span(self.past.rows, torch.zeros_like(rest), rest))
        return replace(self, y=span(self.y, torch.zeros_like(rest), rest), past=past)

    def split(self, steps: int) -> tuple[Panel, Panel]:
        """:meth:`cut`, and the last ``steps`` of every series as a panel of their own; raises as :meth:`cut`."""
        head = self.cut(steps)
        start, length = head.lengths, torch.full_like(head.lengths, steps)
        past = self.past and Channels(self.past.names, span(self.past.rows, start, length))
        future = self.future and Channels(
            self.future.names, span(self.future.rows, start, self.future.rows.lengths - start)
        )
        first = torch.from_numpy(self.frequency.shift(self.first.numpy(), start.numpy()))
        return head, replace(self, y=span(self.y, start, length), first=first, past=past, future=future)

    def longer_than(self, steps: int) -> Tensor:
        """Row numbers of the series with more than ``steps`` steps, int64 ``[M]``."""
        return (self.lengths > steps).nonzero()[:, 0]

    def following(self, test: Panel) -> Panel:
        """``test`` with its series in the order of these.

        Raises:
            DataError: the two have other series, columns, frequency or zone, or a series of ``test`` does not begin
                one step after the end of this one.
        """
        test = test.select(in_order(self, test))
        _check_follows(self, test)
        return test

    def append(self, test: Panel) -> Panel:
        """Every series with the steps that follow it in ``test``, joined by name; raises as :meth:`following`."""
        test = self.following(test)
        future = self.future and Channels(self.future.names, span(self.future.rows, 0 * self.lengths, self.lengths))
        return replace(
            self,
            y=_joined(self.y, test.y),
            past=_joined_channels(self.past, test.past),
            future=_joined_channels(future, test.future),
        )

    def stamps(self, row: int, steps: int, start: int | None = None) -> Stamps:
        """The stamps of ``steps`` steps from position ``start``, by default those that follow the series' end.

        Returns:
            datetime64[us] ``[steps]``, or int64 where steps are plain numbers.
        """
        begin = int(self.lengths[row]) if start is None else start
        stamps = self.frequency.shift(self.first[row].numpy(), begin + np.arange(steps))
        return stamps.astype("datetime64[us]") if self.frequency.dated else stamps

    def to_frame(self) -> polars.DataFrame:
        """Long format: ``unique_id, ds, y``, then all other columns; one row a step, null where a value is missing.

        Known-future columns give rows beyond the end of ``y``, whose ``y`` is null.
        """
        lengths = self.lengths if self.future is None else self.future.rows.lengths
        series = torch.arange(len(self)).repeat_interleave(lengths)
        step = _places(lengths)
        stamps = self.frequency.shift(self.first[series].numpy(), step.numpy())
        columns: dict[str, object] = {"unique_id": np.asarray(self.ids, object)[series.numpy()].tolist()}
        columns["ds"] = stamps.astype("datetime64[us]") if self.frequency.dated else stamps
        columns["y"] = _padded(self.y, series, step).numpy()
        for name, words in self.categories.items():
            columns[name] = np.asarray(words, object)[series.numpy()].tolist()
        for name, numbers in self.static.items():
            columns[name] = numbers[series].numpy()
        for channels in filter(None, (self.past, self.future)):
            values = _padded(channels.rows, series, step)
            columns |= {name: values[:, number].numpy() for number, name in enumerate(channels.names)}
        frame = polars.DataFrame(columns).fill_nan(None)
        zoned = polars.col("ds").dt.replace_time_zone(self.zone) if self.zone else polars.col("ds")
        return frame.with_columns(zoned)


def check_horizon(panel: Panel, horizon: int) -> None:
    """Whether every series has more than ``horizon`` steps.

    Raises:
        ConfigError: the horizon is below 1.
        DataError: one has not; names the first and says how many there are.
    """
    require(horizon >= 1, f"the horizon must be at least 1, got {horizon}")
    short = (panel.lengths <= horizon).nonzero()[:, 0].tolist()
    if short:
        name, steps = panel.ids[short[0]], int(panel.lengths[short[0]])
        more = f" (and {len(short) - 1} more)" if len(short) > 1 else ""
        raise DataError(
            f"{panel.origin}: series {name!r}{more} has {steps} steps, a horizon of {horizon} needs at least "
            f"{horizon + 1}: take a shorter horizon, or leave the series out"
        )


def longer_ones(panel: Panel, steps: int) -> Panel:
    """The series with more than ``steps`` steps; a warning counts those that are left out.

    Raises:
        DataError: there are none.
    """
    rows = panel.longer_than(steps)
    if not len(rows):
        raise DataError(f"{panel.origin}: no series is longer than the {steps} steps to hold out: hold fewer out")
    if len(rows) < len(panel):
        short = next(name for name, length in zip(panel.ids, panel.lengths.tolist(), strict=True) if length <= steps)
        log.warning(
            "%s: %d of %d series (%r for one) are not longer than the %d steps to hold out: left out",
            panel.origin, len(panel) - len(rows), len(panel), short, steps,
        )  # fmt: skip
    return panel.select(rows) if len(rows) < len(panel) else panel


def span(rows: Ragged, start: Tensor, lengths: Tensor) -> Ragged:
    """Of every row the ``lengths`` steps from ``start``, both int64 ``[N]`` and inside the row."""
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    steps = _places(lengths) + (rows.offsets[:-1] + start).repeat_interleave(lengths)
    return Ragged(rows.values[steps], offsets)


def _places(lengths: Tensor) -> Tensor:
    """0, 1, 2 ... for each row, end to end."""
    total = int(lengths.sum())
    return torch.arange(total) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)


def _padded(rows: Ragged, series: Tensor, step: Tensor) -> Tensor:
    """Values at the steps named, NaN beyond a row's end."""
    inside = step < rows.lengths[series]
    values = torch.full((len(step), *rows.values.shape[1:]), torch.nan, dtype=rows.values.dtype)
    values[inside] = rows.values[(rows.offsets[series] + step)[inside]]
    return values


def _joined(one: Ragged, other: Ragged) -> Ragged:
    """Row by row, ``other`` after ``one``."""
    n = len(one)
    both = Ragged(
        torch.cat([one.values, other.values]), torch.cat([one.offsets, other.offsets[1:] + one.offsets[-1]])
    ).select(torch.arange(2 * n).view(2, n).T.reshape(-1))
    return Ragged(both.values, both.offsets[::2])


def _joined_channels(one: Channels | None, other: Channels | None) -> Channels | None:
    if one is None or other is None:
        return None  # both are: the names were compared
    return Channels(one.names, _joined(one.rows, other.rows))


def in_order(train: Panel, test: Panel) -> Tensor:
    """Rows of ``test`` in the order of the same series in ``train``, int64 ``[N]``.

    Raises:
        DataError: the two have other series.
    """
    place = {name: row for row, name in enumerate(test.ids)}
    for name in train.ids:
        if name not in place:
            raise DataError(f"{test.origin}: no series {name!r}, which is in {train.origin}: give both parts the same")
    if len(place) > len(train):
        new = next(name for name in test.ids if name not in set(train.ids))
        raise DataError(f"{test.origin}: series {new!r} is not in {train.origin}: give both parts the same")
    return torch.tensor([place[name] for name in train.ids])


def _names(panel: Panel) -> list[list[str]]:
    return [channels.names if channels else [] for channels in (panel.past, panel.future)]


def _check_follows(train: Panel, test: Panel) -> None:
    """Whether the rows of ``test`` begin where those of ``train`` end."""
    for what, one, other in (
        ("columns", _names(train), _names(test)),
        ("frequency", train.frequency.alias or "plain numbers", test.frequency.alias or "plain numbers"),
        ("time zone", train.zone, test.zone),
    ):
        if one != other:
            raise DataError(f"{test.origin}: the {what} {other} where {train.origin} has {one}: make them the same")
    ends = train.frequency.shift(train.first.numpy(), train.lengths.numpy())
    wrong = np.flatnonzero(ends != test.first.numpy())
    if len(wrong):
        row, text = int(wrong[0]), train.frequency.text
        raise DataError(
            f"{test.origin}: series {train.ids[row]!r} begins at {text(int(test.first[row]))}, but {train.origin} ends "
            f"just before {text(int(ends[row]))}: the two must follow each other"
        )
