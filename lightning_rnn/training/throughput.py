"""How fast a run trains, what it waits for, and how much of the device it uses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.training.flops import product_speed
from lightning_rnn.training.hooks import callbacks_of, gather_to_rank_zero
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.preemption import Preempted
from lightning_rnn.training.throughput_meter import Meter
from lightning_rnn.training.throughput_report import Stretch, peak_memory, sentence, summary

log = logging.getLogger(__name__)
FILE = "throughput.csv"
DTYPES = {"64": torch.float64, "16": torch.float16, "bf16": torch.bfloat16}  # by what precision begins with


class Throughput(pl.Callback):
    """Measures training and says at its end, in one line, how fast it was; each epoch's figures go to the loggers.

    Tokens (valid time steps of the inputs; a translation's are the source's) a second, share of padding, time between
    batches, time of a batch, peak memory, operations a second and their share of what matrix products reach on this
    device in the run's dtype, measured in 0.05 s when training begins. What each is, and over several processes:
    :func:`lightning_rnn.training.throughput_report.summary`.

    Operations are those of products and convolutions: a forward pass of the first batches of 8 shapes is counted, a
    backward pass taken for two forward ones, and padding's share taken off. The first batch of a process, which
    compiles and allocates, counts for nothing.

    Times never repeat, and ``metrics.csv`` of a resumed run equals that of a whole one: so they go to
    ``throughput.csv`` beside it, one row an epoch, and to every other logger as ``throughput/...``. The line at the end
    is of this start of the run.

    Args:
        enabled: false measures and writes nothing.
        every_n_steps: optimizer steps between two rows, besides each epoch's end; None is none.

    Raises:
        ConfigError: ``every_n_steps`` is not positive.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(callbacks=[Throughput()])
    """

    def __init__(self, enabled: bool = True, every_n_steps: int | None = None) -> None:
        require(
            every_n_steps is None or every_n_steps >= 1,
            f"throughput.every_n_steps must be at least 1, got {every_n_steps}",
        )
        self.enabled, self.every_n_steps = enabled, every_n_steps
        self._last = _LastInRow(self)
        self._meter: Meter | None = None  # in training, where enabled
        self._totals: list[Stretch] = []  # of each process, on rank zero
        self._speed, self._reported = 0.0, 0
        self._table = ThroughputTable("")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Go first among the callbacks, and another object last: between them is what other callbacks take."""
        callbacks = callbacks_of(trainer)
        if self.enabled and stage == "fit" and self._last not in callbacks:
            callbacks.remove(self)
            callbacks.insert(0, self)
            callbacks.append(self._last)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.enabled:
            dtype = DTYPES.get(str(trainer.precision).partition("-")[0], torch.float32)
            self._speed = product_speed(trainer.strategy.root_device, dtype)
            self._totals, self._meter, self._reported = [], Meter(pl_module), trainer.global_step
            self._table = ThroughputTable(trainer.default_root_dir)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._meter is not None:
            self._meter.wait()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._meter is not None:
            self._meter.at_hand()

    def begin(self, batch: Any) -> None:
        """All callbacks have seen that the batch is there."""
        if self._meter is not None:
            self._meter.begin(batch)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if self._meter is not None:
            self._meter.forward_done()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._meter is not None:
            self._meter.done(batch)

    def over(self, trainer: pl.Trainer) -> None:
        """All callbacks have seen the batch's end, or that of a validation."""
        if self._meter is not None:
            if self.every_n_steps and trainer.global_step - self._reported >= self.every_n_steps:
                self._report(trainer, self._meter)
            self._meter.wait()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._meter is not None:
            self._report(trainer, self._meter)

    def end(self, trainer: pl.Trainer) -> None:
        """All callbacks have seen the end of training."""
        if self._meter is not None:
            self._say(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._meter is not None:
            self._meter.forward_done()
            if isinstance(exception, Preempted):  # which all processes raise at the same batch
                self._report(trainer, self._meter)
                self._say(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._meter = None

    def _report(self, trainer: pl.Trainer, meter: Meter) -> None:
        """Every process must call it: on rank zero what all of them measured becomes a row."""
        stretch, self._reported = meter.take(), trainer.global_step
        stretch.memory, stretch.speed = peak_memory(trainer.strategy.root_device), self._speed
        processes = gather_to_rank_zero(stretch)
        if not processes or not all(one.medians for one in processes):
            return
        before = self._totals or [Stretch() for _ in processes]
        self._totals = [one + other for one, other in zip(before, processes, strict=True)]
        write(trainer, self._table, summary(processes))

    def _say(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        memory = "allocated on the GPU" if trainer.strategy.root_device.type == "cuda" else "RSS"
        nothing = "not measured: a process' first batch counts for nothing, and there was no other"
        log.info("throughput: %s", sentence(summary(self._totals), memory) if self._totals else nothing)


class _LastInRow(pl.Callback):
    """Called after all other callbacks."""

    def __init__(self, owner: Throughput) -> None:
        self.owner = owner

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.owner.begin(batch)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.owner.over(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.owner.over(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.owner.end(trainer)


class ThroughputTable(CSVLogger):
    """``throughput.csv`` beside ``metrics.csv``, in the same form.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.path = Path(folder) / FILE


def write(trainer: pl.Trainer, table: ThroughputTable, found: dict[str, float]) -> None:
    """Add a row to the table, and give it to the loggers other than that of ``metrics.csv``; on rank zero."""
    step = trainer.global_step - 1  # as the rows of metrics count
    table.log_metrics({"epoch": trainer.current_epoch, **found}, step)
    table.save()
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            logger.log_metrics({f"throughput/{name}": value for name, value in found.items()}, step)
