"""YAML as it is meant: a key that is there twice is refused, and a fault is named with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

MODE = "yaml_without_doubles"  # of the parser; jsonargparse's own "yaml" silently takes the last of two equal keys


def load_yaml(text: str, path: str = "") -> Any:
    r"""What jsonargparse reads from YAML, unless a key is there twice.

    Args:
        text: of a file, or of an option's value.
        path: of the file, whose options are wanted; empty for a value.

    Raises:
        yaml.YAMLError: names file and line.

    Example:
        >>> load_yaml("a: {b: 1}")
        {'a': {'b': 1}}
        >>> load_yaml("a: 1\nb: 2\na: 3\n", "my.yaml")
        Traceback (most recent call last):
        yaml.error.YAMLError: my.yaml, line 3: the key 'a' is there already, in line 1: take one out
    """
    where = f"{path}, " if path else ""
    try:
        _refuse_doubles(yaml.compose(text, Loader=yaml.SafeLoader), where)
        value = get_loader("yaml")(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        advice = "indent with spaces, each level alike"
        raise yaml.YAMLError(f"{where}{line}{error.problem or error.context}: {advice}") from error
    if path and not isinstance(value, dict):
        raise yaml.YAMLError(f"{path} holds no options: write one a line, such as seed_everything: 1")
    return value


def _refuse_doubles(node: yaml.Node | None, where: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, where)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if name in lines:
            raise yaml.YAMLError(
                f"{where}line {line}: the key {key.value!r} is there already, in line {lines[name]}: take one out"
            )
        lines[name] = line
        _refuse_doubles(value, where)


def undecodable(args: list[str]) -> str | None:
    """What is wrong with the first file among these arguments (``x.yaml``, ``--config=x.yaml``) that is not UTF-8."""
    for path in (Path(arg.rpartition("=")[2]) for arg in args):
        if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
            try:
                path.read_text("utf-8")
            except UnicodeDecodeError as error:
                found = f"{path}: byte {error.start} (0x{error.object[error.start]:02x}) is not utf-8"
                return f"{found}: save the file in that encoding"
    return None


set_loader(MODE, load_yaml, exceptions=(yaml.YAMLError,))
