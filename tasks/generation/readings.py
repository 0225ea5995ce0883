"""What an SC-LSTM has still to say, word by word, drawn (Wen et al. 2015, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.seq2seq.losses import shifted
from lightning_rnn.training.drawing import shorten
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.hooks import datamodule_of
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .rows import GenerationRows

if TYPE_CHECKING:
    from .module import Generator

SHOWN = 4  # conditions that are drawn
WIDEST = 28  # characters of a word or a name on an axis


class Reading(NamedTuple):
    """A condition as it is read out.

    Attributes:
        words: that are written, across.
        names: of the condition's entries that are not 0, down.
        left: of each entry after each word, ``[S, T]``.
    """

    words: list[str]
    names: list[str]
    left: Tensor


class ReadingFigure(EvaluationFigure[int]):
    """Draws ``reading_val.png`` and ``reading_test.png`` of ``sc_lstm``: the richest conditions, one text of each.

    The state is how many batches were seen: texts are written when they are drawn.
    """

    name = "reading"
    asks_network = True

    def reset(self) -> None:
        self.state = 0

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        self.state += 1

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[int]) -> Figure | None:
        generator, datamodule = cast("Generator", module), datamodule_of(trainer)
        rows = None if datamodule is None else datamodule.split(split)
        if not generator.network.reads or not isinstance(rows, GenerationRows) or rows.targets is None:
            return None
        return draw_readings(readings(generator, richest(rows)), f"{split}: what is left to say")


def richest(rows: GenerationRows) -> Tensor:
    """The different conditions with the most entries, ``[SHOWN, C]`` at most."""
    different: Tensor = torch.unique(rows.inputs.values, dim=0)
    order = (different != 0).sum(1).argsort(descending=True, stable=True)
    return different[order[:SHOWN]]


def readings(module: Generator, conditions: Tensor) -> list[Reading]:
    """The best text of each condition, and what was left of the condition after each of its words."""
    assert module.spec is not None
    spec, vectors = module.spec, conditions.to(module.device)
    found = []
    for row, texts in enumerate(module.written(vectors, torch.arange(len(vectors)))):
        ids = spec.encode([texts[0].text])[0].to(module.device)
        left = module.network.left_to_say(vectors[row : row + 1], shifted(ids.unsqueeze(0), spec.first))
        assert left is not None
        present = conditions[row].nonzero().flatten().tolist()
        entries = present if left.shape[2] == len(conditions[row]) else list(range(left.shape[2]))  # encoded: no names
        names = [spec.condition_names[i] if spec.condition_names and len(entries) == len(present) else str(i)
                 for i in entries]  # fmt: skip
        words = [spec.vocabulary[index] for index in ids.tolist()]
        found.append(Reading(words, names, left[0, 1:, entries].T.cpu()))
    return found


def draw_readings(found: Sequence[Reading], title: str) -> Figure:
    """A heat map for each.

    Example:
        >>> len(draw_readings([Reading(["it", "is"], ["sv.name._1"], torch.tensor([[1.0, 0.2]]))], "test").axes)
        2
    """
    heights = [1.4 + 0.24 * len(one.names) for one in found]
    width = max((len(one.words) for one in found), default=4)
    figure = Figure(figsize=(2.6 + 0.45 * width, sum(heights, 0.8)), layout="constrained")
    figure.suptitle(title, fontsize=14)
    grid = figure.add_gridspec(max(len(found), 1), 1, height_ratios=heights or None)
    drawn = []
    for row, one in enumerate(found):
        axes = figure.add_subplot(grid[row, 0])
        image = axes.imshow(one.left.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        words = [shorten(word, WIDEST) for word in one.words]
        names = [shorten(name, WIDEST) for name in one.names]
        plain: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a word may hold a $
        axes.set_xticks(range(len(words)), words, rotation=40, ha="right", rotation_mode="anchor", **plain)
        axes.set_yticks(range(len(names)), names, **plain)
        axes.tick_params(length=0)
        drawn.append(axes)
    if drawn:
        figure.colorbar(image, ax=drawn, label="left to say", pad=0.01)
    return figure
