"""A quiet trainer on one process or several, what its steps gave, and free ports: so that runs can be compared."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

QUIET: dict[str, Any] = {  # options of a trainer that writes and says nothing of itself
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
}


def quiet_trainer(
    folder: Path,
    processes: int,
    epochs: int = 1,
    callbacks: Sequence[pl.Callback] = (),
    precision: Literal["32-true", "64-true"] = "32-true",
    strategy: Strategy | None = None,
) -> pl.Trainer:
    ddp = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    return pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy or (ddp if processes > 1 else "auto"),
        max_epochs=epochs,
        inference_mode=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        precision=precision,
        **QUIET,
    )


class Gradients(pl.Callback):
    """Writes the gradients of every step, as the optimizer gets them, to ``gradients.pt``: float64 ``[steps, N]``."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.steps: list[torch.Tensor] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        parameters = [p for p in pl_module.parameters() if p.requires_grad]
        flat = [whole(torch.zeros_like(p) if p.grad is None else p.grad) for p in parameters]
        self.steps.append(torch.cat([gradient.double().flatten() for gradient in flat]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(torch.stack(self.steps), Path(trainer.default_root_dir) / "gradients.pt")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, put together where processes hold parts of it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def forked(processes: int, run: Callable[[], None], folder: Path) -> list[int]:
    """Exit codes of forks of this process in which ``run`` was called, as Lightning's launcher would have started them.

    What they print is in ``output_<number>.txt`` of the folder.
    """
    port, children = str(free_port()), []
    for number in range(processes):
        child = os.fork()
        if not child:
            os.environ |= {"LOCAL_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            _end_with(run, folder / f"output_{number}.txt")
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _end_with(run: Callable[[], None], output: Path) -> NoReturn:
    code = 1
    try:
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        run()
        code = 0
    except BaseException:  # nobody is above to print it
        traceback.print_exc()
    finally:
        os._exit(code)
