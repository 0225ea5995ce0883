"""A run slow enough to be interrupted."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl


class Brake(pl.Callback):
    """Waits a moment at each batch, so that a tiny run is not over before a signal reaches it."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        time.sleep(0.04)
