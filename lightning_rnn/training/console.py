"""What a program says while it runs: a live bar on a terminal, plain lines elsewhere, beside the answers it gives."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

from lightning_rnn.training.hooks import AfterEpoch, is_validate, values_of


def to_line(metrics: Mapping[str, float]) -> str:
    """Metrics to 4 digits.

    Example:
        >>> to_line({"val_loss": 0.123456, "val_accuracy": 0.95})
        'val_loss 0.1235  val_accuracy 0.95'
    """
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


class EpochLines(AfterEpoch, ProgressBar):
    """A progress bar for logs and pipes: one line per epoch, one for the results of test or validate.

    Example:
        .. code-block:: text

            epoch 3/20  1.2 s  train_loss 0.6512  train_accuracy 0.81  val_loss 0.7003  val_accuracy 0.79
            test  test_loss 0.7111  test_accuracy 0.78
    """

    def __init__(self) -> None:
        ProgressBar.__init__(self)
        AfterEpoch.__init__(self)
        self._enabled = True
        self._started, self._seconds = time.monotonic(), 0.0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def _say(self, line: str) -> None:
        if self._enabled:
            print(line, flush=True)

    def after_epoch(self, trainer: pl.Trainer, epoch: int, metrics: dict[str, float]) -> None:
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self._say(f"epoch {epoch}{of}  {self._seconds:.1f} s  {to_line(metrics)}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._seconds = time.monotonic() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if is_validate(trainer):
            self._say(f"validate  {to_line(values_of(trainer, 'val_'))}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say(f"test  {to_line(values_of(trainer, 'test_'))}")


def progress_bar() -> ProgressBar:
    """A live bar where standard output is a terminal, else lines.

    Example:
        >>> isinstance(progress_bar(), ProgressBar)
        True
    """
    return RichProgressBar(leave=False) if sys.stdout.isatty() else EpochLines()


@contextmanager
def answers_alone() -> Iterator[None]:
    """Log lines go to the standard error; what the standard output cannot encode is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    streams = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
    moved = [handler for handler in streams if handler.stream is sys.stdout]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(sys.stdout)
