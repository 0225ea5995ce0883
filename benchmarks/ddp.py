"""One process against two on this machine, a formula fitted to it, and what the formula says of 8, 64 and 512 GPUs.

    OMP_NUM_THREADS=1 python benchmarks/ddp.py [--write] [--turns 5] [--parts measure plan] [--bandwidth 25 ...]

Every turn trains each network a few steps in each of four ways, one after another: one process with the configured
batch and with half of it, two with half each (the same global batch) and with all of it each. Collectives are gloo's,
over the loopback. The plan for GPUs is arithmetic on assumptions: nothing of it was run.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ddp_model import FLAGS, Cluster, Link, Measured, buckets, fit
from ddp_networks import CONFIGS, build, networks, shipped
from ddp_report import about, measured_table, plan_table, written
from pytorch_lightning.strategies import DDPStrategy

from lightning_rnn.runtime import tune_cpu
from lightning_rnn.training.non_finite import NonFinite
from lightning_rnn.training.resume import LastCheckpoint, StepSeed
from lightning_rnn.training.throughput import FILE, Throughput

RESULTS = Path(__file__).parent / "results"
TRAINED = {  # and steps of a turn
    "sequence_classification/digits": 60,
    "translation/multi30k_en_fr": 6,
    "forecasting/m4_hourly": 8,
}
WAYS = ((1, 1.0), (1, 0.5), (2, 0.5), (2, 1.0))  # processes, share of the batch that each has
SUMS = (4, 1 << 16, 1 << 20, 1 << 24)  # bytes


class Trained:
    """A configuration's module and data, trained a few steps as often as asked, from the same weights each time."""

    def __init__(self, config: str, steps: int) -> None:
        self.module, self.data, self.config = build(CONFIGS / f"{config}.yaml")
        self.name, self.steps = config.rpartition("/")[2], steps
        self.batch_size, self.max_tokens = self.data.batch_size, self.data.max_tokens
        self.module.use_optimizer(self.config["optimizer"])
        self.size = 4 * sum(one.numel() for one in self.module.parameters() if one.requires_grad)

    def seconds(self, n: int, share: float) -> float:
        """Of a step: the median batch, and the mean wait for the next one."""
        self.data.batch_size = max(1, round(share * self.batch_size))
        self.data.max_tokens = self.max_tokens and round(share * self.max_tokens)
        with tempfile.TemporaryDirectory() as folder:
            self._trainer(folder, n).fit(copy.deepcopy(self.module), self.data)
            with (Path(folder) / FILE).open() as file:
                rows = list(csv.DictReader(file))
        return statistics.median(1e-3 * float(row["step_ms"]) / (1 - float(row["data_wait_share"])) for row in rows)

    def _trainer(self, folder: str, n: int) -> pl.Trainer:
        forked = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(minutes=5))
        options = self.config.get("trainer", {})
        return pl.Trainer(
            accelerator="cpu",
            devices=n,
            strategy=forked if n > 1 else "auto",
            precision=options.get("precision"),
            gradient_clip_val=options.get("gradient_clip_val"),
            max_steps=self.steps + 1,  # the first counts for nothing
            limit_val_batches=0,
            callbacks=[StepSeed(0), LastCheckpoint(), NonFinite(), Throughput()],  # what the command line runs
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def bare_sums(turns: int) -> list[Measured]:
    """Sums over two processes that do nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(_sum, (folder, turns), nprocs=2, start_method="fork")
        found: list[float] = json.loads((Path(folder) / "seconds.json").read_text())
    return [Measured("", 2, 0.0, size, 1, seconds) for size, seconds in zip(SUMS, found, strict=True)]


def _sum(rank: int, folder: str, turns: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    tensors = [torch.ones(size // 4) for size in SUMS]
    seconds: list[list[float]] = [[] for _ in SUMS]
    for turn in range(4 * turns + 1):
        for tensor, kept in zip(tensors, seconds, strict=True):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(tensor)
            kept.extend([time.perf_counter() - start] if turn else [])  # the first one connects
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps([statistics.median(one) for one in seconds]))
    dist.destroy_process_group()


def measure(configs: Sequence[str], turns: int) -> list[Measured]:
    """Medians over all turns, and bare sums."""
    trained = [Trained(config, TRAINED[config]) for config in configs]
    found: dict[tuple[str, int, float], list[float]] = {}
    for _ in range(turns):
        for one in trained:
            for n, share in WAYS:
                found.setdefault((one.name, n, share), []).append(one.seconds(n, share))
    sizes = {one.name: one.size for one in trained}
    rows = [
        Measured(name, n, share, sizes[name], buckets(sizes[name]) + FLAGS, statistics.median(seconds))
        for (name, n, share), seconds in found.items()
    ]
    return rows + bare_sums(turns)


def parsed() -> argparse.Namespace:
    known = Cluster()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["measure", "plan"], default=["measure", "plan"])
    parser.add_argument("--configs", nargs="+", choices=list(TRAINED), default=list(TRAINED))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="the results, to benchmarks/results/ddp.*")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--tflops", type=float, default=known.flops / 1e12, help="reached by a step on one GPU")
    parser.add_argument("--overhead", type=float, default=known.overhead * 1e3, help="ms of a step for the host")
    parser.add_argument("--time_step", type=float, default=known.time_step * 1e6, help="µs of one time step")
    parser.add_argument("--per_node", type=int, default=known.per_node)
    parser.add_argument("--inside", type=float, default=known.inside.bandwidth / 1e9, help="GB/s inside a node")
    parser.add_argument("--bandwidth", type=float, default=known.between.bandwidth / 1e9, help="GB/s between nodes")
    parser.add_argument("--latency", type=float, default=known.between.latency * 1e6, help="µs a hop between nodes")
    parser.add_argument("--pattern", choices=["ring", "tree"], default="ring", help="that messages travel in")
    return parser.parse_args()


def cluster_of(given: Any) -> Cluster:
    inside = Link(given.inside * 1e9, Cluster().inside.latency, given.pattern)
    between = Link(given.bandwidth * 1e9, given.latency * 1e-6, given.pattern)
    return Cluster(given.tflops * 1e12, given.overhead * 1e-3, given.time_step * 1e-6, given.per_node, inside, between)


def main() -> None:
    given = parsed()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    path, text = RESULTS / "ddp.json", [written()]
    if "measure" in given.parts:
        machine = {"about": about(given.turns), "runtime": str(tune_cpu())}
        found = {**machine, "rows": [asdict(row) for row in measure(given.configs, given.turns)]}
        if given.write:
            path.write_text(json.dumps(found, indent=1) + "\n")
    else:
        found = json.loads(path.read_text())
    rows = [Measured(**row) for row in found["rows"]]
    text.append(measured_table(rows, fit(rows), found["about"]))
    if "plan" in given.parts:
        text.append(plan_table(networks(shipped()), given.gpus, cluster_of(given)))
    print("\n\n".join(text))
    if given.write:
        (RESULTS / "ddp.md").write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
