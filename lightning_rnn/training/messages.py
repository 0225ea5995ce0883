"""The parser's messages as one sentence, with the nearest key to one that does not exist."""

from __future__ import annotations

import difflib
import inspect
import re
import sys

from jsonargparse import ArgumentParser

NOISE = (
    "Expected a path but",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a <class 'NoneType'>",
)
LOADING = "Problems parsing config: "


def one_sentence(message: str) -> str:
    r"""A parser's message of many lines without those that say nothing to a user.

    Example:
        >>> one_sentence("Parser key 'model':\n  Does not validate\n  - Problem with 'x':\n    No module")
        "Parser key 'model': Problem with 'x': No module"
    """
    lines = [line.strip().removeprefix("- ").removeprefix(LOADING) for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(NOISE))


def suggestion(message: str, parser: ArgumentParser) -> str:
    """``. Did you mean 'x'?`` for the unknown key that a parser's message quotes, or nothing."""
    if absent := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return _nearest(absent[2], dir(sys.modules[absent[1]])) if absent[1] in sys.modules else ""
    known = sorted(_known(parser))
    for quoted in re.findall(r"'([\w.]+)'|--([\w.]+)|: (\w+)$", message):
        key = next(part for part in quoted if part)
        if key not in known and (last := key.rpartition(".")[2]) not in known and (found := _nearest(last, known)):
            return found
    return ""


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    return f". Did you mean {near[0]!r}?" if near else ""


def _known(parser: ArgumentParser) -> set[str]:
    """Options of the parser and its verbs, and of the classes of this project that were imported, and their names."""
    names = {part for dest in _dests(parser) for part in dest.split(".")}
    for action in parser._actions:
        if isinstance(action.choices, dict):
            names |= {part for verb in action.choices.values() for dest in _dests(verb) for part in dest.split(".")}
            names |= set(action.choices)
    for base in _classes():
        names |= {base.__name__, *inspect.signature(base).parameters}
    return names


def _dests(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions]


def _classes() -> list[type]:
    from lightning_rnn.data import SequenceDataModule, Source
    from lightning_rnn.training.module import SequenceModule

    found: list[type] = [SequenceDataModule, Source, SequenceModule]
    for base in found:
        subclasses: list[type] = base.__subclasses__()
        found += subclasses
    return found
