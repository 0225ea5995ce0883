"""Text as batches for language models: a stream in chunks that go on where the last ones stopped, or line by line."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from lightning_rnn.data import Corpus, Ragged, SequenceDataModule, SplitData, StreamBatchSampler
from lightning_rnn.data.checks import warn_of_unknowns
from lightning_rnn.data.module import PARTS, BatchOrder, Split
from lightning_rnn.data.tokenizer import UNK, Kind, train_tokenizer
from lightning_rnn.errors import ConfigError, DataError, require

from .rows import TextRows, TextStream
from .sources import Manual
from .spec import LINE_END, UNITS, LanguageSpec
from .text import TOKEN, begun, encode_lines, joined

log = logging.getLogger(__name__)
Layout = Literal["stream", "rows"]
MOST_CHARACTERS = 4_000  # of a line that a vocabulary is made of: a unigram's training can be quadratic in them


class LanguageData(SequenceDataModule):
    """A text, token by token.

    As a ``stream`` the lines of a part stand one after the other. Training cuts them in as many equal parts as a batch
    has rows, at another place in each epoch, and goes through these side by side, ``chunk`` steps at a time, the state
    carried from chunk to chunk. Validation and test go through theirs from beginning to end, so that every token but
    the first is predicted once, from all that stand before it. `predict` takes every line for itself.

    Args:
        source: where lines come from, such as :class:`lightning_rnn.data.TextLines` or one of
            :mod:`tasks.language_modeling.sources`; None is the embedded :class:`.sources.Manual`.
        layout: ``stream``, or ``rows``: every line for itself, as is right for names and sentences.
        tokenizer: how text is cut, trained on the training part alone: plain ``words`` (between white space),
            ``characters`` and ``bytes``, or SentencePiece's ``unigram``, ``bpe``, ``word`` and ``char``.
        vocab_size: tokens; at most so many with ``word``, ``char``, ``characters`` and ``words``.
        min_count: how often a word or a character must be there to become a token (``words``, ``characters``).
        lower: whether text is lower-cased.
        chunk: steps that a gradient goes back; the mean of them where lengths are random.
        chunk_std: standard deviation of the chunks' lengths; AWD-LSTM has 5 with a ``chunk`` of 70.
        half_probability: how often a chunk is about half as long; AWD-LSTM has 0.05.
        eval_lanes: parts that validation and test streams are cut in, which are gone through side by side: faster, but
            the first words of each part are read without what stands before them.
        eval_chunk: steps of a batch in validation and test; the result does not depend on it.
        batch_size: rows per batch and process; of a stream the parts that are gone through side by side.
        eval_batch_size: lines per batch in `predict`, and with ``rows`` in validation and test; None is four times
            ``batch_size``.
        bucketing: whether lines of like length are put together (``rows``).
        min_batches: a training epoch has at least this many batches (``rows``).
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: tokens per batch and process, padding counted, at most (``rows``); None is no bound.

    Example:
        >>> data = LanguageData(batch_size=8, chunk=20)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> len(batch.inputs), bool((batch.inputs[:, 1:] == batch.targets["tokens"][:, :-1]).all())
        (8, True)
    """

    spec_class = LanguageSpec
    spec: LanguageSpec | None

    def __init__(
        self,
        source: Corpus | None = None,
        layout: Layout = "stream",
        tokenizer: Kind = "words",
        vocab_size: int = 10_000,
        min_count: int = 1,
        lower: bool = False,
        chunk: int = 35,
        chunk_std: float = 0.0,
        half_probability: float = 0.0,
        eval_lanes: int = 1,
        eval_chunk: int = 256,
        batch_size: int = 20,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        require(layout in ("stream", "rows"), f"data.layout must be stream or rows, got {layout!r}")
        require(tokenizer in UNITS, f"data.tokenizer must be one of {', '.join(UNITS)}, got {tokenizer!r}")
        sizes = {"chunk": chunk, "eval_lanes": eval_lanes, "eval_chunk": eval_chunk, "min_count": min_count}
        for name, size in sizes.items():
            require(size >= 1, f"data.{name} must be at least 1, got {size}")
        require(vocab_size >= 6, f"data.vocab_size must be at least 6, got {vocab_size}")
        require(chunk_std >= 0, f"data.chunk_std must not be negative, got {chunk_std}")
        require(0 <= half_probability <= 1, f"data.half_probability must be in 0..1, got {half_probability}")
        self.source, self.layout, self.lower = source or Manual(), layout, lower
        self.tokenizer, self.vocab_size, self.min_count = tokenizer, vocab_size, min_count
        self.chunk, self.chunk_std, self.half_probability = chunk, chunk_std, half_probability
        self.eval_lanes, self.eval_chunk = eval_lanes, eval_chunk

    @property
    def varies(self) -> bool:
        """Whether the lengths of training chunks are random."""
        return self.layout == "stream" and bool(self.chunk_std or self.half_probability)

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        parts: dict[Split, SplitData] = {}
        for name in dict.fromkeys(wanted):  # what training lacks is said before what the others do
            lines = self._read(name)
            if self.spec is None:
                self.spec = self._describe(lines)
            if lines and name in PARTS[stage]:
                parts[name] = self._encode(name, lines)
        return parts

    def _read(self, name: Split) -> list[str]:
        """The lines of a part; none where there is no such part."""
        return list(self.source.texts(name)) if self.source.files(name) else []

    def _origin(self, name: Split) -> str:
        return ", ".join(map(str, self.source.files(name)))

    def _describe(self, lines: list[str]) -> LanguageSpec:
        """Make the vocabulary, of the training part alone."""
        if not self.source.files("train"):
            raise DataError(f"{type(self.source).__name__} has no train part: name its files in data.source")
        if not any(line.strip() for line in lines):
            raise DataError(f"{self._origin('train')} holds no text to train on: give it some")
        ended = LINE_END if UNITS[self.tokenizer] == "character" else ""
        beginnings = (line[:MOST_CHARACTERS] + ended for line in lines if line.strip() or ended)
        try:
            tokenizer = train_tokenizer(beginnings, self.tokenizer, self.vocab_size, self.lower, self.min_count)
        except ConfigError as error:  # it begins with the option's name
            raise ConfigError(f"data.{error} ({self._origin('train')})") from error
        spec = LanguageSpec.of(tokenizer)
        tokens = encode_lines(lines, spec).values[:, TOKEN].numpy()
        counts = np.bincount(tokens, minlength=spec.vocab_size)
        kinds = np.flatnonzero(np.delete(counts, spec.end))
        if len(kinds) < 2:
            raise DataError(
                f"{self._origin('train')} holds one kind of {spec.unit} again and again: there is nothing to learn, "
                "give it real text or another data.tokenizer"
            )
        log.info("tokenizer: %s, %d tokens, of the training part", self.tokenizer, tokenizer.vocab_size)
        return LanguageSpec.of(tokenizer, counts.tolist())

    def _encode(self, name: Split, lines: list[str]) -> TextRows | TextStream:
        assert self.spec is not None
        tokens, origin = encode_lines(lines, self.spec), self._origin(name)
        ids = Ragged(tokens.values[:, TOKEN], tokens.offsets)
        warn_of_unknowns(origin, ids)
        unknown = int((ids.values == UNK).sum())
        log.info("%s: %s tokens, %s of them unknown, in %s lines", name, f"{len(ids.values):,}", unknown, len(lines))
        if self.layout == "rows" or name == "predict":
            return TextRows(begun(tokens, self.spec.end), lines, origin)
        self._check_length(name, len(ids.values), origin)
        return TextStream(joined(tokens), origin)

    def _check_length(self, name: Split, tokens: int, origin: str) -> None:
        """Whether a stream is long enough for a chunk in each row of a batch, and the token after it."""
        least = self.batch_size * self.shares * self.chunk + 1 if name == "train" else 2
        if tokens < least:
            what = f"{self.batch_size * self.shares} rows of data.chunk {self.chunk}" if name == "train" else "a step"
            raise DataError(
                f"{origin}: the {name} part has {tokens} tokens, too short for {what}, which needs {least}: give more "
                "text" + (", or lower data.batch_size or data.chunk" if name == "train" else "")
            )

    def order(self, name: Split, split: SplitData) -> BatchOrder:
        if not isinstance(split, TextStream):
            return super().order(name, split)
        train, steps = name == "train", int(split.lengths[0])
        lanes = self.batch_size * self.shares if train else min(self.eval_lanes, steps)
        return StreamBatchSampler(
            split.lengths,
            lanes,
            self.chunk if train else self.eval_chunk,
            shuffle=train,
            split=True,
            chunk_std=self.chunk_std if train else 0.0,
            half_probability=self.half_probability if train else 0.0,
            seed=self.seed,
            rank=self.rank,
            world=self.world if train else min(self.world, lanes),  # of fewer lanes the last processes have none
        )

    def _order_options(self) -> dict[str, Any]:
        names = ("layout", "chunk", "chunk_std", "half_probability")
        return {**super()._order_options(), **{name: getattr(self, name) for name in names}}

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """The beginning of a line, or of the stream."""
        assert self.spec is not None
        ids = self.split(split).inputs[row][:60, TOKEN].tolist()
        text = textwrap.fill(self.spec.load_tokenizer().decode(ids), 40)
        axes.text(0.5, 0.5, text, ha="center", va="center", family="monospace", parse_math=False)
        axes.set_axis_off()
