"""Sentence pairs as they were read, what a source of them is, and what is mended in them or refused."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError

log = logging.getLogger(__name__)
Empty = Literal["refuse", "drop"]
# Control characters but the tab, and Unicode's line and paragraph ends: a file's lines end at \n alone.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Pairs:
    """One part of a source: sentences and their translations.

    Attributes:
        source: sentences to translate.
        target: their translations; None where there are none.
        files: what the source side and the target side were read from, for messages; one name where it is one file.
        ids: the rows' names; None stands for 0, 1, 2 ... in file order.
        lines: the rows' lines in the files, from 1; None stands for 1, 2, 3 ...
        tokenized: the translations once more, lower-cased and tokenized by the Moses scripts, where the source has them
            as files: the references of the LIUM protocol, see :mod:`tasks.translation.lium`.

    Example:
        >>> pairs = Pairs(["go", "run"], ["va", "cours"], ("a.en", "a.fr"))
        >>> len(pairs), pairs.select([1]).target, pairs.select([1]).where(0, "target")
        (2, ['cours'], 'a.fr, line 2')
    """

    source: list[str]
    target: list[str] | None
    files: tuple[str, str]
    ids: Sequence[str | int] | None = None
    lines: Sequence[int] | None = None
    tokenized: list[str] | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def origin(self) -> str:
        """The file or files, for messages."""
        return " and ".join(dict.fromkeys(self.files))

    def select(self, rows: Sequence[int]) -> Pairs:
        """The rows named, which keep their names and lines."""
        ids, lines = self.ids or range(len(self)), self.lines or range(1, len(self) + 1)
        target, tokenized = (
            None if side is None else [side[i] for i in rows] for side in (self.target, self.tokenized)
        )
        found = [self.source[i] for i in rows], target
        return Pairs(*found, self.files, [ids[i] for i in rows], [lines[i] for i in rows], tokenized)

    def where(self, row: int, side: Literal["source", "target"] = "source") -> str:
        """How a message names a row."""
        return f"{self.files[side == 'target']}, line {row + 1 if self.lines is None else self.lines[row]}"


class PairSource(ABC):
    """Sentence pairs, one part at a time. Paths are found by :func:`lightning_rnn.paths.data_path`.

    Attributes:
        languages: of the source side and the target side, such as ``("en", "fr")``.
    """

    languages: tuple[str, str]

    def prepare(self) -> None:
        """Download what is absent. Called on one process per machine, before :meth:`read`."""
        return

    @abstractmethod
    def read(self, split: Split) -> Pairs | None:
        """The pairs of a part, or None where the source has no such part; ``predict`` is never asked for.

        Raises:
            DataError: a file is missing, broken, or not of the right kind; it says which, where and what to do.
        """


def cleaned(pairs: Pairs, empty: Empty = "refuse") -> Pairs:
    r"""The same pairs with a space for each control character, and without those of which a side is empty.

    Control characters are Unicode's category Cc but the tab, U+2028 and U+2029: a carriage return or U+0085 inside a
    line would make two lines of it in the next program. How many there were is logged. (A NUL is refused when the file
    is read: it is no text.)

    Args:
        pairs: as they were read.
        empty: what becomes of a pair of which a side has no character other than space: ``refuse``, or ``drop``, which
            logs how many.

    Raises:
        DataError: a side is empty, and ``empty`` is ``refuse``; names the file and the line.

    Example:
        >>> pairs = Pairs(["go\x85now", " "], ["va", "cours"], ("a.en", "a.fr"))
        >>> cleaned(pairs, "drop").source
        ['go now']
        >>> cleaned(pairs)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: a.en, line 2: the sentence is empty: fill it in, take the pair out, or set ...
    """
    pairs = Pairs(
        _printable(pairs.source, pairs.files[0]),
        pairs.target and _printable(pairs.target, pairs.files[1]),
        pairs.files,
        pairs.ids,
        pairs.lines,
        pairs.tokenized,
    )
    sides = zip(pairs.source, pairs.target or pairs.source, strict=True)
    there = [bool(one.strip() and other.strip()) for one, other in sides]
    if all(there):
        return pairs
    if empty == "refuse":
        row = there.index(False)
        where = pairs.where(row, "target" if pairs.source[row].strip() else "source")
        raise DataError(f"{where}: the sentence is empty: fill it in, take the pair out, or set data.empty drop")
    log.info("%s: %d of %d pairs with an empty side dropped", pairs.origin, there.count(False), len(pairs))
    return pairs.select(list(compress(range(len(pairs)), there)))


def printable(text: str) -> str:
    r"""A text with a space for each control character, see :func:`cleaned`.

    Example:
        >>> printable("go\x85now\r")
        'go now '
    """
    return _CONTROL.sub(" ", text)


def _printable(texts: list[str], file: str) -> list[str]:
    found = [_CONTROL.subn(" ", text) for text in texts]
    count = sum(times for _, times in found)
    if count:
        lines = sum(times > 0 for _, times in found)
        log.info("%s: %d control characters in %d lines, a space in place of each", file, count, lines)
    return [text for text, _ in found]
