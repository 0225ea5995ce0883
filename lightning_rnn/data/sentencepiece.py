"""SentencePiece: trained in memory, carried as bytes, and sampled from where training asks for it."""

from __future__ import annotations

import base64
import io
import itertools
import logging
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.segmenting import SEGMENTERS, Piece, Segmenter
from lightning_rnn.data.tokenizer_base import BOS, EOS, PAD, UNK, Ids, Kind, Tokenizer, checked, flat, to_ragged
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.runtime import available_cores

log = logging.getLogger(__name__)
SAMPLED = tuple(SEGMENTERS)  # kinds that can cut a text in more than one way
MOST_TEXTS = 1_000_000  # trained on; SentencePiece holds them all in memory
_LONGEST_TEXT = 1 << 24  # bytes; SentencePiece leaves longer ones out of training without a word
_TOO_HIGH = re.compile(r"too high.*<= (\d+)")
_TOO_LOW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_FEW = 100  # texts that are not worth a thread


def drawn_evenly(texts: Iterable[str], most: int, seed: int = 0) -> list[str]:
    """``most`` of the texts, every text with the same chance, in their order; all where there are no more.

    One pass, ``most`` texts in memory (Li 1994, algorithm L); the same texts give the same choice.

    Example:
        >>> len(drawn_evenly(map(str, range(1000)), 10)), drawn_evenly("abc", 10)
        (10, ['a', 'b', 'c'])
    """
    number, generator = itertools.count(), random.Random(seed)
    rest = zip(number, texts, strict=False)
    kept = list(itertools.islice(rest, most))
    weight = 1.0
    while len(kept) == most:
        weight *= math.exp(math.log(1 - generator.random()) / most)
        skip = int(math.log(1 - generator.random()) / math.log1p(-weight))
        taken = next(itertools.islice(rest, skip, None), None)
        if taken is None:
            log.info("tokenizer: trained on %d of %d texts, drawn evenly", most, next(number) - 1)
            break
        kept[generator.randrange(most)] = taken
    return [text for _, text in sorted(kept)]


def _training_error(error: RuntimeError, vocab_size: int, kind: str) -> ConfigError | DataError:
    message = str(error)
    if high := _TOO_HIGH.search(message):
        return ConfigError(f"vocab_size {vocab_size} is too high for this text with {kind}: at most {high[1]}")
    if low := _TOO_LOW.search(message):
        return ConfigError(f"vocab_size {vocab_size} is too low for the characters of this text: at least {low[1]}")
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return DataError("there is no text to train a tokenizer on: every text is empty")
    return DataError(f"SentencePiece could not train a tokenizer: {message}")


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model: its ids are those of :class:`~lightning_rnn.data.tokenizer_base.Tokenizer`.

    Args:
        model: the model as its bytes (those of a ``.model`` file).
        kind: how it cuts text, as it was trained.

    Raises:
        DataError: the bytes are no such model, or one with other special ids.

    Example:
        >>> tokenizer = SentencePieceTokenizer.train(["a rose is a rose"], 20, "word")
        >>> rows = tokenizer.encode(["a rose", "a tulip"])
        >>> rows.lengths.tolist(), tokenizer.decode(rows[0].tolist())
        ([2, 2], 'a rose')
    """

    def __init__(self, model: bytes, kind: Kind) -> None:
        self.model, self.kind = model, kind
        self._segmenters: dict[float, Segmenter] = {}
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise DataError(
                f"these {len(model):,} bytes are no SentencePiece model ({error}): train one again"
            ) from error
        sp = self._processor
        special = (sp.pad_id(), sp.unk_id(), sp.bos_id(), sp.eos_id())
        if special != (PAD, UNK, BOS, EOS):
            raise DataError(
                f"the SentencePiece model has pad, unk, bos and eos at {special}: train one that has them at 0, 1, 2, 3"
            )

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, kind: Kind = "unigram", lower: bool = False, min_count: int = 1
    ) -> Self:
        """See :meth:`Tokenizer.train`. Of more than a million texts, a million drawn evenly are trained on.

        ``word`` and ``char`` may come out smaller than ``vocab_size``; the others have exactly that many pieces.
        """
        require(kind in ("unigram", "bpe", "word", "char"), f"SentencePiece has no tokenizer {kind!r}")
        require(vocab_size > EOS, f"vocab_size must be above {EOS}, got {vocab_size}")
        require(min_count == 1, f"min_count goes with the tokenizers words and characters, not with {kind}")
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter(drawn_evenly(checked(texts), MOST_TEXTS)),
                model_writer=model,
                vocab_size=vocab_size,
                model_type=kind,
                hard_vocab_limit=kind in SAMPLED,
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
            raise _training_error(error, vocab_size, kind) from error
        return cls(model.getvalue(), kind)

    @classmethod
    def _from_dict(cls, state: Mapping[str, Any]) -> Self:
        return cls(base64.b64decode(state["model"]), state["kind"])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "model": base64.b64encode(self.model).decode()}

    @property
    def vocab_size(self) -> int:
        return self._processor.vocab_size()

    @property
    def pieces(self) -> list[str]:
        """The pieces by id; ``▁`` stands for a space."""
        return [self._processor.id_to_piece(index) for index in range(self.vocab_size)]

    def _encode(self, texts: list[str]) -> tuple[Ids, Ids]:
        threads = available_cores() if len(texts) > _FEW else 1
        return flat(self._processor.encode(texts, num_threads=threads))

    def sample(self, texts: Sequence[str], seeds: Sequence[int], alpha: float) -> Ragged:
        """Ids of each text, int64, cut at random: a function of (text, seed, alpha) alone.

        With ``unigram`` a segmentation is drawn with its probability to the power of ``alpha`` (Kudo 2018): the smaller
        the more varied. With ``bpe`` each merge is left out with the probability ``alpha`` (Provilkov et al. 2020).

        Args:
            texts: N of them.
            seeds: one for each text, from 0 to 2**32 - 1.
            alpha: above 0; at most 1 with ``bpe``.

        Raises:
            ConfigError: this kind has only one way to cut a text, or ``alpha`` is out of range.
            DataError: a text is not valid Unicode.

        Example:
            >>> tokenizer = SentencePieceTokenizer.train(["banana bandana cabana"], 14, "bpe")
            >>> rows = tokenizer.sample(["banana"] * 3, [1, 2, 1], 0.5)
            >>> rows[0].tolist() == rows[2].tolist() != tokenizer.encode(["banana"])[0].tolist()
            True
        """
        check_sampling(self.kind, alpha)
        if alpha not in self._segmenters:
            self._segmenters[alpha] = SEGMENTERS[self.kind](self._scored(), alpha)
        cut, normalized = self._segmenters[alpha], self._processor.normalize(list(checked(texts)))
        return to_ragged(*flat([cut(text, seed) for text, seed in zip(normalized, seeds, strict=True)]))

    def _scored(self) -> dict[str, Piece]:
        sp = self._processor
        real = (i for i in range(self.vocab_size) if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i)))
        return {sp.id_to_piece(i): Piece(i, sp.get_score(i)) for i in real}

    def _decode(self, ids: list[int]) -> str:
        text: str = self._processor.decode(ids)
        return text


def check_sampling(kind: Kind, alpha: float) -> None:
    """Whether a tokenizer can be sampled from.

    Raises:
        ConfigError: it cannot, or not with this ``alpha``.
    """
    require(kind in SAMPLED, f"sampling goes with the tokenizers {' and '.join(SAMPLED)}, not with {kind}")
    require(alpha > 0, f"sampling must be above 0, got {alpha}")
    require(kind != "bpe" or alpha <= 1, f"sampling is a probability with bpe, so at most 1, got {alpha}")
