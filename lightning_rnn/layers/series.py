"""What stands before a recurrent layer: scaling, convolutions and dropout that respect padding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Scale = Literal["none", "train", "series"]


class SeriesScaling(nn.Module):
    """Zero mean and unit variance for each feature; values that are missing (NaN) become 0, the mean.

    Args:
        how: ``train`` uses the training part's moments, ``series`` each row's own over its valid steps, ``none``
            leaves the values alone (and turns NaN into 0).
        mean: training mean of each feature.
        std: training standard deviation of each feature.

    Example:
        >>> SeriesScaling("train", [1.0], [2.0])(torch.tensor([[[5.0], [torch.nan]]])).flatten().tolist()
        [2.0, 0.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, how: Scale, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, D]``, ``mask [B, T]`` → ``[B, T, D]``; padding is 0."""
        there = ~x.isnan()
        if mask is not None:
            there = there & mask.unsqueeze(2)
        x = torch.where(there, x, 0)
        if self.how == "train":
            x = (x - self.mean) / self.std
        elif self.how == "series":
            count = there.sum(1, keepdim=True).clamp(min=1)
            centered = torch.where(there, x - x.sum(1, keepdim=True) / count, 0)
            x = centered / ((centered**2).sum(1, keepdim=True) / count).sqrt().clamp(min=1e-6)
        return torch.where(there, x, 0)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization over the valid steps of ``[B, T, C]`` alone: padding does not move the statistics.

    Example:
        >>> norm = MaskedBatchNorm(4)
        >>> norm(torch.randn(2, 7, 4), torch.ones(2, 7, dtype=torch.bool)).shape
        torch.Size([2, 7, 4])
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]  # takes a mask
        """``x [B, T, C]``, ``mask [B, T]`` → ``[B, T, C]``; padding is 0."""
        if mask is None:
            return super().forward(x.flatten(0, 1)).view_as(x)
        if self.training:
            valid = mask.flatten()
            out = torch.zeros_like(x).flatten(0, 1)
            return out.index_put((valid.nonzero().squeeze(1),), super().forward(x.flatten(0, 1)[valid])).view_as(x)
        return torch.where(mask.unsqueeze(2), super().forward(x.flatten(0, 1)).view_as(x), 0)


class ConvBlock(nn.Module):
    """Convolution over time, batch normalization, ReLU; the length stays, and padding stays 0.

    Wang, Yan and Oates 2017 (arXiv 1611.06455, section II.B) stack three of them.

    Args:
        in_channels: features of the input.
        out_channels: features of the output.
        kernel_size: steps that an output sees, centered.

    Example:
        >>> ConvBlock(3, 16, 8)(torch.zeros(2, 7, 3)).shape
        torch.Size([2, 7, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel_size, padding="same", bias=False)
        self.norm = MaskedBatchNorm(out_channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, in_channels]`` with 0 at padding, ``mask [B, T]`` → ``[B, T, out_channels]``."""
        return torch.relu(self.norm(self.convolution(x.transpose(1, 2)).transpose(1, 2), mask))


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
        return x * nn.functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p, self.training)
