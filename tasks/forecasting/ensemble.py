"""The forecaster's network: one member or the mean of several, and intervals calibrated on held-out steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError

from .calibration import error_unit, seasonal_change
from .network import Learned, Member, NetworkOptions, WindowNetwork, window_of
from .recursive import RecursiveNetwork
from .scaling import Scaled
from .spec import ForecastSpec

MEMBERS: dict[str, type[Member]] = {
    "segment": WindowNetwork,
    "direct": WindowNetwork,
    "recursive": RecursiveNetwork,
}


class Lesson(NamedTuple):
    """A member's training pass.

    Attributes:
        member: the network.
        rows: of the batch that it learned from, int64 ``[R]``.
        learned: of these.
    """

    member: Member
    rows: Tensor
    learned: Learned


class ForecastNetwork(nn.Module):
    """The mean of the members' forecasts; each member learns by itself.

    Args:
        spec: of the data.
        options: the shape of each.
        lookbacks: steps that each looks back: as many members.
    """

    def __init__(self, spec: ForecastSpec, options: NetworkOptions, lookbacks: list[int]) -> None:
        super().__init__()
        self.spec = spec
        kind = MEMBERS[options.decode]
        self.members = nn.ModuleList(kind(spec, options, lookback) for lookback in lookbacks)

    @property
    def first(self) -> Member:
        """The first member."""
        member = self.members[0]
        assert isinstance(member, Member)
        return member

    def learn(self, inputs: Tensor, lengths: Tensor, target: Tensor, group: Tensor | None = None) -> list[Lesson]:
        """A training pass of every member, see :meth:`Member.learn`.

        Args:
            inputs: ``[B, T, C]``.
            lengths: int64 ``[B]``.
            target: ``[B, H]``.
            group: of the rows, int64 ``[B]``, from 0 up: a member learns from one of these, in turn; None: from all.

        Raises:
            ConfigError: there are fewer members than groups.
        """
        groups = torch.zeros_like(lengths) if group is None else group
        rows = [(groups == one).nonzero()[:, 0] for one in range(int(groups.max()) + 1)]
        if len(rows) > len(self.members):
            raise ConfigError(
                f"data.recent has {len(rows)} entries, model.members is {len(self.members)}: each needs a member"
            )
        lessons = []
        for place, member in enumerate(self.members):
            assert isinstance(member, Member)
            own = rows[place % len(rows)]
            lessons.append(Lesson(member, own, member.learn(inputs[own], lengths[own], target[own])))
        return lessons

    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Forecasts.

        Args:
            inputs: ``[B, T, C]``, see :class:`ForecastSpec`.
            lengths: int64 ``[B]``.
            levels: of quantiles, ``[Q]``.

        Returns:
            ``[B, H, 1 + Q]``, the point and the quantiles in units of y; and what their errors are measured by, in
            t(y), ``[B]``: see :func:`tasks.forecasting.calibration.error_unit`.
        """
        found = [member(inputs, lengths, levels) for member in self.members]
        forecasts = torch.stack([forecast for forecast, _ in found])
        return forecasts.mean(0), self._unit(inputs, lengths, forecasts[..., 0], found[0][1])

    def _unit(self, inputs: Tensor, lengths: Tensor, points: Tensor, scaled: Scaled) -> Tensor:
        spec, transform = self.spec, self.first.scaling.transform
        window = window_of(inputs, lengths, spec, spec.lookback)
        t = transform(torch.where(window.valid, window.y, 1))
        change = seasonal_change(t, window.valid, spec.season, scaled.scale[:, 0])
        return error_unit(change, transform(points))


def mean_of(lessons: Sequence[Lesson], rows: int) -> Tensor:
    """Each row's point forecast, the mean of the members that learned from it: ``[rows, H]``, without gradients."""
    forecasts = [lesson.learned.mean.detach() for lesson in lessons]
    total = forecasts[0].new_zeros(rows, forecasts[0].shape[1])
    counts = total.new_zeros(rows, 1)
    for lesson, forecast in zip(lessons, forecasts, strict=True):
        total.index_add_(0, lesson.rows, forecast)
        counts.index_add_(0, lesson.rows, torch.ones_like(counts[lesson.rows]))
    return total / counts.clamp(min=1)
