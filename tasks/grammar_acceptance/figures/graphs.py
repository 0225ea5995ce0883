"""Automata as drawings: states from left to right by distance, arcs bent around what is in their way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch

from lightning_rnn.training.drawing import BLUE, ORANGE, shorten

from ..grammars.languages import END
from .machines import Machine, Step

Point = npt.NDArray[np.float64]
FACE, INK = "#e8f2f9", "#333333"  # of states, and of arcs
RADIUS, ACROSS, DOWN = 0.36, 1.5, 1.35  # of a state, and the steps between states
BENDS = (0.0, 0.15, -0.15, 0.3, -0.3, 0.45, -0.45, 0.6, -0.6)
ALONG = (0.5, 0.4, 0.6, 0.3, 0.7)
SWEEPS = 4
SCALE = 0.72  # inches
READABLE = 60  # states of a drawing, at most


class Panel(NamedTuple):
    """An automaton to be drawn: its title, states, their labels, and which of its steps are odd."""

    title: str
    machine: Machine
    labels: Mapping[str, str]
    odd: set[Step]


def layout(machine: Machine) -> dict[str, Point]:
    """Where each reached state is drawn: across by its distance from the start, down by the median of neighbours.

    Example:
        >>> places = layout(Machine("0", frozenset("1"), {"0": {"a": "1", "b": "2"}, "1": {}, "2": {"a": "1"}}))
        >>> [places[state].tolist() for state in "012"]
        [[0.0, 0.0], [1.5, 0.675], [1.5, -0.675]]
    """
    distances = machine.distances()
    layers = [[s for s, d in distances.items() if d == layer] for layer in range(max(distances.values()) + 1)]
    near: dict[str, set[str]] = {state: set() for state in distances}
    for source, _, target in machine.steps():
        if source in near and abs(distances[source] - distances[target]) == 1:
            near[source].add(target)
            near[target].add(source)
    down = {state: _offset(i, layer) for layer in layers for i, state in enumerate(layer)}
    for _ in range(SWEEPS):
        for layer in (*layers, *reversed(layers)):
            layer.sort(key=lambda state: median([down[other] for other in near[state]] or [down[state]]))
            down |= {state: _offset(i, layer) for i, state in enumerate(layer)}
    return {state: np.array([ACROSS * distances[state], 0.0 - DOWN * down[state]]) for state in distances}


def _offset(place: int, layer: Sequence[str]) -> float:
    return place - (len(layer) - 1) / 2


@dataclass
class _Canvas:
    """Axes, and what arcs and labels must keep clear of."""

    axes: Axes
    places: Mapping[str, Point]
    taken: list[Point] = field(default_factory=list)  # labels and loops
    curves: list[Point] = field(default_factory=list)

    def write(self, place: Point, text: str, color: str) -> None:
        self.taken.append(place)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        self.axes.text(place[0], place[1], text, ha="center", va="center", fontsize=10, color=color, bbox=box, zorder=3)

    def arrow(self, start: Point, end: Point, bend: float, odd: bool) -> None:
        color, style = (ORANGE, (0, (4, 2))) if odd else (INK, "solid")
        patch = FancyArrowPatch(
            tuple(start),
            tuple(end),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=11,
            shrinkA=0,
            shrinkB=0,
            color=color,
            linestyle=style,
            linewidth=1.6 if odd else 1.1,
            zorder=1,
        )
        self.axes.add_patch(patch)

    def loop(self, state: str, symbols: str, odd: bool) -> None:
        """Above the state, or below it in the lower half."""
        up = 1 if self.places[state][1] >= 0 else -1
        ends = [self.places[state] + RADIUS * np.array([side * 0.55, up * 0.835]) for side in (-1, 1)]
        self.arrow(ends[0], ends[1], -1.5 * up, odd)
        self.write(self.places[state] + np.array([0, up * 2.15 * RADIUS]), symbols, ORANGE if odd else INK)

    def arc(self, source: str, target: str, symbols: str, odd: bool, both_ways: bool) -> None:
        """With the bend, and the place of its label, that keep furthest from all else."""
        start, end = self.places[source], self.places[target]
        bends = [bend for bend in BENDS if bend or not both_ways]
        bend, along = min(product(bends, ALONG), key=lambda way: self._cost(source, target, *way))
        curve = bezier(start, end, bend, np.linspace(0, 1, 101))
        gaps = [np.linalg.norm(curve - place, axis=1) > RADIUS + 0.02 for place in (start, end)]
        outside = curve[gaps[0] & gaps[1]]
        self.curves.append(curve)
        self.arrow(outside[0], outside[-1], _bend_through(outside[0], outside[-1], curve[50]), odd)
        self.write(bezier(start, end, bend, np.array([along]))[0], symbols, ORANGE if odd else INK)

    def _cost(self, source: str, target: str, bend: float, along: float) -> float:
        start, end = self.places[source], self.places[target]
        curve, label = (bezier(start, end, bend, at) for at in (np.linspace(0.05, 0.95, 19), np.array([along])))
        others = [place for state, place in self.places.items() if state not in (source, target)]
        hits = _near(curve, others, 1.5 * RADIUS) + _near(curve, self.taken, 0.6 * RADIUS)
        hidden = _near(label, list(self.places.values()), 1.8 * RADIUS) + _near(label, self.taken, 1.2 * RADIUS)
        return 10 * hits + 6 * hidden + abs(bend) + 0.3 * abs(along - 0.5)


def bezier(start: Point, end: Point, bend: float, along: Point) -> Point:
    """Points ``[N, 2]`` of the curve that matplotlib draws as ``arc3,rad=bend``, at parameters from 0 to 1."""
    (across, down), t = end - start, along[:, None]
    control = (start + end) / 2 + bend * np.array([down, -across])
    curve: Point = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    return curve


def _bend_through(start: Point, end: Point, middle: Point) -> float:
    """Of the curve through these three points, the second half way: how far its control point is off the chord."""
    across, down = end - start
    off = 2 * (middle - (start + end) / 2)
    return float(off @ np.array([down, -across]) / (across**2 + down**2))


def _near(curve: Point, places: Sequence[Point], distance: float) -> float:
    """By how much a curve comes too near to places, all together."""
    if not places:
        return 0.0
    nearest = np.linalg.norm(curve[:, None] - np.stack(places), axis=2).min(0)
    return float(np.clip(distance - nearest, 0, None).sum())


def draw_machine(axes: Axes, machine: Machine, labels: Mapping[str, str], odd: set[Step]) -> None:
    """States as circles with labels, ends doubled, arcs with symbols; those of ``odd`` orange and dashed.

    Args:
        axes: to draw into.
        machine: states that are not reached are left out.
        labels: of its states.
        odd: of :meth:`Machine.steps`.
    """
    canvas = _Canvas(axes, layout(machine))
    grouped: dict[tuple[str, str, bool], list[str]] = {}
    for step in sorted(machine.steps()):
        if step[0] in canvas.places and step[1] != END:
            grouped.setdefault((step[0], step[2], step in odd), []).append(step[1])
    for (source, target, strange), symbols in sorted(grouped.items(), key=lambda item: item[0][0] != item[0][1]):
        if source == target:
            canvas.loop(source, " ".join(symbols), strange)
        else:
            between = [(target, source, True), (target, source, False), (source, target, not strange)]
            both = any(other in grouped for other in between)
            canvas.arc(source, target, " ".join(symbols), strange, both)
    for state, place in canvas.places.items():
        _draw_state(axes, place, labels[state], state in machine.accepting, (state, END, state) in odd)
    start = canvas.places[machine.start]
    canvas.arrow(start - [2.1 * RADIUS, 0], start - [RADIUS, 0], 0.0, False)
    _frame(axes, np.concatenate([np.stack([*canvas.places.values(), *canvas.taken]), *canvas.curves]))


def _draw_state(axes: Axes, place: Point, label: str, end: bool, odd: bool) -> None:
    x, y = place.tolist()
    axes.add_patch(Circle((x, y), RADIUS, facecolor=FACE, edgecolor=BLUE, linewidth=1.3, zorder=2))
    if end:
        color = ORANGE if odd else BLUE
        axes.add_patch(Circle((x, y), 0.82 * RADIUS, facecolor="none", edgecolor=color, linewidth=1.3, zorder=2))
    lines = [shorten(line, 6) for line in label.split("\n")]
    size = 9.5 if len(lines) == 1 and len(label) < 4 else 7.5
    axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=size, linespacing=1.0, zorder=4)


def _frame(axes: Axes, places: Point) -> None:
    (left, low), (right, high) = places.min(0), places.max(0)
    axes.set_xlim(left - 0.9, right + 0.5)
    axes.set_ylim(low - 0.5, high + 0.5)
    axes.set_aspect("equal")


def draw_automata(panels: Sequence[Panel], title: str) -> Figure:
    """Automata below one another, with a line that says what is orange where something is.

    Args:
        panels: one or more; of an automaton with more than :data:`READABLE` states there is the title alone.
        title: of the figure.
    """
    figure = Figure(layout="constrained")
    figure.suptitle(title, fontsize=14)
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        axes.set_title(panel.title, fontsize=11.5)
        axes.set_axis_off()
        if len(panel.machine.table) <= READABLE:
            draw_machine(axes, panel.machine, panel.labels, panel.odd)
        else:
            axes.text(0.5, 0.5, f"too many to draw ({READABLE} at most)", ha="center", va="center", fontsize=11)
    heights = [SCALE * float(np.ptp(axes.get_ylim())) + 0.3 for axes in rows]
    width = max(8.0, *(SCALE * float(np.ptp(axes.get_xlim())) for axes in rows))
    figure.set_size_inches(width, sum(heights) + 1.0)
    rows[0].get_gridspec().set_height_ratios(heights)
    _explain(figure, panels)
    return figure


def _explain(figure: Figure, panels: Sequence[Panel]) -> None:
    """A legend of what there is."""
    handles = []
    if any(panel.odd for panel in panels):
        handles.append(Line2D([], [], color=ORANGE, linestyle=(0, (4, 2)), label="not in the other automaton"))
    if any("\n" in label for panel in panels for label in panel.labels.values()):
        text = "two names: these states of the grammar are one to the network"
        handles.append(Line2D([], [], color=FACE, marker="o", ms=10, mec=BLUE, linestyle="", label=text))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
