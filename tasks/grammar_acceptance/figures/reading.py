"""The drawing of a few strings as a network reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_rnn.training.drawing import BLUE, GRAY, ORANGE

from .drawing import THRESHOLD, Judged

SHOWN = 34  # symbols of a string in a panel
AFTER = 7  # of them behind the place where a long string is lost


class Reading(NamedTuple):
    """A string as it is read.

    Attributes:
        judged: the string and the verdict.
        running: the probability after each symbol, and after the end: ``len(string) + 1`` values.
        illegal_at: the grammar's first illegal place; the string's length where it only ends too early.
    """

    judged: Judged
    running: Sequence[float]
    illegal_at: int | None


def draw_reading(readings: Sequence[Reading], title: str) -> Figure:
    """A panel per string: the probability that it can be completed, symbol by symbol.

    Args:
        readings: a few; of long strings, the part around the place where they are lost.
        title: of the figure.

    Example:
        >>> reading = Reading(Judged("BE", False, "delete", 0.1), [0.9, 0.1, 0.1], 1)
        >>> draw_reading([reading], "test").axes[0].get_title()
        'delete: rightly rejected (0.10)'
    """
    rows = -(-len(readings) // 2)
    figure = Figure(figsize=(13, 1.1 + 1.75 * rows), layout="constrained")
    figure.suptitle(title, fontsize=14)
    for place, reading in enumerate(readings, start=1):
        axes = figure.add_subplot(rows, 2, place)
        _draw_string(axes, reading)
        if place % 2:
            axes.set_ylabel("probability", fontsize=9)
    lines = [
        Line2D(
            [],
            [],
            color=BLUE,
            marker="o",
            ms=4,
            label="the network: probability that this can still become a legal string",
        ),
        Line2D([], [], color=GRAY, linestyle=":", label="rejected below"),
        Line2D([], [], color=ORANGE, linewidth=6, alpha=0.35, label="the first illegal symbol, by the grammar"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def _draw_string(axes: Axes, reading: Reading) -> None:
    judged, illegal = reading.judged, reading.illegal_at
    first, last = window(reading)
    places, marks = list(range(first, last)), [*judged.string, "end"]
    axes.axhline(THRESHOLD, color=GRAY, linestyle=":", linewidth=1)
    axes.plot(places, reading.running[first:last], color=BLUE, marker="o", ms=3.5, lw=1.6)
    axes.set_xticks(places, marks[first:last], fontsize=8.5, family="monospace", parse_math=False)
    if illegal is not None and first <= illegal < last:  # else the network lost the string long before
        axes.axvline(illegal, color=ORANGE, linewidth=6, alpha=0.35)
        label = axes.get_xticklabels()[illegal - first]
        label.set_color(ORANGE)
        label.set_fontweight("bold")
    verdict = f"{'rightly' if judged.right else 'WRONGLY'} {'accepted' if judged.said else 'rejected'}"
    part = (
        ""
        if last - first == len(marks)
        else f", symbols {first + 1} to {min(last, len(judged.string))} of {len(judged.string)}"
    )
    kind = "legal" if judged.accepted else judged.kind
    color = "black" if judged.right else ORANGE
    axes.set_title(f"{kind}: {verdict} ({judged.probability:.2f}){part}", fontsize=10, color=color)
    axes.set_xlim(first - 0.6, last - 0.4)
    axes.set_ylim(-0.08, 1.08)
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def window(reading: Reading) -> tuple[int, int]:
    """The steps that are shown, last excluded: :data:`SHOWN`, of a long string those that end soon after it is lost.

    By the grammar and by the network, where both are near enough; else what comes first of them.

    Example:
        >>> window(Reading(Judged("B" * 100, False, "random", 0.1), [0.9] * 60 + [0.1] * 41, 50))
        (33, 67)
    """
    steps = len(reading.running)
    lost = next((i for i, p in enumerate(reading.running) if p <= THRESHOLD), steps - 1)
    first, last = sorted([lost, lost if reading.illegal_at is None else reading.illegal_at])
    end = min(steps, max(SHOWN, AFTER + (last if last - first < SHOWN - AFTER else first)))
    return max(0, end - SHOWN), end
