"""Half accepted, half rejected strings that neither length nor symbol counts tell apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import ConfigError

from .languages import Grammar
from .negatives import KINDS, Edit, Kind, base_lengths, candidates, negative, none_of

SHARES: dict[Kind, float] = {  # an edit is mostly caught by its neighbours, a mismatch by memory alone
    "mismatch": 0.4,
    "wraps": 0.1,
    "replace": 0.15,
    "insert": 0.1,
    "delete": 0.1,
    "swap": 0.05,
    "truncation": 0.05,
    "random": 0.05,
}
CHOICES = 8  # edits that a negative is chosen from
TRIES = 1000  # accepted strings that are drawn for a pair, at most
ROUNDS = 8  # strings that are edited before a pair takes another kind
Counts = npt.NDArray[np.int64]


class Sample(NamedTuple):
    """A string, whether it is accepted, and the kind of negative it is (``accepted`` where it is none)."""

    string: str
    accepted: bool
    kind: str


def held_out(string: str, share: float, salt: int = 0) -> bool:
    """Whether a string belongs to a part of its own that has this share of all strings: a function of the string.

    Example:
        >>> sum(held_out(str(i), 0.25) for i in range(1000))
        259
    """
    digest = hashlib.blake2b(f"{salt} {string}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def disjoint(grammar: Grammar[Any], rng: np.random.Generator, train: int, test: int) -> tuple[list[str], list[str]]:
    """Accepted strings by the grammar's law, with repetition, and others that are not among the first.

    Hochreiter and Schmidhuber (1997), section 5.1: 256 and 256.

    Raises:
        ConfigError: hardly any string is left for the second.

    Example:
        >>> from .definitions import grammar
        >>> train, test = disjoint(grammar("embedded_reber"), np.random.default_rng(0), 256, 256)
        >>> len(train), len(set(train)) < 256, len(test), set(train) & set(test)
        (256, True, 256, set())
    """
    first = [grammar.sample(rng) for _ in range(train)]
    known, second = set(first), list[str]()
    for _ in range(TRIES * test):
        string = grammar.sample(rng)
        if string not in known:
            second.append(string)
        if len(second) == test:
            return first, second
    raise ConfigError(f"{grammar.name} has too few strings for {test} that are not among {train}: ask for fewer")


class BalancedSampler:
    """Draws pairs of an accepted and a rejected string of the same length.

    So lengths have one distribution. Symbol counts are balanced pair by pair: of a few random edits the one is taken
    that keeps the sum of all differences in counts, accepted less rejected, nearest to zero. The classes' mean counts
    then differ by some symbols over all rows, not by some per row; and where the means are equal, the best logistic
    regression on length and counts has all weights zero.

    Kinds come as close to their shares as the lengths allow: each pair takes the kind that is furthest behind.

    Args:
        grammar: the language.
        shares: of the kinds among the negatives, any positive numbers; None is :data:`SHARES`, less those that the
            grammar does not have.
        lengths: shortest and longest, each length that there is with the same probability and then each string of it;
            None draws accepted strings by the grammar's own law.
        keep: the strings that may be given out, accepted or not, such as those that are not held out; None is all.

    Raises:
        ConfigError: no accepted string has such a length, a share is not positive, or the grammar has no negatives of
            a kind that is asked for.

    Example:
        >>> from .definitions import grammar
        >>> sampler = BalancedSampler(grammar("embedded_reber"), {"mismatch": 1})
        >>> for sample in sampler.draw(np.random.default_rng(1), 4):
        ...     print(*sample)
        BTBTSSXXTVVEPE False mismatch
        BPBPTTVPSEPE True accepted
        BPBPTTVPSETE False mismatch
        BTBTSSXXTVVETE True accepted
    """

    def __init__(
        self,
        grammar: Grammar[Any],
        shares: Mapping[Kind, float] | None = None,
        lengths: tuple[int, int] | None = None,
        keep: Callable[[str], bool] | None = None,
    ) -> None:
        self.grammar, self.keep = grammar, keep
        self._there: dict[tuple[Kind, int], bool] = {}
        self.lengths = None if lengths is None else grammar.lengths(*lengths)
        if self.lengths == [] and lengths is not None:
            raise ConfigError(f"{grammar.name} has no accepted string of lengths {lengths[0]} to {lengths[1]}")
        self._check(SHARES if shares is None else shares)
        there = {kind: self._usual(kind) for kind in shares or SHARES}
        for kind, found in there.items():
            if shares is not None and not found:
                raise none_of(grammar, kind, self._examples()[0])
        total = sum((shares or SHARES)[kind] for kind, found in there.items() if found)
        self.shares = {kind: (shares or SHARES)[kind] / total for kind, found in there.items() if found}

    def _check(self, shares: Mapping[Kind, float]) -> None:
        for kind, share in shares.items():
            if kind not in KINDS:
                raise ConfigError(f"there is no kind of negatives {kind!r}: use {', '.join(KINDS)}")
            if not share > 0:
                raise ConfigError(f"the share of the kind {kind!r} must be positive, got {share}: leave the kind out")
        if not shares:
            raise ConfigError("shares of at least one kind of negatives are needed")

    def _examples(self) -> list[int]:
        """Some lengths of what is drawn, the shortest first."""
        rng = np.random.default_rng(0)
        drawn = self.lengths or {len(self.grammar.sample(rng)) for _ in range(50)}
        found = sorted(drawn)
        return found[:: -(-len(found) // 12)]

    def _usual(self, kind: Kind) -> bool:
        return any(self.available(kind, length) for length in self._examples())

    def available(self, kind: Kind, length: int) -> bool:
        """Whether the grammar has negatives of a kind at a length."""
        key = kind, length
        if key not in self._there:
            try:
                negative(self.grammar, np.random.default_rng(0), kind, length)
                self._there[key] = True
            except ConfigError:
                self._there[key] = False
        return self._there[key]

    def draw(self, rng: np.random.Generator, rows: int, distinct: bool = False) -> list[Sample]:
        """Strings in random order, half of them accepted (one more where ``rows`` is odd).

        Args:
            rng: of everything that is drawn.
            rows: how many.
            distinct: whether no string is given twice.

        Raises:
            ConfigError: there are not enough strings.
        """
        found = [sample for pair in self.pairs(rng, -(-rows // 2), distinct) for sample in pair][:rows]
        return [found[i] for i in rng.permutation(len(found))]

    def pairs(self, rng: np.random.Generator, pairs: int, distinct: bool = False) -> Iterator[tuple[Sample, Sample]]:
        """Pairs of an accepted and a rejected string of one length, see :meth:`draw`."""
        ahead = np.zeros(len(self.grammar.alphabet), dtype=np.int64)  # counts in accepted strings, less rejected
        given: dict[Kind, int] = dict.fromkeys(self.shares, 0)
        seen: set[str] = set()
        for _ in range(pairs):
            accepted, rejected, kind = self._pair(rng, ahead, given, seen)
            given[kind] += 1
            ahead += self._counts(accepted) - self._counts(rejected)
            if distinct:
                seen |= {accepted, rejected}
            yield Sample(accepted, True, "accepted"), Sample(rejected, False, kind)

    def _pair(
        self, rng: np.random.Generator, ahead: Counts, given: Mapping[Kind, int], seen: set[str]
    ) -> tuple[str, str, Kind]:
        for _ in range(TRIES):
            accepted = self._accepted(rng)
            if not self._may(accepted, seen):
                continue
            for kind in self._behind(given):
                rejected = self._rejected(rng, kind, accepted, ahead, seen)
                if rejected is not None:
                    return accepted, rejected, kind
        raise ConfigError(
            f"{self.grammar.name} has no more strings of such lengths to give out ({len(seen)} were): ask for fewer "
            "rows, or for longer strings"
        )

    def _accepted(self, rng: np.random.Generator) -> str:
        if self.lengths is None:
            return self.grammar.sample(rng)
        return self.grammar.sample_of_length(rng, self.lengths[int(rng.integers(len(self.lengths)))])

    def _may(self, string: str, seen: set[str]) -> bool:
        return string not in seen and (self.keep is None or self.keep(string))

    def _behind(self, given: Mapping[Kind, int]) -> list[Kind]:
        """The kinds, the one that is furthest behind its share first."""
        total = sum(given.values()) + 1
        return sorted(given, key=lambda kind: given[kind] - total * self.shares[kind])

    def _rejected(
        self, rng: np.random.Generator, kind: Kind, accepted: str, ahead: Counts, seen: set[str]
    ) -> str | None:
        """A negative of the accepted string's length, the best for balance of those that are looked at."""
        length = len(accepted)
        if not self.available(kind, length):
            return None
        lengths = base_lengths(self.grammar, kind, length)
        target = ahead + self._counts(accepted)
        for number in range(ROUNDS):
            found: list[tuple[str, Edit]] = []
            for base in [accepted] if lengths == [length] and not number else self._bases(rng, lengths):
                edits = candidates(self.grammar, rng, kind, base, length, CHOICES // len(lengths))
                found += [(base, edit) for edit in edits]
            distance = [int(((target - self._edited(base, edit)) ** 2).sum()) for base, edit in found]
            for i in np.argsort(distance, kind="stable"):
                base, edit = found[int(i)]
                new = edit.of(base)
                if self._may(new, seen) and not self.grammar.accepts(new):
                    return new
        return None

    def _bases(self, rng: np.random.Generator, lengths: list[int]) -> list[str]:
        return [self.grammar.sample_of_length(rng, length) for length in lengths]

    def _counts(self, string: str) -> Counts:
        return np.array([string.count(symbol) for symbol in self.grammar.alphabet], dtype=np.int64)

    def _edited(self, string: str, edit: Edit) -> Counts:
        return self._counts(string) - self._counts(string[edit.start : edit.stop]) + self._counts(edit.text)
