"""Word vectors from files in the text format of word2vec and GloVe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnn.data.files import opened
from lightning_rnn.errors import DataError
from lightning_rnn.paths import existing

Rows = dict[str, list[int]]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line with its number, without the first line where that is ``count dim``."""
    with opened(path) as stream:
        for number, raw in enumerate(stream, 1):
            fields = raw.decode("utf-8", errors="replace").rstrip().split(" ")
            if not (number == 1 and len(fields) == 2 and all(text.isdecimal() for text in fields)):
                yield number, fields


def _vectors(path: Path, wanted: Rows, folded: Rows) -> Iterator[tuple[str, Tensor]]:
    """The words of the file that are wanted, with their vectors ``[D]``."""
    size = 0
    for number, fields in _lines(path):
        size = size or len(fields) - 1
        extra = len(fields) - 1 - size
        if size < 1 or extra < 0 or any(_is_number(text) for text in fields[1 : 1 + extra]):
            raise DataError(f"{path}, row {number}: {len(fields) - 1} values, {max(size, 1)} wanted: mend this row")
        word = " ".join(fields[: 1 + extra])  # some sets have words with spaces
        if word in wanted or word.casefold() in folded:
            if not all(_is_number(text) for text in fields[-size:]):
                raise DataError(f"{path}, row {number}: a value of {word!r} is not a finite number: mend this row")
            yield word, torch.tensor([float(text) for text in fields[-size:]])


def _rows_of(words: Sequence[str]) -> Rows:
    rows: Rows = {}
    for row, word in enumerate(words):
        rows.setdefault(word, []).append(row)
    return rows


def _collect(path: Path, names: list[str]) -> dict[int, Tensor]:
    """The vector of each row found: the word as it is, else the first that differs in case only."""
    wanted, folded = _rows_of(names), _rows_of([name.casefold() for name in names])
    exact, near = dict[int, Tensor](), dict[int, Tensor]()
    for word, vector in _vectors(path, wanted, folded):
        for row in wanted.get(word, []):
            exact.setdefault(row, vector)
        for row in folded.get(word.casefold(), []):
            near.setdefault(row, vector)
    return near | exact


def read_word_vectors(path: str | Path, words: Sequence[str], seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Vectors for ``words`` out of a file of word2vec's or GloVe's text format, read line by line.

    A word is looked up without SentencePiece's leading ``▁``, first as it is, then without regard to case. The vector
    of a word that is not in the file is drawn from the normal distribution with the mean and deviation of those found.

    Args:
        path: of the file, compressed or not, relative to the data folder; a first line ``count dim`` is passed over.
        words: the vocabulary, in order.
        seed: of the vectors that are drawn.

    Returns:
        float32 ``[V, D]``, and bool ``[V]``: which words were found.

    Raises:
        DataError: there is no such file, a line has another number of values, or no word is in it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "glove.txt").write_text("the 1 2\nParis 3 4\n")
        ...     vectors, found = read_word_vectors(Path(folder, "glove.txt"), ["<unk>", "▁the", "▁paris"])
        >>> vectors[1:].tolist(), found.tolist()
        ([[1.0, 2.0], [3.0, 4.0]], [False, True, True])
    """
    file, names = existing(path), [word.removeprefix("▁") for word in words]
    vectors = _collect(file, names)
    if not vectors:
        raise DataError(f"{file} has none of the {len(words):,} words: give vectors of the right language and format")
    table = torch.stack(list(vectors.values()))
    spread = float(table.std(correction=0))
    drawn = torch.randn(len(words), table.shape[1], generator=torch.Generator().manual_seed(seed))
    drawn = float(table.mean()) + spread * drawn
    rows = torch.tensor(list(vectors))
    found = torch.zeros(len(words), dtype=torch.bool)
    drawn[rows], found[rows] = table, True
    return drawn, found
