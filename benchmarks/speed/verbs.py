"""Verbs of ``lightning-rnn``, each in a process of its own, run once."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MAIN = "import sys; from lightning_rnn.cli import console; console()"


@dataclass
class Ran:
    """A process that ended: wall-clock and CPU seconds, and what it printed."""

    wall: float
    cpu: float
    text: str


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(args: Sequence[str], log: Path) -> Ran:
    """A verb: what it printed is kept in ``log``, and read from there the next time.

    Raises:
        SystemExit: it ended with another code than 0.
    """
    if log.exists():
        return Ran(**json.loads(log.read_text()))
    log.parent.mkdir(parents=True, exist_ok=True)
    start, before = time.perf_counter(), cpu_of_children()
    done = subprocess.run([sys.executable, "-c", MAIN, *args], capture_output=True, text=True)
    ran = Ran(time.perf_counter() - start, cpu_of_children() - before, done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(f"{' '.join(args)} ended with {done.returncode}:\n{ran.text[-2000:]}")
    log.write_text(json.dumps(asdict(ran)))
    return ran
