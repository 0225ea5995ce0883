"""Acceptors without memory, to be named beside a network: tables of n-grams, and the grammar blind to what is far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .languages import Grammar, cut
from .negatives import WINDOW, replacements
from .sampler import Sample

Acceptor = Callable[[str], bool]


def ngrams(grammar: Grammar[Any], size: int) -> Acceptor:
    """Accepts where all runs of ``size`` symbols occur in accepted strings, the ends included: the best such table.

    Example:
        >>> from .definitions import grammar
        >>> trigrams = ngrams(grammar("embedded_reber"), 3)
        >>> trigrams("BTBTXSEPE"), trigrams("BTBTXSTE")
        (True, False)
    """
    windows = grammar.windows(size)
    return lambda string: windows.issuperset(cut(string, size))


def blind(grammar: Grammar[Any]) -> Acceptor:
    """The grammar itself, but for mismatches: accepts what is one from an accepted string, see :func:`mismatches`.

    Example:
        >>> from .definitions import grammar
        >>> accepts = blind(grammar("embedded_reber"))
        >>> accepts("BTBTXSEPE"), accepts("BTBTBTXSETETE")
        (True, False)
    """
    local = ngrams(grammar, WINDOW)

    def accepts(string: str) -> bool:
        if grammar.accepts(string) or not local(string):
            return grammar.accepts(string)
        return any(grammar.accepts(edit.of(string)) for edit in replacements(grammar, string))

    return accepts


def accuracies(accepts: Acceptor, samples: Iterable[Sample]) -> dict[str, float]:
    """Share of samples that an acceptor gets right: of all (``all``), and of each kind.

    Example:
        >>> accuracies(len, [Sample("a", True, "accepted"), Sample("b", False, "swap")])
        {'all': 0.5, 'accepted': 1.0, 'swap': 0.0}
    """
    right: dict[str, list[bool]] = {"all": []}
    for string, accepted, kind in samples:
        right["all"].append(bool(accepts(string)) == accepted)
        right.setdefault(kind, []).append(right["all"][-1])
    return {kind: sum(found) / len(found) for kind, found in right.items()}
