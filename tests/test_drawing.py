"""Names of the user's are drawn as they are."""

from __future__ import annotations

from pathlib import Path

import torch

from lightning_rnn.training.drawing import draw_confusion_matrix, draw_panels

NAMES = ["$_$", "$^", "a$\\b$"]


def test_dollar_signs_in_names_are_not_read_as_formulas(tmp_path: Path) -> None:
    matrix = draw_confusion_matrix(torch.eye(3, dtype=torch.int64), NAMES, "three classes")
    panels = draw_panels([("$_$ taken for $^", lambda axes: axes.set_axis_off())], "rows")
    for figure in (matrix, panels):
        figure.savefig(tmp_path / "a.png")
    assert [label.get_text() for label in matrix.axes[0].get_xticklabels()] == NAMES
