"""What an offline run of W&B holds, by W&B's own reader (``wandb leet inspect --json``)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.util import get_core_path

OWN = ("_runtime", "_step", "_timestamp")  # columns that W&B adds


@dataclass
class RunFile:
    """One ``.wandb`` file; values of a row, of the config and of the summary by name, those of nests by ``a.b``."""

    id: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)  # W&B's own numbers of the rows
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    artifacts: dict[str, list[str]] = field(default_factory=dict)  # files in each, by "name:alias,alias"
    preempting: bool = False
    exit_code: int | None = None

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Add a record."""
        if kind == "run":
            self.id = value["run_id"]
            self.config |= value.get("config", {}).get("update", {})
        elif kind == "config":
            self.config |= value["update"]
        elif kind == "summary":
            self.summary |= value["update"]
        elif kind == "history":
            self.steps.append(value["item"]["_step"])
            self.rows.append({name: cell for name, cell in value["item"].items() if name not in OWN})
        elif kind == "files":
            self.files += [one["path"] for one in value["files"]]
        elif kind == "artifact":
            name = f"{value['name']}:{','.join(sorted(value['aliases']))}"
            self.artifacts[name] = [one["path"] for one in value["manifest"]["contents"]]
        elif kind == "preempting":
            self.preempting = True
        elif kind == "exit":
            self.exit_code = value["exit_code"]


def read_run(folder: Path) -> RunFile:
    """The run in an ``offline-run-*`` or ``run-*`` folder; of a killed one what is whole."""
    (file,) = folder.glob("*.wandb")
    options = ("--json", "--no-observability", "--run-file")  # as the command does, without its seconds of imports
    command = [get_core_path(), "leet", "inspect", *options, str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    run = RunFile()
    for record in map(json.loads, done.stdout.splitlines()):
        if record["type"] in record:
            run.take(record["type"], record[record["type"]])
    return run


def read_runs(root: Path) -> list[RunFile]:
    """All runs below a run folder, in the order in which they began."""
    return [read_run(path) for path in sorted((root / "wandb").glob("*run-*-*"), key=lambda path: path.name[-24:])]


def joined(runs: list[RunFile]) -> dict[tuple[int, int], dict[str, float]]:
    """The numbers of all rows by (epoch, step), as metrics.csv has them; a later row takes the place of an earlier."""
    rows: dict[tuple[int, int], dict[str, float]] = {}
    for row in (row for run in runs for row in run.rows if "epoch" in row):
        values = {name: value for name, value in row.items() if name not in ("epoch", "trainer/global_step")}
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        rows.setdefault((row["epoch"], row["trainer/global_step"]), {}).update(numbers)
    return rows
