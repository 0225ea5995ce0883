"""Grammars by name, composed of one another, or read from a YAML of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.paths import existing

from .automaton import Arc, Automaton
from .counters import Blocks, Dyck
from .languages import Grammar

KEYS = ("start", "accepting", "states", "wraps")


def read_automaton(path: str | Path) -> Automaton:
    """An automaton from a YAML file; ``reber.yaml`` in this folder shows the format. All names are read as text.

    A relative path is looked for in the working folder, then in that of the data (``LIGHTNING_RNN_DATA``).

    Raises:
        DataError: the file is missing or cannot be read.
        ConfigError: it is no YAML, lacks a key, has one twice, or defines no automaton, see :class:`Automaton`.
    """
    file = Path(path) if Path(path).is_file() else existing(path)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    where = str(file)
    parts = dict(unique(pairs(root, where), where, "key"))
    for key in (*(set(KEYS[:3]) - set(parts)), *(set(parts) - set(KEYS))):
        raise ConfigError(f"{where}: the key {key!r} is {'unknown' if key in parts else 'missing'}: use {KEYS}")
    states = unique(pairs(parts["states"], f"{where}, states"), where, "state")
    arcs = [_arc(state, symbol, target, where) for state, out in states for symbol, target in _out(state, out, where)]
    _check_targets(arcs, {state for state, _ in states}, where)
    wraps = _wraps(parts["wraps"], where) if "wraps" in parts else []
    accepting = [text(item, f"{where}, accepting") for item in items(parts["accepting"], f"{where}, accepting")]
    start = text(parts["start"], f"{where}, start")
    return Automaton(where, start, accepting, arcs, wraps, [state for state, _ in states])


def pairs(node: Node | None, where: str) -> list[tuple[str, Node]]:
    """Keys and values of a mapping, in order, keys that stand twice too."""
    if not isinstance(node, MappingNode):
        raise ConfigError(f"{where}: a mapping (key: value) is expected")
    return [(text(key, where), value) for key, value in node.value]


def items(node: Node, where: str) -> list[Node]:
    """What is in a list."""
    if not isinstance(node, SequenceNode):
        raise ConfigError(f"{where}: a list ([a, b]) is expected")
    found: list[Node] = node.value
    return found


def text(node: Node, where: str) -> str:
    """A name as it is written: ``no`` and ``1`` are text too."""
    if not isinstance(node, ScalarNode):
        raise ConfigError(f"{where}: a name is expected, line {node.start_mark.line + 1} has a list or mapping")
    return str(node.value)


def unique(found: list[tuple[str, Any]], where: str, what: str) -> list[tuple[str, Any]]:
    """The same, if no key stands there twice."""
    names = [name for name, _ in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f"{where}: the {what} {name!r} stands there twice: keep one")
    return found


def _out(state: str, node: Node, where: str) -> list[tuple[str, Node]]:
    return pairs(node, f"{where}, state {state!r}")


def _arc(state: str, symbol: str, node: Node, where: str) -> Arc:
    """``symbol: target`` or ``symbol: [target, probability]``."""
    where = f"{where}, state {state!r}, symbol {symbol!r}"
    if isinstance(node, ScalarNode):
        return Arc(state, symbol, text(node, where))
    found = [text(item, where) for item in items(node, where)]
    try:
        target, probability = found
        return Arc(state, symbol, target, float(probability))
    except ValueError as error:
        raise ConfigError(f"{where}: [state, probability] is expected, got {found}") from error


def _check_targets(arcs: Sequence[Arc], states: set[str], where: str) -> None:
    for arc in arcs:
        if arc.target not in states:
            raise ConfigError(
                f"{where}, state {arc.source!r}: symbol {arc.symbol!r} leads to the state {arc.target!r}, which is not "
                "under states: add it (with {} if nothing follows)"
            )


def _wraps(node: Node, where: str) -> list[tuple[str, str]]:
    where = f"{where}, wraps"
    found = [[text(part, where) for part in items(item, where)] for item in items(node, where)]
    if any(len(wrap) != 2 for wrap in found):
        raise ConfigError(f"{where}: pairs [prefix, suffix] are expected, got {found}")
    return [(prefix, suffix) for prefix, suffix in found]


def embed(inner: Automaton, name: str, choices: str = "TP", first: str = "B", last: str = "E") -> Automaton:
    """``first``, one of the choices, a string of ``inner``, the same choice again, ``last``.

    Args:
        inner: no arcs leave its accepting states with a symbol of ``choices``.
        name: of the new automaton.
        choices: symbols between which is chosen with equal probability.
        first: the symbol before.
        last: the symbol after.

    Example:
        >>> embedded = embed(reber(), "embedded Reber")
        >>> embedded.accepts("BTBTXSETE"), sorted(embedded.legal_next("BPBTXSE").symbols), len(embedded.table)
        (True, ['P'], 20)
    """
    arcs = [Arc("open", first, "choice"), Arc("close", last, "end")]
    for choice in choices:
        arcs.append(Arc("choice", choice, f"{choice}{inner.start}", 1 / len(choices)))
        for state, (symbols, shares) in inner.probabilities.items():
            for symbol, share in zip(symbols, shares, strict=True):
                target = f"{choice}{inner.table[state][symbol]}" if symbol else "close"
                if symbol or share:
                    arcs.append(Arc(f"{choice}{state}", symbol or choice, target, share))
    return Automaton(name, "open", ["end"], arcs, [(first + choice, choice + last) for choice in choices])


def continual(inner: Automaton, name: str) -> Automaton:
    """Strings of ``inner`` one after the other, without a mark between them and without end (Gers 2000).

    Only where nothing follows a whole string of ``inner``. The strings of a given length are whole numbers of them.

    Raises:
        ConfigError: arcs leave an accepting state of ``inner``.
    """
    going_on = sorted(state for state in inner.accepting if inner.table[state])
    if going_on:
        raise ConfigError(f"{name}: after the state {going_on[0]!r} the string may go on: its end cannot be seen")
    arcs = []
    for arc in inner.arcs:
        target = inner.start if arc.target in inner.accepting else arc.target
        symbols, shares = inner.probabilities[arc.source]
        arcs.append(arc._replace(target=target, probability=shares[symbols.index(arc.symbol)]))
    return Automaton(name, inner.start, [inner.start], arcs)


def lingering(inner: Automaton, share: float) -> Automaton:
    """The same language by another law: longer strings are likelier.

    In every state, the arcs that lead to where the end is furthest have ``share`` of the probability together, if there
    are others; all of equal distance keep their probabilities.

    Example:
        >>> lingering(reber(), 0.75).probabilities["2"]
        (['S', 'X', ''], [0.75, 0.25, 0.0])
    """
    away = dict.fromkeys(inner.accepting, 0)
    front = list(away)
    sources: dict[str, list[str]] = {state: [] for state in inner.table}
    for arc in inner.arcs:
        sources[arc.target].append(arc.source)
    for state in front:  # grows while it is gone through
        new = [source for source in sources[state] if source not in away]
        away |= dict.fromkeys(new, away[state] + 1)
        front += dict.fromkeys(new)
    arcs = []
    for state, (symbols, shares) in inner.probabilities.items():
        found = {symbol: one for symbol, one in zip(symbols, shares, strict=True) if symbol}
        far = max((away[inner.table[state][symbol]] for symbol in found), default=0)
        furthest = {symbol for symbol in found if away[inner.table[state][symbol]] == far}
        kept = sum(found.values()) if len(furthest) < len(found) else 0.0
        part = {True: share * kept, False: (1 - share) * kept}
        total = {side: sum(one for symbol, one in found.items() if (symbol in furthest) == side) for side in part}
        for symbol, one in found.items():
            side = symbol in furthest
            arcs.append(Arc(state, symbol, inner.table[state][symbol], part[side] * one / total[side] if kept else one))
    return Automaton(inner.name, inner.start, inner.accepting, arcs, inner.wraps)


def reber() -> Automaton:
    """The Reber grammar, of ``reber.yaml``."""
    automaton = read_automaton(Path(__file__).parent / "reber.yaml")
    return Automaton("reber", automaton.start, automaton.accepting, automaton.arcs)


def nested_reber(depth: int) -> Automaton:
    """A Reber string within ``depth`` wraps, each a choice of its own; 1 is the embedded Reber grammar.

    Raises:
        ConfigError: the depth is not from 1 to 8 (the states double with each).
    """
    if not 1 <= depth <= 8:
        raise ConfigError(f"nested Reber has a depth from 1 to 8, got {depth}")
    automaton = reber()
    for level in range(1, depth + 1):
        automaton = embed(automaton, "embedded_reber" if level == 1 else f"nested_reber_{level}")
    return automaton


GRAMMARS: dict[str, Callable[[], Grammar[Any]]] = {
    "reber": reber,
    "embedded_reber": lambda: nested_reber(1),
    "continual_embedded_reber": lambda: continual(nested_reber(1), "continual_embedded_reber"),
    "anbn": lambda: Blocks("ab"),
    "anbncn": lambda: Blocks("abc"),
    "dyck1": lambda: Dyck(1),
    "dyck2": lambda: Dyck(2),
}


def grammar(name: str) -> Grammar[Any]:
    """A grammar by name (:data:`GRAMMARS`, or ``nested_reber_<depth>``), or a YAML file's automaton.

    Raises:
        ConfigError: there is no such grammar, or the file defines none.
        DataError: there is no such file.

    Example:
        >>> grammar("nested_reber_2").accepts("BPBTBTXSETEPE"), grammar("dyck2").alphabet
        (True, '([)]')
    """
    nested = re.fullmatch(r"nested_reber_(\d+)", name)
    if nested:
        return nested_reber(int(nested[1]))
    if name in GRAMMARS:
        return GRAMMARS[name]()
    if Path(name).suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"no grammar {name!r}: use {', '.join(GRAMMARS)}, nested_reber_<depth>, or the path of a YAML file"
        )
    return read_automaton(name)
