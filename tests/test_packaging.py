"""The wheel holds both packages, their type markers and the entry points."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_both_packages_and_the_entry_points(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        text = wheel.read(entry).decode()
    expected = {"__init__.py", "py.typed"}
    for package in ("lightning_rnn", "tasks"):
        assert {f"{package}/{name}" for name in expected} <= names
    assert {"tasks/sequence_classification/module.py", "tasks/grammar_acceptance/grammars/reber.yaml"} <= names
    assert not any(name.startswith(("tests", "configs", "runs")) for name in names)
    assert "lightning-rnn = lightning_rnn.cli:console" in text
    assert "sequence_classification = tasks.sequence_classification" in text
