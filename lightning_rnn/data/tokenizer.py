"""The tokenizers there are."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_rnn.data.sentencepiece import SentencePieceTokenizer as SentencePieceTokenizer
from lightning_rnn.data.simple_tokenizers import ByteTokenizer as ByteTokenizer
from lightning_rnn.data.simple_tokenizers import UnitTokenizer as UnitTokenizer
from lightning_rnn.data.tokenizer_base import BOS as BOS
from lightning_rnn.data.tokenizer_base import EOS as EOS
from lightning_rnn.data.tokenizer_base import PAD as PAD
from lightning_rnn.data.tokenizer_base import UNK as UNK
from lightning_rnn.data.tokenizer_base import Kind as Kind
from lightning_rnn.data.tokenizer_base import Tokenizer as Tokenizer
from lightning_rnn.errors import require

KINDS: dict[str, type[Tokenizer]] = {
    "unigram": SentencePieceTokenizer,
    "bpe": SentencePieceTokenizer,
    "word": SentencePieceTokenizer,
    "char": SentencePieceTokenizer,
    "characters": UnitTokenizer,
    "words": UnitTokenizer,
    "bytes": ByteTokenizer,
}


def train_tokenizer(
    texts: Iterable[str], kind: Kind = "unigram", vocab_size: int = 8000, lower: bool = False, min_count: int = 1
) -> Tokenizer:
    """A tokenizer of any kind made for ``texts``: see :meth:`Tokenizer.train`.

    ``unigram``, ``bpe``, ``word`` and ``char`` are SentencePiece's, which normalizes text (NFKC) and reads a space as
    ``▁``. ``characters`` and ``words`` take text as it is; ``bytes`` needs no training.

    Raises:
        ConfigError: an option that this kind does not have, or that the texts do not allow.
        DataError: there is no text, or one is not valid Unicode.

    Example:
        >>> train_tokenizer(["to be or not to be"], "characters", min_count=2).pieces[4:]
        [' ', 'o', 't', 'b', 'e']
    """
    require(kind in KINDS, f"the tokenizer {kind!r} is not one of {', '.join(KINDS)}")
    return KINDS[kind].train(texts, vocab_size, kind, lower, min_count)
