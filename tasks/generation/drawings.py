"""Pictures of drawings: real ones above those that the network draws, colder to warmer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .drawing import sketch
from .module import Generator
from .strokes import lines_of

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
COLUMNS = 9
NAMES: dict[Split, str] = {"val": "validation", "test": "test"}
FILL = 0.86  # of a cell's side that a drawing's longer side takes
Seen = dict[int, dict[int, tuple[Tensor, Tensor]]]  # by class, by row: condition and strokes


def draw_grid(rows: Mapping[str, Sequence[Tensor]], title: str) -> Figure:
    """Drawings in rows, each fitted into a cell; y goes down, as on a screen.

    Args:
        rows: drawings, ``[T, 5]`` each, by the name of the row, from top to bottom.
        title: of the figure.

    Example:
        >>> line = torch.tensor([[0.0, 0, 1, 0, 0], [3, 4, 0, 1, 0], [0, 0, 0, 0, 1]])
        >>> len(draw_grid({"real": [line, line]}, "lines").axes[0].collections[0].get_segments())
        2
    """
    wide = max(map(len, rows.values()), default=1)
    figure = Figure(figsize=(0.9 + 1.3 * wide, 0.5 + 1.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    lines = [
        line
        for down, drawings in enumerate(rows.values())
        for across, drawing in enumerate(drawings)
        for line in _fitted(drawing, across, down)
    ]
    axes.add_collection(LineCollection([line.numpy() for line in lines], colors="black", linewidths=0.9,
                                       capstyle="round"))  # fmt: skip
    axes.set(xlim=(-0.5, wide - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal", title=title)
    axes.set_xticks([])
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _fitted(drawing: Tensor, across: int, down: int) -> list[Tensor]:
    """The lines of a drawing, in a cell's middle; a dot is a very short line."""
    lines = lines_of(drawing)
    if not lines:
        return []
    points = torch.cat(lines)
    low, high = points.amin(0), points.amax(0)
    side = (high - low).max().clamp(min=1e-6)
    cell = torch.tensor([across, down], dtype=points.dtype)
    placed = [(line - (low + high) / 2) / side * FILL + cell for line in lines]
    return [line if len(line) > 1 else torch.cat([line, line + 0.02]) for line in placed]


class DrawingsFigure(EvaluationFigure[Seen]):
    """Draws ``drawings_<split>.png``: a row of the split's, and one for each temperature, of the same conditions."""

    name = "drawings"
    asks_network = True

    def reset(self) -> None:
        self.state = {}

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        targets, ids = batch.targets, batch.ids
        if not isinstance(targets, Tensor) or targets.ndim != 3 or ids is None or batch.target_lengths is None:
            return
        kinds, lengths = batch.inputs[:, 0].argmax(1).tolist(), batch.target_lengths.tolist()
        for place, (row, kind) in enumerate(zip(ids.tolist(), kinds, strict=True)):
            strokes = targets[place, : lengths[place]].cpu().clone()
            kept = self.state.setdefault(kind, {}) | {row: (batch.inputs[place, 0].cpu().clone(), strokes)}
            self.state[kind] = dict(sorted(kept.items())[:COLUMNS])

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Seen]) -> Figure | None:
        assert isinstance(module, Generator) and module.spec is not None
        chosen = _chosen(states)
        if not chosen:
            return None
        conditions = torch.stack([condition for condition, _ in chosen]).to(module.device)
        seeds = torch.arange(len(chosen), device=module.device)
        most = module.decoding.max_length
        rows: dict[str, list[Tensor]] = {NAMES[split]: [strokes for _, strokes in chosen]}
        was_training = module.training
        module.eval()
        for temperature in TEMPERATURES:
            drawn = sketch(module.network, conditions, seeds, most, temperature)
            rows[f"{temperature}"] = [one.cpu() for one in drawn]
        module.train(was_training)
        return draw_grid(rows, f"drawings of the {NAMES[split]} part, and drawn at temperatures")


def _chosen(states: Sequence[Seen]) -> list[tuple[Tensor, Tensor]]:
    """As many rows of each class as there is room for, of all processes'."""
    together: Seen = {}
    for state in states:
        for kind, rows in state.items():
            together.setdefault(kind, {}).update(rows)
    each = max(1, COLUMNS // max(len(together), 1))
    return [one for _, rows in sorted(together.items()) for _, one in sorted(rows.items())[:each]][:COLUMNS]
