r"""Text from files, piece by piece: a file larger than memory can be read. Lines are cut at ``\n`` only."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from lightning_rnn.data.files import opened
from lightning_rnn.errors import ConfigError, DataError

PIECE = 2**18  # bytes decoded at once
Row = TypeVar("Row", str, list[str])
Item = TypeVar("Item")


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # refuses what is a codec but no encoding of text, too
    except LookupError as error:
        raise ConfigError(
            f"encoding {encoding!r} is not one that Python knows: try utf-8, latin-1 or cp1252"
        ) from error
    return codecs.getincrementaldecoder(encoding)()


def _pieces(path: Path, encoding: str) -> Iterator[str]:
    """The text without a byte order mark, in pieces of bounded size, each checked."""
    decoder, line, offset, begun, raw = _decoder(encoding), 1, 0, False, b"-"
    with opened(path) as stream:
        while raw:
            raw, state = stream.read(PIECE), decoder.getstate()
            try:
                piece = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                start = error.start - len(error.object) + len(raw)  # below 0 where a character began in the last piece
                decoder.setstate(state)
                line += decoder.decode(raw[: max(start, 0)]).count("\n")
                where = f"{path}, line {line}: byte {offset + start} (0x{error.object[error.start]:02x})"
                raise DataError(
                    f"{where} is not {encoding}: give the file's encoding, for example encoding: latin-1"
                ) from error
            if not begun:
                piece, begun = piece.removeprefix("\ufeff"), bool(piece)
            if "\0" in piece:
                line += piece.count("\n", 0, piece.index("\0"))
                raise DataError(
                    f"{path}, line {line}: a NUL character, so this is no text file or not in {encoding}: clean it"
                )
            line, offset = line + piece.count("\n"), offset + len(raw)
            yield piece


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
    return "".join(_pieces(path, encoding))


def raw_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    r"""The lines one by one, without ``\n``, with a ``\r`` where there is one; raises as :func:`read_text`."""
    begun = list[str]()
    for piece in _pieces(path, encoding):
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            begun = [others.pop()]
            yield from others
    last = "".join(begun)
    if last:
        yield last


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    r"""The lines one by one, without ``\n`` or ``\r\n``; as many as there are ``\n``, and what follows the last.

    Raises:
        ConfigError: there is no such encoding.
        DataError: the file cannot be read, is in another encoding, or holds a NUL character.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_bytes(b"a b\r\n\nc\n\n")
        ...     list(read_lines(Path(folder, "a.txt")))
        ['a b', '', 'c', '']
    """
    return (line.removesuffix("\r") for line in raw_lines(path, encoding))


def without_empty_end(rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Numbered rows, without the empty ones at the end.

    Example:
        >>> list(without_empty_end([(1, "a"), (2, ""), (3, "b"), (4, "")]))
        [(1, 'a'), (2, ''), (3, 'b')]
    """
    empty = list[tuple[int, Row]]()
    for numbered in rows:
        if not numbered[1]:
            empty.append(numbered)
            continue
        if empty:
            yield from empty
            empty.clear()
        yield numbered


def read_rows(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1, without the empty ones at the end; raises as :func:`read_lines`."""
    return without_empty_end(enumerate(read_lines(path, encoding), 1))


def not_empty(items: Iterator[Item], where: str) -> Iterator[Item]:
    """The items, one by one.

    Raises:
        DataError: there are none ``where`` they come from.
    """
    for first in items:
        yield first
        yield from items
        return
    raise DataError(f"{where} has no rows: put some in")
