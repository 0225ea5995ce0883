"""Files and folders that appear whole or not at all, with several processes at work, and their checksums."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Literal

from lightning_rnn.errors import DataError

log = logging.getLogger(__name__)


def checksum_of(path: Path, algorithm: Literal["md5", "sha256"] = "sha256") -> str:
    """The file's checksum, with the algorithm in front.

    Raises:
        OSError: the file cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_text("hello")
        ...     checksum_of(Path(folder, "a.txt"), "md5")
        'md5:5d41402abc4b2a76b9719d911017c592'
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk.

    Raises:
        OSError: the disk is full or broken.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append(stream: FileIO, data: bytes) -> None:
    """Write all of ``data``: a disk that is nearly full takes less than it is given before it fails.

    Raises:
        OSError: the disk is full or broken.
    """
    while data:
        data = data[stream.write(data) :]


def replace(whole: Path, target: Path) -> None:
    """Give a file or folder that is whole its name, such that a power cut leaves the one before or this one.

    Raises:
        OSError: the disk is full or broken.
    """
    sync(whole)
    os.replace(whole, target)
    sync(target.parent)


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Say in one sentence that ``folder`` cannot be written to.

    Raises:
        DataError: in place of an ``OSError`` inside.

    Example:
        >>> with usable(Path("/cache")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: cannot use /cache (No space left on device): make room or ...
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot use {error.filename or folder} ({error.strerror or error}): make room or permit writing in "
            f"{folder}, or set LIGHTNING_RNN_CACHE to another folder"
        ) from error


def _acquired(lock: Path) -> FileIO | None:
    """The lock file, locked; None where the holder before removed it in the meantime."""
    stream = lock.open("ab", buffering=0)
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is at work on %s: waiting for it", lock.with_suffix(""))
            fcntl.flock(stream, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
                return stream
    except BaseException:
        stream.close()
        raise
    stream.close()
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process, and one thread of it, at a time is inside for this ``path``; the others wait.

    The lock is the file ``path.lock`` beside it. It is removed at the end; one left by a killed process holds nobody.

    Raises:
        OSError: it cannot be made there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, locked(Path(folder, "a.bin")):
        ...     [path.name for path in Path(folder).iterdir()]
        ['a.bin.lock']
    """
    lock = path.with_name(path.name + ".lock")
    while (stream := _acquired(lock)) is None:
        pass
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before it is released, so that who waited sees that it is of no use
        stream.close()
