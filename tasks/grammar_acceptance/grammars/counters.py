"""The languages of the counter literature: blocks of equal length, and balanced brackets."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np

from lightning_rnn.errors import ConfigError

from .languages import Grammar, State


class CountedGrammar(Grammar[State]):
    """A language without branch probabilities: ``sample`` draws a size by a geometric law, then uniformly.

    Args:
        mean_size: mean number of repetitions (of pairs, for brackets) in sampled strings.
    """

    repeated: int  # symbols of one repetition
    smallest: int  # repetitions of the shortest string

    def __init__(self, mean_size: float = 6.0) -> None:
        if mean_size <= self.smallest:
            raise ConfigError(f"{self.name}: mean_size must be above {self.smallest}, got {mean_size}")
        self.mean_size = mean_size

    def sample(self, rng: np.random.Generator) -> str:
        size = self.smallest - 1 + int(rng.geometric(1 / (self.mean_size - self.smallest + 1)))
        return self.sample_of_length(rng, self.repeated * size)


class Blocks(CountedGrammar[tuple[int, ...]]):
    """``aⁿbⁿ``, ``aⁿbⁿcⁿ`` and so on, n ≥ 1: every symbol in turn, all equally often (Gers and Schmidhuber 2001).

    The state is how often each symbol was read.

    Args:
        alphabet: the symbols, in order.
        mean_size: mean n of sampled strings.

    Example:
        >>> grammar = Blocks("abc")
        >>> grammar.accepts("aabbcc"), grammar.illegal_at("aabcbc"), sorted(grammar.legal_next("aab").symbols)
        (True, 3, ['b'])
    """

    smallest = 1

    def __init__(self, alphabet: str = "ab", mean_size: float = 6.0) -> None:
        if len(alphabet) < 2 or len(set(alphabet)) < len(alphabet):
            raise ConfigError(f"blocks need an alphabet of two or more symbols, each once, got {alphabet!r}")
        self.name, self.alphabet, self.repeated = "".join(f"{symbol}^n" for symbol in alphabet), alphabet, len(alphabet)
        self.start = (0,) * len(alphabet)
        super().__init__(mean_size)

    def step(self, state: tuple[int, ...], symbol: str) -> tuple[int, ...] | None:
        place = self.alphabet.find(symbol)
        if place < 0 or any(state[place + 1 :]):
            return None
        if place and (state[place] == state[0] or any(read < state[0] for read in state[:place])):
            return None
        return (*state[:place], state[place] + 1, *state[place + 1 :])

    def ends(self, state: tuple[int, ...]) -> bool:
        return state[0] > 0 and min(state) == state[0]

    def completions(self, state: tuple[int, ...], length: int) -> int:
        missing = sum(state[0] - read for read in state)
        more = length - missing  # to be filled by further first symbols, each with its partners
        if any(state[1:]):
            return int(more == 0)
        return int(more >= 0 and more % self.repeated == 0 and (state[0] > 0 or more > 0))


class Dyck(CountedGrammar[str]):
    """Balanced brackets of one or several types, the empty string among them. The state is what is still open.

    Args:
        types: how many types of brackets, 1 to 4.
        mean_size: mean number of pairs in sampled strings.

    Example:
        >>> grammar = Dyck(2)
        >>> grammar.accepts("([]())"), grammar.illegal_at("([)]"), grammar.count(6)
        (True, 2, 40)
    """

    repeated, smallest = 2, 0
    start = ""

    def __init__(self, types: int = 1, mean_size: float = 6.0) -> None:
        if not 1 <= types <= 4:
            raise ConfigError(f"a Dyck language has 1 to 4 types of brackets, got {types}")
        self.name, self.openers, self.closers = f"dyck{types}", "([{<"[:types], ")]}>"[:types]
        self.alphabet = self.openers + self.closers
        super().__init__(mean_size)

    def step(self, state: str, symbol: str) -> str | None:
        if symbol in self.openers:
            return state + symbol
        place = self.closers.find(symbol)
        return state[:-1] if place >= 0 and state[-1:] == self.openers[place] else None

    def ends(self, state: str) -> bool:
        return not state

    def completions(self, state: str, length: int) -> int:
        opening, odd = divmod(length - len(state), 2)
        return 0 if odd or opening < 0 else _paths(length, len(state)) * len(self.openers) ** opening


@lru_cache(1 << 16)
def _paths(length: int, depth: int) -> int:
    """Paths of up and down steps from ``depth`` to 0 that never go below it: the reflection principle."""
    up = (length - depth) // 2
    return comb(length, up) - (comb(length, up - 1) if up else 0)
