"""Imports go one way: the core never imports tasks, tasks never each other, and no part one above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lightning_rnn
import tasks

CORE = Path(lightning_rnn.__file__).parent
TASKS = Path(tasks.__file__ or "").parent
LADDER = [
    ("types", "errors", "paths", "runtime"),
    ("functional",),
    ("layers",),
    ("interop",),
    ("seq2seq",),
    ("data",),
    ("distributed", "training"),
    ("plugins",),
    ("bench", "cli", "sweep", "testing"),
]
LEVEL = {name: level for level, names in enumerate(LADDER) for name in names}


def imported(path: Path) -> set[str]:
    """Absolute names that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}"}
    return names


def part(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_core_imports_downwards_and_never_tasks(path: Path) -> None:
    names = imported(path)
    assert not any(name.split(".")[0] == "tasks" for name in names)
    if part(path) == "__init__":
        return
    for name in names:
        if name.startswith("lightning_rnn."):
            other = name.split(".")[1]
            assert LEVEL[other] <= LEVEL[part(path)], f"{part(path)} imports {other}, which is above it"


@pytest.mark.parametrize("path", sorted(TASKS.rglob("*.py")), ids=lambda path: str(path.relative_to(TASKS)))
def test_tasks_import_the_core_and_themselves_relatively(path: Path) -> None:
    for name in imported(path):
        assert name.split(".")[0] != "tasks", f"{path} imports {name}: use a relative import inside the task"
        dots = len(name) - len(name.lstrip("."))
        outside = dots > len(path.relative_to(TASKS).parts) - 1
        assert not outside, f"{path} imports {name}: a task imports no other task"
    assert (TASKS / "__init__.py").read_text() == ""


def test_listing_tasks_imports_no_lightning() -> None:
    for path in (CORE / "cli.py", CORE / "plugins.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {alias.name for node in top for alias in node.names} | {getattr(node, "module", "") for node in top}
        assert not modules & {"pytorch_lightning", "lightning_rnn.data", "lightning_rnn.training"}
