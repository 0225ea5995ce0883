"""The drawing of words and their neighbours; from plain values to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.training.drawing import shorten

from .queries import WordQueries

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")  # Okabe and Ito's
WORDS, NEIGHBORS = 8, 6
RANKS = 2000  # the most frequent words, of which those that are shown are chosen
SHORTEST = 4  # letters of them: shorter ones say little
WIDEST = 16


def plane(vectors: Tensor) -> Tensor:
    """Vectors ``[N, D]`` in the plane of their two largest principal components, ``[N, 2]``; signs are fixed.

    Example:
        >>> plane(torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])).abs().tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    centered = vectors.double() - vectors.double().mean(0)
    _, _, axes = torch.linalg.svd(centered, full_matrices=False)
    axes = axes[:2] * torch.sign(axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)))
    flat = centered @ axes.T
    return torch.nn.functional.pad(flat, (0, 2 - flat.shape[1])).float()


def far_apart(queries: WordQueries, count: int = WORDS) -> list[str]:
    """Frequent words far from each other: each next one is that whose nearest chosen word is farthest."""
    telling = [row for row, word in enumerate(queries.words[:RANKS]) if word.isalpha() and len(word) >= SHORTEST]
    rows = torch.tensor(telling[: 40 * count] or range(min(len(queries.words), count)))
    cosines = queries.units[rows] @ queries.units[rows].T
    chosen, nearest = [0], cosines[0].clone()
    while len(chosen) < min(count, len(rows)):
        nearest[chosen] = torch.inf
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, cosines[chosen[-1]])
    return [queries.words[int(rows[place])] for place in chosen]


def draw_neighbors(queries: WordQueries, words: Sequence[str], title: str, topn: int = NEIGHBORS) -> Figure:
    """Words and their neighbours in the plane of their principal components, a color for each word.

    Raises:
        DataError: a word has no vector.

    Example:
        >>> from lightning_rnn.interop.word2vec import WordTable
        >>> queries = WordQueries(WordTable(["a", "b", "c"], torch.eye(3)))
        >>> draw_neighbors(queries, ["a"], "three words", 2).axes[0].get_title()
        'three words'
    """
    rows = queries.rows(words).tolist()
    groups = [
        [word, *(near for near, _ in found)] for word, found in zip(words, queries.nearest(rows, topn), strict=True)
    ]
    shown = list(dict.fromkeys(word for group in groups for word in group))
    places = dict(zip(shown, plane(queries.units[queries.rows(shown)]).numpy(), strict=True))
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axes = figure.add_subplot()
    drawn = set[str]()
    for group, color in zip(groups, COLORS * (1 + len(groups) // len(COLORS)), strict=False):
        fresh = [word for word in group if word not in drawn]
        drawn |= set(fresh)
        points = np.array([places[word] for word in fresh]).reshape(-1, 2)
        axes.scatter(points[:, 0], points[:, 1], color=color, s=18)
        for word, (x, y) in zip(fresh, points.tolist(), strict=True):
            weight = "bold" if word in words else "normal"
            axes.annotate(
                shorten(word, WIDEST),
                (x, y),
                (3, 3),
                textcoords="offset points",
                fontsize=9,
                color=color,
                weight=weight,
                parse_math=False,
            )
    axes.set_title(title, fontsize=12)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.1)
    axes.spines[:].set_color("#cccccc")
    return figure
