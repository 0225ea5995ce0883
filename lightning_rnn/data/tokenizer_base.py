"""What every tokenizer is: texts to ids and back, and itself as plain values that travel in a checkpoint."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import DataError

Kind = Literal["unigram", "bpe", "word", "char", "characters", "words", "bytes"]
PAD, UNK, BOS, EOS = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
UNKNOWN = "\u2047"  # how an unknown reads once it is text again, as with SentencePiece
Ids = npt.NDArray[np.int64]
_SURROGATE = re.compile("[\ud800-\udfff]")


def checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts, each made sure to be valid Unicode.

    Raises:
        DataError: one is not, or is no text.
    """
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            told = " ".join(repr(text).split())
            raise DataError(f"text {row} (counted from 0) is {told:.40}, no text: leave this row out")
        if not text.isascii() and _SURROGATE.search(text):
            raise DataError(
                f"text {row} (counted from 0) holds half a surrogate pair, {text[:40]!a}: mend its encoding"
            )
        yield text


def flat(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """The ids of all rows end to end ``[S]``, and the rows' lengths ``[N]``."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.fromiter(itertools.chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths


def to_ragged(values: Ids, lengths: Ids) -> Ragged:
    """Ids end to end as rows; a row without ids gets one unknown."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if empty := (lengths == 0).nonzero()[0].tolist():
        values = np.insert(values, offsets[empty], UNK)
        offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets))


class Tokenizer(ABC):
    """Texts to ids and back. In all of them ids 0 to 3 are padding, unknown, begin and end.

    Attributes:
        kind: how text is cut, a key of :data:`lightning_rnn.data.tokenizer.KINDS`.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> state = train_tokenizer(["a rose is a rose"], "words").to_dict()
        >>> state
        {'kind': 'words', 'units': ['a', 'rose', 'is'], 'lower': False}
        >>> Tokenizer.from_dict(state).encode(["a tulip is"])[0].tolist()
        [4, 1, 6]
    """

    kind: Kind

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], vocab_size: int, kind: Kind, lower: bool = False, min_count: int = 1) -> Self:
        """A tokenizer made for ``texts``; the same texts give an equal one.

        Args:
            texts: what to train on, read once.
            vocab_size: number of pieces at most, the four special ones included.
            kind: how text is cut, one that this class has.
            lower: whether case is folded, in training and in use.
            min_count: how often a unit must be there to get an id of its own.

        Raises:
            ConfigError: an option that this kind does not have, or that the texts do not allow.
            DataError: there is no text, or one is not valid Unicode.
        """

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Tokenizer:
        """The tokenizer that :meth:`to_dict` described.

        Raises:
            DataError: ``state`` describes none that is known.
        """
        from lightning_rnn.data.tokenizer import KINDS  # late: the table knows the classes made of this one

        kind = state.get("kind") if isinstance(state, Mapping) else None
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise DataError(f"a tokenizer of kind {kind!r} is not one of {known}: train again, or update this package")
        return KINDS[kind]._from_dict(state)

    @classmethod
    @abstractmethod
    def _from_dict(cls, state: Mapping[str, Any]) -> Self: ...

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values: str, int, bool, and lists of them."""

    @property
    @abstractmethod
    def pieces(self) -> list[str]:
        """The pieces by id."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of pieces."""

    @property
    @final
    def digest(self) -> str:
        """SHA-256 of :meth:`to_dict`, in hex: equal for equal tokenizers."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @final
    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of each text, int64; a text that gives none gets one unknown.

        Raises:
            DataError: a text is not valid Unicode.
        """
        return to_ragged(*self._encode(list(checked(texts))))

    @abstractmethod
    def _encode(self, texts: list[str]) -> tuple[Ids, Ids]:
        """The ids of all texts end to end ``[S]``, and how many each has ``[N]``."""

    @final
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            DataError: an id is not below :attr:`vocab_size`: the ids come from another tokenizer.
        """
        size = self.vocab_size
        wrong = [index for index in ids if not 0 <= index < size]
        if wrong:
            raise DataError(f"id {wrong[0]} is not one of this tokenizer's {size}: use the one that made it")
        return self._decode(list(ids))

    @abstractmethod
    def _decode(self, ids: list[int]) -> str: ...
