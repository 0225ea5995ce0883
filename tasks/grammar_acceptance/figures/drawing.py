"""Drawings of all verdicts, as functions from plain values to a matplotlib figure; no pyplot, no state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_rnn.training.drawing import BLUE, GRAY, ORANGE

from ..grammars.negatives import KINDS

THRESHOLD = 0.5
BINS = 12  # of lengths, at most
LEAST = 30  # rows of a bin, where there are as many
LINES = [("legal strings", True, BLUE, "o-", 9), ("illegal strings", False, ORANGE, "s--", 5)]  # one inside the other


class Judged(NamedTuple):
    """A string, and what the network says of it.

    Attributes:
        string: the symbols.
        accepted: whether the grammar accepts it.
        kind: of negative, or ``accepted``.
        probability: that the network gives it; above 1/2 it is accepted.
    """

    string: str
    accepted: bool
    kind: str
    probability: float

    @property
    def said(self) -> bool:
        """Whether the network accepts it."""
        return self.probability > THRESHOLD

    @property
    def right(self) -> bool:
        """Whether that is the grammar's verdict."""
        return self.said == self.accepted


def tally(rows: Sequence[Judged]) -> str:
    """How many are judged rightly, not rounded: one mistake is not 100 %."""
    return f"{sum(row.right for row in rows):,} of {len(rows):,} strings right"


def count_kinds(rows: Sequence[Judged]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The kinds that there are, accepted first, and how many of each the network accepts and rejects ``[K, 2]``.

    Example:
        >>> count_kinds([Judged("E", False, "swap", 0.9), Judged("B", True, "accepted", 0.7)])
        (['accepted', 'swap'], array([[1, 0],
               [1, 0]]))
    """
    there = {row.kind for row in rows}
    kinds = [kind for kind in ("accepted", *KINDS) if kind in there]
    kinds += sorted(there.difference(kinds))
    counts = np.zeros((len(kinds), 2), dtype=np.int64)
    for row in rows:
        counts[kinds.index(row.kind), 0 if row.said else 1] += 1
    return kinds, counts


def draw_kinds(rows: Sequence[Judged], title: str) -> Figure:
    """Kinds of strings down, the network's verdict across; right ones blue, wrong ones orange, by share of the kind.

    Args:
        rows: all that were judged.
        title: is followed by how many are right.

    Example:
        >>> rows = [Judged("E", False, "swap", 0.9), Judged("B", True, "accepted", 0.7)]
        >>> draw_kinds(rows, "test").axes[0].get_title()
        'test: 1 of 2 strings right'
    """
    kinds, counts = count_kinds(rows)
    totals = counts.sum(1)
    right = np.array([[kind == "accepted", kind != "accepted"] for kind in kinds])
    shares = counts / totals[:, None]
    figure = Figure(figsize=(6.4, 1.7 + 0.52 * len(kinds)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_shades(shares, right), aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        strong = np.sqrt(shares[row, column]) > 0.6
        color = "white" if strong else "black" if count else "#999999"
        text = f"{count:,}  ({100 * shares[row, column]:.1f} %)" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=10.5)
    names = ["legal" if kind == "accepted" else kind for kind in kinds]
    axes.set_yticks(range(len(kinds)), [f"{k} ({n:,})" for k, n in zip(names, totals, strict=True)], fontsize=10)
    axes.set_xticks([0, 1], ["accepted", "rejected"], fontsize=10)
    for below in range(len(kinds) - 1):
        axes.axhline(below + 0.5, color="white", linewidth=1 if below else 6)
    axes.axvline(0.5, color="white", linewidth=2)
    axes.set_xlabel("the network says\n(blue: right, orange: wrong; share of the row's strings)")
    axes.set_ylabel("kind of string")
    axes.set_title(f"{title}: {tally(rows)}")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _shades(shares: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """RGB ``[K, 2, 3]``: from white to blue or orange; the root shows rare mistakes too."""
    full = np.where(right[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    strength: npt.NDArray[np.float64] = np.sqrt(shares)[..., None]
    shades: npt.NDArray[np.float64] = 1 - strength * (1 - full)
    return shades


def bin_lengths(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Shortest and longest of each bin: at most :data:`BINS`, each of :data:`LEAST` rows or more where there are some.

    Example:
        >>> bin_lengths([9] * 40 + [10] * 20 + [11] * 25 + [12])
        [(9, 9), (10, 12)]
    """
    least, bins, rows = max(LEAST, len(lengths) // BINS), list[tuple[int, int]](), 0
    there = sorted(set(lengths))
    for length in there:
        shortest = length if rows == 0 else bins.pop()[0]
        rows += lengths.count(length)
        bins.append((shortest, length))
        rows = 0 if rows >= least else rows
    if rows and len(bins) > 1:
        bins[-2:] = [(bins[-2][0], bins[-1][1])]
    return bins


def draw_lengths(rows: Sequence[Judged], title: str) -> Figure:
    """Share of strings judged rightly against their length, accepted and rejected apart; bars: how many there are.

    Example:
        >>> draw_lengths([Judged("B", True, "accepted", 0.7)], "test").axes[0].get_xlabel()
        'length of the string'
    """
    bins = bin_lengths([len(row.string) for row in rows])
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    below = figure.add_subplot()
    axes = below.twinx()
    inside = [[row for row in rows if first <= len(row.string) <= last] for first, last in bins]
    below.bar(
        range(len(bins)), [len(found) for found in inside], color="#dddddd", width=0.85, label="number of rows (right)"
    )
    for name, accepted, color, style, size in LINES:
        shares = [[row.right for row in found if row.accepted == accepted] for found in inside]
        there = [i for i, found in enumerate(shares) if found]
        heights = [100 * float(np.mean(shares[i])) for i in there]
        axes.plot(there, heights, style, color=color, lw=1.8, ms=size, label=name, clip_on=False)
    _label_lengths(axes, below, bins)
    axes.set_title(f"{title}: {tally(rows)}, by length")
    figure.legend(loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    return figure


def _label_lengths(axes: Axes, below: Axes, bins: Sequence[tuple[int, int]]) -> None:
    """The accuracy on the left, the bars' scale on the right."""
    names = [f"{first}" if first == last else f"{first}–{last}" for first, last in bins]
    below.set_xticks(range(len(bins)), names, fontsize=9)
    below.set_xlabel("length of the string")
    below.set_ylabel("rows", color=GRAY, loc="bottom")
    below.tick_params(axis="y", colors=GRAY)
    below.yaxis.tick_right()
    below.yaxis.set_label_position("right")
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ticks = [tick for tick in below.get_yticks() if tick <= below.get_ylim()[1]]
    below.set_ylim(0, below.get_ylim()[1] * 3)  # the bars stay below the lines
    below.set_yticks(ticks)
    axes.yaxis.tick_left()
    axes.yaxis.set_label_position("left")
    axes.set_ylabel("judged rightly, %")
    axes.set_ylim(0, 103)
    axes.grid(axis="y", alpha=0.25)
    for one in (axes, below):
        one.spines["top"].set_visible(False)
