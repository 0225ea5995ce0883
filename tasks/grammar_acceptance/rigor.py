"""Checks of an acceptor that no test accuracy replaces: all strings to a length, all their neighbours, long twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .grammars.languages import Grammar
from .grammars.negatives import Kind, all_negatives, one_edit_negatives, twins

Verdicts = Callable[[Sequence[str]], Sequence[bool]]
RANGES = ((50, 75), (100, 150), (200, 300), (500, 750))  # lengths of the twins


class Check(NamedTuple):
    """How many of some strings, or pairs of strings, are judged rightly."""

    what: str
    right: int
    of: int


def rigorous(
    judge: Verdicts,
    grammar: Grammar[Any],
    longest: int = 14,
    pairs: int = 100,
    ranges: Sequence[tuple[int, int]] = RANGES,
    seed: int = 0,
) -> list[Check]:
    """Check an acceptor against its grammar.

    Args:
        judge: whether each of some strings is accepted.
        grammar: the truth.
        longest: every accepted string up to this length is tried, and all that one edit makes of it.
        pairs: of an accepted string and a mismatch of it, for each range of lengths; both have to be judged rightly.
        ranges: shortest and longest of these.
        seed: of the pairs.

    Returns:
        one line each: accepted strings; one-edit negatives; mismatches and wrong wraps, where the grammar has them;
        twins of each range.

    Example:
        >>> from .grammars.definitions import grammar
        >>> language = grammar("embedded_reber")
        >>> for check in rigorous(lambda strings: [language.accepts(s) for s in strings], language, ranges=[(50, 75)]):
        ...     print(*check)
        accepted to length 14 86 86
        one edit away 12524 12524
        mismatch 86 86
        wraps 258 258
        twins of length 50 to 75 100 100
    """
    accepted = list(grammar.strings(longest))
    found = [
        Check(f"accepted to length {longest}", sum(map(bool, judge(accepted))), len(accepted)),
        _rejected(judge, "one edit away", one_edit_negatives(grammar, longest)),
    ]
    kinds: tuple[Kind, ...] = ("mismatch", "wraps")
    for kind in kinds:
        negatives = dict.fromkeys(negative for _, negative in all_negatives(grammar, longest, kind))
        if negatives:
            found.append(_rejected(judge, kind, list(negatives)))
    for shortest, most in ranges:
        drawn = twins(grammar, np.random.default_rng([seed, shortest]), shortest, most, pairs)
        right = [
            bool(yes) and not no
            for yes, no in zip(judge([t.accepted for t in drawn]), judge([t.rejected for t in drawn]), strict=True)
        ]
        found.append(Check(f"twins of length {shortest} to {most}", sum(right), pairs))
    return found


def _rejected(judge: Verdicts, what: str, strings: list[str]) -> Check:
    return Check(what, sum(not accepted for accepted in judge(strings)), len(strings))
