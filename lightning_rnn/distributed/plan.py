r"""What a pipeline over time may gain: its schedule simulated, and a formula for the equal case. A plan, no result.

G devices hold a group of layers each, time is cut into C pieces. A device runs its pieces in order, forward, then from
the last to the first, backward; a piece waits for the same piece of the group before (backward: after) and for its
transfer. Backward begins when all of forward has ended, as a head and a loss may need every step. Transfers run beside
the work of the devices; what stands outside the stack takes no time.

With equal groups and transfers that take no time a pass lasts ``C + G - 1`` times one piece (on one device ``C G``
times), and devices are idle for the share ``(G - 1) / (C + G - 1)``: GPipe's bubble (Huang et al. 2019, arXiv
1811.06965, section 2.3), whose pieces are of the batch.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_rnn.distributed.pipeline import groups_of
from lightning_rnn.errors import require


def equal_bubble(devices: int, chunks: int) -> float:
    """Share of time that devices are idle where all groups take equally long, ``(G - 1) / (C + G - 1)``.

    Example:
        >>> equal_bubble(4, 8)
        0.2727272727272727
    """
    return (devices - 1) / (chunks + devices - 1)


def equal_speedup(devices: int, chunks: int) -> float:
    """Times faster than one device where all groups take equally long, ``C G / (C + G - 1)``.

    Example:
        >>> equal_speedup(4, 8)
        2.909090909090909
    """
    return chunks * devices / (chunks + devices - 1)


@dataclass(frozen=True)
class Costs:
    """What a stack costs, in seconds of one batch.

    Attributes:
        layers: forward of each layer over all steps.
        backward: backward over forward.
        transfer: of one piece from device to device, in either direction.
        launch: added to every layer of every piece, in either direction: what a cut costs.
    """

    layers: Sequence[float]
    backward: float = 2.0
    transfer: float = 0.0
    launch: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a simulation found.

    Attributes:
        forward: seconds until the last piece has left the last group.
        step: seconds until the first group has ended backward.
        alone: seconds of the step on one device, uncut.
        bubble: share of the step that devices are idle, on average.
    """

    forward: float
    step: float
    alone: float
    bubble: float

    @property
    def speedup(self) -> float:
        """Times faster than one device."""
        return self.alone / self.step


def simulate(costs: Costs, devices: int, chunks: int) -> Plan:
    """Run the schedule, event by event.

    Args:
        costs: of the stack, whose layers are grouped as :func:`lightning_rnn.distributed.pipeline.groups_of` does.
        devices: at most one for each layer.
        chunks: pieces of time, of equal length.

    Raises:
        ConfigError: no device or piece, or more devices than layers.

    Example:
        >>> plan = simulate(Costs([1.0] * 4), devices=4, chunks=8)
        >>> round(plan.speedup, 3), round(plan.bubble, 3)
        (2.909, 0.273)
    """
    require(
        1 <= devices <= len(costs.layers), f"devices must be from 1 to {len(costs.layers)} (the layers), got {devices}"
    )
    require(chunks >= 1, f"chunks must be at least 1, got {chunks}")
    groups = groups_of(len(costs.layers), devices)
    share = [sum(costs.layers[place] for place in group) / chunks for group in groups]
    launch = [costs.launch * len(group) for group in groups]
    forward = [one + more for one, more in zip(share, launch, strict=True)]
    backward = [one * costs.backward + more for one, more in zip(share, launch, strict=True)]
    there = _pass(forward, chunks, costs.transfer)
    back = _pass(backward[::-1], chunks, costs.transfer)
    busy = chunks * (sum(forward) + sum(backward))
    alone = sum(costs.layers) * (1 + costs.backward)
    return Plan(there, there + back, alone, 1 - busy / (devices * (there + back)))


def _pass(seconds: Sequence[float], chunks: int, transfer: float) -> float:
    """Seconds of one pass over devices that take so long for a piece each; an event is a piece that is there."""
    arrivals = [(0.0, 0, piece) for piece in range(chunks)]  # (when, device, piece): a heap, the earliest first
    free = [0.0] * len(seconds)
    while arrivals:
        when, device, piece = heapq.heappop(arrivals)
        free[device] = max(when, free[device]) + seconds[device]
        if device + 1 < len(seconds):
            heapq.heappush(arrivals, (free[device] + transfer, device + 1, piece))
    return max(free)


def table(costs: Costs, chunks: Sequence[int]) -> str:
    """Speed-up and bubble for every number of devices that divides the layers, as Markdown.

    Example:
        >>> print(table(Costs([1.0] * 2), [1, 4]))
        | layers | devices | pieces | speed-up | idle |
        |---:|---:|---:|---:|---:|
        | 2 | 2 | 1 | 1.00 | 50 % |
        | 2 | 2 | 4 | 1.60 | 20 % |
    """
    layers = len(costs.layers)
    lines = ["| layers | devices | pieces | speed-up | idle |", "|---:|---:|---:|---:|---:|"]
    for devices in (count for count in range(2, layers + 1) if layers % count == 0):
        for count in chunks:
            plan = simulate(costs, devices, count)
            lines.append(
                f"| {layers} | {devices} | {count} | {plan.speedup:.2f} | {plan.bubble:.0%} |".replace("%", " %")
            )
    return "\n".join(lines)
