"""Sentence pairs from any source, as batches for the translator."""

from __future__ import annotations

import hashlib
import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from lightning_rnn.data import Examples, Ragged, SequenceDataModule, SplitData
from lightning_rnn.data.checks import warn_of_unknowns
from lightning_rnn.data.module import PARTS, Split
from lightning_rnn.data.sampled import SampledText
from lightning_rnn.data.sentencepiece import SentencePieceTokenizer, check_sampling
from lightning_rnn.data.splitting import warn_of_shared
from lightning_rnn.data.tokenizer import Kind, Tokenizer, train_tokenizer
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.types import SequenceBatch

from .metrics import warn_of_short
from .numbers import Numbers
from .pairs import Empty, Pairs, PairSource, cleaned
from .sources import read_sources
from .spec import TranslationSpec
from .text import Codec, DrawnPairs, fold

log = logging.getLogger(__name__)
Longer = Literal["truncate", "refuse"]
MOST_CHARACTERS = 4_000  # of a sentence that a vocabulary is made of: a unigram's training can be quadratic in them


@dataclass(frozen=True)
class TranslationRows(SplitData):
    """The pairs of a part as ids and as text; the keys are row numbers.

    Attributes:
        inputs: ids that the encoder reads.
        targets: ids that the decoder must put out, ``</s>`` last; None where there are no translations.
        pairs: the sentences themselves.
        drawn: what batches are made of instead where rows differ from epoch to epoch.
    """

    inputs: Ragged
    targets: Ragged | None
    pairs: Pairs
    drawn: DrawnPairs | None = None

    @property
    def ids(self) -> Sequence[str | int] | None:  # type: ignore[override]  # of the pairs, not a field
        """The rows' names in the source."""
        return self.pairs.ids

    @property
    def sources(self) -> list[str]:
        """The sentences to translate, by row."""
        return self.pairs.source

    @property
    def references(self) -> list[str] | None:
        """The translations as they were read, by row (``batch.ids``): what BLEU is computed with."""
        return self.pairs.target

    @property
    def tokenized_references(self) -> list[str] | None:
        """The translations of the LIUM protocol, by row, where the source has them."""
        return self.pairs.tokenized

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``, the longer side of each pair: a batch's tokens are counted on it."""
        lengths = self.inputs.lengths
        return lengths if self.targets is None else torch.maximum(lengths, self.targets.lengths)

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))  # torch itself reads a list slowly
        if self.drawn is not None:
            rows = torch.arange(len(index))
            sides: tuple[Ragged, Ragged | None] = self.drawn.draw(index)
        else:
            rows, sides = index, (self.inputs, self.targets)
        inputs, lengths = sides[0].pad(rows)
        if sides[1] is None:
            return SequenceBatch(inputs, lengths=lengths, ids=index)
        targets, target_lengths = sides[1].pad(rows)
        return SequenceBatch(inputs, targets, lengths, target_lengths=target_lengths, ids=index)

    def set_epoch(self, epoch: int) -> None:
        if self.drawn is not None:
            self.drawn.set_epoch(epoch)

    def digest(self) -> str:
        both = [side.digest() for side in (self.inputs, self.targets) if side is not None]
        return hashlib.blake2b("".join(both).encode(), digest_size=16).hexdigest()


class TranslationData(SequenceDataModule):
    """Sentences and their translations.

    A batch has ``inputs [B, S]``, ids of the source side that end in ``</s>``, and their ``lengths [B]``; ``targets [B,
    T]``, ids of the target side that begin with the first word and end in ``</s>``, and their ``target_lengths [B]``;
    ``ids [B]``, the rows, by which ``data.split(name).references`` has the sentences themselves.

    Args:
        source: where pairs come from, one of :mod:`tasks.translation.sources`; None is :class:`.numbers.Numbers`,
            numbers in English and French words.
        predict: file of sentences to translate, one a line, relative to the data folder; None is the test part.
        tokenizer: how text is cut, trained on the training part alone: SentencePiece's ``unigram``, ``bpe``, ``word``
            and ``char``, or plain ``characters``, ``words`` (between white space) and ``bytes``.
        vocab_size: tokens of each tokenizer; at most so many with ``word``, ``char``, ``characters`` and ``words``.
        joint: whether both languages have one tokenizer, trained on both sides together.
        lower: whether sentences are lower-cased.
        sampling: cuts the training sentences anew in each epoch; 0 does not. With ``unigram`` the power of a
            segmentation's probability (0.1 to 0.5: the smaller, the more varied), with ``bpe`` the share of merges left
            out (0.1). Batches are made by the lengths without it.
        reverse_source: whether the encoder reads sentences from their end to their beginning.
        source_eos: whether the encoder reads an end token.
        max_length: tokens of a sentence on either side, without its end; None is no limit.
        longer: what becomes of longer sentences: ``truncate``, which logs how many, or ``refuse``.
        empty: what becomes of a pair of which a side is empty: ``refuse``, or ``drop``, which logs how many.
        batch_size: pairs per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether pairs of like length are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches, and of ``sampling``.
        max_tokens: tokens per batch and process, padding counted, at most, on the longer side of the pairs (four times
            as many in validation, test and predict); None is no bound. Raise ``batch_size`` with it, the lower of both
            holds.

    Example:
        >>> data = TranslationData(batch_size=8)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.inputs.shape[0], batch.targets.shape[0], len(data.split("val").references)
        (8, 8, 200)
    """

    spec_class = TranslationSpec
    spec: TranslationSpec | None

    def __init__(
        self,
        source: PairSource | None = None,
        predict: str | None = None,
        tokenizer: Kind = "unigram",
        vocab_size: int = 100,
        joint: bool = True,
        lower: bool = False,
        sampling: float = 0.0,
        reverse_source: bool = False,
        source_eos: bool = True,
        max_length: int | None = 256,
        longer: Longer = "truncate",
        empty: Empty = "refuse",
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        require(vocab_size >= 8, f"data.vocab_size must be at least 8, got {vocab_size}")
        require(max_length is None or max_length >= 1, f"data.max_length must be at least 1, got {max_length}")
        if sampling:
            check_sampling(tokenizer, sampling)
        self.source, self.predict = source or Numbers(), predict
        self.tokenizer, self.vocab_size, self.joint, self.lower = tokenizer, vocab_size, joint, lower
        self.sampling, self.reverse_source, self.source_eos = sampling, reverse_source, source_eos
        self.max_length, self.longer, self.empty = max_length, longer, empty

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        read = {name: self._read(name) for name in dict.fromkeys(wanted)}
        parts = {name: pairs for name, pairs in read.items() if pairs is not None}
        if "train" in parts and "val" in parts:
            warn_of_shared(*(Examples(parts[name].source, None, parts[name].origin) for name in ("train", "val")))
            warn_of_short(parts["val"].target or [])
        if self.spec is None:
            self.spec = self._describe(parts.get("train"))
        self._warn_of_languages()
        return {name: self._encode(name, pairs) for name, pairs in parts.items()}

    def _read(self, name: Split) -> Pairs | None:
        if name != "predict":
            pairs = self.source.read(name)
        elif self.predict is not None:
            pairs = read_sources(self.predict)
        elif (pairs := self.source.read("test")) is None:
            raise DataError("there is no test part to translate: name a file of sentences with data.predict")
        return None if pairs is None else cleaned(pairs, self.empty)

    def _describe(self, train: Pairs | None) -> TranslationSpec:
        """Train the tokenizers, on the training part alone."""
        if train is None or train.target is None or not len(train):
            raise DataError(
                f"{type(self.source).__name__} has no training pairs, to make a vocabulary of: give it some"
            )
        both = [*train.source, *train.target]
        first = self._trained(both if self.joint else train.source, train.origin if self.joint else train.files[0])
        second = first if self.joint else self._trained(train.target, train.files[1])
        longest = [
            int(side.encode(fold(texts, self.lower)).lengths.max())
            for side, texts in ((first, train.source), (second, train.target))
        ]
        limit = self.max_length or max(longest)
        return TranslationSpec(
            languages=list(self.source.languages),
            tokenizer=first.to_dict(),
            target_tokenizer=None if self.joint else second.to_dict(),
            source_size=first.vocab_size,
            target_size=second.vocab_size,
            lower=self.lower,
            reverse_source=self.reverse_source,
            source_eos=self.source_eos,
            longest_source=min(longest[0], limit) + self.source_eos,
            longest_target=min(longest[1], limit) + 1,
        )

    def _trained(self, texts: list[str], origin: str) -> Tokenizer:
        beginnings = [text[:MOST_CHARACTERS] for text in fold(texts, self.lower)]
        try:
            tokenizer = train_tokenizer(beginnings, self.tokenizer, self.vocab_size)
        except ConfigError as error:  # it begins with the option's name
            raise ConfigError(f"data.{error} ({origin})") from error
        log.info("tokenizer: %s, %d tokens, of %s", self.tokenizer, tokenizer.vocab_size, origin)
        return tokenizer

    def _warn_of_languages(self) -> None:
        """Other names need not be other languages, so this is no error."""
        assert self.spec is not None
        if list(self.source.languages) != list(self.spec.languages):
            here, there = "-".join(self.source.languages), "-".join(self.spec.languages)
            log.warning("the data are %s, the model was trained on %s", here, there)

    def _encode(self, name: Split, pairs: Pairs) -> TranslationRows:
        assert self.spec is not None
        codec = Codec(self.spec, self.max_length)
        source = codec.source.encode(codec.folded(pairs.source))
        target = None if pairs.target is None else codec.target.encode(codec.folded(pairs.target))
        warn_of_unknowns(pairs.files[0], source)
        self._check_lengths(pairs, source, "source")
        if target is not None:
            warn_of_unknowns(pairs.files[1], target)
            self._check_lengths(pairs, target, "target")
        drawn = self._sampled(pairs, codec) if name == "train" and self.sampling else None
        done = None if target is None else codec.finish_target(target)
        return TranslationRows(codec.finish_source(source), done, pairs, drawn)

    def _check_lengths(self, pairs: Pairs, tokens: Ragged, side: Literal["source", "target"]) -> None:
        """Whether sentences are longer than the limit."""
        if self.max_length is None or not len(pairs):
            return
        longer = (tokens.lengths > self.max_length).nonzero()[:, 0].tolist()
        if longer and self.longer == "refuse":
            raise DataError(
                f"{pairs.where(longer[0], side)}: {int(tokens.lengths[longer[0]]):,} tokens, data.max_length is "
                f"{self.max_length}: shorten the sentence, raise data.max_length, or set data.longer truncate"
            )
        if longer:
            file = pairs.files[side == "target"]
            log.info("%s: %d of %d sentences cut to max_length %d", file, len(longer), len(pairs), self.max_length)

    def _sampled(self, pairs: Pairs, codec: Codec) -> DrawnPairs:
        assert pairs.target is not None
        sides = []
        for number, (texts, tokenizer) in enumerate(((pairs.source, codec.source), (pairs.target, codec.target))):
            check_sampling(tokenizer.kind, self.sampling)
            assert isinstance(tokenizer, SentencePieceTokenizer)
            sides.append(SampledText(codec.folded(texts), tokenizer, self.sampling, 2 * self.seed + number))
        return DrawnPairs(sides[0], sides[1], codec)

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """A sentence, and its translation where there is one."""
        rows = self.split(split)
        assert isinstance(rows, TranslationRows)
        texts = [rows.sources[row], *([] if rows.references is None else [rows.references[row]])]
        told = "\n→\n".join(textwrap.fill(text, 40) for text in texts)
        axes.text(0.5, 0.5, told, fontsize=8, ha="center", va="center", parse_math=False)
        axes.set_axis_off()
