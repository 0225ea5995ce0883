"""Tasks and verbs that installed distributions bring, found by entry point, imported on use."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from lightning_rnn.errors import ConfigError

TASKS = "lightning_rnn.tasks"
COMMANDS = "lightning_rnn.commands"


@dataclass(frozen=True)
class Task:
    """A task that was loaded: its module and datamodule classes."""

    name: str
    module: type
    datamodule: type


def available(group: str = TASKS) -> dict[str, EntryPoint]:
    """The entry points of a group by name, none imported.

    Example:
        >>> "sequence_classification" in available()
        True
    """
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(name: str) -> Task:
    """Import a task.

    Raises:
        ConfigError: there is none of that name, its import fails, or it does not re-export exactly one SequenceModule
            and one SequenceDataModule.
    """
    from lightning_rnn.data import SequenceDataModule  # late: Lightning is slow to import
    from lightning_rnn.training.module import SequenceModule

    module = _import(name)
    return Task(name, _only(module, SequenceModule, name), _only(module, SequenceDataModule, name))


def command(name: str) -> Callable[[list[str]], int]:
    """Import a verb of the command line."""
    point = available(COMMANDS)[name]
    try:
        loaded: Callable[[list[str]], int] = point.load()
    except Exception as error:
        raise ConfigError(
            f"the command {name} ({point.value}) cannot be imported: {why(point.module, error)}"
        ) from error
    return loaded


def _import(name: str) -> ModuleType:
    points = available()
    if name not in points:
        raise ConfigError(f"no task {name!r}; there are {', '.join(points) or 'none'}")
    try:
        module: ModuleType = points[name].load()
    except Exception as error:
        raise ConfigError(
            f"the task {name} ({points[name].value}) cannot be imported: {why(points[name].module, error)}"
        ) from error
    return module


def _only(module: ModuleType, base: type, task: str) -> type:
    found = [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, type)
        and issubclass(value, base)
        and not inspect.isabstract(value)
    ]
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        raise ConfigError(
            f"the task {task} ({module.__name__}) must re-export exactly one {base.__name__}; it has {names}"
        )
    return found[0]


def why(path: str, error: BaseException) -> str:
    """The reason that an import failed, naming the file that hides a package where that is the reason."""
    top = path.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is not None and spec.submodule_search_locations is None and spec.origin and "." in path:
        return (
            f"{Path(spec.origin)} hides the package {top!r}; rename it, or start from another folder with the console "
            "script lightning-rnn"
        )
    return f"{type(error).__name__}: {error}"
