"""What a grammar is: a recogniser that reads symbol by symbol, counts exactly, and draws uniformly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lightning_rnn.errors import ConfigError, DataError

State = TypeVar("State", bound=Hashable)
LONGEST_SHOWN = 60  # symbols of a string in a message
BEGIN, END = "\x02", "\x03"  # what stands before and after a string in its windows


class Legal(NamedTuple):
    """What may follow a prefix: these symbols, and whether the string may end here; nothing follows a dead prefix.

    Example:
        >>> bool(Legal(frozenset(), False).symbols), Legal(frozenset("T"), False).alive
        (False, True)
    """

    symbols: frozenset[str]
    end: bool

    @property
    def alive(self) -> bool:
        """Whether the prefix can be completed."""
        return self.end or bool(self.symbols)


def _shown(string: str) -> str:
    return repr(string if len(string) <= LONGEST_SHOWN else string[:LONGEST_SHOWN] + "...")


def check_symbols(string: str, alphabet: str, name: str) -> None:
    """Nothing, if all symbols of a string are in the alphabet of the grammar of that name.

    Raises:
        DataError: one is not; it names the symbol and its place, counted from 0.
    """
    for place, symbol in enumerate(string):
        if symbol not in alphabet:
            raise DataError(
                f"the symbol {symbol!r} at place {place} (the first is 0) of {_shown(string)} is not in the alphabet "
                f"of {name}: use {', '.join(alphabet)} alone"
            )


class Grammar(ABC, Generic[State]):
    """A set of accepted strings over single-character symbols.

    A subclass says how a state goes on, with None for every prefix that cannot be completed, and counts exactly how
    many ways there are to complete one; all else follows.

    Attributes:
        name: for messages.
        alphabet: the symbols, in the order of enumeration.
        start: the state of the empty prefix.
        wraps: what may stand around an accepted string (see the kind ``wraps`` of negatives): prefix and suffix.
    """

    name: str
    alphabet: str
    start: State
    wraps: tuple[tuple[str, str], ...] = ()

    @abstractmethod
    def step(self, state: State, symbol: str) -> State | None:
        """The state after one more symbol, None where the prefix cannot be completed any more."""

    @abstractmethod
    def ends(self, state: State) -> bool:
        """Whether the string may end here."""

    @abstractmethod
    def completions(self, state: State, length: int) -> int:
        """How many strings of exactly this length lead from here to acceptance."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> str:
        """An accepted string by the grammar's own law: branch by branch."""

    def check(self, string: str) -> None:
        """Nothing, if all symbols are of the alphabet.

        Raises:
            DataError: one is not; it names the symbol and its place, counted from 0.
        """
        check_symbols(string, self.alphabet, self.name)

    def states_along(self, string: str) -> list[State]:
        """The states from the empty prefix on, as long as the prefix can be completed: at most ``len(string) + 1``."""
        states = [self.start]
        for symbol in string:
            state = self.step(states[-1], symbol)
            if state is None:
                break
            states.append(state)
        return states

    def legal(self, state: State) -> Legal:
        """What may follow a state."""
        symbols = frozenset(symbol for symbol in self.alphabet if self.step(state, symbol) is not None)
        return Legal(symbols, self.ends(state))

    def accepts(self, string: str) -> bool:
        """Whether the string is in the language; False where a symbol is not in the alphabet."""
        return self.illegal_at(string) is None

    def illegal_at(self, string: str) -> int | None:
        """0-based place of the first symbol after which the prefix cannot be completed.

        The string's length where it only ends too early; None where it is accepted.
        """
        states = self.states_along(string)
        if len(states) <= len(string):
            return len(states) - 1
        return None if self.ends(states[-1]) else len(string)

    def legal_next(self, prefix: str) -> Legal:
        """What may follow a prefix; nothing follows one that cannot be completed."""
        states = self.states_along(prefix)
        return self.legal(states[-1]) if len(states) > len(prefix) else Legal(frozenset(), False)

    def legal_mask(self, string: str) -> npt.NDArray[np.bool_]:
        """Bool ``[len(string) + 1, V + 1]``: what may follow each prefix, in the alphabet's order; last: the end."""
        mask = np.zeros((len(string) + 1, len(self.alphabet) + 1), dtype=np.bool_)
        for row, state in zip(mask, self.states_along(string), strict=False):
            symbols, row[-1] = self.legal(state)
            row[:-1] = [symbol in symbols for symbol in self.alphabet]
        return mask

    def count(self, length: int) -> int:
        """How many strings of this length are accepted."""
        return self.completions(self.start, length)

    def lengths(self, shortest: int, longest: int) -> list[int]:
        """The lengths in this range, both ends included, that some accepted string has."""
        return [length for length in range(shortest, longest + 1) if self.count(length)]

    def unrank(self, length: int, rank: int) -> str:
        """The accepted string with this number, from 0, among those of the length in the alphabet's order."""
        state, symbols = self.start, []
        for left in range(length - 1, -1, -1):
            for symbol in self.alphabet:
                following = self.step(state, symbol)
                ways = 0 if following is None else self.completions(following, left)
                if following is not None and rank < ways:
                    state = following
                    symbols.append(symbol)
                    break
                rank -= ways
        return "".join(symbols)

    def sample_of_length(self, rng: np.random.Generator, length: int) -> str:
        """An accepted string of this length, each with the same probability.

        Raises:
            ConfigError: there is none.
        """
        ways = self.count(length)
        if not ways:
            raise ConfigError(f"{self.name} has no accepted string of length {length}: choose another length")
        return self.unrank(length, below(rng, ways))

    def strings(self, longest: int) -> Iterator[str]:
        """All accepted strings up to a length: short ones first, then in the alphabet's order."""
        for length in range(longest + 1):
            for rank in range(self.count(length)):
                yield self.unrank(length, rank)

    def windows(self, size: int) -> frozenset[str]:
        """All runs of ``size`` symbols in accepted strings, :data:`BEGIN` and :data:`END` around each counted."""
        return frozenset(window for string in self.strings(4 * size) for window in cut(string, size))


def cut(string: str, size: int) -> list[str]:
    """The windows of one string, with ``size - 1`` marks on either side.

    Example:
        >>> [window.replace(BEGIN, "^").replace(END, "$") for window in cut("ab", 2)]
        ['^a', 'ab', 'b$']
    """
    padded = BEGIN * (size - 1) + string + END * (size - 1)
    return [padded[i : i + size] for i in range(len(padded) - size + 1)]


def below(rng: np.random.Generator, bound: int) -> int:
    """A whole number from 0 to ``bound - 1``, each with the same probability, however large the bound is.

    Example:
        >>> below(np.random.default_rng(0), 10**40) < 10**40
        True
    """
    if bound <= 2**62:
        return int(rng.integers(bound))
    bits = (bound - 1).bit_length()
    while True:
        number = int.from_bytes(rng.bytes(-(-bits // 8)), "big") >> (-bits % 8)
        if number < bound:
            return number
