"""The drawings, as functions from plain values to a matplotlib figure; no pyplot, no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito's, told apart by color-blind eyes too
LINES = {"train": (BLUE, "o", "-"), "val": (ORANGE, "s", "--")}


def best_epoch(history: Mapping[str, Mapping[int, float]]) -> int | None:
    """The epoch with the lowest ``val_loss``, the first of equals; None where there is none.

    Example:
        >>> best_epoch({"val_loss": {1: 0.9, 2: 0.4, 3: float("nan")}})
        2
    """
    losses = {epoch: loss for epoch, loss in history.get("val_loss", {}).items() if not math.isnan(loss)}
    return min(losses, key=losses.__getitem__) if losses else None


def draw_learning_curves(history: Mapping[str, Mapping[int, float]]) -> Figure:
    """One panel per metric, ``loss`` first.

    Args:
        history: values by epoch (from 1) by name (``train_loss``, ``val_loss``, ``val_accuracy`` ...).

    Example:
        >>> figure = draw_learning_curves({"train_loss": {1: 0.9, 2: 0.5}, "val_loss": {1: 0.8, 2: 0.6}})
        >>> [axes.get_title() for axes in figure.axes]
        ['loss']
    """
    names = sorted({name.partition("_")[2] for name in history}, key=lambda name: (name != "loss", name))
    columns = 2 if len(names) == 4 else min(3, len(names))
    rows = -(-len(names) // columns)
    width = 6.0 if columns == 1 else 4.4 * columns
    figure = Figure(figsize=(width, 3.6 * rows), layout="constrained")
    best = best_epoch(history)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, place)
        curves = {stage: history.get(f"{stage}_{name}", {}) for stage in LINES}
        _draw_panel(axes, name, curves, best)
    return figure


def _draw_panel(axes: Axes, name: str, curves: Mapping[str, Mapping[int, float]], best: int | None) -> None:
    for stage, values in curves.items():
        if values:
            color, marker, style = LINES[stage]
            epochs = sorted(values)
            shown = marker if len(epochs) <= 30 else ""
            axes.plot(
                epochs, [values[e] for e in epochs], style, color=color, marker=shown, ms=3.5, lw=1.7, label=stage
            )
    if best is not None:
        axes.axvline(best, color=GRAY, linestyle="--", linewidth=1, label=f"best val_loss: epoch {best}", zorder=0)
    axes.set_title(name.replace("_", " "), fontsize=12)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, framealpha=0.9, edgecolor="none")


def draw_confusion_matrix(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """True classes down, predicted ones across; the color is the share of the true class's rows.

    Args:
        counts: int64 ``[C, C]``, true by predicted. The numbers are printed up to 20 classes.
        names: of the classes, in order.
        title: is followed by the accuracy and the number of rows.

    Example:
        >>> import torch
        >>> draw_confusion_matrix(torch.tensor([[3, 1], [0, 4]]), ["no", "yes"], "test").axes[0].get_title()
        'test: accuracy 87.5 % of 8 rows'
    """
    classes, total = len(counts), int(counts.sum())
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    side = min(max(4.2, 1.8 + 0.48 * classes), 13.0)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # the root shows rare confusions too
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set_title(f"{title}: accuracy {100 * int(counts.trace()) / max(total, 1):.1f} % of {total:,} rows")
    _name_classes(axes, names)
    if classes <= 20:
        for (row, column), count in np.ndenumerate(counts.numpy()):
            color = "white" if shares[row, column] > 0.35 else "black" if count else "#b0b0b0"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=9)
    return figure


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """Ticks with the classes' names, of as many classes as there is room for."""
    ticks = list(range(0, len(names), -(-len(names) // 40)))
    labels = [shorten(names[tick], 18) for tick in ticks]
    upright = max(map(len, labels)) * len(names) <= 30
    turn, side = (0, "center") if upright else (45, "right")
    axes.set_xticks(ticks, labels, rotation=turn, ha=side, parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    if not upright:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def shorten(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis.

    Example:
        >>> shorten("tremendous", 6)
        'treme…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


class Mistake(NamedTuple):
    """A row that a classifier got wrong.

    Attributes:
        loss: minus the logarithm of the true class's probability.
        row: its number in the split.
        true: the true class.
        said: the predicted class.
        probability: of the predicted class.
    """

    loss: float
    row: int
    true: int
    said: int
    probability: float


Panel = tuple[str, Callable[[Axes], None]]


def draw_panels(panels: Sequence[Panel], title: str) -> Figure:
    """A grid of small drawings under a common title; with no panels, only the title.

    Args:
        panels: each a title and what draws into its axes.
        title: of the figure.

    Example:
        >>> len(draw_panels([("a row", lambda axes: axes.plot([1, 2]))], "rows").axes)
        1
    """
    rows = max(1, -(-len(panels) // 4))
    columns = max(1, -(-len(panels) // rows))
    figure = Figure(figsize=(max(5.5, 3.3 * columns), 0.6 + 2.8 * rows), layout="constrained")
    figure.suptitle(title, fontsize=14, y=None if panels else 0.5)
    for place, (name, draw) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        draw(axes)
        axes.set_title(name, fontsize=9.5, parse_math=False)
        axes.tick_params(labelsize=8)
    return figure
