"""Intervals calibrated on the validation part of every epoch, kept with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric

from lightning_rnn.errors import DataError

from .conformal import Conformal
from .metrics import central_intervals

SMALLEST = 0.01  # of a unit of errors, as a share of the window's scale: a series may repeat itself exactly


def seasonal_change(t: Tensor, valid: Tensor, season: int, scale: Tensor) -> Tensor:
    """Root mean square of ``t[i] - t[i - season]`` in windows, ``[B]``: how far the seasonal naive forecast is off.

    Args:
        t: ``[B, L]``.
        valid: bool ``[B, L]``.
        season: steps.
        scale: of the windows, positive, ``[B]``: taken where no two steps are a season apart; a hundredth is the least.

    Example:
        >>> t, valid = torch.tensor([[1.0, 5.0, 4.0, 9.0]]), torch.ones(1, 4, dtype=torch.bool)
        >>> seasonal_change(t, valid, 2, torch.tensor([3.0]))
        tensor([3.5355])
        >>> seasonal_change(t, valid, 4, torch.tensor([3.0]))
        tensor([3.])
    """
    pairs = valid[:, season:] & valid[:, :-season]
    square = torch.where(pairs, (t[:, season:] - t[:, :-season]).square(), 0)
    change = (square.sum(1) / pairs.sum(1).clamp(min=1)).sqrt()
    return torch.where(pairs.any(1), change.maximum(SMALLEST * scale), scale)


def error_unit(change: Tensor, forecasts: Tensor) -> Tensor:
    """``√(change · spread)``, ``[B]``: a unit of forecast errors, from how a window varies and how far members part.

    Args:
        change: of :func:`seasonal_change`, ``[B]``.
        forecasts: point forecasts t(y) of the members, ``[M, B, H]``. Their spread is the mean distance from their
            mean, at least a hundredth of ``change``; of one member ``change`` alone is taken.

    Example:
        >>> error_unit(torch.tensor([4.0]), torch.tensor([[[1.0, 5.0]], [[3.0, 5.0]]]))
        tensor([1.4142])
    """
    if len(forecasts) == 1:
        return change
    spread = (forecasts - forecasts.mean(0)).abs().mean((0, 2))
    return (change * spread.maximum(SMALLEST * change)).sqrt()


class Calibration(nn.Module):
    """Conformalized quantiles: the levels ``q`` and ``1 - q`` become intervals that hold ``1 - 2q`` of the targets.

    Errors are those of ``t(y)`` in units of :func:`error_unit`: widths follow how far each series is from repeating its
    season, and the members from agreeing. What they are added to is again in t(y). Quantiles that then cross are put in
    order.

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
        """Take in a batch of t(y): ``[B, H, 1 + Q]``, ``[B, H]``, and the unit ``[B]``."""
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
        """Forecasts ``[B, H, 1 + Q]`` of t(y) with the pairs' quantiles moved, by units ``[B]``.

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
        return torch.cat([moved[..., :1], moved[..., 1:].sort(-1).values], -1)
