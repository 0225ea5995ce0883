"""Text from any source as pairs of words, made in parallel."""

from __future__ import annotations

import hashlib
import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from lightning_rnn.data import Ragged, SequenceDataModule, SplitData
from lightning_rnn.data.lines import not_empty
from lightning_rnn.data.module import PARTS, Split
from lightning_rnn.data.source import Corpus
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.types import SequenceBatch

from .pairs import PairMaker
from .sources import Manual
from .spec import WordVectorSpec
from .tables import known_counts
from .tokens import CUTS, Cut, Tokens, held_out, join_phrases, learn_phrases, read_tokens
from .vocabulary import choose_words, encode, keep_chances, noise_steps

log = logging.getLogger(__name__)
FIXED = 2**32 - 1  # in the place of the epoch, where draws are the same in all


@dataclass(frozen=True)
class TextRows(SplitData):
    """Pieces of running text; the keys are row numbers, the targets of a batch its :class:`.pairs.Pairs`.

    Attributes:
        inputs: ids from 1, 0 where a text ends.
        maker: what makes pairs of them.
        fixed: whether the pairs are the same in every epoch.
        epoch: which one it is.
    """

    inputs: Ragged
    maker: PairMaker
    fixed: bool
    epoch: list[int] = field(default_factory=lambda: [0])
    ids: Sequence[str | int] | None = None

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        inputs, lengths = self.inputs.pad(index)
        pairs = self.maker.make(self.inputs, keys, FIXED if self.fixed else self.epoch[0])
        return SequenceBatch(inputs, pairs, lengths, ids=index)

    def set_epoch(self, epoch: int) -> None:
        self.epoch[0] = epoch

    def digest(self) -> str:
        options = repr((self.maker.window, self.maker.dynamic, self.maker.negatives)).encode()
        drawn = self.maker.keep.tobytes() + self.maker.noise.tobytes() + options
        return hashlib.blake2b(self.inputs.digest().encode() + drawn, digest_size=16).hexdigest()


@dataclass(frozen=True)
class WordRows(SplitData):
    """The words themselves, one a row, without targets.

    Attributes:
        inputs: ids from 1.
        ids: the words.
    """

    inputs: Ragged
    ids: Sequence[str | int] | None

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        inputs, lengths = self.inputs.pad(index)
        return SequenceBatch(inputs, lengths=lengths, ids=index)


class WordVectorData(SequenceDataModule):
    """Running text, for word vectors.

    A batch has ``inputs [B, T]``, pieces of text (word ``i`` as ``i + 1``, 0 where a text ends), their ``lengths``, and
    as ``targets`` the pairs made of them, :class:`.pairs.Pairs`: words left out at random, windows and noise are drawn
    for each row from (seed, epoch, row), in the workers where there are any. Validation and test have the same pairs
    and the same noise in every epoch, so their losses can be compared. The predict part is the vocabulary.

    Args:
        source: where text comes from, such as ``lightning_rnn.data.TextLines``; None is Python's own manual.
        cut: how text becomes words: ``words`` are runs of letters, digits and underscores, ``spaces`` cuts at white
            space alone.
        lower: whether text is lower-cased.
        joined: whether the texts of a part are one running text; else no window goes over the end of a text.
        piece_words: words of a row; windows do not go from one row to the next.
        min_count: how often a word must be in the training text to have a vector.
        max_vocab: so many words at most, the most frequent ones; None is no bound.
        known: vectors file or checkpoint whose words are kept in the vocabulary, whatever their counts are.
        phrases: how many times pairs of words that belong together are joined by ``_``: 1 makes ``new_york``, 2
            ``new_york_times``.
        phrase_min_count: of a pair; taken off its count.
        phrase_threshold: score above which a pair is a phrase, see :func:`.tokens.learn_phrases`.
        subsample: share of the text above which words are left out at random, see :func:`.vocabulary.keep_chances`; 0
            leaves out none.
        window: words on either side, at most.
        dynamic_window: whether the window of each word is drawn from 1 to ``window``.
        negatives: noise words drawn for each centre word; 0 for hierarchical softmax.
        noise_exponent: power of the counts that noise is drawn by.
        val_fraction: share of the training texts that becomes the validation part where the source has none; 0 trains
            on all of it, without validation.
        split_seed: of that share.
        shuffle: whether training goes through the rows in another order in each epoch; else in that of the text, as
            word2vec's and gensim's programs do, so that the end of the text counts most.
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that make batches; 0 is the main one.
        seed: of the order of batches and of all that is drawn.

    Example:
        >>> data = WordVectorData(batch_size=2)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.inputs.shape, batch.targets.contexts.shape[1]
        (torch.Size([2, 1000]), 10)
    """

    spec_class = WordVectorSpec
    spec: WordVectorSpec | None

    def __init__(
        self,
        source: Corpus | None = None,
        cut: Cut = "words",
        lower: bool = True,
        joined: bool = False,
        piece_words: int = 1000,
        min_count: int = 5,
        max_vocab: int | None = None,
        known: str | None = None,
        phrases: int = 0,
        phrase_min_count: int = 5,
        phrase_threshold: float = 10.0,
        subsample: float = 1e-3,
        window: int = 5,
        dynamic_window: bool = True,
        negatives: int = 5,
        noise_exponent: float = 0.75,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        shuffle: bool = True,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, False, min_batches, num_workers, seed)
        least = {"window": (window, 1), "piece_words": (piece_words, 2), "min_count": (min_count, 1)}
        least |= {"phrases": (phrases, 0), "negatives": (negatives, 0), "phrase_min_count": (phrase_min_count, 0)}
        for name, (value, bound) in least.items():
            require(value >= bound, f"data.{name} must be at least {bound}, got {value}")
        require(max_vocab is None or max_vocab >= 2, f"data.max_vocab must be at least 2, got {max_vocab}")
        require(subsample >= 0, f"data.subsample must not be negative, got {subsample}")
        require(0 <= val_fraction < 1, f"data.val_fraction must be in [0, 1), got {val_fraction}")
        require(0 <= split_seed < 2**32, f"data.split_seed must be from 0 to 2**32 - 1, got {split_seed}")
        require(cut in CUTS, f"data.cut must be one of {', '.join(CUTS)}, got {cut!r}")
        self.source = source or Manual()
        self.cut, self.lower, self.joined, self.piece_words = cut, lower, joined, piece_words
        self.min_count, self.max_vocab, self.known = min_count, max_vocab, known
        self.phrases, self.phrase_min_count, self.phrase_threshold = phrases, phrase_min_count, phrase_threshold
        self.subsample, self.window, self.dynamic_window = subsample, window, dynamic_window
        self.negatives, self.noise_exponent = negatives, noise_exponent
        self.val_fraction, self.split_seed, self.shuffle = val_fraction, split_seed, shuffle

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        if stage == "predict" and self.spec is not None:
            return {"predict": self._words()}
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        names = [name for name in dict.fromkeys(wanted) if name != "predict"]
        parts = {name: found for name in names if (found := self._read(name)) is not None}
        if "train" in parts and "val" not in parts and self.val_fraction:
            parts["train"], parts["val"] = held_out(
                parts["train"], self.val_fraction, self.piece_words, self.split_seed
            )
        if self.spec is None:
            self.spec = self._describe(parts.get("train"))
        rows: dict[Split, SplitData] = {name: self._rows(name, part) for name, part in parts.items()}
        return {**rows, "predict": self._words()} if stage == "predict" else rows

    def _read(self, split: Split) -> Tokens | None:
        files = self.source.files(split)
        if not files:
            return None
        where = ", ".join(map(str, files))
        texts = not_empty(iter(self.source.texts(split)), where)
        tokens = read_tokens(texts, *self._reading(), self.joined)
        log.info("%s: %s words, %s different", split, f"{int((tokens.ids >= 0).sum()):,}", f"{len(tokens.words):,}")
        if not tokens.words:
            raise DataError(f"{where}: the {split} text has no words: give a text, or cut it otherwise (data.cut)")
        return tokens

    def _reading(self) -> tuple[str, bool]:
        """How text is cut, and whether it is lower-cased: as the vocabulary was made, where there is one."""
        return (self.cut, self.lower) if self.spec is None else (self.spec.cut, self.spec.lower)

    def _describe(self, train: Tokens | None) -> WordVectorSpec:
        """Learn phrases and the vocabulary, of the training part alone."""
        if train is None:
            raise DataError(f"{type(self.source).__name__} has no training text, to make a vocabulary of: give it some")
        learned = []
        for turn in range(self.phrases):
            learned.append(learn_phrases(train, self.phrase_min_count, self.phrase_threshold))
            train = join_phrases(train, learned[-1])
            log.info("phrases, pass %d: %d pairs of words", turn + 1, len(learned[-1]))
        known = None if self.known is None else known_counts(Path(self.known))
        words, counts = choose_words(train, self.min_count, self.max_vocab, known)
        log.info("vocabulary: %s words, from %r to %r", f"{len(words):,}", words[0], words[-1])
        return WordVectorSpec(words, counts, learned, self.cut, self.lower)

    def _rows(self, name: Split, tokens: Tokens) -> TextRows:
        assert self.spec is not None
        for phrases in self.spec.phrases:
            tokens = join_phrases(tokens, phrases)
        pieces = encode(tokens, self.spec.words, self.piece_words)
        words = int((pieces.values > 0).sum())
        if words <= self.window and name == "train":
            raise DataError(
                f"the training text has {words} words of the vocabulary, fewer than a window of {self.window} and its "
                "centre: give more text, lower data.min_count or data.window"
            )
        maker = PairMaker(
            keep_chances(self.spec.counts, self.subsample),
            noise_steps(self.spec.counts, self.noise_exponent),
            self.window,
            self.dynamic_window,
            self.negatives,
            self.seed if name == "train" else 0,
        )
        _require_pairs(name, pieces, maker)
        return TextRows(pieces, maker, fixed=name != "train")

    def _words(self) -> WordRows:
        assert self.spec is not None
        return WordRows(Ragged.from_dense(torch.arange(1, len(self.spec.words) + 1)[:, None]), self.spec.words)

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """The words of a row."""
        text = textwrap.fill(" ".join(self._text(split, row)), 40, max_lines=9)
        axes.text(0.5, 1.0, text, fontsize=8, ha="center", va="top", parse_math=False)
        axes.set_axis_off()

    def _text(self, split: Split, row: int) -> Iterator[str]:
        assert self.spec is not None
        for number in self.split(split).inputs[row].tolist():
            yield self.spec.words[number - 1] if number else "|"


def _require_pairs(name: Split, pieces: Ragged, maker: PairMaker) -> None:
    """Raise :class:`DataError` where a part gives no pair: training ever, the others as they are drawn."""
    drawn = replace(maker, keep=np.ones_like(maker.keep)) if name == "train" else maker
    if any(len(drawn.make(pieces, [row], FIXED).center) for row in range(len(pieces))):
        return
    after, mend = " once data.subsample has left some out", "lower data.subsample or set data.val_fraction 0"
    if name == "train":
        after, mend = "", "set data.joined true"
    raise DataError(
        f"the {name} text has no two words of the vocabulary in one text{after}: give more or longer texts, or {mend}"
    )


def require_noise(loss: str, negatives: int) -> None:
    """Raise :class:`ConfigError` where a loss that needs noise has none."""
    if loss != "hierarchical" and not negatives:
        raise ConfigError(f"model.loss {loss} needs noise words: set data.negatives to 1 or more, such as 5")
