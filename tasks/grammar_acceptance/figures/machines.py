"""Deterministic automata as plain tables: made small, compared, and laid out; whatever they were read from."""

from __future__ import annotations

from typing import NamedTuple

from ..grammars.automaton import Arc, Automaton, closure
from ..grammars.languages import END

Table = dict[str, dict[str, str]]  # of each state: symbol → next state
Step = tuple[str, str, str]  # state, symbol, next state


class Machine(NamedTuple):
    """A start, the states in which a string may end, and who follows whom.

    Unlike an :class:`Automaton` it may have states from which no string is accepted, as a network's often does.

    Example:
        >>> machine = Machine("0", frozenset("12"), {"0": {"a": "1", "b": "2"}, "1": {}, "2": {}})
        >>> merged, kept = machine.minimal()
        >>> merged.table, kept
        ({'0': {'a': '1', 'b': '1'}, '1': {}}, {'0': '0', '1': '1', '2': '1'})
    """

    start: str
    accepting: frozenset[str]
    table: Table

    @classmethod
    def of(cls, automaton: Automaton) -> Machine:
        """The same automaton without probabilities."""
        return cls(automaton.start, automaton.accepting, automaton.table)

    def automaton(self, name: str) -> Automaton:
        """The same language as a grammar: what leads to no accepting state is left out.

        Raises:
            ConfigError: it accepts no string, or the empty one alone.
        """
        useful = self.trimmed()
        arcs = [Arc(*step) for step in sorted(useful.steps()) if step[1] != END]
        return Automaton(name, useful.start, useful.accepting, arcs)

    def steps(self) -> set[Step]:
        """All arcs, and one with the symbol ``END`` from each accepting state to itself."""
        arcs = {(state, symbol, target) for state, out in self.table.items() for symbol, target in out.items()}
        return arcs | {(state, END, state) for state in self.accepting}

    def distances(self) -> dict[str, int]:
        """The length of the shortest string to each state that is reached, near ones first."""
        found, front = {self.start: 0}, [self.start]
        for state in front:
            new = [target for _, target in sorted(self.table[state].items()) if target not in found]
            front += list(dict.fromkeys(new))
            found |= dict.fromkeys(new, found[state] + 1)
        return found

    def only(self, states: set[str]) -> Machine:
        """What is left with these states alone."""
        table = {
            state: {symbol: target for symbol, target in out.items() if target in states}
            for state, out in self.table.items()
            if state in states
        }
        return Machine(self.start, self.accepting & states, table)

    def renamed(self, names: dict[str, str]) -> Machine:
        """The same with other names of the states."""
        table = {names[s]: {symbol: names[t] for symbol, t in out.items()} for s, out in self.table.items()}
        return Machine(names[self.start], frozenset(names[s] for s in self.accepting), table)

    def after(self, prefix: str) -> str | None:
        """The state after a prefix; None where an arc is missing."""
        state: str | None = self.start
        for symbol in prefix:
            state = None if state is None else self.table[state].get(symbol)
        return state

    def trimmed(self) -> Machine:
        """Without the states that are not reached or from which none is accepting; the start stays."""
        forward = {state: set(out.values()) for state, out in self.table.items()}
        backward = {state: {source for source in forward if state in forward[source]} for state in forward}
        useful = closure({self.start}, forward) & closure(self.accepting, backward)
        return self.only(useful | {self.start})

    def minimal(self) -> tuple[Machine, dict[str, str]]:
        """States that no string tells apart become one, by Moore's refinement; and which each became, by name."""
        blocks = {state: int(state in self.accepting) for state in self.table}
        for _ in self.table:
            keys = {
                state: (blocks[state], *sorted((symbol, blocks[target]) for symbol, target in out.items()))
                for state, out in self.table.items()
            }
            numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
            blocks = {state: numbers[key] for state, key in keys.items()}
        first: dict[int, str] = {}
        kept = {state: first.setdefault(block, state) for state, block in blocks.items()}
        table = {
            state: {symbol: kept[target] for symbol, target in self.table[state].items()} for state in first.values()
        }
        return Machine(kept[self.start], frozenset(kept[state] for state in self.accepting), table), kept
