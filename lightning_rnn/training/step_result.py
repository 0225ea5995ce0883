"""What one step of a module gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.errors import DataError
from lightning_rnn.types import Nest


@dataclass
class StepResult:
    """What one step of a module gives.

    Attributes:
        loss: scalar, the mean over the batch's valid elements.
        predictions: what metrics compare with ``targets``.
        targets: as in the batch; None where there are none.
        weight: number of valid elements behind ``loss`` (the sum of their weights where they are weighted).
        ids: the row of each prediction, ``[N]``, where they are not the batch's rows in order.

    Raises:
        DataError: as many floating targets as predictions, but of another shape: a loss would broadcast them.

    Example:
        >>> import torch
        >>> StepResult(torch.zeros(()), torch.zeros(4, 1), torch.zeros(4), 4)
        Traceback (most recent call last):
        lightning_rnn.errors.DataError: targets [4] for predictions [4, 1] would be broadcast: give both one shape
    """

    loss: Tensor
    predictions: Nest
    targets: Nest | None
    weight: float
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        ours, theirs = self.predictions, self.targets
        if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor) and theirs.is_floating_point()):
            return
        if ours.shape != theirs.shape and ours.numel() == theirs.numel():
            raise DataError(
                f"targets {list(theirs.shape)} for predictions {list(ours.shape)} would be broadcast: give both one "
                "shape"
            )


def without_rows(result: StepResult) -> StepResult:
    """The result of a batch that stands in: of no rows, so that nothing of it counts."""
    none = pytree.tree_map_only(Tensor, lambda t: t[:0], (result.predictions, result.targets, result.ids))
    predictions, targets, ids = none
    return replace(result, loss=0 * result.loss, predictions=predictions, targets=targets, weight=0, ids=ids)
