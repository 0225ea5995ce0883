"""The parser's messages as one sentence, with the nearest key to one that does not exist."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import traceback

from jsonargparse import ArgumentParser

from lightning_rnn.errors import UserError

NOISE = (
    "Expected a path but",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a <class 'NoneType'>",
)
LOADING, GIVEN = "Problems parsing config: ", "Given value: "
CLASS_PATH = "a dot import path string:"
ABSTRACT = re.compile(r"Expected an instantiatable class, but (\S+) is abstract")


def one_sentence(message: str) -> str:
    r"""A parser's message of many lines without those that say nothing to a user.

    Example:
        >>> one_sentence("Parser key 'model':\n  Does not validate\n  - Problem with 'x':\n    No module")
        "Parser key 'model': Problem with 'x': No module"
        >>> one_sentence("Key 'a':\n - Expected a <class 'int'>\n - Expected a typing.Literal['b']\nGiven value: c")
        "Key 'a': Expected int or one of ['b']. Got value: c"
    """
    lines = [line.strip().removeprefix("- ").removeprefix(LOADING) for line in message.splitlines()]
    said = " ".join(dict.fromkeys(line for line in lines if line and not line.startswith(NOISE)))
    said = re.sub(r"a <class '(?:\w+\.)*(\w+)'>", r"\1", said).replace("a typing.Literal", "one of ")
    said = ABSTRACT.sub(r"\1 is abstract: name one of its classes, or the --config that does, before its options", said)
    before, *expected = said.replace(CLASS_PATH, "the name or path of a class, not").split("Expected ")
    said = before + ("Expected " + " or ".join(part.strip() for part in expected) if expected else "")
    given = [line.removeprefix(GIVEN) for line in lines if line.startswith(GIVEN)]
    plain = [value for value in given if len(value) < 40 and re.fullmatch(r"[^{}()]+", value)]
    return f"{said}. Got value: {plain[-1]}" if plain and not said.endswith(plain[-1]) else said


def mistake_behind(error: BaseException | None) -> UserError | None:
    """The user's mistake that an error was raised from, once or several times; None where there is none.

    A constructor's comes out once more for each union that its class is in, as ``source: PairSource | None``.

    Example:
        >>> from lightning_rnn.errors import ConfigError
        >>> try:
        ...     raise ValueError("Does not validate") from ConfigError("train must be at least 1, got 0")
        ... except ValueError as error:
        ...     mistake_behind(error)
        ConfigError('train must be at least 1, got 0')
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def raised_by_lightning(error: BaseException) -> bool:
    """Whether the frame that raised it is Lightning's own, which so refuses options.

    Example:
        >>> import pytorch_lightning as pl
        >>> try:
        ...     pl.Trainer(accelerator="abacus", logger=False)
        ... except ValueError as error:
        ...     raised_by_lightning(error)
        True
    """
    frames = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].startswith(("pytorch_lightning.", "lightning_fabric."))


def suggestion(message: str, parser: ArgumentParser) -> str:
    """``. Did you mean 'x'?`` for the unknown key that a parser's message quotes, or nothing."""
    if absent := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return _nearest(absent[2], dir(sys.modules[absent[1]])) if absent[1] in sys.modules else ""
    if message.startswith("the following arguments are required") and re.search(r"\.(model|data)\b", message):
        return ": choose a task by its YAML, --config configs/TASK/NAME.yaml"
    keys = re.sub(r"<class '[^']*'>|typing\.Literal\[[^\]]*\]", "", message)
    known = sorted(_known(parser))
    for quoted in re.findall(rf"'([\w.]+)'|--([\w.]+)|{CLASS_PATH} (\w+)", keys):
        key = next(part for part in quoted if part)
        if found := _option(key, parser) if "unrecognized" in message else "":
            return f". Did you mean {found!r}?"
        if key not in known and (last := key.rpartition(".")[2]) not in known and (found := _nearest(last, known)):
            return found
    return ""


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    return f". Did you mean {near[0]!r}?" if near else ""


def _option(key: str, parser: ArgumentParser) -> str:
    """The option whose last part is this key: ``--trainer.max_epochs`` of ``max_epochs``."""
    from lightning_rnn.data import SequenceDataModule
    from lightning_rnn.training.module import SequenceModule

    options = [dest for one in (parser, *_verbs(parser).values()) for dest in _dests(one)]
    for name, base in (("model", SequenceModule), ("data", SequenceDataModule)):
        options += [f"{name}.{one}" for found in _below(base) for one in inspect.signature(found).parameters]
    return next((f"--{one}" for end in (f".{key}", f"_{key}") for one in options if one.endswith(end)), "")


def _known(parser: ArgumentParser) -> set[str]:
    """Verbs, and options of the parser and its verbs and of the imported classes of this project, and their names."""
    verbs = _verbs(parser)
    names = {part for one in (parser, *verbs.values()) for dest in _dests(one) for part in dest.split(".")} | {*verbs}
    for base in _classes():
        names |= {base.__name__, *inspect.signature(base).parameters}
    return names


def _verbs(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    known = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return {name: verb for choices in known for name, verb in choices.items()}


def _dests(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions]


def _classes() -> list[type]:
    from lightning_rnn.data import SequenceDataModule, Source
    from lightning_rnn.training.module import SequenceModule

    return [found for base in (SequenceDataModule, Source, SequenceModule) for found in _below(base)]


def _below(base: type) -> list[type]:
    """A class and all classes below it that were imported."""
    found = [base]
    for one in found:
        subclasses: list[type] = one.__subclasses__()
        found += subclasses
    return found
