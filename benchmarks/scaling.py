"""How the cost of a training step grows: with T up to 100,000 steps (checkpoint=1000), with B, and with H.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py

Medians of a few interleaved turns over all sizes; the figure and the numbers go to ``benchmarks/results/scaling.*``.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt

from lightning_rnn import GRU, LSTM, TimeOptions, tune_cpu

RESULTS = Path(__file__).parent / "results"
CELLS = {"LSTM": LSTM, "GRU": GRU}
SWEEPS = {  # (B, T, H); D = H
    "T": [(4, t, 64) for t in (100, 1000, 10_000, 100_000)],
    "B": [(b, 50, 128) for b in (1, 4, 16, 64, 256)],
    "H": [(32, 50, h) for h in (32, 64, 128, 256, 512)],
}
TURNS = 5


def step(cell: str, batch: int, steps: int, hidden: int) -> float:
    """Seconds of one training step."""
    torch.manual_seed(0)
    layer = CELLS[cell](hidden, hidden, time_options=TimeOptions(checkpoint=1000), engine="native")
    x, gradient = torch.randn(batch, steps, hidden), torch.randn(batch, steps, hidden)
    start = time.perf_counter()
    layer(x).sequence.backward(gradient)
    return time.perf_counter() - start


def main() -> None:
    print(tune_cpu())
    cases = [(cell, sweep, size) for cell in CELLS for sweep, sizes in SWEEPS.items() for size in sizes]
    found: dict[tuple[str, str, tuple[int, int, int]], list[float]] = {case: [] for case in cases}
    for turn in range(TURNS + 1):
        for cell, sweep, size in cases:
            seconds = step(cell, *size)
            if turn:  # the first one warms up
                found[cell, sweep, size].append(seconds)
    rows = [
        {
            "cell": cell,
            "sweep": sweep,
            "B": b,
            "T": t,
            "H": h,
            "seconds": statistics.median(found[cell, sweep, (b, t, h)]),
        }
        for cell, sweep, (b, t, h) in cases
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    RESULTS.mkdir(exist_ok=True)
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "peak_mib": peak}
    (RESULTS / "scaling.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    draw(rows)
    print(f"peak memory {peak} MiB; {RESULTS / 'scaling.png'}")


def draw(rows: list[dict[str, Any]]) -> None:
    """One panel for each of T, B and H."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, (sweep, sizes) in zip(axes, SWEEPS.items(), strict=True):
        at = "BTH".index(sweep)
        for cell in CELLS:
            mine = [row for row in rows if row["cell"] == cell and row["sweep"] == sweep]
            sizes_of = [row[sweep] for row in mine]
            seconds = [row["seconds"] for row in mine]
            axis.plot(sizes_of, seconds, "o-", label=cell)
            power = 2 if sweep == "H" else 1
            axis.plot(sizes_of, [seconds[-1] * (s / sizes_of[-1]) ** power for s in sizes_of], ":", color="gray")
            print(
                f"{cell:5}{sweep}: "
                + "  ".join(f"{s}: {1e3 * v:.1f} ms" for s, v in zip(sizes_of, seconds, strict=True))
            )
        others = ", ".join(f"{'BTH'[i]} = {size}" for i, size in enumerate(sizes[0]) if i != at)
        axis.set(xscale="log", yscale="log", xlabel=f"{sweep}   ({others})", ylabel="training step, s")
        axis.set_title(f"dotted: proportional to {sweep}{'²' if sweep == 'H' else ''}", fontsize=9)
        axis.set_xticks(sizes_of, [f"{size:,}" for size in sizes_of])
        axis.minorticks_off()
        axis.legend()
    figure.savefig(RESULTS / "scaling.png", dpi=110)


if __name__ == "__main__":
    main()
