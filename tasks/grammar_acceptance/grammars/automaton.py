"""A deterministic automaton as an exact grammar: who follows whom, with which probability, and how many ways."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from lightning_rnn.errors import ConfigError

from .languages import BEGIN, END, Grammar, Legal

TOLERANCE = 1e-6  # of a sum of probabilities, so that .333, .333 and .334 pass


class Arc(NamedTuple):
    """From ``source``, ``symbol`` leads to ``target``; None is an equal share of the ways to go on (or to stop)."""

    source: str
    symbol: str
    target: str
    probability: float | None = None


class Automaton(Grammar[str]):
    """The language of a deterministic automaton.

    Args:
        name: for messages: the file it was read from, or what it is called.
        start: the state of the empty string.
        accepting: the states in which a string may end.
        arcs: all of them, in any order. A state's probabilities are all given or all left out. They sum to 1; in an
            accepting state to at most 1, the rest is the probability to stop.
        wraps: see :class:`Grammar`.
        states: names that must all be in use; those of the arcs need not be named.

    Raises:
        ConfigError: no arcs, an unknown start, a symbol that is not one character, two arcs of a state with the same
            symbol, a state that is not reached or from which no accepting state is, wrong probabilities.

    Example:
        >>> grammar = Automaton("ab*", "0", ["1"], [Arc("0", "a", "1"), Arc("1", "b", "1", 0.75)])
        >>> grammar.accepts("abb"), grammar.illegal_at("aba"), grammar.legal_next("")
        (True, 2, Legal(symbols=frozenset({'a'}), end=False))
        >>> grammar.count(40), list(grammar.strings(3))
        (1, ['a', 'ab', 'abb'])
    """

    table: dict[str, dict[str, str]]  # of each state: symbol → next state

    def __init__(
        self,
        name: str,
        start: str,
        accepting: Collection[str],
        arcs: Iterable[Arc],
        wraps: Iterable[tuple[str, str]] = (),
        states: Iterable[str] = (),
    ) -> None:
        self.name, self.start, self.accepting, self.wraps = name, start, frozenset(accepting), tuple(wraps)
        self.arcs = list(arcs)
        self.alphabet = "".join(sorted({arc.symbol for arc in self.arcs}))
        self._fill_table(states)
        self._check_states()
        self.probabilities = {state: self._shares(state) for state in self.table}
        self._legal = {state: Legal(frozenset(out), state in self.accepting) for state, out in self.table.items()}
        self._ways = [{state: int(state in self.accepting) for state in self.table}]

    def _fill_table(self, states: Iterable[str]) -> None:
        if not self.arcs:
            raise ConfigError(f"{self.name}: the automaton has no arcs")
        named = (*(state for arc in self.arcs for state in (arc.source, arc.target)), *states)
        self.table = {state: {} for state in named}
        for source, symbol, target, _ in self.arcs:
            if len(symbol) != 1:
                raise ConfigError(f"{self.name}: state {source!r} has the symbol {symbol!r}: use single characters")
            if symbol in self.table[source]:
                raise ConfigError(
                    f"{self.name}: the automaton is non-deterministic: state {source!r} has two arcs with the symbol "
                    f"{symbol!r}, to {self.table[source][symbol]!r} and to {target!r}: keep one"
                )
            self.table[source][symbol] = target

    def _check_states(self) -> None:
        """Every state is reached, and an accepting one from every state."""
        for what, state in (("start", self.start), *(("accepting", state) for state in sorted(self.accepting))):
            if state not in self.table:
                raise ConfigError(f"{self.name}: the {what} state {state!r} has no arcs: it is not in the automaton")
        forward = {state: set(out.values()) for state, out in self.table.items()}
        backward = {state: {source for source in forward if state in forward[source]} for state in forward}
        for wrong, reached in (
            ("cannot be reached from the start", closure({self.start}, forward)),
            ("leads to no accepting state", closure(self.accepting, backward)),
        ):
            for state in self.table:
                if state not in reached:
                    raise ConfigError(f"{self.name}: state {state!r} {wrong}: remove it, or add the missing arc")
        self._backward = backward

    def _shares(self, state: str) -> tuple[list[str], list[float]]:
        """Symbols out of a state and their probabilities; the last, the empty one, is to stop."""
        arcs = [arc for arc in self.arcs if arc.source == state]
        given = [arc.probability for arc in arcs if arc.probability is not None]
        symbols, stops = [*(arc.symbol for arc in arcs), ""], state in self.accepting
        if not given:
            ways = len(arcs) + stops
            return symbols, [1 / ways] * len(arcs) + [stops / ways]
        if len(given) < len(arcs):
            raise ConfigError(f"{self.name}: state {state!r} gives some probabilities only: give all of them or none")
        total = sum(given)
        least = 0 if stops else 1 - TOLERANCE
        if not (least <= total <= 1 + TOLERANCE and min(given) > 0):  # NaN is refused, too
            listed = ", ".join(f"{share:g} for {arc.symbol!r}" for share, arc in zip(given, arcs, strict=True))
            raise ConfigError(
                f"{self.name}: the probabilities of state {state!r} must be positive, with a sum of "
                f"{'at most 1' if stops else '1'}, got {listed}"
            )
        return (symbols, [*given, max(0.0, 1 - total)]) if stops else (symbols, [*(g / total for g in given), 0.0])

    def step(self, state: str, symbol: str) -> str | None:
        return self.table[state].get(symbol)

    def ends(self, state: str) -> bool:
        return state in self.accepting

    def legal(self, state: str) -> Legal:
        return self._legal[state]

    def completions(self, state: str, length: int) -> int:
        while len(self._ways) <= length:
            last = self._ways[-1]
            self._ways.append({state: sum(last[to] for to in out.values()) for state, out in self.table.items()})
        return self._ways[length][state]

    def walk(self, rng: np.random.Generator) -> Iterator[str]:
        """Symbols by branch probability until the walk stops: never, in a continual grammar."""
        state = self.start
        while True:
            symbols, shares = self.probabilities[state]
            point, chosen = rng.random(), 0
            while chosen < len(symbols) - 1 and point >= shares[chosen]:
                point -= shares[chosen]
                chosen += 1
            if chosen == len(symbols) - 1 and not shares[-1]:
                chosen -= 1  # rounding: the shares' sum fell short of the point
            if not symbols[chosen]:
                return
            yield symbols[chosen]
            state = self.table[state][symbols[chosen]]

    def sample(self, rng: np.random.Generator) -> str:
        """An accepted string by branch probability.

        Raises:
            ConfigError: some walk could never stop.
        """
        stopping = {state for state, (_, shares) in self.probabilities.items() if shares[-1] > 0}
        if closure(stopping, self._backward) != set(self.table):
            raise ConfigError(f"{self.name} has walks that never stop: take a stream of it, or strings of a length")
        return "".join(self.walk(rng))

    def stream(self, rng: np.random.Generator, symbols: int) -> str:
        """The first symbols of a walk, fewer where it stops before."""
        return "".join(islice(self.walk(rng), symbols))

    def windows(self, size: int) -> frozenset[str]:
        """Exact, by following every state together with the last symbols read."""
        found: set[str] = set()
        seen = {(self.start, BEGIN * (size - 1))}
        front = list(seen)
        while front:
            state, last = front.pop()
            if state in self.accepting:
                closed = last + END * (size - 1)
                found |= {closed[i : i + size] for i in range(size - 1)}
            for symbol, target in self.table[state].items():
                found.add(last + symbol)
                following = (target, (last + symbol)[1:])
                if following not in seen:
                    seen.add(following)
                    front.append(following)
        return frozenset(found)


def closure(states: Collection[str], following: dict[str, set[str]]) -> set[str]:
    """All states that are reached from these, themselves included.

    Example:
        >>> sorted(closure({"a"}, {"a": {"b"}, "b": {"a"}, "c": {"a"}}))
        ['a', 'b']
    """
    found, front = set(states), list(states)
    while front:
        new = following[front.pop()] - found
        found |= new
        front.extend(new)
    return found
