"""The mean of anything that is computed of predictions and targets, over all cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

Judge = Callable[[Tensor, Any], Tensor]


class MeanOf(Metric):
    """Mean over cases, of the same weight each, of what a function makes of predictions and targets.

    Args:
        judge: gives a tensor of any shape, bool or floating: a case an element.

    Example:
        >>> right = MeanOf(lambda predictions, targets: predictions.round() == targets)
        >>> right.update(torch.tensor([0.9, 0.2]), torch.tensor([1.0, 1.0]))
        >>> right.compute()
        tensor(0.5000)
    """

    total: Tensor
    cases: Tensor
    full_state_update = False

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("cases", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Any) -> None:
        """Take in a batch."""
        values = self.judge(predictions, targets)
        self.total += values.sum(dtype=torch.float64)
        self.cases += values.numel()

    def compute(self) -> Tensor:
        """The mean; 0 of no cases."""
        return (self.total / self.cases.clamp(min=1)).float()


def collection(judges: dict[str, Judge]) -> MetricCollection:
    """One :class:`MeanOf` each; torchmetrics would merge those that begin with equal values."""
    return MetricCollection({name: MeanOf(judge) for name, judge in judges.items()}, compute_groups=False)
