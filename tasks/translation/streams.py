"""Lines from the standard input, answers to the standard output or to a file."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lightning_rnn.errors import DataError
from lightning_rnn.training.hooks import write_atomically

PROMPT = "> "


def stdin_lines() -> Iterator[str]:
    """The lines of the standard input as they come, cut as those of a file.

    Raises:
        DataError: it is closed, or a line is not UTF-8.
    """
    stream = sys.stdin
    if stream is None:
        raise DataError("the standard input is closed: give the sentences there, or name a file with --input")
    # what Python put in its place, as in a notebook, has text alone
    raw: Iterable[bytes] = stream.buffer if isinstance(stream, io.TextIOWrapper) else (line.encode() for line in stream)
    return map(decoded, raw, _numbers())


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def decoded(line: bytes, number: int) -> str:
    r"""A line as text, without its end.

    Raises:
        DataError: it is not UTF-8.

    Example:
        >>> decoded(b"caf\xc3\xa9\r\n", 1)
        'café'
        >>> decoded(b"caf\xe9\n", 3)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: stdin, line 3: the byte 0xe9 is not UTF-8: convert the text to UTF-8
    """
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"stdin, line {number}: the byte 0x{byte:02x} is not UTF-8: convert the text to UTF-8"
        ) from error


def prompted() -> Iterator[str]:
    """Lines as they are typed, each after a prompt, until the end of input (Ctrl-D)."""
    print("a sentence a line; the end of input (Ctrl-D) ends", file=sys.stderr)
    lines = stdin_lines()
    while True:
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = next(lines, None)
        if line is None:
            print(file=sys.stderr)
            return
        yield line


def write(answers: Iterable[str], path: Path | None) -> None:
    """Print answers as they come, or write a file that is whole or absent.

    Raises:
        DataError: the file cannot be written.
    """
    if path is not None:
        write_atomically(path, lambda file: _write_lines(answers, file), option="--output")
        return
    try:
        for answer in answers:
            print(answer, flush=True)
    except BrokenPipeError:  # who reads them, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end


def _write_lines(answers: Iterable[str], file: BinaryIO) -> None:
    for answer in answers:
        file.write(f"{answer}\n".encode())
