"""``lightning-rnn accept``: whether a trained network accepts strings, and where it holds that they go wrong."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_rnn.data.lines import read_lines
from lightning_rnn.errors import DataError
from lightning_rnn.training.console import answers_alone
from lightning_rnn.training.loading import load_trained

from .grammars.languages import check_symbols
from .module import GrammarModel
from .spec import GrammarSpec

BLOCK = 8192  # strings whose answers are held at once
EMPTY = "(empty)"
ABOUT = """\
Says of each string whether the network accepts it, with which probability, and where its first illegal symbol stands.

Each line is one string, taken as it is: spaces are symbols, and an empty line is the empty string and has an answer
too. A line may end in \\n or \\r\\n; the text is UTF-8. Answers come in the order of the lines. All lines are checked
before the first answer: a symbol that is not in the alphabet of the network ends the command without any.
"""
ANSWERS = """\
answers: a line has the string (or (empty)), accepted or rejected, its probability, and of a rejected one the symbol
after which the network holds that it cannot be completed, with its place (the first symbol of a string is at 0), or
"ends too early". The probability is the least of those with which each symbol, and at last the end, is legal where it
stands; above 0.5 the string is accepted.
With --json a line is an object with the keys string, accepted, probability and illegal_at: that place, the length of
the string where it ends too early, null where it is accepted. Nothing else is on the standard output.

exit codes: 0 all strings have answers; 1 the checkpoint or the strings could not be read, or a symbol is not in the
alphabet; 2 a wrong option, or a network that judges no strings.

example:
  echo BTBTXSETE | lightning-rnn accept --ckpt_path runs/grammar_acceptance/embedded_reber/checkpoints/best.ckpt --json
"""


class Judged(NamedTuple):
    """What the network says of a string; the keys of ``--json``."""

    string: str
    accepted: bool
    probability: float
    illegal_at: int | None


def main(argv: list[str]) -> int:
    """``lightning-rnn accept``: print the answers. Returns the exit code.

    Raises:
        CheckpointError: the checkpoint is missing, broken, or of something else.
        ConfigError: its network judges no strings.
        DataError: the strings cannot be read, or a symbol is not in the alphabet.
    """
    options = _arguments(argv)
    with answers_alone():
        model = load(options.ckpt_path)
        strings = read_stdin() if options.input is None else list(read_lines(options.input))
        assert isinstance(model.spec, GrammarSpec)
        check(strings, model.spec, "stdin" if options.input is None else str(options.input))
        try:
            for answer in judge(model, strings):
                print(json.dumps(answer._asdict()) if options.json else readable(answer))
            sys.stdout.flush()
        except BrokenPipeError:  # who reads them, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 0


def load(path: Path) -> GrammarModel:
    """The acceptor of a checkpoint, on the CPU.

    Raises:
        CheckpointError: the file is missing or broken, of another task, or its weights are not numbers.
        ConfigError: it judges no strings.
    """
    model = load_trained(GrammarModel, path)
    model.accept([])  # refuses what is no acceptor before strings are waited for
    return model


def read_stdin() -> list[str]:
    """The lines of the standard input, cut as those of a file.

    Raises:
        DataError: it is closed, or not UTF-8.
    """
    stream = sys.stdin
    if stream is None:
        raise DataError("the standard input is closed: give the strings there, or name a file with --input")
    if stream.isatty():
        print("strings, one a line; the end of input (Ctrl-D) ends them", file=sys.stderr)
    # what Python put in its place, as in a notebook, has text alone
    return decode(stream.buffer.read() if isinstance(stream, io.TextIOWrapper) else stream.read().encode())


def decode(raw: bytes) -> list[str]:
    r"""The lines of UTF-8, without ``\n`` or ``\r\n``; as many as there are ``\n``, and what follows the last.

    Raises:
        DataError: it is not UTF-8.

    Example:
        >>> decode(b"BTXSE\r\n\nBP")
        ['BTXSE', '', 'BP']
    """
    try:
        *lines, last = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise DataError(f"stdin, line {line}: the byte 0x{byte:02x} is not UTF-8: convert the text to UTF-8") from error
    return [line.removesuffix("\r") for line in ([*lines, last] if last else lines)]


def check(strings: Sequence[str], spec: GrammarSpec, where: str) -> None:
    """Nothing, if the network has seen all symbols.

    Raises:
        DataError: it has not; names the line (the first is 1), the symbol and its place (the first is 0).
    """
    for number, string in enumerate(strings, 1):
        try:
            check_symbols(string, spec.alphabet, spec.name)
        except DataError as error:
            raise DataError(f"{where}, line {number}: {error}") from error


def judge(model: GrammarModel, strings: Sequence[str]) -> Iterator[Judged]:
    """The answers in order, a block at a time."""
    for start in range(0, len(strings), BLOCK):
        columns = model.accept(list(strings[start : start + BLOCK]))
        probabilities = [float(probability) for probability in columns["probability"]]
        rows = zip(columns["string"], columns["accepted"], probabilities, columns["illegal_at"], strict=True)
        yield from map(Judged._make, rows)


def readable(answer: Judged) -> str:
    """The answer as a line.

    Example:
        >>> readable(Judged("BTXSE", True, 0.998, None))
        'BTXSE                 accepted  0.9980'
        >>> readable(Judged("BTP", False, 0.0213, 2))
        "BTP                   rejected  0.0213  illegal symbol 'P' at 2"
        >>> readable(Judged("", False, 0.0213, 0))
        '(empty)               rejected  0.0213  ends too early'
    """
    string, accepted, probability, place = answer
    line = f"{string or EMPTY:20}  {'accepted' if accepted else 'rejected'}  {probability:.4f}"
    if place is None:
        return line
    return f"{line}  " + (f"illegal symbol {string[place]!r} at {place}" if place < len(string) else "ends too early")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "lightning-rnn accept",
        description=ABOUT,
        epilog=ANSWERS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ckpt_path", type=Path, required=True, metavar="FILE", help="checkpoint of an acceptor, such as best.ckpt"
    )
    parser.add_argument(
        "--input", type=Path, metavar="FILE", help="the strings; may be .gz, .xz or .zst; else the standard input"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args(argv)
