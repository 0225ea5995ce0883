"""Pictures of images beside what was written of them, wrong ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_rnn.data.module import Split
from lightning_rnn.training.drawing import Panel, draw_panels, shorten
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.hooks import datamodule_of
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .judging import WrittenResult
from .rows import GenerationRows
from .spec import GenerationSpec

PANELS = 12
Texts = dict[int, str]  # by row


class WrittenFigure(EvaluationFigure[Texts]):
    """Draws ``written_<split>.png`` where conditions are images: twelve of them, what was written, and what is right.

    Those of which something wrong was written come first.
    """

    name = "written"

    def reset(self) -> None:
        self.state = {}

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        if isinstance(result, WrittenResult):
            self.state |= {row: texts[0] for row, texts in result.texts.items()}

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Texts]) -> Figure | None:
        data = datamodule_of(trainer)
        if data is None or not isinstance(module.spec, GenerationSpec) or module.spec.image is None:
            return None
        rows = data.split(split)
        assert isinstance(rows, GenerationRows)
        references, written = rows.references, {row: text for state in states for row, text in state.items()}
        if references is None or not written:
            return None
        wrong = [row for row in sorted(written) if written[row] not in references[row]]
        right = [row for row in sorted(written) if written[row] in references[row]]
        panels = [_panel(data.draw, split, row, written[row], references[row][0]) for row in [*wrong, *right][:PANELS]]
        share = 100 * len(right) / len(written)
        return draw_panels(panels, f"{split}: {share:.1f} % of {len(written):,} texts exactly right")


def _panel(draw: Callable[[Axes, Split, int], None], split: Split, row: int, text: str, reference: str) -> Panel:
    title = shorten(text, 24) if text == reference else f"{shorten(text, 18)}, not {shorten(reference, 18)}"

    def into(axes: Axes) -> None:
        draw(axes, split, row)
        axes.set_axis_off()

    return title, into
