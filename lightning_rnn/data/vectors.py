"""Word vectors in files: word2vec's text and binary formats, GloVe's text, gensim's KeyedVectors."""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data.disk import replace
from lightning_rnn.data.files import opened, plain_name
from lightning_rnn.errors import DataError
from lightning_rnn.interop.keyed_vectors import read_keyed_vectors
from lightning_rnn.interop.word2vec import (
    WordTable,
    binary_rows,
    from_gensim,
    looks_binary,
    parse_header,
    to_gensim,
    write_table,
)
from lightning_rnn.paths import existing

log = logging.getLogger(__name__)
Rows = dict[str, list[int]]
FileFormat = Literal["text", "binary", "glove", "gensim"]
KEYED = (".kv", ".wordvectors")  # the names that gensim's users give to saved KeyedVectors
PICKLE = b"\x80"  # what gensim's files begin with


def vector_format(path: Path) -> FileFormat:
    r"""What a file of vectors is, by its name (``.kv``: gensim) and by how it begins; compressed or not.

    Raises:
        DataError: it cannot be read, or is none of them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_text("the 1 2\nParis 3 4\n")
        ...     vector_format(Path(folder, "a.txt"))
        'glove'
    """
    if plain_name(path).endswith(KEYED):
        return "gensim"
    with opened(path) as stream:
        header = stream.readline(1 << 20)
        if looks_binary(header, stream.read(4096)):
            return "binary"
    if header.startswith(PICKLE):
        return "gensim"
    if any(byte < 32 and byte not in b"\t\r\n" for byte in header):
        raise DataError(
            f"{path} is no file of vectors: unpack it if it is an archive, or give word2vec's, GloVe's or gensim's"
        )
    return "text" if _is_header(header.decode("utf-8", errors="replace").rstrip().split(" ")) else "glove"


def _is_header(fields: list[str]) -> bool:
    return len(fields) == 2 and all(text.isdecimal() for text in fields)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text_rows(path: Path, wanted: Container[str] | None, folded: Container[str]) -> Iterator[tuple[str, Tensor]]:
    """The words of a text that are wanted (None: all) with their vectors ``[D]``; its header, if any, must be right."""
    size = words = 0
    count = None
    with opened(path) as stream:
        for number, raw in enumerate(stream, 1):
            fields = raw.decode("utf-8", errors="replace").rstrip().split(" ")
            if number == 1 and _is_header(fields):
                count, size = parse_header(raw, str(path))
                continue
            size, words = size or len(fields) - 1, words + 1
            word = _word(fields, size, f"{path}, row {number}")
            if wanted is None or word in wanted or word.casefold() in folded:
                if not all(_is_number(text) for text in fields[-size:]):
                    raise DataError(f"{path}, row {number}: a value of {word!r} is not a finite number: mend this row")
                yield word, torch.from_numpy(np.array(fields[-size:], np.float32))
    if count not in (None, words):
        raise DataError(f"{path}: {words:,} words, its header says {count:,}: copy the file again, or mend the header")


def _word(fields: list[str], size: int, where: str) -> str:
    """The word of a row; some sets have words with spaces."""
    extra = len(fields) - 1 - size
    if size < 1 or extra < 0 or any(_is_number(text) for text in fields[1 : 1 + extra]):
        raise DataError(
            f"{where}: {len(fields) - 1} values, {max(size, 1)} wanted: mend this row, a word and its values with one "
            "space between"
        )
    return " ".join(fields[: 1 + extra])


def _binary_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    with opened(path) as stream:
        for word, values in binary_rows(stream, str(path)):
            yield word, torch.from_numpy(values)


def _rows(path: Path, wanted: Container[str] | None, folded: Container[str]) -> Iterator[tuple[str, Tensor]]:
    """The words of a file with their vectors; those of a text only where wanted."""
    kind = vector_format(path)
    if kind == "gensim":
        table = _keyed(path)
        return iter(zip(table.words, table.vectors, strict=True))
    return _binary_file(path) if kind == "binary" else _text_rows(path, wanted, folded)


def _keyed(path: Path) -> WordTable:
    try:
        return from_gensim(read_keyed_vectors(path))
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error


def read_vectors(path: str | Path, limit: int | None = None) -> WordTable:
    r"""All words and vectors of a file, in its order; of a word that is there twice, the first vector.

    Bytes of a word that are no UTF-8 are read as ``\ufffd``.

    Args:
        path: word2vec's text or binary format, GloVe's text, or gensim's ``KeyedVectors`` (``.kv``; nothing of its
            pickle is run); compressed or not (not ``.kv``); relative to the data folder.
        limit: the first so many words; None is all.

    Raises:
        DataError: there is no such file, it is none of these, has no words, is cut short, a row has another number of
            values than its header or its first row says, or a value is not a finite number; names the file and the row
            or word.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_text("2 2\nthe 1 2\nParis 3 4\n")
        ...     read_vectors(Path(folder, "a.txt")).words
        ['the', 'Paris']
    """
    file = existing(path)
    if vector_format(file) == "gensim":
        table = _keyed(file)
        if not table.words:
            raise DataError(f"{file} has no words: give a file of vectors")
        counts = None if table.counts is None else table.counts[:limit]
        return WordTable(table.words[:limit], table.vectors[:limit], counts)
    found, rows = dict[str, Tensor](), 0
    for word, vector in islice(_rows(file, None, ()), limit):
        found.setdefault(word, vector)
        rows += 1
    if not found:
        raise DataError(f"{file} has no words: give a file of vectors")
    if rows > len(found):
        log.warning("%s: %d words are there twice, the first vector of each is taken", file, rows - len(found))
    return WordTable(list(found), torch.stack(list(found.values())))


def write_vectors(path: str | Path, table: WordTable, kind: FileFormat = "text") -> None:
    """Write words and vectors, the file whole or not at all (``gensim``: as gensim does).

    Args:
        path: of the file.
        table: what to write.
        kind: ``text`` or ``binary`` of word2vec, ``glove`` (text without a header), or ``gensim``
            (``KeyedVectors.save``).

    Raises:
        ConfigError: ``gensim`` is not installed.
        DataError: a word has white space in it, or the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_vectors(Path(folder, "a.bin"), WordTable(["to", "be"], torch.eye(2)), "binary")
        ...     read_vectors(Path(folder, "a.bin")).vectors.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind == "gensim":
            to_gensim(table).save(str(file))
            return
        unfinished = file.with_name(f".{file.name}.unfinished")
        with unfinished.open("wb") as stream:
            write_table(stream, table, kind)
        replace(unfinished, file)
    except OSError as error:
        raise DataError(f"cannot write {file} ({error.strerror or error}): choose another path") from error


def _rows_of(words: Sequence[str]) -> Rows:
    rows: Rows = {}
    for row, word in enumerate(words):
        rows.setdefault(word, []).append(row)
    return rows


def _collect(path: Path, names: list[str]) -> dict[int, Tensor]:
    """The vector of each row found: the word as it is, else the first that differs in case only."""
    wanted, folded = _rows_of(names), _rows_of([name.casefold() for name in names])
    exact, near = dict[int, Tensor](), dict[int, Tensor]()
    for word, vector in _rows(path, wanted, folded):
        for row in wanted.get(word, []):
            exact.setdefault(row, vector)
        for row in folded.get(word.casefold(), []):
            near.setdefault(row, vector)
    return near | exact


def read_word_vectors(path: str | Path, words: Sequence[str], seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Vectors for ``words`` out of a file of vectors, word by word: what an embedding starts from.

    A word is looked up without SentencePiece's leading ``▁``, first as it is, then without regard to case. The vector
    of a word that is not in the file is drawn from the normal distribution with the mean and deviation of those found.

    Args:
        path: of the file, see :func:`read_vectors`.
        words: the vocabulary, in order.
        seed: of the vectors that are drawn.

    Returns:
        float32 ``[V, D]``, and bool ``[V]``: which words were found.

    Raises:
        DataError: as :func:`read_vectors`, or no word is in it.

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
