"""SentencePiece as the one tokenizer of texts: trained in memory, carried as bytes."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self

import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import ConfigError, DataError, require

ModelType = Literal["unigram", "bpe", "word", "char"]
PAD, UNK, BOS, EOS = range(4)
_LONGEST_TEXT = 1 << 24  # bytes; SentencePiece leaves longer ones out of training without a word
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_HIGH = re.compile(r"too high.*<= (\d+)")
_TOO_LOW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for row, text in enumerate(texts):
        if _SURROGATE.search(text):
            raise DataError(
                f"text {row} (counted from 0) holds half a surrogate pair, {text[:40]!a}: mend its encoding"
            )
        yield text


def _training_error(error: RuntimeError, vocab_size: int, model_type: str) -> ConfigError | DataError:
    message = str(error)
    if high := _TOO_HIGH.search(message):
        return ConfigError(f"vocab_size {vocab_size} is too high for this text with {model_type}: at most {high[1]}")
    if low := _TOO_LOW.search(message):
        return ConfigError(f"vocab_size {vocab_size} is too low for the characters of this text: at least {low[1]}")
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return DataError("there is no text to train a tokenizer on: every text is empty")
    return DataError(f"SentencePiece could not train a tokenizer: {message}")


class SentencePieceTokenizer:
    """Texts to ids and back. Ids 0 to 3 are padding, unknown, begin and end.

    Args:
        model: a SentencePiece model as its bytes (those of a ``.model`` file).

    Raises:
        DataError: the bytes are no such model.

    Example:
        >>> tokenizer = SentencePieceTokenizer.train(["a rose is a rose"], 20, "word")
        >>> rows = tokenizer.encode(["a rose", "a tulip"])
        >>> rows.lengths.tolist(), tokenizer.decode(rows[0].tolist())
        ([2, 2], 'a rose')
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise DataError(
                f"these {len(model):,} bytes are no SentencePiece model ({error}): train one again"
            ) from error

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, model_type: ModelType = "unigram", lower: bool = False
    ) -> Self:
        """A tokenizer made for ``texts``; the same texts give the same bytes.

        Args:
            texts: what to train on, read once.
            vocab_size: number of pieces, the four special ones included; with ``word`` and ``char`` an upper bound.
            model_type: how text is cut.
            lower: whether case is folded, in training and in use.

        Raises:
            ConfigError: the text does not allow that number of pieces; says how many it does.
            DataError: there is no text, or one is not valid Unicode.
        """
        require(model_type in ("unigram", "bpe", "word", "char"), f"model_type {model_type!r} is not a known one")
        require(vocab_size > EOS, f"vocab_size must be above {EOS}, got {vocab_size}")
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=_checked(texts),
                model_writer=model,
                vocab_size=vocab_size,
                model_type=model_type,
                hard_vocab_limit=model_type in ("unigram", "bpe"),
                normalization_rule_name="nmt_nfkc_cf" if lower else "nmt_nfkc",
                max_sentence_length=_LONGEST_TEXT,
                character_coverage=1.0,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _training_error(error, vocab_size, model_type) from error
        return cls(model.getvalue())

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return self._processor.vocab_size()

    @property
    def pieces(self) -> list[str]:
        """The pieces by id; ``▁`` stands for a space."""
        return [self._processor.id_to_piece(index) for index in range(self.vocab_size)]

    @property
    def digest(self) -> str:
        """SHA-256 of the model, in hex: equal for equal tokenizers."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of each text, int64; a text that gives none gets one unknown.

        Raises:
            DataError: a text is not valid Unicode.
        """
        rows = [ids or [UNK] for ids in self._processor.encode(list(_checked(texts)))]
        lengths = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
        return Ragged(torch.tensor(list(itertools.chain.from_iterable(rows)), dtype=torch.int64), lengths.cumsum(0))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            DataError: an id is not below :attr:`vocab_size`: the ids come from another tokenizer.
        """
        wrong = [index for index in ids if not 0 <= index < self.vocab_size]
        if wrong:
            raise DataError(f"id {wrong[0]} is not one of this tokenizer's {self.vocab_size}: use the one that made it")
        text: str = self._processor.decode(list(ids))
        return text
