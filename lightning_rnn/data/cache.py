"""Folders of the cache that are named by what they were made from: made once, whole or absent, never stale."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from lightning_rnn.data.disk import checksum_of, locked, replace, sync, usable
from lightning_rnn.errors import DataError
from lightning_rnn.paths import cache_path

log = logging.getLogger(__name__)
FORMAT = 1  # another one is prepared anew
META = "meta.json"
_THERE = (errno.ENOTEMPTY, errno.EEXIST)


def prepared(kind: str, files: Sequence[Path], options: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` filled from these files with these options, in this run or one before.

    Its name is a hash of the files' contents (always read) and the options. Several processes may call this at once:
    one prepares, the others wait for it; a killed one leaves nothing that is used.

    Args:
        kind: folder of the cache.
        files: what it is made from.
        options: what else it depends on, as JSON has it.
        build: makes the files in a folder it is given, which is there and empty.

    Raises:
        DataError: a file cannot be read or changes while it is, or the cache cannot be written to.

    Example:
        .. code-block:: python

            folder = prepared("counts", [path], {"lower": True}, lambda folder: count(path, folder / "counts.json"))
    """
    root, before = cache_path(kind), _states(files)
    sources = dict(zip(map(str, before), map(_source_checksum, before), strict=True))
    contents = [sources[str(path.resolve())] for path in files]
    folder = root / hashlib.sha256(json.dumps([FORMAT, contents, options], sort_keys=True).encode()).hexdigest()[:32]
    if _fault(folder) is None:
        return folder
    with ExitStack() as stack:
        with usable(root):
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        if (fault := _fault(folder)) is not None:  # else another process made it meanwhile
            _report(folder, fault, sources)
            with usable(root):
                _sweep(folder)
            _make(folder, build, {"sources": sources, "options": options}, before)
    return folder


def _states(files: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Size and time of change of each file, by its whole path."""
    found = {}
    for path in files:
        try:
            found[path.resolve()] = (path.stat().st_size, path.stat().st_mtime_ns)
        except OSError as error:
            raise _unreadable(path, error) from error
    return found


def _source_checksum(path: Path) -> str:
    try:
        return checksum_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path} ({error.strerror}): check the path and its permissions")


def _fault(folder: Path) -> str | None:
    """What is wrong with a folder: empty where it is absent, None where it is whole."""
    try:
        files: dict[str, dict[str, Any]] = json.loads((folder / META).read_bytes())["files"]
        for name, wanted in files.items():
            if (folder / name).stat().st_size != wanted["size"] or checksum_of(folder / name) != wanted["checksum"]:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{META} or a file it names cannot be read ({error})" if folder.exists() else ""
    return None


def _report(folder: Path, fault: str, sources: Mapping[str, str]) -> None:
    if fault:
        log.warning("%s is damaged, %s: preparing it again", folder, fault)
    known: dict[str, set[str]] = {}
    for meta in folder.parent.glob(f"*/{META}"):
        for path, digest in _sources_in(meta).items():
            known.setdefault(path, set()).add(digest)
    for path, digest in sources.items():
        if path in known and digest not in known[path]:
            log.warning("%s changed since its %s were prepared: preparing again", path, folder.parent.name)


def _sources_in(meta: Path) -> dict[str, str]:
    """The sources of a folder with their checksums; none where it is damaged."""
    try:
        return dict(json.loads(meta.read_bytes())["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _sweep(folder: Path) -> None:
    """Remove the folder, which is damaged or absent, and what killed runs left."""
    if folder.exists():
        os.rename(folder, folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.part"))
    for part in folder.parent.glob("*.part"):
        if _abandoned(part, folder):
            with suppress(FileNotFoundError):  # another process is sweeping too
                shutil.rmtree(part)


def _abandoned(part: Path, folder: Path) -> bool:
    """Whether nobody is at work on ``part``; the lock of ``folder`` is held by this process."""
    name = part.name.partition(".")[0]
    if name == folder.name:
        return True
    try:
        stream = folder.with_name(f"{name}.lock").open("rb")
    except FileNotFoundError:
        return True
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _make(
    folder: Path, build: Callable[[Path], None], about: dict[str, Any], before: dict[Path, tuple[int, int]]
) -> None:
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.part")
    try:
        with usable(folder.parent):
            part.mkdir()
        build(part)
        for path, state in _states([*before]).items():
            if state != before[path]:
                raise DataError(f"{path} changed while it was read: run again when nothing writes to it")
        with usable(folder.parent):
            _finish(part, about)
            _name(part, folder)
    finally:
        if part.exists():
            shutil.rmtree(part)


def _finish(part: Path, about: dict[str, Any]) -> None:
    """Write what the files are, and all of it to the disk."""
    files = {path.name: {"size": path.stat().st_size, "checksum": checksum_of(path)} for path in sorted(part.iterdir())}
    (part / META).write_text(json.dumps(about | {"files": files}, indent=1) + "\n")
    for path in part.iterdir():
        sync(path)


def _name(part: Path, folder: Path) -> None:
    try:
        replace(part, folder)
    except OSError as error:
        if error.errno not in _THERE:  # on a disk without locks another process may have been first
            raise
