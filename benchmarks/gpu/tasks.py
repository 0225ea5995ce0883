"""Every installed task trained in every precision on its embedded source, beside the same steps in float32."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_rnn import plugins
from lightning_rnn.layers.precision import Precision
from lightning_rnn.training import precision as told
from lightning_rnn.training.precision import PrecisionPolicy

PRECISIONS: dict[str, tuple[Any, Precision]] = {
    "float32": ("32-true", "ieee"),
    "tf32": ("32-true", "tf32"),
    "bf16-mixed": ("bf16-mixed", "ieee"),
    "16-mixed": ("16-mixed", "ieee"),
}
WITHIN = 0.05  # of float32's loss, once a few hundred steps have let rounding grow


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def listened() -> Iterator[list[str]]:
    """What is logged of precision within a ``with``."""
    handler, before = _Lines(), told.log.level
    told.log.addHandler(handler)
    told.log.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        told.log.removeHandler(handler)
        told.log.setLevel(before)


def train(name: str, precision: str, steps: int, device: str, folder: Path) -> dict[str, Any]:
    """Losses, metrics, seconds a step and what the log says of each layer, from the same weights for any precision."""
    task, (mode, float32) = plugins.load(name), PRECISIONS[precision]
    data, module = task.datamodule(), task.module()
    data.setup("fit")
    module.spec = data.spec
    torch.manual_seed(0)
    module.configure_model()
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=1,
        precision=mode,
        max_steps=steps,
        limit_val_batches=4,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[PrecisionPolicy(float32)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    torch.manual_seed(1)
    start = time.perf_counter()
    with listened() as lines:
        trainer.fit(module, data)
    seconds = time.perf_counter() - start
    trained = {key: float(value) for key, value in trainer.callback_metrics.items()}
    (validated,) = trainer.validate(module, data, verbose=False)
    weights = sorted({str(weight.dtype).removeprefix("torch.") for weight in module.parameters()})
    return {"seconds": seconds / steps, "weights": weights, "log": lines, **trained, **validated}


def compare(
    steps: int, device: str, folder: Path, names: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """``(task and precision, what was found, whether it is near float32)`` of every task."""
    low = [name for name in PRECISIONS if device != "cpu" or name == "bf16-mixed"]
    for name in sorted(plugins.available()) if names is None else names:
        exact = train(name, "float32", steps, device, folder)
        yield f"{name}, float32", exact, math.isfinite(exact["train_loss"])
        for precision in (one for one in low if one != "float32"):
            found = train(name, precision, steps, device, folder)
            yield f"{name}, {precision}", found, near(found, exact)


def near(found: dict[str, Any], exact: dict[str, Any]) -> bool:
    """Whether both losses are within :data:`WITHIN` of float32's, and the weights stayed float32; not so for nan."""
    losses = ("train_loss", "val_loss")
    return found["weights"] == ["float32"] and all(
        abs(found[key] - exact[key]) <= WITHIN * abs(exact[key]) for key in losses
    )
