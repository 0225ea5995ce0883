"""What ``tune_cpu`` does to a training step: torch.nn with and without it, in fresh processes taken in turns, medians.

    python benchmarks/runtime.py [--cells LSTM GRU RNN] [--threads 1 2] [--rounds 5] [--steps 20]

Each process takes some steps to settle, then times each of ``--steps``. The median of a process's steps is one figure;
the table shows the median over the processes, and the page faults of one step, which no load changes.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from lightning_rnn.runtime import tune_cpu

BATCH, STEPS, FEATURES, HIDDEN = 150, 28, 28, 150  # rows of MNIST's images, a recurrent layer of 150


def measure(cell: str, threads: int, tuned: bool, repeats: int) -> tuple[float, float, float]:
    """Milliseconds and page faults of a step, and the peak of memory in MiB; in a process of its own."""
    torch.set_num_threads(threads)
    if tuned:
        tune_cpu(threads=threads)
    torch.manual_seed(0)
    layer = getattr(torch.nn, cell)(FEATURES, HIDDEN, batch_first=True)
    x = torch.randn(BATCH, STEPS, FEATURES)
    times: list[float] = []
    for i in range(repeats + 5):
        if i == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        layer.zero_grad()
        layer(x)[0].square().mean().backward()
        times.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1e3 * statistics.median(times[5:]), (after.ru_minflt - before) / repeats, after.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=("LSTM", "GRU", "RNN"), default=["LSTM", "GRU", "RNN"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    print(f"torch.nn, {BATCH} x {STEPS} x {FEATURES} -> {HIDDEN}, training step, torch {torch.__version__}\n")
    print(
        "| layer | threads | plain, ms | tuned, ms | ratio | faults a step, plain | tuned | peak MiB, plain | tuned |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for cell in options.cells:
            for threads in options.threads:
                runs: tuple[list[tuple[float, float, float]], ...] = ([], [])
                for _ in range(options.rounds):
                    for tuned in (False, True):  # A B A B: both see the same load
                        runs[tuned].append(pool.submit(measure, cell, threads, tuned, options.steps).result())
                (ms, faults, peak), (ms2, faults2, peak2) = (
                    [statistics.median(column) for column in zip(*kind, strict=True)] for kind in runs
                )
                print(
                    f"| {cell} | {threads} | {ms:.1f} | {ms2:.1f} | {ms2 / ms:.2f} | {faults:,.0f} | {faults2:,.0f} "
                    f"| {peak:.0f} | {peak2:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
