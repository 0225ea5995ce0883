"""Getting a file from one of several mirrors, and never using one that is not whole."""

from __future__ import annotations

import logging
import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from lightning_rnn.data.answers import Unusable
from lightning_rnn.data.disk import checksum_of, locked, replace, usable
from lightning_rnn.data.transfer import Part, transfer
from lightning_rnn.errors import DataError, require

log = logging.getLogger(__name__)
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")


def _found(path: Path, checksum: str) -> str:
    return checksum_of(path, "md5" if checksum.startswith("md5:") else "sha256")


def _set_aside(path: Path, target: Path) -> Path:
    bad = target.with_name(target.name + ".bad")
    os.replace(path, bad)
    return bad


def _present(target: Path, checksum: str | None) -> bool:
    if not target.exists():
        return False
    return checksum is None or _found(target, checksum) == checksum


def _verified(part: Part, checksum: str | None) -> None:
    if checksum is None:
        log.warning("%s is not verified: no checksum of it is known", part.target)
    elif (found := _found(part.path, checksum)) != checksum:
        bad = _set_aside(part.path, part.target)
        raise Unusable(f"its checksum is {found} instead of {checksum}, kept as {bad}")


def _download(url: str, part: Part, checksum: str | None) -> None:
    log.info("downloading %s from %s", part.target, url)
    transfer(url, part)
    try:
        _verified(part, checksum)
    except Unusable as error:
        if not part.reused:
            raise
        log.warning("%s: %s; it came in pieces, so all of it once more", url, error)
        transfer(url, part)
        _verified(part, checksum)
    size = part.size
    replace(part.path, part.target)
    part.clear()
    log.info("%s is there: %s bytes", part.target, f"{size:,}")


def _from_mirrors(target: Path, mirrors: Sequence[str], checksum: str | None) -> None:
    part, reasons = Part(target), []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{urllib.parse.quote(target.name)}"
        try:
            return _download(url, part, checksum)
        except Unusable as error:
            reasons.append(f"{url} ({error})")
            log.warning("no success with %s", reasons[-1])
    if part.origin is None:
        part.clear()  # nothing can be added to it
    tried = "; ".join(reasons) or "no address is known"
    raise DataError(
        f"could not download {target.name}: put it into {target.parent} yourself, or give other mirrors; tried {tried}"
    )


def fetch(name: str, folder: Path, mirrors: Sequence[str], checksum: str | None = None) -> Path:
    """The file ``folder / name``, downloaded where it is absent.

    What has arrived is kept as ``name.part`` until the file is whole, and the next attempt goes on from there, also
    one of another process: where the mirror gives parts of files, and says that its file is still the same one. An
    attempt that stalls, breaks off, or meets an error of the server is repeated after 1, 2, 4 and 8 s (or when the
    server asks for it, up to a minute); then comes the next mirror, from the file's beginning. A file with a wrong
    checksum, whether it was there or came from a mirror, is kept aside as ``name.bad`` and not used. Several processes
    may call this at once: one downloads, the others wait for it.

    Args:
        name: of the file, here and at the mirrors.
        folder: where it is kept; made where absent.
        mirrors: http, https or file addresses of folders, tried in this order.
        checksum: ``md5:`` or ``sha256:`` and hex digits; None takes the file as it is, and the log says so.

    Returns:
        The path of the file.

    Raises:
        ConfigError: ``name`` is more than a name, or ``checksum`` is not one.
        DataError: no mirror gave the file, or the folder cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as there, TemporaryDirectory() as here:
        ...     size = Path(there, "a.txt").write_text("hello")
        ...     path = fetch("a.txt", Path(here), [Path(there).as_uri()], "md5:5d41402abc4b2a76b9719d911017c592")
        ...     path.read_text()
        'hello'
    """
    require(name not in ("", "..") and name == Path(name).name, f"name must be a file's name without folders: {name!r}")
    known = checksum is None or _CHECKSUM.fullmatch(checksum) is not None
    require(known, f"the checksum of {name} must be md5: or sha256: and as many hex digits as it has, got {checksum!r}")
    target = folder / name
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if _present(target, checksum):
            return target
        with locked(target):
            if target.exists() and not _present(target, checksum):
                log.warning("%s has not the checksum %s: kept as %s", target, checksum, _set_aside(target, target))
            if not target.exists():
                _from_mirrors(target, mirrors, checksum)
    return target
