"""What the networks see, and the networks by name: second place's, the winner's and our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers import SequencePooling, SeriesFeatures

from .schema import FEATURES
from .winner import Winner

Missing = Literal["zero", "mask"]
NetworkName = Literal["lstm2", "winner", "gru"]
ALWAYS = 2  # features that are never missing: the minute and the distance


class RadarFeatures(nn.Module):
    """Scans as a network sees them.

    Args:
        missing: what stands for NaN: ``zero`` alone (the winner's way), or zero and beside the values which of the 20
            radar features are missing (``mask``).
        scale: whether features get the training part's zero mean and unit variance first.
        mean: training mean of each feature, ``[22]``.
        std: training standard deviation of each feature, ``[22]``.

    Example:
        >>> scans = torch.full((1, 1, 22), torch.nan)
        >>> RadarFeatures("mask", False, mean=[0.0] * 22, std=[1.0] * 22)(scans).sum().item()
        20.0
    """

    def __init__(self, missing: Missing, scale: bool, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.missing = missing
        self.values = SeriesFeatures("train" if scale else "none", ["value"], mean=mean, std=std)
        self.output_size = len(FEATURES) + (len(FEATURES) - ALWAYS if missing == "mask" else 0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, 22]``, ``mask [B, T]`` → ``[B, T, output_size]``; padding is 0."""
        values: Tensor = self.values(x, mask)
        if self.missing == "zero":
            return values
        return torch.cat([values, x[..., ALWAYS:].isnan().to(values.dtype)], dim=2)


class TwoLayers(nn.Module):
    """LSTM layers and a linear unit on their last output, as second place had two of (Luis André Dutra e Silva).

    Args:
        input_size: features of the input.
        sizes: units of each layer.
        projection: features of a linear layer before them; 0: none.

    Example:
        >>> TwoLayers(22, [64, 64])(torch.zeros(2, 7, 22)).shape
        torch.Size([2])
    """

    def __init__(self, input_size: int, sizes: Sequence[int], projection: int = 0) -> None:
        super().__init__()
        self.projection = nn.Linear(input_size, projection) if projection else nn.Identity()
        self.rnn = LSTM(projection or input_size, list(sizes))
        self.head = nn.Linear(sizes[-1], 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x [B, T, D]`` → ``[B]``."""
        amount: Tensor = self.head(self.rnn(self.projection(x), lengths=lengths).last)
        return amount.squeeze(1)


class BothEnds(nn.Module):
    """GRU layers in both directions; the mean of all steps and the two ends go to a linear unit.

    Args:
        input_size: features of the input.
        sizes: units of each layer and direction.
        projection: features of a linear layer before them; 0: none.

    Example:
        >>> BothEnds(42, [64])(torch.zeros(2, 7, 42)).shape
        torch.Size([2])
    """

    def __init__(self, input_size: int, sizes: Sequence[int], projection: int = 0) -> None:
        super().__init__()
        self.projection = nn.Linear(input_size, projection) if projection else nn.Identity()
        self.rnn = GRU(projection or input_size, list(sizes), bidirectional=True)
        self.pooling = SequencePooling(self.rnn.output_size, ["mean", "last"])
        self.head = nn.Linear(self.pooling.output_size, 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x [B, T, D]`` → ``[B]``."""
        output = self.rnn(self.projection(x), lengths=lengths)
        amount: Tensor = self.head(self.pooling(output.sequence, lengths, last=output.last))
        return amount.squeeze(1)


@dataclass(frozen=True)
class NetworkKind:
    """A network by name: what makes it, and its sizes where none are given."""

    build: Callable[[int, Sequence[int], int], nn.Module]
    sizes: tuple[int, ...]


NETWORKS: dict[NetworkName, NetworkKind] = {
    "lstm2": NetworkKind(TwoLayers, (64, 64)),
    "winner": NetworkKind(Winner, (64, 64, 64)),
    "gru": NetworkKind(BothEnds, (64,)),
}


class RainfallNetwork(nn.Module):
    """Scans → one number an hour.

    Args:
        features: what is made of the scans.
        body: from those to the number, ``(x [B, T, D], lengths) → [B]``.
    """

    def __init__(self, features: RadarFeatures, body: nn.Module) -> None:
        super().__init__()
        self.features, self.body = features, body

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x [B, T, 22]`` with NaN where missing, ``lengths`` int64 ``[B]`` → ``[B]``."""
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        number: Tensor = self.body(self.features(x, mask), lengths)
        return number
