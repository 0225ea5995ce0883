"""From a sequence to one vector, over its valid steps alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn.functional import last_valid, masked_max, masked_mean, sequence_mask

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
        weights: Tensor = scores.softmax(dim=1)
        if mask is not None:
            weights = weights * mask
            x = torch.where(mask.unsqueeze(2), x, 0)
        return (weights.unsqueeze(2) * x).sum(1)


class SequencePooling(nn.Module):
    """A sequence as one vector; several ways are put side by side.

    Args:
        size: features of the sequence.
        how: one or several of ``last``, ``mean``, ``max``, ``attention``.

    Example:
        >>> from lightning_rnn import GRU
        >>> pool, output = SequencePooling(8, ["last", "max"]), GRU(3, 8)(torch.zeros(2, 7, 3))
        >>> pool(output.sequence, last=output.last).shape, pool.output_size
        (torch.Size([2, 16]), 16)
    """

    def __init__(self, size: int, how: Sequence[Pooling]) -> None:
        super().__init__()
        self.how = tuple(how)
        self.attention = AttentionPooling(size) if "attention" in self.how else None
        self.output_size = size * len(self.how)

    def forward(self, x: Tensor, lengths: Tensor | None = None, last: Tensor | None = None) -> Tensor:
        """``x [B, T, H]`` → ``[B, H * number of ways]``.

        Args:
            x: the sequence.
            lengths: int64 ``[B]``, valid steps.
            last: a recurrent layer's ``RNNOutput.last`` ``[B, H]``; None takes the last valid step of ``x``.
        """
        mask = None if lengths is None else sequence_mask(lengths, x.shape[1])
        if last is None and "last" in self.how:
            last = x[:, -1] if lengths is None else last_valid(x, lengths)
        return torch.cat([self._pool(how, x, mask, last) for how in self.how], dim=-1)

    def _pool(self, how: Pooling, x: Tensor, mask: Tensor | None, last: Tensor | None) -> Tensor:
        if how == "last" and last is not None:
            return last
        if how == "attention" and self.attention is not None:
            pooled: Tensor = self.attention(x, mask)
            return pooled
        return masked_mean(x, mask) if how == "mean" else masked_max(x, mask)
