"""One way to open a file, compressed or not, and to say what is wrong with it."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from lightning_rnn.errors import ConfigError, DataError

_NUMBER_WITH_POINT = re.compile(r"[+-]?\d+\.\d*([eE][+-]?\d+)?")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes as a stream, decompressed where its name ends in ``.gz``.

    Raises:
        DataError: the file cannot be read, or is not a whole gzip file.
    """
    try:
        with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): download or copy it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): check the path and its permissions") from error


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The whole file as text, without a byte order mark; line ends as they are.

    Raises:
        ConfigError: there is no such encoding.
        DataError: the file cannot be read, is in another encoding, or holds a NUL character.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.txt")
        ...     size = path.write_bytes("é".encode("utf-8-sig"))
        ...     read_text(path)
        'é'
    """
    with opened(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise ConfigError(
            f"encoding {encoding!r} is not one that Python knows: try utf-8, latin-1 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        where = f"{path}, line {line}: byte {error.start} (0x{raw[error.start]:02x})"
        raise DataError(
            f"{where} is not {encoding}: give the file's encoding, for example encoding: latin-1"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL character, so this is no text file or not in {encoding}: clean it")
    return text


def split_lines(text: str) -> list[str]:
    r"""Lines between ``\n``, each without a ``\r`` at its end, and without the empty ones at the end of the file.

    Example:
        >>> split_lines("a b\r\n\nc\x85d\n\n")
        ['a b', '', 'c\x85d']
    """
    stripped = text.rstrip("\r\n")
    return [line.removesuffix("\r") for line in stripped.split("\n")] if stripped else []


def label_name(text: str) -> str:
    """A class name as it was read: without space around it, and ``1.0`` is ``1``.

    Example:
        >>> [label_name(text) for text in (" cat ", "1", "1.0", "-1.0000000e+00", "1.5")]
        ['cat', '1', '1', '-1', '1.5']
    """
    name = text.strip()
    if not _NUMBER_WITH_POINT.fullmatch(name):
        return name
    value = float(name)
    return str(int(value)) if math.isfinite(value) and value.is_integer() else name
