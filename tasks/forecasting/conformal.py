"""Split conformal prediction: intervals of a stated coverage around any forecast, from how far past ones were off.

What held-out targets exceeded the forecast by is ranked for each step of the horizon; the rank
``⌈(n + 1)(1 − α)⌉`` of n makes the interval hold a further, exchangeable target with probability of at least 1 − α
(Vovk et al. 2005; Lei et al. 2018). Around a pair of quantiles instead of a point this is conformalized
quantile regression (Romano, Patterson and Candès 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError


def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    """The ``⌈(n + 1) level⌉``-th smallest score of each column: ``[N, H]`` to ``[H]``.

    Args:
        scores: floating; NaN where there is none: n differs by column.
        level: between 0 and 1.

    Raises:
        DataError: a column has fewer scores than the rank.

    Example:
        >>> conformal_quantile(torch.arange(1.0, 10.0).unsqueeze(1), 0.8)
        tensor([8.])
    """
    counts = (~scores.isnan()).sum(0)
    share = 1 - level
    ranks = torch.tensor([math.ceil((count + 1) * level - 1e-9) for count in counts.tolist()], device=scores.device)
    if bool((ranks > counts).any()):
        step = int((ranks > counts).nonzero()[0])
        raise DataError(
            f"step {step + 1} of the horizon has {int(counts[step])} errors to calibrate with, a level of "
            f"{level:.4g} needs {math.ceil(level / share - 1e-9)}: calibrate on more series or windows, or lower the "
            "level"
        )
    return scores.sort(0).values.gather(0, (ranks - 1).unsqueeze(0)).squeeze(0)  # NaN sort to the end


@dataclass(frozen=True)
class Conformal:
    """How far intervals reach beyond a forecast. Plain tensors, so that it loads with ``weights_only=True``.

    Attributes:
        levels: the share of targets that each interval is to hold, ``[L]``.
        below: how far below the forecast, ``[H, L]``, in units of the scale it was calibrated with.
        above: how far above.

    Example:
        >>> conformal = Conformal.of_residuals(torch.linspace(-1, 1, 41).unsqueeze(1), [0.8])
        >>> lower, upper = conformal.around(torch.tensor([[5.0]]))
        >>> lower.squeeze(), upper.squeeze()
        (tensor(4.1500), tensor(5.8500))
    """

    levels: Tensor
    below: Tensor
    above: Tensor

    @classmethod
    def of_residuals(
        cls, residuals: Tensor, levels: Sequence[float], scale: Tensor | None = None, asymmetric: bool = False
    ) -> Conformal:
        """Around point forecasts.

        Args:
            residuals: ``y − f`` of held-out forecasts, ``[N, H]``; NaN where y is missing.
            levels: shares of targets to hold, as .8 and .95.
            scale: the size of each row's errors, in-sample say, ``[N]``: intervals are then in these units.
            asymmetric: each side has its own quantile, of ``(1 + level) / 2``, instead of both that of ``|y − f|``.

        Raises:
            ConfigError: a level is not between 0 and 1.
            DataError: too few residuals for a level.
        """
        if scale is not None:
            residuals = residuals / scale.unsqueeze(1)
        width = residuals.unsqueeze(-1).expand(*residuals.shape, len(levels))
        return cls._of_scores(-width, width, levels, asymmetric)

    @classmethod
    def of_quantiles(
        cls,
        lower: Tensor,
        upper: Tensor,
        target: Tensor,
        levels: Sequence[float],
        scale: Tensor | None = None,
        asymmetric: bool = False,
    ) -> Conformal:
        """Around the intervals ``lower`` to ``upper`` that a head gives for the levels, ``[N, H, L]`` each.

        Args:
            lower: quantile ``(1 − level) / 2`` of each level.
            upper: quantile ``(1 + level) / 2``.
            target: ``[N, H]``; NaN where it is missing.
            levels: shares of targets to hold.
            scale: ``[N]``, as for :meth:`of_residuals`.
            asymmetric: as for :meth:`of_residuals`.

        Raises:
            ConfigError: a level is not between 0 and 1.
            DataError: too few targets for a level.
        """
        unit = 1 if scale is None else scale[:, None, None]
        truth = target.unsqueeze(-1)
        return cls._of_scores((lower - truth) / unit, (truth - upper) / unit, levels, asymmetric)

    @classmethod
    def _of_scores(cls, below: Tensor, above: Tensor, levels: Sequence[float], asymmetric: bool) -> Conformal:
        """From how far targets lie below and above, ``[N, H, L]``."""
        reach = []
        for place, level in enumerate(levels):
            if not 0 < level < 1:
                raise ConfigError(f"a level of {level} is no share between 0 and 1: give .8 for 80 %")
            sides = (below[..., place], above[..., place])
            if asymmetric:
                reach.append([conformal_quantile(side, (1 + level) / 2) for side in sides])
            else:
                reach.append([conformal_quantile(torch.maximum(*sides), level)] * 2)
        first, second = (torch.stack([pair[side] for pair in reach], -1) for side in (0, 1))
        return cls(torch.tensor(list(levels)), first, second)

    def around(self, lower: Tensor, upper: Tensor | None = None, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Intervals ``[B, H, L]``: lower and upper ends.

        Args:
            lower: point forecasts ``[B, H]``, or the head's lower quantiles ``[B, H, L]``.
            upper: the head's upper quantiles; None: ``lower`` is a point forecast.
            scale: the size of each row's errors, ``[B]``, if calibrated with one.
        """
        if upper is None:
            lower = upper = lower.unsqueeze(-1)
        unit = 1 if scale is None else scale[:, None, None]
        low, high = lower - self.below * unit, upper + self.above * unit
        middle = (low + high) / 2  # a negative reach may turn an interval around: then it is a point
        return torch.minimum(low, middle), torch.maximum(high, middle)

    def tensors(self) -> dict[str, Tensor]:
        """What to put in a checkpoint."""
        return {"levels": self.levels, "below": self.below, "above": self.above}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Conformal:
        """The inverse of :meth:`tensors`."""
        return cls(tensors["levels"], tensors["below"], tensors["above"])
