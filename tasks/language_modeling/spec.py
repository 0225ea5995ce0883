"""What a language model is built from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_token_ids
from lightning_rnn.data.tokenizer import EOS, Kind, Tokenizer
from lightning_rnn.types import SequenceBatch

Unit = Literal["character", "word", "sentencepiece"]
UNITS: dict[Kind, Unit] = {
    "characters": "character",
    "bytes": "character",
    "words": "word",
    "word": "word",
    "unigram": "sentencepiece",
    "bpe": "sentencepiece",
    "char": "sentencepiece",
}
LINE_END = "\n"


@dataclass(frozen=True)
class LanguageSpec(DataSpec):
    """What a language model is built from.

    Attributes:
        unit: what a token is: a ``character``, a ``word``, or a ``sentencepiece``.
        tokenizer: the whole of it, see :meth:`lightning_rnn.data.Tokenizer.to_dict`.
        vocab_size: tokens in the vocabulary.
        counts: how often each of them is in the training part, by id, line ends among them.
        end: id of the token at the end of a line, which is also what the first line is read after: the line end itself
            where tokens are characters, else ``</s>``.

    Example:
        >>> from lightning_rnn.data.tokenizer import train_tokenizer
        >>> LanguageSpec.of(train_tokenizer(["a rose is a rose"], "words")).vocab_size
        7
    """

    unit: Unit = "word"
    tokenizer: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 4
    counts: list[int] = field(default_factory=list)
    end: int = EOS

    @classmethod
    def of(cls, tokenizer: Tokenizer, counts: list[int] | None = None) -> LanguageSpec:
        """The spec of a tokenizer."""
        unit = UNITS[tokenizer.kind]
        end = int(tokenizer.encode([LINE_END]).values[0]) if unit == "character" else EOS
        return cls(unit, tokenizer.to_dict(), tokenizer.vocab_size, counts or [], end)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer: ``encode(list[str])`` to ids, ``decode(ids)`` to text."""
        return Tokenizer.from_dict(self.tokenizer)

    def check(self, batch: SequenceBatch) -> None:
        """Whether all ids of a batch are of the vocabulary.

        Raises:
            DataError: one is not; names the row, the step and the id.
        """
        check_token_ids(batch, self.vocab_size)
