"""The drawings: attention between words, BLEU against length; from plain values to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lightning_rnn.training.drawing import BLUE, GRAY, shorten
from lightning_rnn.training.tables import Columns

WIDEST = 14  # characters of a word on an axis
BUCKET = 5  # words


class Heat(NamedTuple):
    """A heat map.

    Attributes:
        title: above it.
        source: words across.
        target: words down.
        weights: float ``[target, source]``.
    """

    title: str
    source: list[str]
    target: list[str]
    weights: npt.NDArray[np.float32]


def draw_attention(rows: Sequence[Sequence[Heat]], title: str) -> Figure:
    """Heat maps in rows, such as one row for a sentence: how much each target word looked at each source word.

    Args:
        rows: all of one number of maps.
        title: of the figure.

    Example:
        >>> heat = Heat("greedy", ["a", "cat"], ["un", "chat"], np.eye(2, dtype=np.float32))
        >>> len(draw_attention([[heat, heat]], "test").axes)
        3
    """
    columns = max(map(len, rows), default=1)
    heights = [1.6 + 0.26 * max(max(len(heat.target), 2) for heat in row) for row in rows]
    width = max((len(heat.source) for row in rows for heat in row), default=4)
    size = (columns * (1.9 + 0.3 * width), sum(heights, 1.0))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=14)
    grid = figure.add_gridspec(max(len(rows), 1), columns, height_ratios=heights or None)
    image, drawn = None, []
    for row, heats in enumerate(rows):
        for column, heat in enumerate(heats):
            axes = figure.add_subplot(grid[row, column])
            image = _heat(axes, heat)
            drawn.append(axes)
    if image is not None:
        figure.colorbar(image, ax=drawn, label="weight", shrink=min(1.0, 4 / size[1]), pad=0.01)
    return figure


def _heat(axes: Axes, heat: Heat) -> AxesImage:
    edges = (-0.5, max(len(heat.source), 1) - 0.5, max(len(heat.target), 1) - 0.5, -0.5)  # of no words, one empty cell
    image = axes.imshow(heat.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=edges)
    axes.xaxis.tick_top()
    across, down = ([shorten(word, WIDEST) for word in words] for words in (heat.source, heat.target))
    axes.set_xticks(range(len(across)), across, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(down)), down, parse_math=False)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xticks(np.arange(0.5, len(heat.source) - 0.5), minor=True)
    axes.set_yticks(np.arange(0.5, len(heat.target) - 0.5), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_title(heat.title, fontsize=10)
    return image


class Bucket(NamedTuple):
    """Sentences of like length.

    Attributes:
        name: the lengths, such as ``6–10``.
        bleu: of these sentences.
        sentences: how many.
    """

    name: str
    bleu: float
    sentences: int


def bucket_of(words: int) -> int:
    """The bucket of a sentence of so many words, from 0.

    Example:
        >>> [bucket_of(words) for words in (1, 5, 6)]
        [0, 0, 1]
    """
    return max(words - 1, 0) // BUCKET


def bucket_name(bucket: int) -> str:
    """The lengths in a bucket.

    Example:
        >>> bucket_name(1)
        '6–10'
    """
    return f"{bucket * BUCKET + 1}–{(bucket + 1) * BUCKET}"


def draw_lengths(buckets: Sequence[Bucket], title: str) -> Figure:
    """BLEU of sentences by their length; a number above each bar says how many there are.

    Example:
        >>> draw_lengths([Bucket("1–5", 40.0, 12)], "test: BLEU 40.0").axes[0].get_title()
        'test: BLEU 40.0'
    """
    figure = Figure(figsize=(max(5.0, 1.0 + 0.8 * len(buckets)), 4.0), layout="constrained")
    axes = figure.add_subplot()
    places = list(range(len(buckets)))
    axes.bar(places, [bucket.bleu for bucket in buckets], color=BLUE, width=0.7)
    for place, bucket in zip(places, buckets, strict=True):
        axes.annotate(
            f"n={bucket.sentences:,}", (place, bucket.bleu), (0, 3), textcoords="offset points", ha="center", color=GRAY
        )
    axes.set_xticks(places, [bucket.name for bucket in buckets])
    axes.set_xlabel("words of the source sentence")
    axes.set_ylabel("BLEU")
    axes.set_title(title, fontsize=12)
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def table_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Rows with the same keys as columns.

    Example:
        >>> table_columns([{"id": 1, "text": "un"}, {"id": 2, "text": "deux"}])
        {'id': [1, 2], 'text': ['un', 'deux']}
    """
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
