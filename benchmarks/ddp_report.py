"""The tables of ``ddp.py``."""

from __future__ import annotations

from collections.abc import Sequence

from ddp_model import Cluster, Fit, Link, Measured, Network, planned
from speed.machine import busy, describe


def written() -> str:
    return "# One process and more\n\nMade by `OMP_NUM_THREADS=1 python benchmarks/ddp.py --write`."


def about(turns: int) -> str:
    """Where and when, and what else ran."""
    machine = describe(1)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, one thread a process, torch {machine['torch']}, "
        f"{machine['date']}, {turns} interleaved turns; before them {busy():.1f} cores were in use by other work, "
        f"load {machine['load']}."
    )


def measured_table(rows: Sequence[Measured], fitted: Fit, where: str) -> str:
    """Milliseconds of a step; beside them what the formula gives."""
    said = {id(row): row.seconds * (1 + miss) for row, miss in zip(rows, fitted.misses, strict=True)}
    lines = [
        "## Measured: gloo on one machine",
        "",
        where,
        "",
        "Milliseconds of a training step, in brackets the fitted formula's. Same global batch: two processes have half "
        "the batch each. Same batch per process: each has all of it.",
        "",
        "| network | gradients, MB | 1 process, half the batch | 1 process | 2, same global batch | times the speed |"
        " 2, same batch per process | share of twice the speed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.network for row in rows if row.network):
        cell = {(row.n, row.batch): row for row in rows if row.network == name}
        text = {key: f"{1e3 * row.seconds:,.1f} ({1e3 * said[id(row)]:,.1f})" for key, row in cell.items()}
        faster, kept = (cell[1, 1.0].seconds / cell[2, share].seconds for share in (0.5, 1.0))
        lines.append(
            f"| {name} | {cell[1, 1.0].size / 1e6:.2f} | {text[1, 0.5]} | {text[1, 1.0]} | {text[2, 0.5]} | "
            f"{faster:.2f} | {text[2, 1.0]} | {kept:.2f} |"
        )
    bare = [row for row in rows if not row.network]
    sums = ", ".join(f"{row.size:,} bytes {1e3 * row.seconds:.2f} ({1e3 * said[id(row)]:.2f})" for row in bare)
    return "\n".join([*lines, "", f"Bare sums over two idle processes, ms: {sums}.", "", fit_sentence(fitted)])


def fit_sentence(fitted: Fit) -> str:
    worst = max(fitted.misses, key=abs)
    return (
        f"Fitted: latency {1e6 * fitted.link.latency:.0f} µs a hop, bandwidth {fitted.link.bandwidth / 1e9:.2f} GB/s, "
        f"arithmetic {fitted.contention:.0%} slower beside another process. It misses the measurements by "
        f"{fitted.residual:.0%} (root mean square), {worst:+.0%} at most."
    )


def link_text(link: Link) -> str:
    return f"{link.bandwidth / 1e9:g} GB/s and {link.latency * 1e6:g} µs a hop"


def plan_table(found: Sequence[Network], gpus: Sequence[int], cluster: Cluster) -> str:
    """Milliseconds of a step and share of ``n`` times one GPU's speed, for every network and number of GPUs."""
    lines = [
        "## Planned: GPUs",
        "",
        "**A plan, not a result: arithmetic on assumptions, no GPU was used.** Data parallel, the configured batch on "
        "each GPU, nothing of the communication hidden behind the backward pass. Assumed: a step takes "
        f"{1e3 * cluster.overhead:g} ms for the host, {1e6 * cluster.time_step:g} µs for each time step, and its "
        f"operations at {cluster.flops / 1e12:g} TFLOP/s; {cluster.per_node} GPUs a node with "
        f"{link_text(cluster.inside)}, between nodes {link_text(cluster.between)} for each GPU; gradients in a ring, "
        f"`2 (n - 1) / n` of their bytes, messages in a {cluster.between.pattern}. Each is an option of the command.",
        "",
        "In a cell: ms of a step, and the share of n times one GPU's speed. *: an epoch has fewer batches than there "
        "are GPUs, so not all of them could be used with this batch.",
        "",
        "| network | parameters | time steps | GFLOP a step | batches an epoch | 1 GPU | "
        + " | ".join(f"{n} GPUs" for n in gpus)
        + " |",
        "|---" * (6 + len(gpus)) + "|",
    ]
    for network in found:
        alone = 1e3 * planned(network, 1, cluster)[0]
        cells = [f"{alone:.1f}", *(plan_cell(network, n, cluster) for n in gpus)]
        name = f"{network.name} ({network.note})" if network.note else network.name
        lines.append(
            f"| {name} | {network.parameters:,} | {network.steps} | {network.flops / 1e9:.2f} | {network.batches:,} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def plan_cell(network: Network, n: int, cluster: Cluster) -> str:
    seconds, share = planned(network, n, cluster)
    return f"{1e3 * seconds:.1f}, {share:.0%}" + ("" if network.batches >= n else " *")
