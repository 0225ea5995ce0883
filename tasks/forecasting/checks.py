"""What a panel must be for a forecast, said in one sentence where it is not."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.errors import DataError, require

from .panel import Panel

log = logging.getLogger(__name__)


def check_panel(panel: object) -> None:
    """Whether this is a panel, as notebooks may pass a frame.

    Raises:
        ConfigError: it is not; says what makes one.

    Example:
        >>> check_panel([1.0, 2.0])
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: a Panel is wanted, got list: make one with from_frame or from_arrays
    """
    kind = type(panel).__name__
    require(isinstance(panel, Panel), f"a Panel is wanted, got {kind}: make one with from_frame or from_arrays")


def tell_of_stale(panel: Panel, lookback: int) -> None:
    """Warn of series without a value in their last ``lookback`` steps: a forecast of these is made of nothing."""
    place = torch.arange(len(panel.y.values)) - panel.y.offsets[:-1].repeat_interleave(panel.lengths)
    series = torch.arange(len(panel)).repeat_interleave(panel.lengths)
    recent = ~panel.y.values.isnan() & (place >= (panel.lengths - lookback)[series])
    there = torch.zeros(len(panel), dtype=torch.int64).index_add(0, series, recent.long())
    stale = (there == 0).nonzero()[:, 0].tolist()
    if stale:
        log.warning(
            "%s: %d of %d series (%r for one) have no value in the last %d steps, all that a forecast is made of: "
            "theirs say nothing",
            panel.origin, len(stale), len(panel), panel.ids[stale[0]], lookback,
        )  # fmt: skip


def check_series(panel: Panel) -> None:
    """Whether every series has a name of its own, a step, a value, and no infinite one.

    Raises:
        DataError: one has not; names it.
    """
    for name, times in Counter(panel.ids).items():
        if times > 1:
            raise DataError(f"{panel.origin}: {times} series are called {name!r}: give each a name of its own")
    values, series = panel.y.values, torch.arange(len(panel)).repeat_interleave(panel.lengths)
    infinite = values.isinf().nonzero()[:, 0]
    if len(infinite):
        place = int(infinite[0])
        row = int(series[place])
        step = place - int(panel.y.offsets[row]) + 1
        raise DataError(
            f"{panel.origin}: series {panel.ids[row]!r}, step {step}: {float(values[place])} is not a finite number: "
            "mend it, or write NaN where a value is missing"
        )
    there = torch.zeros(len(panel), dtype=torch.int64).index_add(0, series, (~values.isnan()).long())
    empty = [panel.ids[row] for row in (there == 0).nonzero()[:, 0].tolist()]
    if empty:
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise DataError(
            f"{panel.origin}: series {empty[0]!r}{more} has no value at all: fill some in, or take the series out"
        )


def check_future(panel: Panel, horizon: int) -> None:
    """Whether known-future columns, where there are any, hold a value at each of ``horizon`` steps after the end of y.

    Raises:
        DataError: one ends or has a gap there; names the series, the column and the step's stamp.
    """
    if panel.future is None:
        return
    rows, length = panel.future.rows, panel.lengths
    for step in range(horizon):
        place = length + step
        inside = place < rows.lengths
        at = (rows.offsets[:-1] + place).clamp(max=max(len(rows.values) - 1, 0))
        bad = rows.values[at].isnan() | ~inside[:, None]
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            stamp = panel.frequency.text(int(panel.stamps(row, 1, int(length[row]) + step).astype("int64")[0]))
            raise DataError(
                f"{panel.origin}: the known-future column {panel.future.names[column]!r} of series {panel.ids[row]!r} "
                f"has no value at {stamp}, step {step + 1} of a horizon of {horizon}: add rows with it and an empty y"
            )


@dataclass(frozen=True)
class Categories:
    """Static names as numbers, those of the training series; others are refused, not guessed.

    Attributes:
        known: the names of each column, sorted.

    Example:
        >>> from lightning_rnn.data import Ragged
        >>> y = Ragged(torch.zeros(2).double(), torch.tensor([0, 1, 2]))
        >>> panel = Panel(["a", "b"], y, torch.zeros(2).long(), categories={"shop": ["north", "east"]})
        >>> Categories.of(panel).encode(panel).tolist()
        [[1], [0]]
    """

    known: dict[str, list[str]]

    @classmethod
    def of(cls, panel: Panel) -> Categories:
        """The names there are in a panel."""
        return cls({column: sorted(set(words)) for column, words in panel.categories.items()})

    @property
    def sizes(self) -> list[int]:
        """Names of each column."""
        return [len(names) for names in self.known.values()]

    def encode(self, panel: Panel) -> Tensor:
        """The numbers of the series' names, int64 ``[N, K]``.

        Raises:
            DataError: a column is absent, or a name is not known; names the series, the column and the known names.
        """
        coded = [self._column(panel, column) for column in self.known]
        return torch.stack(coded, 1) if coded else torch.zeros(len(panel), 0, dtype=torch.int64)

    def _column(self, panel: Panel, column: str) -> Tensor:
        if column not in panel.categories:
            raise DataError(f"{panel.origin}: no static column {column!r}, which the training series have: add it")
        number = {name: place for place, name in enumerate(self.known[column])}
        for series, name in zip(panel.ids, panel.categories[column], strict=True):
            if name not in number:
                shown = ", ".join(self.known[column][:10]) + (", ..." if len(number) > 10 else "")
                raise DataError(
                    f"{panel.origin}: series {series!r}, column {column!r}: {name!r} is not among the training series' "
                    f"({shown}): use one of these, or train again with it"
                )
        return torch.tensor([number[name] for name in panel.categories[column]])
