"""What stands before a recurrent layer: features of a series, frames, convolutions and dropout that respect padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers.gates import drop

Scale = Literal["none", "train", "series"]
Feature = Literal["value", "difference", "residual"]
FramePooling = Literal["concat", "mean"]
SMALLEST = 1e-6  # of a scale, as a share of the size of what it is of: series may be constant


class SeriesFeatures(nn.Module):
    """Scaled values of a series, and where asked for their first differences and their distance from the mean series.

    Values that are missing (NaN) become 0, the mean.

    Args:
        scale: ``train`` gives each feature the training part's zero mean and unit variance, ``series`` each row its
            own over its valid steps, ``none`` leaves the values alone.
        features: any of ``value``, ``difference`` (to the step before) and ``residual`` (from the training part's mean
            at the same step, for series that are aligned), put side by side.
        aligned_above: residuals are 0 unless the training mean at each step explains at least this share of the
            training part's variance.
        mean: training mean of each feature, ``[D]``.
        std: training standard deviation of each feature, ``[D]``.
        profile: training mean at each step, ``[T, D]``, for ``residual``.
        spread: training root mean square of the scaled differences and of the residuals, each ``[D]``.

    Example:
        >>> scaled = SeriesFeatures("train", ["value", "difference"], mean=[1.0], std=[2.0])
        >>> scaled(torch.tensor([[[5.0], [torch.nan], [1.0]]]))
        tensor([[[2., 0.],
                 [0., 0.],
                 [0., 0.]]])
    """

    mean: Tensor
    std: Tensor
    profile: Tensor
    spread: Tensor

    def __init__(
        self,
        scale: Scale,
        features: Sequence[Feature],
        aligned_above: float = 0.0,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        profile: Sequence[Sequence[float]] = (),
        spread: Sequence[Sequence[float]] = (),
    ) -> None:
        super().__init__()
        self.scale, self.features = scale, tuple(features)
        explained = [1 - (s / d) ** 2 for s, d in zip(spread[1], std, strict=True)] if spread else [0.0] * len(std)
        self.aligned = sum(explained) / len(explained) >= aligned_above
        self.output_size = len(mean) * len(self.features)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.register_buffer("profile", torch.tensor(profile).reshape(-1, len(mean)))
        self.register_buffer("spread", torch.tensor(spread or [[1.0] * len(mean)] * 2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, D]``, ``mask [B, T]`` → ``[B, T, D * number of features]``; padding is 0."""
        there = ~x.isnan()
        if mask is not None:
            there = there & mask.unsqueeze(2)
        x = torch.where(there, x, 0)
        views = {"value": self._scaled, "difference": self._difference, "residual": self._residual}
        return torch.cat([torch.where(there, views[name](x, there), 0) for name in self.features], dim=2)

    def _scaled(self, x: Tensor, there: Tensor) -> Tensor:
        if self.scale == "train":
            return (x - self.mean) / self.std
        if self.scale == "none":
            return x
        count = there.sum(1, keepdim=True).clamp(min=1)
        mean = x.sum(1, keepdim=True) / count
        centered = torch.where(there, x - mean, 0)
        std = ((centered**2).sum(1, keepdim=True) / count).sqrt()
        return centered / std.maximum(SMALLEST * mean.abs() + torch.finfo(x.dtype).tiny ** 0.5)

    def _difference(self, x: Tensor, there: Tensor) -> Tensor:
        scaled = torch.where(there, self._scaled(x, there), 0)
        return (scaled - torch.cat([scaled[:, :1], scaled[:, :-1]], dim=1)) / self.spread[0]

    def _residual(self, x: Tensor, there: Tensor) -> Tensor:
        if not self.aligned:
            return torch.zeros_like(x)
        steps = min(x.shape[1], len(self.profile))
        profile = torch.cat([self.profile[:steps], self.mean.expand(x.shape[1] - steps, -1)])
        return (x - profile) / self.spread[1]


def profile_of(rows: Tensor) -> list[list[float]]:
    """Mean over rows ``[N, T, D]`` at each step, missing values left out: ``[T, D]``."""
    return rows.nanmean(0).nan_to_num().tolist()


def spread_of(rows: Tensor, profile: Sequence[Sequence[float]], std: Sequence[float]) -> list[list[float]]:
    """Root mean squares of the scaled differences and of the residuals of rows ``[N, T, D]``: ``[2, D]``."""
    differences = rows.diff(dim=1) / torch.tensor(std)
    residuals = rows - torch.tensor(profile)
    smallest = SMALLEST * torch.tensor([[1.0] * len(std), std])
    parts = [(part**2).nanmean((0, 1)).sqrt().nan_to_num() for part in (differences, residuals)]
    return torch.stack(parts).maximum(smallest).tolist()


class Frames(nn.Module):
    """Windows of successive steps as one step: a shorter sequence, of wider vectors or of means.

    Frame ``i`` covers ``window`` steps around steps ``i * hop`` to ``(i + 1) * hop``; beyond the ends stand zeros.

    Args:
        hop: steps from one frame to the next.
        window: steps in a frame, at least ``hop``.
        how: ``concat`` puts a window's steps side by side, ``mean`` averages those that are valid.

    Example:
        >>> frames, lengths = Frames(2, 4)(torch.arange(1.0, 6.0).reshape(1, 5, 1), torch.tensor([5]))
        >>> frames.tolist(), lengths.tolist()
        ([[[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 0.0, 0.0]]], [3])
    """

    def __init__(self, hop: int, window: int, how: FramePooling = "concat") -> None:
        super().__init__()
        self.hop, self.window, self.how = hop, window, how
        self.widening = window if how == "concat" else 1

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``x [B, T, D]`` with 0 at padding, ``lengths [B]`` → ``[B, ceil(T / hop), widening * D]`` and its lengths."""
        framed_lengths = None if lengths is None else -(-lengths // self.hop)
        framed = self._windows(x)
        if self.how == "concat":
            return framed.flatten(2), framed_lengths
        there = x.new_ones(x.shape[:2]) if lengths is None else sequence_mask(lengths, x.shape[1]).to(x.dtype)
        count = self._windows(there.unsqueeze(2)).sum(2).clamp(min=1)
        return framed.sum(2) / count, framed_lengths

    def _windows(self, x: Tensor) -> Tensor:
        """``[B, T, D]`` → ``[B, frames, window, D]``."""
        count = -(-x.shape[1] // self.hop)
        left = (self.window - self.hop) // 2
        right = max(0, max(count - 1, 0) * self.hop + self.window - left - x.shape[1])
        padded = nn.functional.pad(x, (0, 0, left, right))
        return padded.unfold(1, self.window, self.hop)[:, :count].transpose(2, 3)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization over the valid steps of ``[B, T, C]`` alone: padding does not move the statistics.

    Example:
        >>> norm = MaskedBatchNorm(4)
        >>> norm(torch.randn(2, 7, 4), torch.ones(2, 7, dtype=torch.bool)).shape
        torch.Size([2, 7, 4])
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, C]``, ``mask [B, T]`` → ``[B, T, C]``; padding is 0."""
        flat = x.flatten(0, 1)
        if mask is None:
            return super().forward(flat).view_as(x)
        if not self.training:
            return torch.where(mask.unsqueeze(2), super().forward(flat).view_as(x), 0)
        valid = mask.flatten().nonzero().squeeze(1)
        normalized = super().forward(flat.index_select(0, valid))
        return torch.zeros_like(flat, dtype=normalized.dtype).index_copy(0, valid, normalized).view_as(x)


class ConvBlock(nn.Module):
    """Convolution over time, batch normalization, ReLU; padding stays 0. With ``pool``, the maximum of as many steps.

    Wang, Yan and Oates 2017 (arXiv 1611.06455, section II.B) stack three of them.

    Args:
        in_channels: features of the input.
        out_channels: features of the output.
        kernel_size: steps that an output sees, centered.
        pool: steps that are pooled to one.

    Example:
        >>> ConvBlock(3, 16, 8, pool=2)(torch.zeros(2, 7, 3), torch.tensor([7, 2]))[0].shape
        torch.Size([2, 4, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, pool: int = 1) -> None:
        super().__init__()
        self.margins = ((kernel_size - 1) // 2, kernel_size // 2)
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel_size, bias=False)
        nn.init.xavier_uniform_(self.convolution.weight)
        self.norm = MaskedBatchNorm(out_channels)
        self.pool = pool

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``x [B, T, in_channels]`` with 0 at padding → ``[B, ceil(T / pool), out_channels]`` and its lengths."""
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        x = nn.functional.pad(x.transpose(1, 2), self.margins)
        x = torch.relu(self.norm(self.convolution(x).transpose(1, 2), mask))
        if self.pool == 1:
            return x, lengths
        x = nn.functional.max_pool1d(x.transpose(1, 2), self.pool, ceil_mode=True).transpose(1, 2)
        return x, None if lengths is None else -(-lengths // self.pool)


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a row (Gal and Ghahramani 2016, arXiv 1512.05287, section 4).

    Args:
        p: share of the features dropped.

    Example:
        >>> out = LockedDropout(0.5)(torch.ones(2, 7, 3))
        >>> bool((out == out[:, :1]).all())
        True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, D]`` → ``[B, T, D]``."""
        return drop(x, self.p, self.training, locked=True)
