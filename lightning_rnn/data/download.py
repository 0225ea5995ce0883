"""Getting a file from one of several mirrors, and never using one that is not whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

from lightning_rnn.errors import DataError

log = logging.getLogger(__name__)
TIMEOUT = 30  # seconds without an answer


class _Unusable(Exception):
    """What a mirror sent is not the file."""


def md5_of(path: Path) -> str:
    """The file's MD5, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _set_aside(path: Path, target: Path) -> Path:
    bad = target.with_name(target.name + ".bad")
    with contextlib.suppress(FileNotFoundError):  # another process was first
        os.replace(path, bad)
    return bad


def _save(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, path.open("xb") as stream:
        shutil.copyfileobj(response, stream)
        announced = response.headers.get("Content-Length")
    if announced is not None and path.stat().st_size != int(announced):
        raise _Unusable(f"it broke off after {path.stat().st_size:,} of {int(announced):,} bytes")


def _download(url: str, target: Path, md5: str | None) -> None:
    """Save ``url`` as ``target``, under a name of its own until it is whole."""
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        _save(url, part)
        if md5 is not None and (found := md5_of(part)) != md5:
            raise _Unusable(f"its md5 is {found} instead of {md5}, kept as {_set_aside(part, target)}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _present(target: Path, md5: str | None) -> bool:
    """Whether the file is there and right; one that is wrong is put aside."""
    try:
        found = md5_of(target)
    except FileNotFoundError:
        return False
    if md5 in (None, found):
        return True
    log.warning("%s has md5 %s instead of %s: kept as %s", target, found, md5, _set_aside(target, target))
    return False


def fetch(name: str, folder: Path, mirrors: Sequence[str], md5: str | None = None) -> Path:
    """The file ``folder / name``, downloaded where it is absent.

    A file with a wrong checksum, whether it was there or came from a mirror, is kept aside as ``name.bad`` and not
    used. Several processes may call this at once.

    Args:
        name: of the file, here and at the mirrors.
        folder: where it is kept; made where absent.
        mirrors: addresses of folders, tried in this order.
        md5: checksum in hex; None takes the file as it is.

    Returns:
        The path of the file.

    Raises:
        DataError: no mirror gave the file, or the folder cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as there, TemporaryDirectory() as here:
        ...     size = Path(there, "a.txt").write_text("hello")
        ...     path = fetch("a.txt", Path(here), [Path(there).as_uri()], "5d41402abc4b2a76b9719d911017c592")
        ...     path.read_text()
        'hello'
    """
    target, reasons = folder / name, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _present(target, md5):
            return target
    except OSError as error:
        raise DataError(
            f"cannot use {error.filename} ({error.strerror}): set LIGHTNING_RNN_CACHE to another"
        ) from error
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}"
        log.info("downloading %s from %s", target, url)
        try:
            _download(url, target, md5)
            return target
        except (OSError, ValueError, http.client.HTTPException, _Unusable) as error:
            reasons.append(f"{url} ({error or type(error).__name__})")
            log.warning("no success with %s", reasons[-1])
    tried = "; ".join(reasons) or "no address is known"
    raise DataError(f"could not download {name}: put it into {folder} yourself, or give other mirrors; tried {tried}")
