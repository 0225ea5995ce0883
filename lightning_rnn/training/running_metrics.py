"""What torchmetrics objects have counted so far, as plain values: for a checkpoint in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torchmetrics import Metric

Counted = list[dict[str, Any]]


def counted(metrics: Iterable[Metric]) -> Counted:
    """The states of metrics on this process, on the CPU.

    Example:
        >>> from torchmetrics import MeanMetric
        >>> mean = MeanMetric()
        >>> mean.update(3.0)
        >>> other = MeanMetric()
        >>> restore([other], [counted([mean])], rank=0, world=1)
        >>> other.compute()
        tensor(3.)
    """
    return [
        {
            "updates": metric.update_count,
            "states": pytree.tree_map_only(Tensor, lambda t: t.detach().cpu().clone(), dict(metric.metric_state)),
        }
        for metric in metrics
    ]


def restore(metrics: Sequence[Metric], processes: Sequence[Counted], rank: int, world: int) -> None:
    """Put back what each process had counted; with another number of processes, rank 0 takes over what is left.

    Args:
        metrics: of this process.
        processes: what :func:`counted` gave on each process.
        rank: this process.
        world: number of processes now.
    """
    mine = [processes[rank]] if len(processes) == world else list(processes[rank::world])
    for one in mine:
        for metric, values in zip(metrics, one, strict=True):
            if values["updates"]:
                _add(metric, values)


@contextmanager
def uncounted(metrics: Sequence[Metric]) -> Iterator[None]:
    """What these metrics are updated with in this context does not count, but says what their states look like.

    A process without rows needs that: with lists that were never filled it could not be gathered with the others.

    Example:
        >>> import torch
        >>> from torchmetrics import CatMetric
        >>> metric = CatMetric()
        >>> with uncounted([metric]):
        ...     metric.update(torch.ones(1, 3))
        >>> metric.metric_state["value"]
        [tensor([], size=(0, 3))]
    """
    before = [{name: _copied(value) for name, value in metric.metric_state.items()} for metric in metrics]
    yield
    for metric, states in zip(metrics, before, strict=True):
        for name, value in states.items():
            if isinstance(value, list) and not value:
                value = [rows[:0] for rows in getattr(metric, name)]
            setattr(metric, name, value)


def _copied(state: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return state.clone() if isinstance(state, Tensor) else list(state)


def _add(metric: Metric, values: Mapping[str, Any]) -> None:
    other = metric.clone()
    other.reset()
    for name, value in values["states"].items():
        setattr(other, name, pytree.tree_map_only(Tensor, lambda t: t.to(metric.device), value))
    if metric.update_count == 0:
        for name in values["states"]:
            setattr(metric, name, getattr(other, name))
    else:
        metric.merge_state(other)
    metric._update_count += values["updates"]
