"""The figure of words and their neighbours, drawn when training ends and after a test."""

from __future__ import annotations

import pytorch_lightning as pl

from lightning_rnn.training.figures import FigureCallback

from .figures import draw_neighbors, far_apart
from .module import WordVectors


class NeighborFigure(FigureCallback):
    """Draws ``neighbors.png``: the words of ``model.shown``, or frequent ones far apart, with what is near."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raises :class:`DataError` where a word of ``model.shown`` has no vector: now, not when all is learned."""
        assert isinstance(pl_module, WordVectors)
        pl_module.queries.rows(pl_module.shown or [])

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, WordVectors)
        if trainer.is_global_zero:
            queries = module.queries
            words = module.shown or far_apart(queries)
            title = f"{len(queries.words):,} words: {len(words)} of them and what is nearest, principal components"
            self.save(trainer, "neighbors", draw_neighbors(queries, words, title))
