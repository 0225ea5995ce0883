"""Layers and cells to plain data and back."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any, Self

from torch import nn

PLAIN = (str, int, float, bool, type(None))


class Configurable:
    """Has a config: its constructor's arguments, each kept in an attribute of the same name.

    Example:
        >>> from lightning_rnn import GRU
        >>> GRU.from_config(GRU(3, 5).get_config()).hidden_size
        5
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data (what ``json`` can write).

        Raises:
            TypeError: an argument cannot be written, such as an activation that is a function.
        """
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: _to_plain(self._argument(name), f"{type(self).__name__}.{name}") for name in names}

    def _argument(self, name: str) -> Any:
        """The value that a constructor's argument had."""
        return getattr(self, name)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A new one, with new weights, from what :meth:`get_config` returned."""
        return cls(**{name: _from_plain(value) for name, value in config.items()})


def to_config(thing: Any) -> dict[str, Any]:
    """``{"class_name": "package.module.Class", "config": {...}}`` of a layer, a cell or a group of options."""
    kind = type(thing)
    if dataclasses.is_dataclass(thing):
        config = {
            field.name: _to_plain(getattr(thing, field.name), f"{kind.__name__}.{field.name}")
            for field in dataclasses.fields(thing)
        }
    else:
        config = thing.get_config()
    return {"class_name": f"{kind.__module__}.{kind.__qualname__}", "config": config}


def from_config(config: dict[str, Any]) -> Any:
    """The inverse of :func:`to_config`.

    Raises:
        ValueError: the class is neither a configurable layer nor a group of options.
    """
    module, _, name = config["class_name"].rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if isinstance(found, type) and issubclass(found, Configurable):
        return found.from_config(config["config"])
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        return found(**config["config"])
    raise ValueError(f"{config['class_name']} is not a layer with a config")


def _to_plain(value: Any, where: str) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_to_plain(member, where) for member in value]
    if isinstance(value, nn.ModuleList):
        return [_to_plain(member, where) for member in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {name: _to_plain(member, where) for name, member in value.items()}
    if isinstance(value, Configurable) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return to_config(value)
    raise TypeError(f"{where} is {value!r}, which a config cannot hold: use a name, or a class with get_config")


def _from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_plain(member) for member in value]
    if isinstance(value, dict):
        if set(value) == {"class_name", "config"}:
            return from_config(value)
        return {name: _from_plain(member) for name, member in value.items()}
    return value
