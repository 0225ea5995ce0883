"""From a sequence to one vector, over its valid steps alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn.functional import masked_max, masked_mean, sequence_mask
from lightning_rnn.types import RNNOutput

Pooling = Literal["last", "mean", "max", "attention"]


class AttentionPooling(nn.Module):
    r"""Learned weighted mean :math:`\sum_t a_t x_t,\ a = \mathrm{softmax}_t(v^\top \tanh(W x_t + b))`.

    Yang et al. 2016, Hierarchical Attention Networks, section 2.2. A row without a valid step gives 0.

    Args:
        size: features of the input, ``D``.

    Example:
        >>> AttentionPooling(5)(torch.zeros(2, 7, 5), torch.ones(2, 7, dtype=torch.bool)).shape
        torch.Size([2, 5])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, size)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, D]``, ``mask [B, T]`` bool → ``[B, D]``."""
        scores = self.score(torch.tanh(self.project(x))).squeeze(-1)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1)
        if mask is not None:
            weights = weights * mask
            x = torch.where(mask.unsqueeze(2), x, 0)
        return (weights.unsqueeze(2) * x).sum(1)


class SequencePooling(nn.Module):
    """The output of a recurrent layer as one vector; several ways are put side by side.

    Args:
        size: features of the layer's output.
        how: one or several of ``last``, ``mean``, ``max``, ``attention``.

    Example:
        >>> from lightning_rnn import GRU
        >>> pool = SequencePooling(8, ["mean", "max"])
        >>> pool(GRU(3, 8)(torch.zeros(2, 7, 3))).shape, pool.output_size
        (torch.Size([2, 16]), 16)
    """

    def __init__(self, size: int, how: list[Pooling]) -> None:
        super().__init__()
        self.how = list(how)
        self.attention = AttentionPooling(size) if "attention" in self.how else None
        self.output_size = size * len(self.how)

    def forward(self, output: RNNOutput, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """``RNNOutput`` of ``[B, T, H]`` → ``[B, H * number of ways]``."""
        x = output.sequence
        if lengths is not None:
            mask = sequence_mask(lengths, x.shape[1])
        pooled = []
        for how in self.how:
            if how == "last":
                pooled.append(output.last)
            elif how == "mean":
                pooled.append(masked_mean(x, mask))
            elif how == "max":
                pooled.append(masked_max(x, mask))
            elif self.attention is not None:
                pooled.append(self.attention(x, mask))
        return torch.cat(pooled, dim=-1)
