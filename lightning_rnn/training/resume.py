"""What makes a resumed run the run that was never stopped: when it is saved, and what Lightning leaves out."""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import EarlyStopping, WeightAveraging
from pytorch_lightning.loops.loop import _Loop
from pytorch_lightning.strategies import ParallelStrategy

from lightning_rnn.errors import require
from lightning_rnn.training import progress
from lightning_rnn.training.checkpoints import LAST
from lightning_rnn.training.hooks import callbacks_of, datamodule_of
from lightning_rnn.training.preemption import Preempted, StopSignal

log = logging.getLogger(__name__)
KEY = "lightning_rnn_resume"
Moment = Literal["batch", "validation", "end"]


class StepSeed(pl.Callback):
    """Makes all random numbers of a training step a function of (seed, epoch, batch, process).

    So a resumed run draws what the run that was never stopped drew, and neither validation nor the number of workers
    changes training. Seeds torch on the CPU and the module's device, numpy and ``random``.

    Args:
        seed: None is that of ``seed_everything``, or 0.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(callbacks=[StepSeed(1)])
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        key = np.random.SeedSequence((seed, trainer.current_epoch, batch_idx, trainer.global_rank))
        word = int(key.generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(word >> 1)  # torch.manual_seed takes a millisecond for devices not there
        if (device := pl_module.device).type != "cpu":
            getattr(torch, device.type).manual_seed(word >> 1)
        np.random.seed(word & 0xFFFFFFFF)
        random.seed(word)


class LastCheckpoint(pl.Callback):
    """Writes ``last.ckpt``, from which a run goes on as if it had never been stopped.

    It is written between batches: after each epoch, each validation, every so many steps or minutes, at the end, and
    where SIGTERM or SIGUSR1 asks the run to stop; then all processes leave with :class:`Preempted`, exit code 75. Where
    gradients are accumulated, between steps. Beside what Lightning keeps, it keeps the metrics known so far, and
    whether the run had stopped by itself.

    Args:
        every_n_steps: optimizer steps between two checkpoints at most; None is no bound.
        every_minutes: the same in minutes.

    Raises:
        ConfigError: a bound that is not positive.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", callbacks=[LastCheckpoint(), StepSeed()],
                                 plugins=[AtomicCheckpointIO()])
            trainer.fit(module, data, ckpt_path="runs/demo/checkpoints/last.ckpt")  # go on
    """

    def __init__(self, every_n_steps: int | None = None, every_minutes: float | None = 10.0) -> None:
        require(
            every_n_steps is None or every_n_steps >= 1, f"last.every_n_steps must be at least 1, got {every_n_steps}"
        )
        require(every_minutes is None or every_minutes > 0, f"last.every_minutes must be positive, got {every_minutes}")
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self.stop = StopSignal()
        self._moment: Moment | None = None  # that is being saved
        self._resumed: dict[str, Any] = {"moment": None, "metrics": {}}
        self._saved_step, self._saved_time = 0, time.monotonic()
        self._validated = self._fast_forwarded = False

    # When to save.

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.stop.install()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.wait_for_batches()
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        trainer.callback_metrics.update(self._resumed["metrics"])
        if self._resumed["moment"] in ("batch", "end"):  # the batch that had begun is counted when it begins again
            batches = trainer.fit_loop.epoch_loop.batch_progress
            batches.total.ready = batches.total.completed
            self._fast_forwarded = self._resumed["moment"] == "batch"

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._fast_forwarded:  # Lightning has just counted the batches of a validation that was before the resume
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.load_state_dict(self._resumed["validated"])
            self._fast_forwarded = False
        stop, due = _any_process(trainer, self.stop.received is not None, self._due(trainer, batch_idx))
        if not (stop or due) or batch_idx % trainer.accumulate_grad_batches:
            return
        if trainer.global_step > self._saved_step:
            self._save(trainer, "batch", batch_idx)
        if stop:
            self._leave(trainer)

    def _due(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        steps, seconds = trainer.global_step - self._saved_step, time.monotonic() - self._saved_time
        return (
            batch_idx == 0
            or self._validated
            or (self.every_n_steps is not None and steps >= self.every_n_steps)
            or (self.every_minutes is not None and trainer.is_global_zero and seconds >= 60 * self.every_minutes)
        )

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        fitting = trainer.fit_loop.epoch_loop.batch_progress
        if trainer.state.fn != "fit" or trainer.sanity_checking or not _steps(trainer, fitting.current.ready):
            return
        if any(_any_process(trainer, self.stop.received is not None)):
            for callback in callbacks_of(trainer):  # it validates the average, and must put the weights back
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._save(trainer, "validation", fitting.current.ready)
            self._leave(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # else plateau schedulers would miss the epoch of a resume; by the base's setter: with max_steps the fit
        # loop's own takes every epoch for a restarted one, and skips it
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]  # a property

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, "end", 0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.stop.restore()

    def _leave(self, trainer: pl.Trainer) -> NoReturn:
        trainer.strategy.barrier("preempted")
        name = "another process' signal" if self.stop.received is None else self.stop.received.name
        stop = Preempted(f"stopped by {name} at step {trainer.global_step}: run again with --ckpt_path last")
        strategy = trainer.strategy
        if isinstance(strategy, ParallelStrategy) and isinstance(strategy.cluster_environment, LightningEnvironment):
            stop.code = stop.code if trainer.local_rank == 0 else 0  # for another code its parent, rank 0, is killed
        raise stop

    # What to save.

    def _save(self, trainer: pl.Trainer, moment: Moment, batch: int) -> None:
        datamodule, self._moment = datamodule_of(trainer), moment
        stands = nullcontext() if datamodule is None else datamodule.standing_at(trainer.current_epoch, batch)
        try:
            with stands:
                trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / LAST, weights_only=False)
        finally:
            self._moment = None
        self._saved_step, self._saved_time, self._validated = trainer.global_step, time.monotonic(), False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loops, ready = checkpoint["loops"], trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if self._moment == "batch":
            progress.at_batch_start(loops, _steps(trainer, ready))
        elif self._moment == "validation":
            progress.at_validation(loops)
        elif self._moment == "end":
            progress.at_end(loops, _steps(trainer, 1))
        metrics = {name: value.detach().cpu().clone() for name, value in trainer.callback_metrics.items()}
        stopped = self._moment == "end" and trainer.should_stop
        validated = trainer.fit_loop.epoch_loop.val_loop.batch_progress.state_dict()
        checkpoint[KEY] = {"moment": self._moment, "metrics": metrics, "stopped": stopped, "validated": validated}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit" and KEY in checkpoint:
            self._resumed = checkpoint[KEY]
            if checkpoint[KEY]["stopped"] and any(isinstance(one, EarlyStopping) for one in callbacks_of(trainer)):
                log.info("early stopping had ended this run: there is nothing left to train")
                trainer.should_stop = True


def _steps(trainer: pl.Trainer, ready: int) -> bool:
    """Whether the optimizer steps with the batch of this number, counted from 1."""
    return ready % trainer.accumulate_grad_batches == 0 or ready == trainer.num_training_batches


def _any_process(trainer: pl.Trainer, *flags: bool) -> tuple[bool, ...]:
    """Each flag: whether it is set on any process. All processes must call it."""
    if trainer.world_size == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.float32, device=trainer.strategy.root_device)
    return tuple((trainer.strategy.reduce(counts, reduce_op="sum") > 0).tolist())
