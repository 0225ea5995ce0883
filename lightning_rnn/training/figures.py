"""Figures of a run: PNG files beside it, and the same figures in every logger that takes them."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from torch.distributed.fsdp import FSDPModule

from lightning_rnn.data.module import Split
from lightning_rnn.training.drawing import draw_learning_curves
from lightning_rnn.training.hooks import AfterEpoch, gather_to_rank_zero, is_validate, write_atomically
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
S = TypeVar("S")


@singledispatch
def send_figure(logger: Logger, name: str, figure: Figure, step: int) -> None:
    """Hand a figure to a logger; one that takes no figures gets none. Other kinds of loggers can be registered.

    Example:
        >>> from pytorch_lightning.loggers import MLFlowLogger
        >>> @send_figure.register
        ... def _(logger: MLFlowLogger, name: str, figure: Figure, step: int) -> None:
        ...     logger.experiment.log_figure(logger.run_id, figure, f"{name}.png")
    """


@send_figure.register
def _(logger: WandbLogger, name: str, figure: Figure, step: int) -> None:
    logger.log_image(name, images=[figure], step=step)


@send_figure.register
def _(logger: TensorBoardLogger, name: str, figure: Figure, step: int) -> None:
    logger.experiment.add_figure(name, figure, step, close=False)


class FigureCallback(pl.Callback, ABC):
    """Base of the callbacks that draw. They draw between epochs, never in a step, and never through pyplot."""

    def save(self, trainer: pl.Trainer, name: str, figure: Figure) -> None:
        """Write ``figures/<name>.png`` in the run's folder and hand the figure to the loggers; rank 0 only.

        Args:
            trainer: its ``default_root_dir`` is the run's folder.
            name: without folder and ending.
            figure: made by ``matplotlib.figure.Figure``.

        Raises:
            DataError: it cannot be written.
        """
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
        write_atomically(path, lambda file: figure.savefig(file, dpi=120, format="png"))
        for logger in trainer.loggers:
            send_figure(logger, name, figure, trainer.global_step)


class LearningCurves(AfterEpoch, FigureCallback):
    """Draws ``learning_curves.png``: a panel per metric, training and validation in it, the best epoch marked.

    Drawn now and then, and at the end. The history travels in the checkpoint, so a resumed run draws it all.

    Args:
        every: seconds between two drawings.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", callbacks=[LearningCurves()])
    """

    def __init__(self, every: float = 60.0) -> None:
        super().__init__()
        self.every = every
        self._drawn = time.monotonic()
        self.history: dict[str, dict[int, float]] = {}

    def after_epoch(self, trainer: pl.Trainer, epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.history.setdefault(name, {})[epoch] = value
        if time.monotonic() - self._drawn >= self.every:
            self._draw(trainer)
            self._drawn = time.monotonic()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        if self.history and trainer.is_global_zero:
            self.save(trainer, "learning_curves", draw_learning_curves(self.history))

    def state_dict(self) -> dict[str, Any]:
        """The history up to now, the epoch that just ended included."""
        self.flush()
        return {"history": {name: dict(values) for name, values in self.history.items()}, **super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's history."""
        self.history = {name: dict(values) for name, values in state_dict["history"].items()}
        super().load_state_dict(state_dict)


class EvaluationFigure(FigureCallback, Generic[S]):
    """Base of the figures of one pass over validation or test data, drawn after it from all processes' rows.

    Validation's is drawn once: at the end of training, of the last epoch that was validated, or at the end of
    ``validate``. A subclass keeps what it needs of each batch in :attr:`state`, which can be pickled.
    """

    name: ClassVar[str]
    asks_network: ClassVar[bool] = False  # whether the first process alone runs the network to draw
    state: S

    def __init__(self) -> None:
        self._seen = False
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Set :attr:`state` to that of no rows."""

    @abstractmethod
    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        """Take a batch and what the step gave into :attr:`state`."""

    @abstractmethod
    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[S]) -> Figure | None:
        """The figure, from the states of all processes; None where there is nothing to draw."""

    def _begin(self) -> None:
        self._seen = False
        self.reset()

    def _take(self, batch: SequenceBatch, result: StepResult) -> None:
        self._seen = True
        if not batch.stands_in:
            self.add(batch, result)

    def _finish(self, trainer: pl.Trainer, module: pl.LightningModule, split: Split) -> None:
        if self.asks_network and isinstance(module, FSDPModule):
            log.info("%s is not drawn: the network's weights are spread over the processes", self.name)
        elif self._seen and (states := gather_to_rank_zero(self.state)):
            assert isinstance(module, SequenceModule)
            figure = self.draw(trainer, module, split, states)
            if figure is not None:
                self.save(trainer, f"{self.name}_{split}", figure)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin()

    def on_validation_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        if not trainer.sanity_checking:
            self._take(batch, outputs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_validate(trainer):
            self._finish(trainer, pl_module, "val")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin()

    def on_test_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._take(batch, outputs)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish(trainer, pl_module, "test")
