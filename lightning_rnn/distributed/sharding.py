"""Lightning's strategy that shards weights, gradients and optimizer states over the processes (FSDP2)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.strategies.model_parallel import _load_raw_module_state, _rekey_optimizer_state_if_needed
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from lightning_rnn.errors import CheckpointError, ConfigError
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.runtime.processes import gathered, of_first
from lightning_rnn.training.checkpoints import LAST, PREVIOUS
from lightning_rnn.training.module import SequenceModule

log = logging.getLogger(__name__)
STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class FullySharded(ModelParallelStrategy):
    """Each process keeps a part of every weight, of its gradient and of what the optimizer knows of it.

    A recurrent layer's weights are put together on all processes for its forward pass, and again for its backward
    pass; the rest of the network's for the whole step. Batches are shared out as with DDP, and gradients and weights
    are those of one process. Buffers are not exchanged: batch normalization counts each process' rows alone.

    Args:
        save_distributed_checkpoint: false: the first process writes checkpoints whole, as everywhere else, and any
            strategy goes on with them; true: a checkpoint is a folder into which each process writes its part, for
            networks that the memory of one process cannot hold; all nodes need that folder.
        process_group_backend: ``nccl`` or ``gloo``; None: the one for the device.
        timeout: how long a process may keep the others waiting.

    Raises:
        ConfigError: a folder of parts on nodes that share no disk.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(strategy=FullySharded(), accelerator="gpu", devices=8)
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=10),
    ) -> None:
        super().__init__("auto", 1, save_distributed_checkpoint, process_group_backend, timeout)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        module = self.lightning_module
        if not isinstance(module, SequenceModule):
            raise ConfigError(f"FullySharded shards the network of a SequenceModule, this is a {type(module).__name__}")
        if self._save_distributed_checkpoint and self.num_nodes > 1:
            check_shared(Path(trainer.default_root_dir))
        if not isinstance(module, FSDPModule):
            shard(module.to(self.root_device), self.device_mesh["data_parallel"])
        super().setup(trainer)

    # Checkpoints.

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(of_first(str(filepath)))
        part = path.with_name(f".{path.name}.{of_first(os.getpid())}.tmp")  # a kill leaves what was there before
        super().save_checkpoint(checkpoint, part, storage_options)
        self.barrier("saved")
        if self.is_global_zero:
            replace_folder(part, path)
        self.barrier("in place")

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(of_first(str(checkpoint_path)))
        if of_first(path.is_dir()):
            if not all(gathered(path.is_dir())):
                raise CheckpointError(f"{path} is not there on all nodes: a checkpoint in parts needs a shared disk")
            return super().load_checkpoint(path, weights_only=True)
        checkpoint = self.checkpoint_io.load_checkpoint(path)
        assert self.model is not None and self.lightning_module is not None
        _load_raw_module_state(dict(checkpoint["state_dict"]), self.model, strict=self.lightning_module.strict_loading)
        for optimizer, state in zip(self.optimizers, checkpoint.get("optimizer_states", ()), strict=False):
            named = _rekey_optimizer_state_if_needed(state, self.model)
            whole = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            set_optimizer_state_dict(self.model, optimizer, optim_state_dict=named, options=whole)
        return checkpoint


def shard(module: SequenceModule, mesh: Any) -> None:
    """Shard a module's network over the processes of a mesh, recurrent layers each for itself.

    What is put together for a whole step is there for every method that the step calls, not for ``forward`` alone.

    Args:
        module: its weights are made those of the first process.
        mesh: a :class:`torch.distributed.device_mesh.DeviceMesh` of one dimension.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, src=0)
    for layer in whole_layers(module.network):
        fully_shard(layer, mesh=mesh)
    kind = type(module)
    fully_shard(module, mesh=mesh)
    type(module).__module__ = kind.__module__  # FSDP2 makes a class of its own, and checkpoints name the task by this
    for step in STEPS:
        register_fsdp_forward_method(module, step)


def whole_layers(module: nn.Module) -> Iterator[SequenceLayer]:
    """The recurrent layers of a network that are not in another one, nor in a decoder, which may go step by step."""
    for child in module.children():
        if isinstance(child, SequenceLayer):
            yield child
        elif not type(child).__module__.startswith("lightning_rnn.seq2seq"):
            yield from whole_layers(child)


def replace_folder(part: Path, path: Path) -> None:
    """Put a folder in another's place; the ``last.ckpt`` before is kept as ``previous.ckpt``."""
    kept = path.with_name(PREVIOUS if path.name == LAST else f".{path.name}.old.tmp")
    if path.exists():
        _remove(kept)
        path.rename(kept)
    part.rename(path)
    if kept.name != PREVIOUS:
        _remove(kept)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_shared(folder: Path) -> None:
    """Whether all nodes see one folder. Every process must call it.

    Raises:
        ConfigError: they do not.
    """
    name = of_first(f".shared-{os.getpid()}")
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    dist.barrier()
    seen = gathered((folder / name).exists())
    (folder / name).unlink(missing_ok=True)
    if not all(seen):
        raise ConfigError(
            f"process {seen.index(False)} does not see the first one's run folder {folder}: a checkpoint in parts "
            "needs a folder that all nodes share; set --trainer.default_root_dir, or save_distributed_checkpoint=false"
        )
