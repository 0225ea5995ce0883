"""Where the loss is: by how often a token was trained on, and the tokens that cost most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_rnn.data.module import Split
from lightning_rnn.data.tokenizer import PAD
from lightning_rnn.training.drawing import BLUE, GRAY, shorten
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .spec import LanguageSpec

SHOWN = 15  # tokens
EDGES = (0, 1, 10, 100, 1_000, 10_000, 100_000)  # times that a token was trained on
Floats = npt.NDArray[np.float64]


class Costs:
    """Of each token of the vocabulary the sum of its losses and how often it was predicted, ``[V]``."""

    def __init__(self, size: int) -> None:
        self.loss, self.times = np.zeros(size), np.zeros(size)

    def add(self, tokens: npt.NDArray[np.int64], losses: npt.NDArray[np.floating]) -> None:
        """Take tokens and their losses, ``[N]``."""
        self.loss += np.bincount(tokens, losses, len(self.loss))
        self.times += np.bincount(tokens, minlength=len(self.times))


class LossByFrequency(EvaluationFigure[Costs | None]):
    """Draws ``loss_by_frequency_val.png`` and ``loss_by_frequency_test.png``."""

    name = "loss_by_frequency"
    size = 0

    def reset(self) -> None:
        self.state = None

    def _begin_with(self, module: pl.LightningModule) -> None:
        assert isinstance(module, SequenceModule) and isinstance(module.spec, LanguageSpec)
        self.size = module.spec.vocab_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        self._begin_with(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._begin_with(pl_module)

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        assert isinstance(batch.targets, dict)
        tokens = batch.targets["tokens"].cpu().numpy().ravel()
        losses = result.predictions.detach().float().cpu().numpy().ravel()
        self.state = self.state or Costs(self.size)
        self.state.add(tokens[tokens != PAD], losses[tokens != PAD])

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Costs | None]) -> Figure:
        spec = module.spec
        assert isinstance(spec, LanguageSpec)
        costs = Costs(spec.vocab_size)
        for state in states:
            if state is not None:
                costs.loss, costs.times = costs.loss + state.loss, costs.times + state.times
        return draw_costs(costs, np.array(spec.counts), spec.load_tokenizer().pieces, split)


def by_frequency(costs: Costs, counts: npt.NDArray[np.int64]) -> list[tuple[str, float, float]]:
    """Tokens by how often they were trained on: the times as text, their mean loss, their share of the text.

    Example:
        >>> costs = Costs(3)
        >>> costs.add(np.array([0, 1, 1, 2]), np.array([5.0, 1.0, 3.0, 4.0]))
        >>> by_frequency(costs, np.array([0, 500, 700]))
        [('0', 5.0, 0.25), ('100–999', 2.6666666666666665, 0.75)]
    """
    places, rows = np.searchsorted(EDGES, counts, side="right") - 1, []
    for place, low in enumerate(EDGES):
        mine = places == place
        if times := costs.times[mine].sum():
            high = EDGES[place + 1] - 1 if place + 1 < len(EDGES) else None
            name = f"{low:,}" if high == low else f"{low:,}–{high:,}" if high else f"{low:,}+"
            rows.append((name, float(costs.loss[mine].sum() / times), float(times / costs.times.sum())))
    return rows


def draw_costs(costs: Costs, counts: npt.NDArray[np.int64], pieces: Sequence[str], split: str) -> Figure:
    """Mean loss by how often a token was trained on, and the tokens with the largest share of the whole loss.

    Example:
        >>> costs = Costs(2)
        >>> costs.add(np.array([0, 1]), np.array([1.0, 3.0]))
        >>> len(draw_costs(costs, np.array([5, 50]), ["a", "b"], "val").axes)
        2
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    mean = costs.loss.sum() / max(costs.times.sum(), 1)
    figure.suptitle(f"{split}: {mean:.3f} nats a token, of {int(costs.times.sum()):,}", fontsize=12)
    left, right = figure.subplots(1, 2)
    _draw_frequencies(left, by_frequency(costs, counts))
    _draw_costliest(right, costs, pieces)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    return figure


def _draw_frequencies(axes: Axes, rows: Sequence[tuple[str, float, float]]) -> None:
    names, losses, shares = zip(*rows, strict=True)
    axes.bar(range(len(rows)), losses, color=BLUE, width=0.7)
    for place, (loss, share) in enumerate(zip(losses, shares, strict=True)):
        axes.annotate(
            f"{share:.1%}", (place, loss), (0, 3), textcoords="offset points", ha="center", color=GRAY, fontsize=9
        )
    axes.set_xticks(range(len(rows)), names, rotation=30, ha="right", fontsize=9)
    axes.set_xlabel("times in the training part (above: share of the text)")
    axes.set_ylabel("nats a token")
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.25)


def _draw_costliest(axes: Axes, costs: Costs, pieces: Sequence[str]) -> None:
    order = np.argsort(-costs.loss, kind="stable")[:SHOWN]
    order = order[costs.times[order] > 0][::-1]
    share = costs.loss[order] / max(costs.loss.sum(), 1e-9)
    names = [shorten(repr(pieces[token])[1:-1], 16) for token in order]
    axes.barh(range(len(order)), 100 * share, color=BLUE, height=0.7)
    axes.set_yticks(range(len(order)), names, fontsize=9, parse_math=False)
    for place, token in enumerate(order):
        told = f"{costs.loss[token] / costs.times[token]:.1f} nats × {int(costs.times[token]):,}"
        axes.annotate(
            told, (100 * share[place], place), (3, 0), textcoords="offset points", va="center", color=GRAY, fontsize=8
        )
    axes.set_xlabel("% of the whole loss")
    axes.margins(x=0.25)
