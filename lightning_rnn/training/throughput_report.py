"""What was measured of training steps, put together over time and processes, and said in one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch

if sys.platform != "win32":
    import resource


@dataclass
class Stretch:
    """What one process measured over some steps; plain values, which processes send each other.

    Attributes:
        valid: time steps that are not padding.
        places: time steps, padding included.
        flops: operations of the steps, padding included.
        stepping: seconds from a batch at hand to the optimizer's step done.
        waiting: seconds between two steps, callbacks and validation left out.
        medians: number of steps, and the median of their seconds, one pair for each stretch in this one.
        memory: the process' peak, in bytes.
        speed: the device's FLOP/s.
    """

    valid: int = 0
    places: int = 0
    flops: float = 0.0
    stepping: float = 0.0
    waiting: float = 0.0
    medians: list[tuple[int, float]] = field(default_factory=list)
    memory: int = 0
    speed: float = 0.0

    def __add__(self, other: Stretch) -> Stretch:
        """This stretch and a later one of the same process."""
        sums = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        latest = {"memory": max(self.memory, other.memory), "speed": other.speed}
        return Stretch(**{**sums, **latest})

    @property
    def step(self) -> float:
        """Median of the steps' seconds; of several stretches, that of the stretch in the middle by steps."""
        ordered, left = sorted(self.medians, key=lambda pair: pair[1]), sum(steps for steps, _ in self.medians) / 2
        for steps, median in ordered:
            left -= steps
            if left <= 0:
                return median
        return 0.0


def summary(processes: Sequence[Stretch]) -> dict[str, float]:
    """What is reported of the same steps on all processes.

    Args:
        processes: one stretch of each; with at least one step.

    Returns:
        ``tokens_per_second``: valid time steps of all processes over the mean time in steps and waiting for data;
        ``padding_share``; ``data_wait_share`` of that time; ``step_ms``: the median batch of the slowest process;
        ``peak_memory_mib`` of the largest process; ``gflop_per_second``: of all processes, padding's share taken off;
        ``flop_share``: of what the devices measured; ``processes``.

    Example:
        >>> one = Stretch(valid=60, places=80, flops=8e6, stepping=1.5, waiting=0.5, medians=[(3, 0.4)], speed=1e7)
        >>> found = summary([one, one])
        >>> [found[name] for name in ("tokens_per_second", "padding_share", "data_wait_share", "flop_share")]
        [60.0, 0.25, 0.25, 0.3]
    """
    number = len(processes)
    valid, places = sum(one.valid for one in processes), sum(one.places for one in processes)
    waiting = sum(one.waiting for one in processes) / number
    seconds = sum(one.stepping for one in processes) / number + waiting
    share = valid / max(places, 1)
    speed = sum(one.flops for one in processes) * share / seconds
    return {
        "tokens_per_second": valid / seconds,
        "padding_share": 1 - share,
        "data_wait_share": waiting / seconds,
        "step_ms": 1e3 * max(one.step for one in processes),
        "peak_memory_mib": max(one.memory for one in processes) / 2**20,
        "gflop_per_second": speed / 1e9,
        "flop_share": speed / sum(one.speed for one in processes),
        "processes": float(number),
    }


def sentence(found: Mapping[str, float], memory: str) -> str:
    """The line at the end of a run.

    Args:
        found: what :func:`summary` gives.
        memory: what its peak is of, ``RSS`` or ``allocated on the GPU``.

    Example:
        >>> one = Stretch(60, 80, 8e6, 1.5, 0.5, [(3, 0.4)], 2**20, 1e7)
        >>> print(sentence(summary([one]), "RSS")[:72])
        30 tokens/s, 25.0 % padding, 25.0 % waiting for data, 400.00 ms a batch,
    """
    number = int(found["processes"])
    return (
        f"{found['tokens_per_second']:,.0f} tokens/s, {found['padding_share']:.1%} padding, "
        f"{found['data_wait_share']:.1%} waiting for data, {found['step_ms']:.2f} ms a batch, "
        f"peak memory {found['peak_memory_mib']:,.0f} MiB ({memory}), {found['gflop_per_second']:.3g} GFLOP/s: "
        f"{found['flop_share']:.1%} of what products of matrices reach here"
    ).replace("%", " %") + (f"; {number} processes together, memory of the largest" if number > 1 else "")


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU what tensors took at most, else the process' resident set at its largest; 0 where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
