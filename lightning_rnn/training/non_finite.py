"""A loss or a gradient that is no finite number: the batch is left out and counted, or training stops and names it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch.optim import Optimizer

from lightning_rnn.errors import DataError
from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
FILE = "non_finite.jsonl"


class NonFinite(pl.Callback):
    """Looks at the gradients before each optimizer step.

    Where they are not all finite, the rows of the batches behind them go to ``non_finite.jsonl`` in the run's folder,
    one object per batch with ``epoch``, ``batch``, ``step``, ``loss``, ``process`` and ``ids``. Then training stops,
    before the weights are harmed, or the step is left out: the weights and the optimizer's state stay as they are. With
    float16 the scaler of the gradients does this by itself, and nothing is looked at.

    Args:
        action: ``stop`` or ``skip``.

    Raises:
        DataError: with ``stop``; names epoch, batch and file.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(callbacks=[NonFinite("skip")])
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop") -> None:
        self.action = action
        self.skipped = 0
        self._batches: list[dict[str, Any]] = []  # since the last step
        self._losses: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        self._batches.append({"epoch": trainer.current_epoch, "batch": batch_idx, "ids": batch.ids})

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        batches, self._batches = self._batches, []
        losses, self._losses = self._losses, []
        precision = trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is not None:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return
        self._note(trainer, batches, losses)
        for group in optimizer.param_groups:  # without gradients the optimizer leaves everything as it is
            for parameter in group["params"]:
                parameter.grad = None

    def _note(self, trainer: pl.Trainer, batches: list[dict[str, Any]], losses: list[torch.Tensor]) -> None:
        """Write the rows down, of all processes; then stop or count."""
        lines = [
            {**batch, "step": trainer.global_step, "loss": str(float(loss)), "process": trainer.global_rank}
            | {"ids": _names(trainer, batch["ids"])}
            for batch, loss in zip(batches, losses[-len(batches) :], strict=True)
        ]
        path, last = Path(trainer.default_root_dir) / FILE, batches[-1]
        if everyone := gather_to_rank_zero(lines):
            with path.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for process in everyone for line in process)
        where = f"epoch {last['epoch'] + 1}, batch {last['batch'] + 1} (loss {lines[-1]['loss']})"
        if self.action == "stop":
            raise DataError(
                f"{where}: a gradient is not a finite number; the rows are in {path}: mend them, lower the learning "
                "rate, clip gradients, or leave such batches out with --non_finite.action skip"
            )
        self.skipped += 1
        log.warning(
            "%s: a gradient is not a finite number: step left out, %d so far, see %s", where, self.skipped, path
        )

    def state_dict(self) -> dict[str, Any]:
        """The steps left out so far."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]


def _names(trainer: pl.Trainer, ids: torch.Tensor | None) -> list[str | int]:
    """The rows' names in the source."""
    rows = [] if ids is None else ids.tolist()
    datamodule = datamodule_of(trainer)
    return rows if datamodule is None else [datamodule.split("train").row_id(row) for row in rows]
