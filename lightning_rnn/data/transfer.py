"""The bytes of one address, going on from those that came before."""

from __future__ import annotations

import email.message
import json
import logging
import re
import time
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_rnn.data.answers import Interrupted, Misfit, Unusable, answer, length, reaching, validator
from lightning_rnn.data.disk import append, sync
from lightning_rnn.data.progress import progress

log = logging.getLogger(__name__)
ATTEMPTS = 5  # in a row that bring nothing new, before the next mirror
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0  # seconds before the next attempt, doubled each time
CHUNK = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Origin:
    """Which version of which address a part is of: its strong ``ETag`` or date of change, and the size of all of it."""

    url: str
    validator: str | None
    size: int | None


class Part:
    """What has arrived of ``target`` (``name.part``) and its origin (``name.part.json``)."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.record = target.with_name(target.name + ".part.json")
        self.reused = False  # not all of it came with the last answer

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> Origin | None:
        """Where the bytes are from; None where nothing can be added to them safely."""
        try:
            origin = Origin(**json.loads(self.record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # not written to its end
            return None
        return origin if origin.validator is not None and self.size else None

    def restart(self, origin: Origin) -> None:
        """Begin anew. The origin is on the disk before the first byte, whenever this is killed."""
        self.clear()
        self.record.write_text(json.dumps(asdict(origin)))
        sync(self.record)

    def clear(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)
        self.reused = False


def _total(headers: email.message.Message, origin: Origin, have: int) -> int | None:
    """The size of the whole file, from an answer that says to go on where the part ends."""
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have or validator(headers) not in (None, origin.validator):
        raise Misfit("it sends other bytes than those that are missing")
    said = origin.size if match[2] == "*" else int(match[2])
    if origin.size not in (None, said):
        raise Misfit(f"its file has {said:,} bytes now, {origin.size:,} before")
    return said


def _receive(response: Any, part: Part, total: int | None) -> None:
    """Add what comes to the part, up to ``total``."""
    done = part.size
    with part.path.open("ab", buffering=0) as stream, progress(part.target.name) as show:
        while total is None or done < total:
            with reaching():
                data = response.read1(CHUNK if total is None else min(CHUNK, total - done))
            if not data:
                break
            append(stream, data)
            done += len(data)
            show(done, total)
    if total is not None and done < total:
        raise Interrupted(f"it broke off after {done:,} of {total:,} bytes")


def _attempt(url: str, part: Part) -> None:
    """Get what the part lacks, or all of it where its bytes are of another version or nobody knows of which."""
    origin = part.origin if part.origin is not None and part.origin.url == url else None
    have = part.size
    if origin is not None and origin.size == have:  # stopped just before it was checked
        part.reused = True
        return
    asked = {} if origin is None else {"Range": f"bytes={have}-", "If-Range": str(origin.validator)}
    with answer(url, asked) as response:
        if origin is not None and response.status == 206:
            total = _total(response.headers, origin, have)
            part.reused = True
        elif response.status in (None, 200):  # None: a file address
            total = length(response.headers)
            part.restart(Origin(url, validator(response.headers), total))
        else:
            raise Unusable(f"it answers {response.status} {response.reason}")
        _receive(response, part, total)


def _check(url: str) -> None:
    try:
        scheme = urllib.parse.urlsplit(url).scheme
    except ValueError as error:
        raise Unusable(str(error)) from error
    if scheme not in ("http", "https", "file"):
        raise Unusable("it is not an http, https or file address")


def transfer(url: str, part: Part) -> None:
    """Bring all bytes of ``url`` into ``part``, by any number of attempts, less than ``ATTEMPTS`` in a row in vain.

    Raises:
        Unusable: the address does not give the file.
        OSError: the part cannot be written.
    """
    _check(url)
    furthest, failures = 0, 0
    while True:
        try:
            return _attempt(url, part)
        except Interrupted as error:
            if isinstance(error, Misfit):
                part.clear()
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            delay = max(min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY), error.wait)
            if failures == ATTEMPTS:
                raise Unusable(f"{error}, {ATTEMPTS} times in a row") from error
            if delay > LONGEST_DELAY:
                raise Unusable(f"{error} and asks to wait for {delay:,.0f} s") from error
            log.warning("%s: %s; next attempt in %g s, with %s bytes here", url, error, delay, f"{part.size:,}")
            time.sleep(delay)
