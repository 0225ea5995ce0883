"""Strings of a grammar as sources: accepted and rejected ones to tell apart, and accepted ones to go on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from lightning_rnn.data import SplitData
from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError, require

from .grammars.automaton import Automaton
from .grammars.definitions import grammar, lingering
from .grammars.languages import Grammar
from .grammars.negatives import Kind
from .grammars.sampler import BalancedSampler, Sample, disjoint, held_out
from .problems.problem import NUMBERS, GrammarSource, check_seed
from .spec import GrammarSpec
from .strings import StringRows, StringStreams, read_strings

LINGER = 0.7
EVAL_CHUNK = 500


@dataclass(frozen=True)
class _OfGrammar(GrammarSource):
    """What sources of strings share.

    Attributes:
        grammar: by name, or a YAML file: see :func:`tasks.grammar_acceptance.grammars.definitions.grammar`.
        seed: of all strings.
    """

    grammar: str = "embedded_reber"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @cached_property
    def language(self) -> Grammar[Any]:
        """The grammar itself."""
        return grammar(self.grammar)

    def spec(self) -> GrammarSpec:
        language, width = self.language, len(self.language.alphabet) + 1
        return GrammarSpec(language.name, language.alphabet, None, width, 0, width)


@dataclass(frozen=True)
class Strings(_OfGrammar):
    """Half accepted, half rejected strings, of one distribution of lengths and symbols, see :class:`BalancedSampler`.

    Validation and test have strings that training never sees, accepted or rejected: each string belongs to one part.
    A share of the rows has its length drawn uniformly from a range, where the grammar's own law gives hardly any long
    strings; the others follow that law.

    Attributes:
        rows: of the training part.
        eval_rows: of the validation part, and of the test part.
        held_out: share of all strings that belongs to each of these two.
        shares: of the kinds of negatives among the rejected, any positive numbers; None: a mix with 40 % mismatches.
        long_share: share of the rows whose length is drawn uniformly.
        lengths: shortest and longest of these.
        predict_path: file of strings to be judged, one a line, for ``predict``; None: the test part.

    Raises:
        ConfigError: a share is out of range, or the grammar has too few strings.

    Example:
        >>> source = Strings(rows=8, eval_rows=4)
        >>> rows = source.split("train")
        >>> rows.samples[0]
        Sample(string='BPBTSXSEPE', accepted=True, kind='accepted')
    """

    rows: int = 2000
    eval_rows: int = 1000
    held_out: float = 0.2
    shares: dict[Kind, float] | None = None
    long_share: float = 0.6
    lengths: tuple[int, int] = (9, 120)
    predict_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.long_share <= 1, f"source.long_share must be in 0..1, got {self.long_share}")
        require(0 < self.held_out < 0.5, f"source.held_out must be above 0 and below .5, got {self.held_out}")
        for name, rows in (("rows", self.rows), ("eval_rows", self.eval_rows)):
            require(rows >= 2, f"source.{name} must be at least 2, got {rows}")

    def split(self, name: Split) -> SplitData | None:
        if name == "predict" and self.predict_path is not None:
            return read_strings(self.predict_path, self.language.alphabet, self.language.name)
        rows = self.rows if name == "train" else self.eval_rows
        return StringRows(self.language, self._draw(np.random.default_rng([self.seed, NUMBERS[name]]), name, rows))

    def _draw(self, rng: np.random.Generator, part: Split, rows: int) -> list[Sample]:
        """Long ones and others, in random order."""
        long, found = round(self.long_share * rows), list[Sample]()
        for count, lengths in ((rows - long, None), (long, self.lengths)):
            if count:
                found += BalancedSampler(self.language, self.shares, lengths, self._keep(part)).draw(rng, count)
        return [found[i] for i in rng.permutation(len(found))]

    def _keep(self, part: Split) -> Callable[[str], bool]:
        """Whether a string belongs to a part: a function of the string."""
        return lambda string: self._part(string) == NUMBERS[part]

    def _part(self, string: str) -> int:
        if held_out(string, self.held_out, salt=1):
            return NUMBERS["val"]
        return NUMBERS["test"] if held_out(string, self.held_out / (1 - self.held_out), salt=2) else NUMBERS["train"]


@dataclass(frozen=True)
class AcceptedStrings(_OfGrammar):
    """Accepted strings alone, by the grammar's law, with repetition; those of the test are not among training's.

    Hochreiter and Schmidhuber's protocol (1997, section 5.1). The validation part has all of both: their criterion is
    about every string of the two.

    Attributes:
        rows: of the training part.
        eval_rows: of the test part.

    Example:
        >>> source = AcceptedStrings()
        >>> [len(source.split(part)) for part in ("train", "val", "test")]
        [256, 512, 256]
    """

    rows: int = 256
    eval_rows: int = 256

    def split(self, name: Split) -> SplitData | None:
        train, test = disjoint(self.language, np.random.default_rng(self.seed), self.rows, self.eval_rows)
        strings = {"train": train, "val": train + test}.get(name, test)
        return StringRows(self.language, [Sample(string, True, "accepted") for string in strings])


@dataclass(frozen=True)
class ContinualStreams(_OfGrammar):
    """Streams of strings one after the other, without a mark between them: continual embedded Reber (Gers et al. 2000).

    The state is carried from chunk to chunk and never reset at the end of a string, only where a stream begins.

    Attributes:
        streams: of the training part.
        steps: mean length of a training stream; they are half to one and a half times as long.
        linger: share of the training streams in which arcs away from the end of a string have the probability .7.
        eval_streams: of the validation part, and of the test part; Gers has 10.
        eval_steps: of each of these; Gers has 100,000.
        chunk: steps of a batch: the gradient goes back so far.

    Raises:
        ConfigError: an option is out of range, or the grammar is no automaton.

    Example:
        >>> streams = ContinualStreams(streams=4, steps=100).split("train")
        >>> len(streams), streams.lengths
        (4, tensor([136, 115, 102,  78]))
    """

    grammar: str = "continual_embedded_reber"
    streams: int = 200
    steps: int = 1000
    linger: float = 0.5
    eval_streams: int = 10
    eval_steps: int = 10_000
    chunk: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.linger <= 1, f"source.linger must be in 0..1, got {self.linger}")
        for name in ("streams", "steps", "eval_streams", "eval_steps", "chunk"):
            require(getattr(self, name) >= 1, f"source.{name} must be at least 1, got {getattr(self, name)}")

    def split(self, name: Split) -> SplitData | None:
        language = self.language
        if not isinstance(language, Automaton):
            raise ConfigError(f"streams need an automaton: {language.name} is none")
        rng, train = np.random.default_rng([self.seed, NUMBERS[name]]), name == "train"
        count = self.streams if train else self.eval_streams
        lengths = rng.integers(self.steps // 2, 3 * self.steps // 2 + 1, count) if train else [self.eval_steps] * count
        slow, slower = lingering(language, LINGER), round(self.linger * count) if train else 0
        laws = [slow if i < slower else language for i in range(count)]
        strings = ["".join(islice(law.walk(rng), int(n))) for law, n in zip(laws, lengths, strict=True)]
        return StringStreams(language, strings, self.chunk if train else EVAL_CHUNK)
