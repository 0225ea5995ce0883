"""Tokens of a corpus that is larger than memory: encoded once, then mapped from files of the cache."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.cache import prepared
from lightning_rnn.data.disk import usable
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.tokenizer import BOS, EOS, Kind, Tokenizer, train_tokenizer
from lightning_rnn.errors import DataError, require

log = logging.getLogger(__name__)
CHUNK_TEXTS, CHUNK_CHARACTERS = 20_000, 4_000_000  # encoded at once, at most
LOG_EVERY = 10.0  # seconds
_HEADER = 128  # bytes; NumPy leaves room in it for a length that grows
Texts = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class MappedRagged(Ragged):
    """Rows that lie in files: read as they are used, shared by all processes, sent to another one as a path.

    Attributes:
        folder: the folder that :func:`prepare_tokens` made.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the files of a folder; nothing is read yet."""
        return cls(_mapped(folder / "values.npy"), _mapped(folder / "offsets.npy"), folder)

    def digest(self) -> str:
        """The folder's name: a hash of all that the rows were made from, so they need not be read."""
        return self.folder.name

    def __reduce__(self) -> tuple[Callable[[Path], Ragged], tuple[Path]]:
        return type(self).open, (self.folder,)


def _mapped(path: Path) -> Tensor:
    """The file as a tensor; torch asks for one that may be written to, so a write would copy its page ("c")."""
    return torch.from_numpy(np.asarray(np.load(path, mmap_mode="c", allow_pickle=False)))


def prepare_tokens(
    files: Sequence[Path],
    texts: Texts,
    tokenizer: Tokenizer,
    *,
    bos: bool = False,
    eos: bool = False,
    max_length: int | None = None,
    reading: Mapping[str, Any] | None = None,
) -> MappedRagged:
    """The tokens of all texts, one row each, mapped from the cache; encoded where they are not there yet.

    They are used again as long as the files' contents, the tokenizer and the options are the same.

    Args:
        files: what ``texts`` reads.
        texts: gives the texts in their order, each time it is called; called only where they must be encoded.
        tokenizer: its ids are stored as int16 where its pieces are at most 32,767, else as int32.
        bos: whether each row begins with the begin token.
        eos: whether each row ends with the end token.
        max_length: rows are cut to this many tokens, before these two; None keeps all.
        reading: how ``texts`` reads the files (columns, encoding, part), as JSON has it.

    Returns:
        Rows whose batches are int64.

    Raises:
        ConfigError: ``max_length`` is below 1.
        DataError: a file cannot be read or holds no text, or the cache cannot be written to.

    Example:
        >>> import os
        >>> from tempfile import TemporaryDirectory
        >>> from unittest.mock import patch
        >>> with TemporaryDirectory() as folder, patch.dict(os.environ, LIGHTNING_RNN_CACHE=folder):
        ...     path = Path(folder, "a.txt")
        ...     size = path.write_text("a rose is a tulip is")
        ...     lines = lambda: iter(path.read_text().split(" is"))
        ...     tokens = prepare_tokens([path], lines, train_tokenizer(lines(), "words"), eos=True)
        ...     tokens.values.dtype, tokens.pad(torch.tensor([0, 1]))[0].tolist()
        (torch.int16, [[4, 5, 3], [4, 6, 3]])
    """
    require(max_length is None or max_length >= 1, f"max_length must be at least 1, got {max_length}")
    options = {"bos": bos, "eos": eos, "max_length": max_length, "reading": dict(reading or {})}

    def build(folder: Path) -> None:
        dtype = np.int16 if tokenizer.vocab_size <= np.iinfo(np.int16).max else np.int32
        rows = (framed(tokenizer.encode(chunk), bos, eos, max_length) for chunk in chunks(texts()))
        if not _write(folder, rows, dtype):
            raise DataError(f"there is no text in {', '.join(map(str, files))}: give files that hold some")

    return MappedRagged.open(prepared("tokens", files, options | {"tokenizer": tokenizer.digest}, build))


def prepare_tokenizer(
    files: Sequence[Path],
    texts: Texts,
    kind: Kind = "unigram",
    vocab_size: int = 8000,
    *,
    lower: bool = False,
    min_count: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """The tokenizer trained on these texts, from the cache; trained where it is not there yet.

    Args and Raises are those of :func:`prepare_tokens` and :func:`lightning_rnn.data.tokenizer.train_tokenizer`.
    """
    options = {"kind": kind, "vocab_size": vocab_size, "lower": lower, "min_count": min_count}

    def build(folder: Path) -> None:
        tokenizer = train_tokenizer(texts(), kind, vocab_size, lower, min_count)
        with usable(folder.parent):
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer.to_dict()))

    folder = prepared("tokenizers", files, options | {"reading": dict(reading or {})}, build)
    return Tokenizer.from_dict(json.loads((folder / "tokenizer.json").read_bytes()))


def chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    """Texts a few thousand at a time, fewer where they are long."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) == CHUNK_TEXTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def framed(rows: Ragged, bos: bool = False, eos: bool = False, max_length: int | None = None) -> Ragged:
    """Rows of ids cut to ``max_length``, then with the begin and the end token where asked for.

    Example:
        >>> row = Ragged.from_list([torch.tensor([7, 8, 9])])
        >>> framed(row, bos=True, eos=True, max_length=2)[0].tolist()
        [2, 7, 8, 3]
    """
    if max_length is not None:
        rows = rows.cut(max_length)
    values, offsets = rows.values.numpy(), rows.offsets.numpy()
    ends = [(offsets[:-1], BOS)] * bos + [(offsets[1:], EOS)] * eos
    if ends:
        places = np.stack([place for place, _ in ends], 1).ravel()
        values = np.insert(values, places, np.tile([token for _, token in ends], len(rows)))
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets + np.arange(len(offsets)) * len(ends)))


class _Growing:
    """An ``.npy`` file of one dimension that is appended to."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0

    def __enter__(self) -> Self:
        with usable(self.path.parent.parent):
            self.stream = self.path.open("xb")
        self.stream.seek(_HEADER)
        return self

    def append(self, values: npt.NDArray[Any]) -> None:
        with usable(self.path.parent.parent):
            self.stream.write(values.astype(self.dtype).tobytes())
        self.length += len(values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with usable(self.path.parent.parent), self.stream:
            if kind is None:
                self._write_header()

    def _write_header(self) -> None:
        """Say how long it has become, in the room that was left for it."""
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        self.stream.seek(0)
        np.lib.format.write_array_header_1_0(self.stream, header)
        assert self.stream.tell() == _HEADER


def _write(folder: Path, chunks_of_rows: Iterator[Ragged], dtype: npt.DTypeLike) -> int:
    """Append all rows to the files of ``folder``; how many there were."""
    number, start = 0, time.monotonic()
    said = start
    with _Growing(folder / "values.npy", dtype) as values, _Growing(folder / "offsets.npy", np.int64) as offsets:
        offsets.append(np.zeros(1, np.int64))
        for rows in chunks_of_rows:
            offsets.append(rows.offsets[1:].numpy() + values.length)
            values.append(rows.values.numpy())
            number += len(rows)
            if (now := time.monotonic()) - said >= LOG_EVERY:
                said = now
                log.info("tokens: %d texts so far, %d a second", number, number / (now - start))
    if said > start:
        log.info("tokens: %d texts, %d tokens in %.0f s", number, values.length, time.monotonic() - start)
    return number
