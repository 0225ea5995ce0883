"""Intervals calibrated on the validation part of every epoch, kept with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric

from lightning_rnn.errors import DataError

from .conformal import Conformal
from .metrics import central_intervals


class Calibration(nn.Module):
    """Conformalized quantiles: the levels ``q`` and ``1 - q`` become intervals that hold ``1 - 2q`` of the targets.

    Errors are those of ``t(y)`` in units of the window's scale; what they are added to is again in t(y).

    Args:
        horizon: steps of a forecast.
        levels: of the quantiles, in the order of the forecasts.
    """

    below: Tensor
    above: Tensor

    def __init__(self, horizon: int, levels: Sequence[float]) -> None:
        super().__init__()
        self.pairs = central_intervals(levels)
        shape = (horizon, len(self.pairs))
        self.register_buffer("below", torch.full(shape, torch.nan))
        self.register_buffer("above", torch.full(shape, torch.nan))
        self.errors = CatMetric(nan_strategy="disable")

    @property
    def shares(self) -> list[float]:
        """What each interval is to hold."""
        return [share for _, _, share in self.pairs]

    def _ends(self, forecasts: Tensor) -> tuple[Tensor, Tensor]:
        """The quantiles of each pair, ``[B, H, pairs]``."""
        low, high = [1 + low for low, _, _ in self.pairs], [1 + high for _, high, _ in self.pairs]
        return forecasts[..., low], forecasts[..., high]

    def update(self, forecasts: Tensor, target: Tensor, scale: Tensor) -> None:
        """Take in a batch: ``[B, H, 1 + Q]``, ``[B, H]`` and ``[B]``."""
        lower, upper = self._ends(forecasts)
        unit = scale[:, None, None]
        errors = torch.stack([(lower - target.unsqueeze(2)) / unit, (target.unsqueeze(2) - upper) / unit])
        self.errors.update(errors.movedim(0, -1).flatten(1))

    def finish(self) -> None:
        """Calibrate from what came since the last call.

        Raises:
            DataError: too few errors for a level.
        """
        errors = self.errors.compute().reshape(-1, *self.below.shape, 2)
        self.errors.reset()
        below, above = errors.unbind(-1)
        zero = torch.zeros_like(below[..., 0])
        found = Conformal.of_quantiles(below, -above, zero, self.shares)
        self.below.copy_(found.below)
        self.above.copy_(found.above)

    def around(self, forecasts: Tensor, scale: Tensor) -> Tensor:
        """Forecasts ``[B, H, 1 + Q]`` with the pairs' quantiles moved.

        Raises:
            DataError: nothing was calibrated: the model was trained without a validation part.
        """
        if bool(self.below.isnan().any()):
            raise DataError(
                "the intervals are not calibrated: train with a validation part, or set model.conformal=false"
            )
        conformal = Conformal(torch.tensor(self.shares), self.below, self.above)
        lower, upper = conformal.around(*self._ends(forecasts), scale=scale)
        moved = forecasts.clone()
        moved[..., [1 + low for low, _, _ in self.pairs]] = lower
        moved[..., [1 + high for _, high, _ in self.pairs]] = upper
        return moved
