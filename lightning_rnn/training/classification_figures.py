"""Figures of classifiers: which classes are taken for which, and the rows that a model is most wrong about."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import partial
from typing import Protocol, cast

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.training.drawing import Mistake, Panel, draw_confusion_matrix, draw_panels, shorten
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.hooks import datamodule_of
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch


class _WithClassNames(Protocol):
    class_names: list[str]


def class_names(module: SequenceModule) -> list[str]:
    """The classes' names, in order, as a classifier's data spec has them."""
    return cast(_WithClassNames, module.spec).class_names


def to_probabilities(predictions: Tensor) -> Tensor:
    """Float32 probabilities ``[B, C]`` from logits, or from what are probabilities already.

    Example:
        >>> to_probabilities(torch.tensor([[0.25, 0.75]])).tolist(), to_probabilities(torch.zeros(1, 2)).tolist()
        ([[0.25, 0.75]], [[0.5, 0.5]])
    """
    values = predictions.detach().float()
    are_probabilities = (values >= 0).all() & ((values.sum(-1) - 1).abs() < 1e-2).all()  # bfloat16 has 8 bits
    return values if bool(are_probabilities) else values.softmax(-1)


class ConfusionMatrix(EvaluationFigure[Tensor | None]):
    """Draws ``confusion_matrix_val.png`` and ``confusion_matrix_test.png``.

    For classifiers whose :class:`StepResult` has predictions ``[B, C]`` and targets ``[B]``, and whose data spec has
    ``class_names``.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", callbacks=[ConfusionMatrix(), WorstMistakes()])
    """

    name = "confusion_matrix"

    def reset(self) -> None:
        self.state = None

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        classes = result.predictions.shape[-1]
        cells = (cast(Tensor, result.targets) * classes + result.predictions.argmax(-1)).cpu()
        counts = torch.bincount(cells, minlength=classes**2).view(classes, classes)
        self.state = counts if self.state is None else self.state + counts

    def draw(
        self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Tensor | None]
    ) -> Figure:
        counts = torch.stack([counts for counts in states if counts is not None]).sum(0)
        return draw_confusion_matrix(counts, class_names(module), split)


class WorstMistakes(EvaluationFigure[list[Mistake]]):
    """Draws ``worst_mistakes_val.png`` and ``worst_mistakes_test.png``: the wrong rows with the highest loss.

    Each row is drawn by :meth:`SequenceDataModule.draw`. Needs what :class:`ConfusionMatrix` needs, and the row numbers
    (``ids``) of the batches, or of the :class:`StepResult`.

    Args:
        count: rows drawn, at most.

    Raises:
        ConfigError: ``count`` is below 1, the batches have no ids, or there is no datamodule to draw with.
    """

    name = "worst_mistakes"

    def __init__(self, count: int = 12) -> None:
        require(count >= 1, f"WorstMistakes.count must be at least 1, got {count}")
        self.count = count
        super().__init__()

    def reset(self) -> None:
        self.state = []

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        rows = batch.ids if result.ids is None else result.ids
        if rows is None:
            raise ConfigError("WorstMistakes cannot tell which rows are wrong: the batches have no ids")
        probabilities, targets = to_probabilities(result.predictions), cast(Tensor, result.targets)
        losses = -probabilities.gather(1, targets.unsqueeze(1)).squeeze(1).log()
        highest, said = probabilities.max(-1)
        columns = torch.stack([losses.double(), rows, targets, said, highest.double()], 1)[said != targets]
        found = [Mistake(loss, int(row), int(t), int(s), p) for loss, row, t, s, p in columns.tolist()]
        self.state = heapq.nlargest(self.count, self.state + found)

    def draw(
        self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[list[Mistake]]
    ) -> Figure:
        datamodule, names = datamodule_of(trainer), class_names(module)
        if datamodule is None:
            raise ConfigError("WorstMistakes draws with a SequenceDataModule, the trainer has none")
        worst = heapq.nlargest(self.count, [mistake for state in states for mistake in state])
        panels: list[Panel] = []
        for mistake in worst:
            true, said = shorten(names[mistake.true], 14), shorten(names[mistake.said], 14)
            row_id = shorten(str(datamodule.split(split).row_id(mistake.row)), 28)
            title = f"true {true}, said {said} ({mistake.probability:.2f})\nrow {row_id}"
            panels.append((title, partial(datamodule.draw, split=split, row=mistake.row)))
        return draw_panels(panels, f"{split}: the worst mistakes" if worst else f"{split}: no mistakes")
