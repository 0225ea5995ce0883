"""What the callbacks share: when an epoch's numbers are complete, rows of all processes, files that are whole."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.trainer.states import TrainerFn

from lightning_rnn.data.disk import replace
from lightning_rnn.data.module import SequenceDataModule
from lightning_rnn.errors import DataError
from lightning_rnn.runtime.processes import several

T = TypeVar("T")


def gather_to_rank_zero(value: T) -> list[T]:
    """The values of all processes in rank order on rank 0, an empty list elsewhere. Every process must call it.

    Args:
        value: anything that can be pickled, on the CPU.

    Example:
        >>> gather_to_rank_zero("rows of the only process")
        ['rows of the only process']
    """
    if not several():
        return [value]
    root = dist.get_rank() == 0
    values: list[T | None] = [None] * dist.get_world_size()
    dist.gather_object(value, values if root else None)
    return [item for item in values if item is not None] if root else []


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], object],
    keep: Path | None = None,
    option: str = "--trainer.default_root_dir",
) -> None:
    """Write a file that is whole or absent, also after a power cut, and make its folder.

    Args:
        path: the file; what was there before stays until the new one is whole.
        write: gets the open binary file.
        keep: where what was there before is kept; None does not keep it.
        option: with which another place is chosen, for messages.

    Raises:
        DataError: it cannot be written there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "figures" / "note.txt"
        >>> write_atomically(path, lambda file: file.write(b"done"))
        >>> path.read_text()
        'done'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
        if keep is not None and path.exists():
            _keep(path, keep)
        replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free or unlock that folder, or choose another with "
            f"{option}"
        ) from error
    finally:
        if temporary.parent.is_dir() and os.access(temporary.parent, os.X_OK):
            temporary.unlink(missing_ok=True)


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, so that there is always one of the first."""
    second = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
    try:
        try:
            os.link(path, second)
        except OSError:  # a file system without links, such as FAT or some network drives
            shutil.copyfile(path, second)
        os.replace(second, kept)
    finally:
        second.unlink(missing_ok=True)


def datamodule_of(trainer: pl.Trainer) -> SequenceDataModule | None:
    """The trainer's datamodule, where it is one of ours."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]  # the trainer's data connector sets it
    return datamodule if isinstance(datamodule, SequenceDataModule) else None


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, in the order in which they are called; a change of the list is one of the trainer's."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # its connector sets it
    return callbacks


def is_validate(trainer: pl.Trainer) -> bool:
    """Whether this is ``trainer.validate``, not the validation in ``fit`` (``trainer.validating`` is true in both)."""
    return trainer.state.fn == TrainerFn.VALIDATING


def values_of(trainer: pl.Trainer, *prefixes: str) -> dict[str, float]:
    """The trainer's metrics whose names start so, as floats."""
    metrics = trainer.callback_metrics
    return {name: float(value) for name, value in metrics.items() if name.startswith(prefixes)}


class AfterEpoch(pl.Callback, ABC):
    """Calls :meth:`after_epoch` once per epoch, when its training and validation metrics are both known.

    Lightning calls the callbacks' ``on_train_epoch_end`` before the module logs there, so the call comes a moment
    later: before the next epoch, at the end of training, or when :meth:`flush` asks (a checkpoint is being written).
    """

    def __init__(self) -> None:
        self._ended: pl.Trainer | None = None
        self._epoch = 0
        self._validated: dict[str, float] = {}

    @abstractmethod
    def after_epoch(self, trainer: pl.Trainer, epoch: int, metrics: dict[str, float]) -> None:
        """Take an epoch's ``train_*`` metrics and, where it was validated, its ``val_*`` ones. Epochs count from 1."""

    def flush(self) -> None:
        """Call :meth:`after_epoch` if an epoch has ended since the last call."""
        trainer, self._ended = self._ended, None
        if trainer is not None:
            validated, self._validated = self._validated, {}
            metrics = {**values_of(trainer, "train_"), **validated}
            self.after_epoch(trainer, self._epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        """The validation metrics of the epoch that runs."""
        return {"validated": dict(self._validated)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._validated = dict(state_dict["validated"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = values_of(trainer, "val_")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.flush()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended, self._epoch = trainer, trainer.current_epoch + 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.flush()
