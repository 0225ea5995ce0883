"""The forecaster's network: one member or the mean of several, and intervals calibrated on held-out steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Learned, Member, NetworkOptions, WindowNetwork
from .recursive import RecursiveNetwork
from .spec import ForecastSpec

MEMBERS: dict[str, type[Member]] = {
    "segment": WindowNetwork,
    "direct": WindowNetwork,
    "recursive": RecursiveNetwork,
}


class ForecastNetwork(nn.Module):
    """The mean of the members' forecasts; each member learns by itself.

    Args:
        spec: of the data.
        options: the shape of each.
        lookbacks: steps that each looks back: as many members.
    """

    def __init__(self, spec: ForecastSpec, options: NetworkOptions, lookbacks: list[int]) -> None:
        super().__init__()
        kind = MEMBERS[options.decode]
        self.members = nn.ModuleList(kind(spec, options, lookback) for lookback in lookbacks)

    @property
    def first(self) -> Member:
        """The first member."""
        member = self.members[0]
        assert isinstance(member, Member)
        return member

    def learn(self, inputs: Tensor, lengths: Tensor, target: Tensor) -> list[tuple[Member, Learned]]:
        """A training pass of every member, see :meth:`Member.learn`."""
        members = [member for member in self.members if isinstance(member, Member)]
        return [(member, member.learn(inputs, lengths, target)) for member in members]

    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Forecasts.

        Args:
            inputs: ``[B, T, C]``, see :class:`ForecastSpec`.
            lengths: int64 ``[B]``.
            levels: of quantiles, ``[Q]``.

        Returns:
            ``[B, H, 1 + Q]``, the point and the quantiles in units of y; and the first member's window scale ``[B]``.
        """
        found = [member(inputs, lengths, levels) for member in self.members]
        forecasts = torch.stack([forecast for forecast, _ in found]).mean(0)
        return forecasts, found[0][1].scale[:, 0]
