"""A quiet trainer on one process or two, so that what they do can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy


def quiet_trainer(folder: Path, processes: int, epochs: int = 1, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    forked = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    return pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=forked if processes > 1 else "auto",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
