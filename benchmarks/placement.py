"""What layers on several devices may gain (a simulation), and what was measured on two processes of one thread each.

    OMP_NUM_THREADS=1 python benchmarks/placement.py            # the plan alone, in a second
    OMP_NUM_THREADS=1 python benchmarks/placement.py --measure  # and a minute of two processes
    ... --write                                                 # into benchmarks/results/placement.md

The plan's assumptions are those of :mod:`lightning_rnn.distributed.plan`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_rnn import LSTM
from lightning_rnn.distributed import AcrossProcesses, Costs
from lightning_rnn.distributed.plan import table

RESULT = Path(__file__).parent / "results" / "placement.md"
CHUNKS = (1, 2, 4, 8, 16, 32)
B, T, H, LAYERS, TURNS = 32, 256, 256, 2, 5
UNEQUAL = (2.0, 1.0, 1.0, 1.0)
HEAD = """# Layers on several devices

`OMP_NUM_THREADS=1 python benchmarks/placement.py {arguments}`

## Plan, not result

Simulated. Every device holds as many layers; backward takes twice as long as forward and begins when all of forward has
ended; transfers run beside the work; nothing outside the layers takes time.
*idle* is the share of the devices' time in which they wait.
With layers of one time and free transfers and cuts it is (G - 1) / (C + G - 1) for G devices and C pieces.
"""


def plans() -> str:
    """The tables of the plan."""
    parts = [HEAD.format(arguments=""), "### Layers of one time, transfers and cuts for nothing\n"]
    parts += [table(Costs([1.0] * layers), CHUNKS) + "\n" for layers in (2, 4, 8)]
    parts.append("### A cut costs 1 % of a layer, a transfer 0.5 %\n")
    parts.append(table(Costs([1.0] * 4, transfer=0.005, launch=0.01), CHUNKS) + "\n")
    parts.append("### The first of four layers takes twice as long\n")
    parts.append(table(Costs(list(UNEQUAL)), CHUNKS) + "\n")
    return "\n".join(parts)


def seconds(layer: Any) -> float:
    """Of one training step."""
    x, gradient = torch.randn(B, T, H), torch.randn(B, T, H)
    dist.barrier()
    start = time.perf_counter()
    layer(x).sequence.backward(gradient)
    return time.perf_counter() - start


def work(rank: int, folder: str) -> None:
    """Turns of one process alone (the other waits) and of two together, interleaved."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(minutes=5))
    torch.manual_seed(0)
    alone = LSTM(H, H, LAYERS)
    shared = {chunks: copy.deepcopy(alone) for chunks in CHUNKS}
    for chunks, layer in shared.items():
        AcrossProcesses(layer, chunks)
    found: dict[int, list[float]] = {chunks: [] for chunks in (0, *CHUNKS)}
    for turn in range(TURNS + 1):
        for chunks in found:
            layer = shared.get(chunks, alone)
            if chunks or rank == 0:
                found[chunks].append(seconds(layer))
            else:  # it waits for the one that is alone
                dist.barrier()
            if turn == 0:  # it warms up
                found[chunks].clear()
    if rank == 0:
        torch.save({chunks: statistics.median(one) for chunks, one in found.items()}, f"{folder}/found")
    dist.destroy_process_group()


def measured() -> str:
    """The table of two processes."""
    folder = tempfile.mkdtemp()
    mp.start_processes(work, (folder,), nprocs=2, start_method="spawn")
    found = torch.load(f"{folder}/found")
    lines = [f"| {chunks} | {1000 * found[chunks]:.0f} | {found[0] / found[chunks]:.2f} |" for chunks in CHUNKS]
    return "\n".join(
        [
            "## Measured: two processes of one thread, gloo, one machine",
            "",
            f"LSTM of {LAYERS} layers, B {B}, T {T}, H {H}, forward and backward, medians of {TURNS} interleaved turns",
            f"(one process alone: {1000 * found[0]:.0f} ms).",
            "",
            "| pieces | ms | times faster than one process |",
            "|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="time two processes, too")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    text = plans().replace("placement.py `", f"placement.py{' --measure' if options.measure else ''}`")
    text += measured() if options.measure else ""
    if options.write:
        RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
