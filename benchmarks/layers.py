"""Our layers' speed against torch.nn, Keras 3, their own matrix products and their own plain form: one run, by turns.

    python benchmarks/layers.py --threads 1 --peers PYTHON
    python benchmarks/layers.py --threads 2 --peers PYTHON

Contenders live in processes of their own, each on as many cores as it has threads; one at a time is told to take a few
steps, round after round, so that all see the same machine. What is compared are medians over the rounds. ``ours`` is
the layer as shipped, with the settings of ``lightning_rnn.runtime.tune_cpu``; ``torch`` is torch.nn as a user gets it,
``torch+settings`` the same with ours; ``floor`` the matrix products of the layer alone, into memory that is there
already. Outputs and gradients are compared before anything is timed.

PYTHON is one that has Keras 3, torch, JAX and TensorFlow: ``python3 -m venv peers && peers/bin/pip install -r
benchmarks/peers.txt``, then ``--peers peers/bin/python``. Results go to ``benchmarks/results``: every turn in
``layers-<threads>t.jsonl``, tables in ``layers.md``. A run of some groups (``--only``) replaces their records and keeps
the others. ``--quick`` takes one small shape and few turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from speed.cases import CELLS, GROUPS, SHAPES, Choice, comparisons
from speed.machine import busy, describe
from speed.report import QUIET, Record, document, merge, read, summary
from speed.run import Crew, Pace, run

RESULTS = Path(__file__).parent / "results"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of every contender")
    parser.add_argument("--peers", help="a Python with Keras 3, torch, JAX and TensorFlow")
    parser.add_argument("--only", type=_names(GROUPS), default=tuple(GROUPS), help=f"of {','.join(GROUPS)}")
    parser.add_argument("--cells", type=_names(CELLS), default=CELLS, help=f"of {','.join(CELLS)}")
    parser.add_argument("--shapes", type=_names(SHAPES), default=tuple(SHAPES), help=f"of {','.join(SHAPES)}")
    parser.add_argument("--engine", default="auto", help="of our layers")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    parser.add_argument("--turn", type=float, default=0.2, help="seconds of a turn")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="one small shape, three short turns")
    parser.add_argument("--busy", action="store_true", help="measure although something else runs")
    return parser.parse_args(argv)


def _names(known: Any) -> Any:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name!r}; there are {', '.join(known)}")
        return found

    return names


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    other = busy()
    if other > QUIET and not options.busy:
        print(f"error: {other:.1f} cores are in use by something else; wait for it, or say --busy", file=sys.stderr)
        return 1
    if options.peers and not shutil.which(options.peers):
        print(f"error: --peers: {options.peers} is no program; give a Python", file=sys.stderr)
        return 1
    groups = tuple(name for name in options.only if options.peers or not name.startswith("keras"))
    if groups != options.only:
        print("the groups of Keras are left out: give --peers PYTHON, one that has Keras 3 and its backends")
    shapes = ("keras",) if options.quick else options.shapes
    choice = Choice(groups, options.cells, shapes, options.engine, options.quick)
    pace = Pace(3, 0.05) if options.quick else Pace(options.rounds, options.turn)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"layers-{options.threads}t.jsonl"
    machine = describe(options.threads)
    records: list[Record] = []
    with Crew(options.threads, options.peers) as crew:
        for record in run(crew, comparisons(choice), pace):
            records.append(record | {"machine": machine})
            write(path, merge(read(path), records))
    runs = {threads: read(options.results / f"layers-{threads}t.jsonl") for threads in range(1, 129)}
    (options.results / "layers.md").write_text(document({threads: found for threads, found in runs.items() if found}))
    print("\n".join(summary(read(path))))
    print(f"{path}\n{options.results / 'layers.md'}")
    return 0


def write(path: Path, records: list[Record]) -> None:
    """All records, a line each, in one go."""
    path.with_suffix(".part").write_text("".join(json.dumps(record) + "\n" for record in records))
    path.with_suffix(".part").replace(path)


if __name__ == "__main__":
    sys.exit(main())
