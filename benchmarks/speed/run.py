"""The parent: starts one process for each contender and lets one run at a time, turn by turn."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speed.cases import Comparison, Contender
from speed.machine import busy

ROOT = Path(__file__).parents[1]
ALIKE = {
    "same": (1e-4, 1e-3),
    "near": (0.05, 0.2),
}  # outputs and, over their largest entry, gradients may differ by this


class Worker:
    """A process that computes when told to."""

    def __init__(self, name: str, python: str, threads: int) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_", "KMP_"))}
        env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in close()
        try:
            self.process = subprocess.Popen(
                [python, "-m", "speed.worker", name],
                env=env,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
            )
        except OSError:  # no such program: the caller says so, but nobody could close the file
            self.log.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer; an ``error`` in it says that the worker cannot do this."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"its process has ended: {self._last_words()}"}

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), "without a word")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


@dataclass(frozen=True)
class Pace:
    """How long is measured.

    Attributes:
        rounds: turns of each contender.
        turn: seconds of a turn; as many repeats as fit, at least one.
        slow: a contender whose step takes longer than this many seconds gets two turns only, past ten times that one.
    """

    rounds: int = 15
    turn: float = 0.2
    slow: float = 3.0

    def repeats(self, first: float) -> int:
        """Steps of one turn, of which the first is not counted where there are more."""
        return max(1, min(50, round(self.turn / first)))

    def turns(self, first: float) -> int:
        """How often a contender comes up."""
        return min(self.rounds, 1 if first > 10 * self.slow else 2 if first > self.slow else self.rounds)


class Crew:
    """The worker processes of one run, each started when first needed."""

    def __init__(self, threads: int, peers: str | None = None) -> None:
        self.threads, self.peers = threads, peers
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def worker(self, name: str) -> Worker:
        """The process of that name."""
        if name not in self.workers:
            python = (self.peers or "") if name.startswith("keras") else sys.executable
            self.workers[name] = Worker(name, python, self.threads)
        return self.workers[name]

    def measure(self, comparison: Comparison, pace: Pace) -> dict[str, Any]:
        """Prepare all contenders, compare their numbers, then time them in turns."""
        with tempfile.TemporaryDirectory() as folder:
            ready = {one.name: self._prepare(one, Path(folder)) for one in comparison.contenders}
            agree = check(comparison, ready, Path(folder))
        able = [one for one in comparison.contenders if "error" not in ready[one.name]]
        other = busy()
        seconds: dict[str, list[float]] = {one.name: [] for one in able}
        for turn in range(pace.rounds):
            for one in able:
                first = ready[one.name]["first"]
                if turn < pace.turns(first):
                    seconds[one.name].append(self._turn(one, pace.repeats(first)))
        for name in {one.worker for one in comparison.contenders}:
            self.worker(name).ask(do="drop")
        return {
            "group": comparison.group,
            "name": comparison.name,
            "case": comparison.case.to_json(),
            "first": comparison.contenders[0].name,
            "seconds": seconds,
            "engines": {one.name: ready[one.name]["engine"] for one in able},
            "errors": {one.name: ready[one.name]["error"] for one in comparison.contenders if one not in able},
            "agree": agree,
            "busy": round(other, 2),
        }

    def _prepare(self, one: Contender, folder: Path) -> dict[str, Any]:
        save = str(folder / f"{one.name}.npz") if one.alike else None
        return self.worker(one.worker).ask(do="prepare", key=one.name, case=one.case.to_json(), save=save)

    def _turn(self, one: Contender, repeats: int) -> float:
        reply = self.worker(one.worker).ask(do="time", key=one.name, repeats=repeats)
        if "error" in reply:
            raise RuntimeError(f"{one.name} ({one.worker}): {reply['error']}")
        found: list[float] = reply["seconds"]
        return statistics.median(found[1:] or found)  # the first finds caches that others have filled


def check(comparison: Comparison, ready: dict[str, dict[str, Any]], folder: Path) -> dict[str, float]:
    """Largest difference of outputs and gradients from the first contender's, before anything is timed.

    Raises:
        ArithmeticError: they differ by more than ``ALIKE`` allows.
    """
    alike = [one for one in comparison.contenders if one.alike and "error" not in ready[one.name]]
    found: dict[str, float] = {}
    for one in alike[1:]:
        limits = ALIKE[one.alike]
        for key, apart in differences(folder / f"{alike[0].name}.npz", folder / f"{one.name}.npz"):
            if not apart <= limits[key != "output"]:
                raise ArithmeticError(
                    f"{comparison.name}: {alike[0].name} and {one.name} differ in {key} by {apart:.1e}"
                )
            found[one.name] = max(found.get(one.name, 0.0), apart)
    return found


def differences(mine: Path, other: Path) -> Iterator[tuple[str, float]]:
    """For each array in both files the largest difference; of gradients: over the largest entry."""
    with np.load(mine) as a, np.load(other) as b:
        for key in sorted(set(a.files) & set(b.files)):
            scale = 1.0 if key == "output" else max(float(np.abs(a[key]).max()), 1e-6)
            yield key, float(np.abs(a[key] - b[key]).max()) / scale


def run(
    crew: Crew, comparisons: list[Comparison], pace: Pace, say: Callable[[str], None] = print
) -> Iterator[dict[str, Any]]:
    """Measure one comparison after the other, with a line for each."""
    for i, comparison in enumerate(comparisons, 1):
        start = time.perf_counter()
        record = crew.measure(comparison, pace)
        times = "  ".join(f"{name} {1e3 * statistics.median(found):.2f}" for name, found in record["seconds"].items())
        say(f"[{i}/{len(comparisons)}] {comparison.name} ({time.perf_counter() - start:.0f} s), ms: {times}")
        for name, error in record["errors"].items():
            say(f"    {name} is left out: {error}")
        yield record
