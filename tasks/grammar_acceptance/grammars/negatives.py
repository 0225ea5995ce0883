"""Strings that a grammar rejects, of named kinds: each is an accepted string with one thing done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from lightning_rnn.errors import ConfigError

from .languages import BEGIN, END, Grammar

Kind = Literal["mismatch", "wraps", "replace", "insert", "delete", "swap", "truncation", "random", "nesting"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WINDOW = 3  # neighbouring symbols that look right in a mismatch
LONGEST_CUT = 8  # symbols that a truncation takes away, at most
TRIES = 40  # strings that are looked at before a kind counts as absent


class Edit(NamedTuple):
    """``string[start:stop]`` becomes ``text``.

    Example:
        >>> Edit(1, 2, "P").of("BTE")
        'BPE'
    """

    start: int
    stop: int
    text: str

    def of(self, string: str) -> str:
        """The string, edited."""
        return string[: self.start] + self.text + string[self.stop :]


def replacements(grammar: Grammar[Any], string: str) -> list[Edit]:
    """Each symbol by each other one."""
    return [Edit(i, i + 1, new) for i, old in enumerate(string) for new in grammar.alphabet if new != old]


def insertions(grammar: Grammar[Any], string: str) -> list[Edit]:
    """Each symbol at each place, before the first and after the last too."""
    return [Edit(i, i, new) for i in range(len(string) + 1) for new in grammar.alphabet]


def deletions(grammar: Grammar[Any], string: str) -> list[Edit]:
    """Each symbol left out."""
    return [Edit(i, i + 1, "") for i in range(len(string))]


def swaps(grammar: Grammar[Any], string: str) -> list[Edit]:
    """Each two neighbours that differ, exchanged."""
    places = range(len(string) - 1)
    return [Edit(i, i + 2, string[i + 1] + string[i]) for i in places if string[i] != string[i + 1]]


def mismatches(grammar: Grammar[Any], string: str) -> list[Edit]:
    """Replacements that no three neighbours give away: all windows still occur in accepted strings.

    What they break is an agreement of symbols far from each other: the outer T or P of embedded Reber, the type of a
    bracket, the number of symbols in ``aⁿbⁿ``.
    """
    legal, side = _windows(grammar, WINDOW), WINDOW - 1
    padded = BEGIN * side + string + END * side
    return [
        edit
        for edit in replacements(grammar, string)
        if legal.issuperset(_windows_around(padded[edit.start : edit.start + 2 * side + 1], edit.text))
    ]


def _windows_around(near: str, new: str) -> list[str]:
    """The windows that hold the middle symbol of ``near``, once it is replaced."""
    near = near[: WINDOW - 1] + new + near[WINDOW:]
    return [near[i : i + WINDOW] for i in range(WINDOW)]


def wrong_wraps(grammar: Grammar[Any], string: str) -> list[Edit]:
    """The opening of the outer wrap missing, or one more before it: no three neighbours give that away either."""
    found = [Edit(0, 0, prefix) for prefix, _ in grammar.wraps]
    return found + [Edit(0, len(prefix), "") for prefix, _ in grammar.wraps if string.startswith(prefix)]


def wrong_nesting(grammar: Grammar[Any], string: str) -> list[Edit]:
    """The whole outer wrap missing, or one more of each sort around the string: a string of another depth."""
    found = [Edit(0, len(string), prefix + string + suffix) for prefix, suffix in grammar.wraps]
    for prefix, suffix in grammar.wraps:
        if string.startswith(prefix) and string.endswith(suffix) and len(string) >= len(prefix) + len(suffix):
            found.append(Edit(0, len(string), string[len(prefix) : len(string) - len(suffix)]))
    return found


def truncations(grammar: Grammar[Any], string: str) -> list[Edit]:
    """The last symbols left out: 1, 2, and so on up to :data:`LONGEST_CUT` of them."""
    return [Edit(i, len(string), "") for i in range(max(0, len(string) - LONGEST_CUT), len(string))]


EDITS: dict[Kind, Callable[[Grammar[Any], str], list[Edit]]] = {
    "mismatch": mismatches,
    "wraps": wrong_wraps,
    "replace": replacements,
    "insert": insertions,
    "delete": deletions,
    "swap": swaps,
    "truncation": truncations,
    "nesting": wrong_nesting,
}


@lru_cache(64)
def _windows(grammar: Grammar[Any], size: int) -> frozenset[str]:
    return grammar.windows(size)


def shuffled(rng: np.random.Generator, string: str) -> Edit:
    """Symbols drawn one by one, as often as the string has them on average: its length, its frequencies."""
    picked = rng.integers(max(len(string), 1), size=len(string))
    return Edit(0, len(string), "".join(string[i] for i in picked))


def negatives_of(grammar: Grammar[Any], string: str, kind: Kind) -> list[str]:
    """All rejected strings that one edit of a kind makes of an accepted one, each once, in the order of the edits.

    Args:
        grammar: rejects them.
        string: an accepted one.
        kind: any but ``random``, which has no list.

    Raises:
        ConfigError: the kind is ``random``.

    Example:
        >>> from .definitions import grammar
        >>> negatives_of(grammar("embedded_reber"), "BTBTXSETE", "mismatch")
        ['BPBTXSETE', 'BTBTXSEPE']
    """
    if kind not in EDITS:
        raise ConfigError(f"negatives of kind {kind!r} have no list: use {', '.join(EDITS)}")
    edited = dict.fromkeys(edit.of(string) for edit in EDITS[kind](grammar, string))
    return [new for new in edited if not grammar.accepts(new)]


def base_lengths(grammar: Grammar[Any], kind: Kind, length: int) -> list[int]:
    """Lengths of the accepted strings from which an edit of this kind leads to ``length``."""
    opening = {len(prefix) for prefix, _ in grammar.wraps}
    whole = {len(prefix + suffix) for prefix, suffix in grammar.wraps}
    shifts = {
        "insert": [-1],
        "delete": [1],
        "wraps": sorted({shift for size in opening for shift in (-size, size)}),
        "nesting": sorted({shift for size in whole for shift in (-size, size)}),
        "truncation": list(range(1, LONGEST_CUT + 1)),
    }.get(kind, [0])
    return [length + shift for shift in shifts if length + shift >= 0 and grammar.count(length + shift)]


def candidates(
    grammar: Grammar[Any], rng: np.random.Generator, kind: Kind, string: str, length: int, most: int
) -> list[Edit]:
    """Up to ``most`` random edits of an accepted string that lead to ``length``; not yet verified."""
    if kind == "random":
        return [shuffled(rng, string) for _ in range(most)]
    change = length - len(string)
    fitting = [edit for edit in EDITS[kind](grammar, string) if len(edit.text) - edit.stop + edit.start == change]
    return [fitting[i] for i in rng.permutation(len(fitting))[:most]]


def negative(grammar: Grammar[Any], rng: np.random.Generator, kind: Kind, length: int) -> str:
    """A rejected string of a kind and a length.

    Raises:
        ConfigError: the grammar has none; it names the kind and the length.

    Example:
        >>> from .definitions import grammar
        >>> negative(grammar("embedded_reber"), np.random.default_rng(0), "mismatch", 9)
        'BPBTXSETE'
    """
    bases = base_lengths(grammar, kind, length)
    for _ in range(TRIES if bases else 0):
        string = grammar.sample_of_length(rng, bases[int(rng.integers(len(bases)))])
        for edit in candidates(grammar, rng, kind, string, length, most=TRIES):
            if not grammar.accepts(edit.of(string)):
                return edit.of(string)
    raise none_of(grammar, kind, length)


def none_of(grammar: Grammar[Any], kind: Kind, length: int) -> ConfigError:
    """The error of a kind that a grammar does not have at a length."""
    return ConfigError(
        f"{grammar.name} has no negatives of the kind {kind!r} at length {length}: leave the kind out, or choose other "
        "lengths"
    )


def one_edit_negatives(grammar: Grammar[Any], longest: int, complete: bool = False) -> list[str]:
    """All rejected strings one edit away from the accepted ones up to a length, each once.

    Args:
        grammar: rejects them.
        longest: of the accepted strings.
        complete: whether swaps of neighbours and symbols after the end count too; else an edit replaces a symbol,
            leaves it out, or puts one before it (12,524 for embedded Reber to length 14).
    """
    kinds: tuple[Kind, ...] = ("replace", "insert", "delete", "swap") if complete else ("replace", "insert", "delete")
    found: dict[str, None] = {}
    for string in grammar.strings(longest):
        for kind in kinds:
            edits = EDITS[kind](grammar, string)
            found |= dict.fromkeys(edit.of(string) for edit in edits if complete or edit.start < len(string))
    return [string for string in found if not grammar.accepts(string)]


def all_negatives(grammar: Grammar[Any], longest: int, kind: Kind) -> Iterator[tuple[str, str]]:
    """Pairs of an accepted string up to a length and each of its negatives of a kind."""
    for string in grammar.strings(longest):
        for other in negatives_of(grammar, string, kind):
            yield string, other


def twins(grammar: Grammar[Any], rng: np.random.Generator, shortest: int, longest: int, pairs: int) -> list[Twin]:
    """Pairs of an accepted string and a mismatch of it, of lengths drawn uniformly from a range.

    Raises:
        ConfigError: no accepted string is that long, or it has no mismatch.
    """
    lengths = grammar.lengths(shortest, longest)
    if not lengths:
        raise ConfigError(f"{grammar.name} has no accepted string of lengths {shortest} to {longest}")
    found = []
    for _ in range(pairs):
        string = grammar.sample_of_length(rng, lengths[int(rng.integers(len(lengths)))])
        others = negatives_of(grammar, string, "mismatch")
        if not others:
            raise none_of(grammar, "mismatch", len(string))
        found.append(Twin(string, others[int(rng.integers(len(others)))]))
    return found


class Twin(NamedTuple):
    """Two strings that differ in one symbol: the first accepted, the second not."""

    accepted: str
    rejected: str
