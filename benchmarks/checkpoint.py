"""What ``checkpoint=k`` saves on long sequences, and what it costs: interleaved runs, medians.

    python benchmarks/checkpoint.py [--steps 10000] [--chunk 100] [--cell lstm] [--engine scan] [--repeats 5]

Saved activations are what a forward pass adds to the resident memory of a fresh process, its output left out. The
gradients of both runs are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from lightning_rnn import GRU, LSTM, SimpleRNN, TimeOptions

CELLS = {"lstm": LSTM, "gru": GRU, "simple_rnn": SimpleRNN}


def kept_bytes(cell: str, engine: str, size: int, batch: int, steps: int, chunk: int | None) -> int:
    """Resident memory that one forward pass leaves until its backward; run in a process of its own."""
    torch.manual_seed(0)
    layer = CELLS[cell](size, size, engine=engine, time_options=TimeOptions(checkpoint=chunk))
    layer(torch.randn(batch, 10, size)).sequence.sum().backward()
    x = torch.randn(batch, steps, size)
    before = resident()
    output = layer(x).sequence
    assert output.requires_grad
    return resident() - before - output.numel() * output.element_size()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def train(layer: torch.nn.Module, x: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    """Seconds of one forward and backward pass, and the gradients."""
    layer.zero_grad()
    start = time.perf_counter()
    layer(x).sequence.square().mean().backward()
    return time.perf_counter() - start, [p.grad.clone() for p in layer.parameters() if p.grad is not None]


def main() -> None:
    """Print what both runs keep and take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--engine", choices=("scan", "fused"), default="scan")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    plain = CELLS[options.cell](options.size, options.size, engine=options.engine)
    chunks = CELLS[options.cell](
        options.size, options.size, engine=options.engine, time_options=TimeOptions(checkpoint=options.chunk)
    )
    chunks.load_state_dict(plain.state_dict())
    x = torch.randn(options.batch, options.steps, options.size)
    shape = (options.cell, options.engine, options.size, options.batch, options.steps)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        memory = [pool.submit(kept_bytes, *shape, chunk).result() for chunk in (None, options.chunk)]
    times: list[list[float]] = [[], []]
    for _ in range(options.repeats):
        grads = []
        for i, layer in enumerate((plain, chunks)):
            seconds, found = train(layer, x)
            times[i].append(seconds)
            grads.append(found)
    worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*grads, strict=True))
    medians = [statistics.median(one) for one in times]
    print(f"{options.cell}, {options.engine}, T = {options.steps}, chunks of {options.chunk}")
    kept = [f"{one / 2**20:.1f} MB" for one in memory]
    print(f"saved activations  {kept[0]} -> {kept[1]}, {memory[1] / memory[0]:.3f} of it")
    print(f"time               {medians[0]:.2f} s -> {medians[1]:.2f} s, {medians[1] / medians[0]:.2f} times")
    print(f"gradients          differ by {worst:.1e} of their largest entry")


if __name__ == "__main__":
    main()
