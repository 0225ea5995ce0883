"""What a training step on several processes costs: a formula, its fit to what was measured, and what it says of more.

    step(n) = compute + buckets and flags * hops(n) * latency + 2 (n - 1) / n * gradient bytes / bandwidth

Gradients are summed in a ring (Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms): each process sends
``2 (n - 1)`` pieces of ``1 / n`` of them. Nothing is taken for hidden behind the backward pass: the gradient of a
recurrent layer's weights is known when its pass has come to the first time step, and most networks here are one layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

MIB = 1 << 20
FLAGS = 3  # small collectives of a step: shares of the batch, who must stop or save, Lightning's SIGTERM flag
Pattern = Literal["ring", "tree"]


@dataclass(frozen=True)
class Link:
    """What joins processes: bytes a second, seconds for each hop, and the pattern that small messages travel in."""

    bandwidth: float
    latency: float
    pattern: Pattern = "ring"


def hops(n: int, pattern: Pattern) -> int:
    """Messages one after another in a sum over ``n``: ``2 (n - 1)`` in a ring, ``2 ceil(log2 n)`` in a tree."""
    return 2 * (n - 1) if pattern == "ring" else 2 * math.ceil(math.log2(n))


def buckets(size: int) -> int:
    """Messages that DDP sends ``size`` bytes of gradients in: a first one of 1 MiB, then of 25."""
    return 1 + math.ceil(max(0, size - MIB) / (25 * MIB))


def volume(size: int, n: int) -> float:
    """Bytes that each process sends to sum ``size`` bytes over ``n``."""
    return 2 * (n - 1) / n * size


def communication(size: int, n: int, link: Link) -> float:
    """Seconds of a step's collectives; none for one process."""
    if n == 1:
        return 0.0
    messages = buckets(size) + FLAGS
    return messages * hops(n, link.pattern) * link.latency + volume(size, n) / link.bandwidth


# Fitted to measurements.


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, or of a bare sum where ``network`` is empty.

    Attributes:
        network: name.
        n: processes.
        batch: share of the configured batch that each process has.
        size: bytes that are summed.
        messages: sums that they go in.
        seconds: median.
    """

    network: str
    n: int
    batch: float
    size: int
    messages: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """Constants of the formula, and by how much it misses.

    Attributes:
        compute: of each network, seconds of a step for no rows, and more for the configured batch.
        link: bandwidth and latency.
        contention: what a step's own arithmetic takes longer beside another process, as a share.
        misses: of each measurement, ``formula / measured - 1``.
    """

    compute: dict[str, tuple[float, float]]
    link: Link
    contention: float
    misses: tuple[float, ...]

    @property
    def residual(self) -> float:
        """Root mean square of the misses."""
        return float(np.sqrt(np.mean(np.square(self.misses))))


def fit(rows: Sequence[Measured]) -> Fit:
    """Least squares of relative errors; no constant is negative.

    A network needs one process with two sizes of batch, or what is fixed and what grows cannot be told apart.
    """
    alone = {(row.network, row.batch): row.seconds for row in rows if row.n == 1}
    names = sorted({row.network for row in rows} - {""})
    table, right = np.zeros((len(rows), 2 * len(names) + 3)), np.ones(len(rows))
    for i, row in enumerate(rows):
        if row.network:
            at = 2 * names.index(row.network)
            table[i, at : at + 2] = 1, row.batch
        if row.n > 1:
            table[i, -3:-1] = row.messages * hops(row.n, "ring"), volume(row.size, row.n)
            table[i, -1] = alone.get((row.network, row.batch), 0.0)
        table[i] /= row.seconds
    scale = np.where(table.any(0), np.abs(table).max(0), 1.0)  # columns differ by ten orders of magnitude
    found = nnls(table / scale, right)[0] / scale
    misses = table @ found - 1
    compute = {name: (float(found[2 * i]), float(found[2 * i + 1])) for i, name in enumerate(names)}
    latency, each, contention = (float(value) for value in found[-3:])
    link = Link(1 / each if each else math.inf, latency)
    return Fit(compute, link, contention, tuple(float(miss) for miss in misses))


# Written forward to GPUs.


@dataclass(frozen=True)
class Cluster:
    """Assumptions about GPUs, none of them measured here.

    Attributes:
        flops: operations a second that a step reaches on one GPU.
        overhead: seconds of a step for the host, whatever the network.
        time_step: seconds of one time step, forward and backward: a recurrent layer's kernels wait for each other.
        per_node: GPUs in a node.
        inside: link inside a node.
        between: link between nodes, for each GPU; the slowest of a ring rules it.
    """

    flops: float = 2e13
    overhead: float = 3e-3
    time_step: float = 3e-5
    per_node: int = 8
    inside: Link = Link(2e11, 5e-6)
    between: Link = Link(2.5e10, 1e-5)

    def link(self, n: int) -> Link:
        """The slowest link of a ring of ``n`` GPUs."""
        return self.inside if n <= self.per_node else self.between

    def compute(self, flops: float, steps: int) -> float:
        """Seconds of a step on one GPU: of ``flops`` operations, forward and backward, over ``steps`` time steps."""
        return self.overhead + steps * self.time_step + flops / self.flops


@dataclass(frozen=True)
class Network:
    """A shipped configuration's network and its batch.

    Attributes:
        name: of the configuration.
        parameters: that are trained.
        flops: operations of a training step for one batch.
        steps: time steps of the batch.
        batches: in an epoch on one process.
        note: such as that the data were others.
    """

    name: str
    parameters: int
    flops: float
    steps: int
    batches: int
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of its gradients, which are float32."""
        return 4 * self.parameters


def planned(network: Network, n: int, cluster: Cluster) -> tuple[float, float]:
    """Seconds of a step on ``n`` GPUs, each with a batch of its own, and the share of ``n`` times one GPU's speed."""
    alone = cluster.compute(network.flops, network.steps)
    seconds = alone + communication(network.size, n, cluster.link(n))
    return seconds, alone / seconds
