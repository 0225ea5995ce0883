"""A worker process: reads one JSON line, does it, answers with one. The parent says when; nobody runs in between.

- ``{"do": "prepare", "key": k, "case": {...}, "save": path or null}``: ``{"engine": ..., "first": seconds}``
- ``{"do": "time", "key": k, "repeats": n}``: ``{"seconds": [...]}``
- ``{"do": "drop"}``: ``{}``
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from speed.cases import Case

LONG = 20.0  # seconds after which a first step is not taken twice


class Work(Protocol):
    """A case made ready."""

    engine: str

    def step(self) -> None:
        """The timed part."""

    def save(self, path: str) -> None:
        """Outputs, and where there are any gradients, as an ``.npz`` file."""


def answer(request: dict[str, Any], kept: dict[str, Work], build: Callable[[Case], Work]) -> dict[str, Any]:
    """Do one request."""
    if request["do"] == "drop":
        kept.clear()
        gc.collect()
        return {}
    if request["do"] == "prepare":
        work = kept[request["key"]] = build(Case.from_json(request["case"]))
        if request["save"]:
            work.save(request["save"])
        first = timed(work.step, 1)[0]  # compiles, fills caches
        return {"engine": work.engine, "first": first if first > LONG else timed(work.step, 1)[0]}
    return {"seconds": timed(kept[request["key"]].step, request["repeats"])}


def timed(step: Callable[[], None], repeats: int) -> list[float]:
    """Seconds of each run."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    return found


def serve(build: Callable[[Case], Work], requests: TextIO, answers: TextIO) -> None:
    """Answer line by line until there is none. A case that a worker cannot do is answered with the error."""
    kept: dict[str, Work] = {}
    for line in requests:
        try:
            reply = answer(json.loads(line), kept, build)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        print(json.dumps(reply), file=answers, flush=True)


def main(name: str) -> None:
    """Become the worker of that name."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-int(os.environ["OMP_NUM_THREADS"]) :])  # before libraries count their cores
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    if name.startswith("keras"):
        from speed.work_keras import builder
    else:
        from speed.work_torch import builder
    serve(builder(name), sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1])
