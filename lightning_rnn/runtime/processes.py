"""Values that the processes of a run tell each other. Every process must make each of these calls."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def several() -> bool:
    """Whether this process is one of several that have met."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: T) -> list[T]:
    """The values of all processes in rank order, on all of them.

    Args:
        value: anything that can be pickled, on the CPU.

    Example:
        >>> gathered("of the only process")
        ['of the only process']
    """
    if not several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def of_first(value: T) -> T:
    """The first process' value, on all of them.

    Example:
        >>> of_first(3)
        3
    """
    if not several():
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0)
    first: T = values[0]
    return first
