"""Figures of what is written, drawn after validation and test."""

from __future__ import annotations

import pytorch_lightning as pl

from .drawings import DrawingsFigure
from .pictures import WrittenFigure
from .readings import ReadingFigure
from .reports import Report


def callbacks() -> list[pl.Callback]:
    """Those that the command line adds for this task."""
    return [DrawingsFigure(), WrittenFigure(), ReadingFigure(), Report()]
