"""A run's folder: which it is, whose it is, and the checkpoint in it to start from."""

from __future__ import annotations

import fcntl
import logging
import time
from pathlib import Path
from typing import BinaryIO

from jsonargparse import Namespace

from lightning_rnn.errors import CheckpointError, ConfigError, DataError, require
from lightning_rnn.training.checkpoints import LAST, newest_good, remove_litter
from lightning_rnn.training.nodes import is_first_process

log = logging.getLogger(__name__)


def default_root(options: Namespace) -> Path:
    """``runs/<task>/<config>``."""
    configs = options.get("config") or []
    task: str = options.model.class_path.split(".")[-2]
    return Path("runs") / task / (Path(str(configs[0])).stem if configs else "default")


def check_writable(root: Path) -> None:
    """Raise :class:`DataError` unless files can be made in the run folder."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write to the run folder {root} ({error.strerror}): choose another with --trainer.default_root_dir"
        ) from error


def refuse_stray(root: Path) -> None:
    """Raise :class:`ConfigError` for a checkpoint that Lightning, under SLURM, would go on from without a word."""
    stray = next(root.glob("hpc_ckpt_*"), None)
    require(stray is None, f"{stray} is not of this run: move it away, or go on from it with --ckpt_path {stray}")


def lock_run(root: Path, patience: float = 10.0) -> BinaryIO | None:
    """Hold the run's folder for this process, as long as the file returned is open; None on processes beside the first.

    The system gives the folder free when the process ends, however it ends.

    Raises:
        ConfigError: another process trains in it.
    """
    if not is_first_process():
        return None
    file, until = (root / ".lock").open("ab"), time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:  # the other processes of a run that was killed take a moment to end
            if time.monotonic() > until:
                file.close()
                raise ConfigError(
                    f"another process is training in {root}: wait for it, or choose another folder with "
                    "--trainer.default_root_dir"
                ) from None
            time.sleep(0.1)


def checkpoint_of(root: Path, verb: str, asked: str | None, alone: bool) -> str | None:
    """The checkpoint that a verb starts from; ``last`` and ``best`` are in the run folder, of the first process.

    Args:
        root: the run folder.
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        asked: ``last``, ``best``, a path, or None: from the beginning for ``fit``, the best one for the others.
        alone: whether nobody else writes in the folder.

    Raises:
        ConfigError: the folder holds a run that was not asked to go on.
        CheckpointError: there is no such checkpoint.
    """
    folder = root / "checkpoints"
    if not is_first_process():
        return str(folder / LAST) if asked == "last" and (folder / LAST).exists() else None
    if verb != "fit":
        return _existing(folder, asked or "best")
    if asked is None and (folder.is_dir() or (root / "config.yaml").exists()):
        raise ConfigError(
            f"{root} already holds a run: go on with --ckpt_path last, or choose another folder with "
            "--trainer.default_root_dir"
        )
    if asked != "last":
        return None if asked is None else _existing(folder, asked)
    if alone:
        remove_litter(folder)
    found = newest_good(folder)
    if found is None:
        log.info("no checkpoint in %s yet: training from the beginning", folder)
        return None
    log.info("checkpoint: %s", found)
    return str(found)


def _existing(folder: Path, asked: str) -> str:
    """The path of ``last``, ``best`` or a checkpoint named by its own."""
    path = folder / f"{asked}.ckpt" if asked in ("best", "last") else Path(asked)
    if not path.exists():
        hint = "train first (fit), or give another with --ckpt_path"
        if asked == "best" and path.with_name(LAST).is_file():
            hint = "nothing was validated yet; take the last weights with --ckpt_path last"
        raise CheckpointError(f"no checkpoint {path}: {hint}")
    log.info("checkpoint: %s", path)
    return str(path)
