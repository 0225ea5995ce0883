"""What errors are measured in: the series' own units, or those of each training series' deviation."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .metrics import Truth


def to_units(forecasts: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """Forecasts ``[B, H, ...]`` less ``center``, over ``unit``, of a batch's targets.

    Example:
        >>> import torch
        >>> to_units(torch.tensor([[5.0]]), {"center": torch.tensor([1.0]), "unit": torch.tensor([2.0])})
        tensor([[2.]])
    """
    center, unit = _of(forecasts, targets)
    return (forecasts - center) / unit


def from_units(forecasts: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """The inverse of :func:`to_units`."""
    center, unit = _of(forecasts, targets)
    return forecasts * unit + center


def truth_of(targets: Mapping[str, Tensor]) -> Truth:
    """What forecasts of a batch are compared with, in the units of the errors."""
    y, unit = to_units(targets["y"], targets), targets["unit"]
    naive2 = to_units(targets["naive2"], targets)
    return Truth(y, ~y.isnan(), targets["scale"] / unit, targets["square_scale"] / unit.square(), naive2)


def _of(values: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    shape = (len(values), *[1] * (values.ndim - 1))
    return targets["center"].reshape(shape), targets["unit"].reshape(shape)
