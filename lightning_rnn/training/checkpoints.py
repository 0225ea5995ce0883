"""Checkpoint files that are whole or absent, hold nothing that could run code, and are checked before use."""

from __future__ import annotations

import io
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins import CheckpointIO

from lightning_rnn.errors import CheckpointError, DataError
from lightning_rnn.runtime.processes import of_first, several
from lightning_rnn.training.hooks import write_atomically
from lightning_rnn.training.shards import read_shards

log = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


def to_bytes(checkpoint: dict[str, Any]) -> bytes:
    """A checkpoint as a file's contents.

    Raises:
        CheckpointError: it holds more than tensors and plain values, so it could not be loaded again.
    """
    stream = io.BytesIO()
    torch.save(checkpoint, stream)
    stream.seek(0)
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(stream):
        raise CheckpointError(
            f"not saved, as it could not be loaded again: a hyper-parameter or a state holds {', '.join(unsafe)}; "
            "keep to numbers, strings, lists, dicts and tensors"
        )
    return stream.getvalue()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's contents: tensors and plain values only, nothing that could run code; every byte is checked.

    Raises:
        CheckpointError: the file is missing or broken, or holds anything else.
    """
    if Path(path).is_dir():
        return read_shards(Path(path))
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not compare checksums
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}): take another, such as last.ckpt") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (checksum of {damaged}): take another, such as last.ckpt")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, or is no checkpoint: it was not loaded"
        ) from error
    except Exception as error:  # what torch raises for garbage depends on its bytes
        raise CheckpointError(f"{path} is not a whole checkpoint: take another, such as last.ckpt") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is not a checkpoint of a run, but a {type(checkpoint).__name__}: take another")
    return checkpoint


def newest_good(folder: Path) -> Path | None:
    """The checkpoint that a run goes on from; None where there is none yet.

    ``last.ckpt``, unless it is broken: then the furthest of the others, and a warning names what was passed over. A run
    that was stopped before its first ``last.ckpt`` begins anew.

    Raises:
        CheckpointError: there are some, and all are broken.
    """
    steps, broken = dict[Path, int](), list[CheckpointError]()
    if not any((folder / name).exists() for name in (LAST, PREVIOUS)):
        return None
    for path in (folder / name for name in (LAST, PREVIOUS, BEST)):
        if path.exists():
            try:
                steps[path] = _step(path)
            except CheckpointError as error:
                broken.append(error)
        if path.name == LAST and steps:
            return path
    if broken and not steps:
        raise CheckpointError("; ".join(map(str, broken)))
    chosen = max(steps, key=lambda path: steps[path])
    for why in broken:
        log.warning("%s: passed over, going on from %s, step %d", why, chosen, steps[chosen])
    return chosen


def _step(path: Path) -> int:
    step = read_checkpoint(path).get("global_step")
    if not isinstance(step, int):
        raise CheckpointError(f"{path} is not a checkpoint of a run: it has no global_step")
    return step


def remove_litter(folder: Path) -> None:
    """Remove what a killed process had not finished writing."""
    for path in folder.glob(".*.tmp"):
        log.info("removing %s, left by a process that was stopped while writing", path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class AtomicCheckpointIO(CheckpointIO):
    """Writes a checkpoint under a temporary name beside its own, flushes it to the disk and renames it.

    A kill or a full disk leaves what was there before. The ``last.ckpt`` before the newest is kept as
    ``previous.ckpt``. Loading checks every byte, and never runs code.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(plugins=[AtomicCheckpointIO()])
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write one.

        Raises:
            CheckpointError: it holds more than tensors and plain values.
            DataError: it cannot be written.
        """
        path, content = Path(path), to_bytes(checkpoint)
        keep = path.with_name(PREVIOUS) if path.name == LAST else None
        try:
            write_atomically(path, lambda file: file.write(content), keep)
        except DataError as error:
            left = f"the checkpoint before is {path}" if path.is_file() else "there is no checkpoint yet"
            raise DataError(f"{error} ({left})") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one, on the CPU: the first process reads it for all of them, as others may be where there is no file."""
        return of_first(read_checkpoint(path) if not several() or dist.get_rank() == 0 else {})

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove one, where it is there."""
        Path(path).unlink(missing_ok=True)
