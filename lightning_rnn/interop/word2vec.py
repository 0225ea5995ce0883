"""Word vectors as word2vec, GloVe and gensim write them: streams of bytes, and gensim's objects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError, require

if TYPE_CHECKING:
    from gensim.models import KeyedVectors  # type: ignore[import-untyped]

PIECE = 1 << 20  # bytes read at once
LONGEST = 1 << 16  # bytes of a word, at most: with more, the file is something else
Format = Literal["text", "binary", "glove"]
Values = npt.NDArray[np.float32]


class WordTable(NamedTuple):
    """Words and their vectors, most frequent first where that is known.

    Attributes:
        words: each once.
        vectors: float32 ``[V, D]``.
        counts: how often each word is in the text; None where that is not known.
    """

    words: list[str]
    vectors: Tensor
    counts: list[int] | None = None


def parse_header(line: bytes, name: str) -> tuple[int, int]:
    r"""Words and numbers of a vector, from the line ``V D`` that a word2vec file begins with.

    Raises:
        DataError: it is another line.

    Example:
        >>> parse_header(b"3 100\n", "a.bin")
        (3, 100)
    """
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or int(fields[1]) < 1:
        shown = line[:40].decode("utf-8", errors="replace").strip()
        raise DataError(
            f"{name}: the header must be the number of words and that of a vector's values, got {shown!r}: mend it"
        )
    return int(fields[0]), int(fields[1])


def looks_binary(header: bytes, sample: bytes) -> bool:
    """Whether what follows the header is word2vec's binary format, by a sample: no control characters are in a text.

    Text in another encoding than UTF-8 is told by its first row, whose values are numbers.

    Example:
        >>> looks_binary(b"1 2", b"a " + np.ones(2, np.float32).tobytes()), looks_binary(b"1 2", b"a 1.0 1.0")
        (True, False)
    """
    fields = header.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return False
    beginning = sample[:4096]
    if any(byte < 32 and byte not in b"\t\n\r" for byte in beginning):
        return True
    return not _is_text(beginning) and not _has_numbers(beginning, int(fields[1]))


def _is_text(sample: bytes) -> bool:
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 4  # cut inside a character
    return True


def _has_numbers(sample: bytes, size: int) -> bool:
    """Whether the first row is a word and numbers; of a row beyond the sample's end, its last value is not read."""
    row, ended, _ = sample.partition(b"\n")
    fields = row.split()[-size:] if ended else row.split()[1:-1]
    return bool(fields) and all(re.fullmatch(rb"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?", field) for field in fields)


class _Buffer:
    """A stream that is looked into before it is taken from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._held, self._from = stream, b"", 0

    def find(self, byte: bytes) -> int:
        """Bytes before the next such byte; -1 where there is none in a word's length."""
        while (place := self._held.find(byte, self._from)) < 0 and len(self._held) - self._from < LONGEST:
            if not self._more():
                return -1
        return place - self._from if place >= 0 else -1

    def take(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        while len(self._held) - self._from < size and self._more():
            pass
        taken = self._held[self._from : self._from + size]
        self._from += len(taken)
        return taken

    def _more(self) -> bool:
        more = self._stream.read(PIECE)
        self._held, self._from = self._held[self._from :] + more, 0
        return bool(more)


def binary_rows(stream: BinaryIO, name: str) -> Iterator[tuple[str, Values]]:
    r"""The words of word2vec's binary format with their vectors, float32 ``[D]``.

    A header line ``V D``, then for each word its bytes, a space, and ``D`` little-endian float32; a line end may
    follow.

    Args:
        stream: at its beginning.
        name: of the file, for messages.

    Raises:
        DataError: the header is none, the file ends inside a word or goes on after the last one, or a value is not a
            finite number; names the word.

    Example:
        >>> import io
        >>> raw = b"1 2\nto " + np.array([1, 2], "<f4").tobytes()
        >>> [(word, vector.tolist()) for word, vector in binary_rows(io.BytesIO(raw), "a.bin")]
        [('to', [1.0, 2.0])]
    """
    count, size = parse_header(stream.readline(), name)
    buffer = _Buffer(stream)
    for number in range(1, count + 1):
        end = buffer.find(b" ")
        word = buffer.take(end + 1)[:-1].lstrip(b"\n").decode("utf-8", errors="replace")
        raw = buffer.take(4 * size) if end >= 0 else b""
        if len(raw) < 4 * size:
            raise DataError(
                f"{name} is cut short: it ends at word {number:,} of the {count:,} in its header: copy it again"
            )
        values = np.frombuffer(raw, "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                f"{name}, word {number:,} ({word!r}): a value is not a finite number: its vectors may have another "
                f"size than the {size} in the header"
            )
        yield word, values
    if buffer.take(2).strip(b"\n"):
        raise DataError(
            f"{name} goes on after the {count:,} words of {size} values in its header: the header is of another file"
        )


def write_table(stream: BinaryIO, table: WordTable, kind: Format = "text") -> None:
    r"""Write words and vectors: ``text`` and ``binary`` are word2vec's formats, ``glove`` is text without a header.

    The numbers in a text are the shortest ones that are read as the same float32.

    Raises:
        DataError: a word is empty or has a space, tab or line end in it, which these formats cannot hold.

    Example:
        >>> import io
        >>> write_table(stream := io.BytesIO(), WordTable(["to"], torch.tensor([[1.0, 0.1]])))
        >>> stream.getvalue()
        b'1 2\nto 1.0 0.1\n'
    """
    require(kind in get_args(Format), f"the format must be one of {', '.join(get_args(Format))}, got {kind!r}")
    spaced = next((word for word in table.words if word.encode().split() != [word.encode()]), None)
    if spaced is not None:
        what = "has white space in it" if spaced else "is empty"
        raise DataError(
            f"the word {spaced!r} {what}, files of this format cannot hold it: write gensim's KeyedVectors, or leave "
            "it out"
        )
    vectors = table.vectors.detach().cpu().float().numpy().astype("<f4")
    if kind != "glove":
        stream.write(f"{len(table.words)} {vectors.shape[1]}\n".encode())
    for word, vector in zip(table.words, vectors, strict=True):
        if kind == "binary":
            stream.write(word.encode() + b" " + vector.tobytes() + b"\n")
        else:
            stream.write(f"{word} {' '.join(str(value) for value in vector)}\n".encode())


def to_gensim(table: WordTable) -> KeyedVectors:
    """The same as gensim's ``KeyedVectors``, counts included.

    Raises:
        ConfigError: gensim is not installed.

    Example:
        >>> int(to_gensim(WordTable(["to", "be"], torch.eye(2), [7, 5])).get_vecattr("be", "count"))
        5
    """
    if find_spec("gensim") is None:
        raise ConfigError("KeyedVectors need gensim, which is not installed: pip install gensim")
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(table.vectors.shape[1])
    keyed.add_vectors(table.words, table.vectors.detach().cpu().float().numpy())
    for word, count in zip(table.words, table.counts or [], strict=table.counts is not None):
        keyed.set_vecattr(word, "count", count)
    return keyed


def from_gensim(keyed: Any) -> WordTable:
    """Words and vectors of a ``KeyedVectors``, or of what :func:`.keyed_vectors.read_keyed_vectors` gives.

    Raises:
        DataError: its parts do not belong together, or a value is not a finite number.

    Example:
        >>> from_gensim(to_gensim(WordTable(["to", "be"], torch.eye(2), [7, 5]))).counts
        [7, 5]
    """
    words, vectors = [str(word) for word in keyed.index_to_key], np.asarray(keyed.vectors, np.float32)
    if vectors.ndim != 2 or len(words) != len(vectors):
        raise DataError(f"KeyedVectors of {len(words):,} words have vectors {list(vectors.shape)}: save them again")
    if not math.isfinite(float(np.abs(vectors).sum(dtype=np.float64))):
        raise DataError("KeyedVectors have a value that is not a finite number: save them again")
    counts = keyed.expandos.get("count")
    return WordTable(words, torch.from_numpy(vectors.copy()), None if counts is None else [int(one) for one in counts])
