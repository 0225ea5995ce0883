"""Attention whose energies see where it has looked before: location-sensitive attention and coverage."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.masks import sequence_mask
from lightning_rnn.seq2seq.attention_base import Attention, Memory, masked_softmax
from lightning_rnn.seq2seq.energies import AdditiveEnergy
from lightning_rnn.types import Nest

Looked = Literal["previous", "cumulated", "both"]


class LocatedAttention(Attention):
    r"""Additive attention that sees its own earlier weights: :math:`e_j = v^\top \tanh(W q + V m_j + U f_j + b)`.

    :math:`f = F * \alpha`, a convolution over the steps of the source, no bias (Chorowski et al. 2015, arXiv
    1506.07503, eq. 8-9). :math:`\alpha` are the weights of the step before, or the sum of all before it, or both as two
    channels. The state is ``[N, C, S]``, zeros at first.

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        attention_size: features inside the tanh; None: Q.
        looked: which weights are seen.
        filters: features of f; 0: the weights themselves, ``width`` steps around, enter U.
        width: steps that the convolution sees, odd.

    Raises:
        ValueError: ``width`` is even or below 1, or ``looked`` is unknown.

    Example:
        >>> attention = LocatedAttention(2, 3)
        >>> memory = attention.remember(torch.randn(1, 4, 3))
        >>> first = attention(torch.ones(1, 2), memory, attention.initial_state(memory, 1))
        >>> torch.equal(first.state[:, 0], first.weights)
        True
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int | None = None,
        looked: Looked = "previous",
        filters: int = 10,
        width: int = 31,
    ) -> None:
        super().__init__(query_size, memory_size)
        if looked not in get_args(Looked):
            raise ValueError(f"LocatedAttention: looked must be one of {', '.join(get_args(Looked))}, got {looked!r}")
        if width < 1 or width % 2 == 0:
            raise ValueError(f"LocatedAttention: width must be odd and at least 1, got {width}")
        size = attention_size or query_size
        self.attention_size, self.looked, self.filters, self.width = attention_size, looked, filters, width
        self.channels = 2 if looked == "both" else 1
        self.energy = AdditiveEnergy(query_size, memory_size, size, bias=True)
        self.convolution = nn.Conv1d(self.channels, filters or size, width, padding=width // 2, bias=False)
        self.location = nn.Linear(filters, size, bias=False) if filters else nn.Identity()

    def keys(self, values: Tensor) -> Tensor:
        return self.energy.keys(values)

    def initial_state(self, memory: Memory, rows: int) -> Nest:
        return memory.values.new_zeros(rows, self.channels, memory.values.shape[1])

    def weigh(self, query: Tensor, memory: Memory, state: Nest) -> tuple[Tensor, Nest]:
        features = self.convolution(state.flatten(0, 1)).transpose(1, 2).unflatten(0, state.shape[:2])
        energy = self.energy(query, memory.keys, self.location(features))
        weights = masked_softmax(energy, None if memory.mask is None else memory.mask.unsqueeze(1))
        new = weights.to(state.dtype).unsqueeze(2)
        if self.looked == "cumulated":
            new = state + new
        if self.looked == "both":
            new = torch.cat([new, state[:, :, 1:] + new], 2)
        return weights, new


def coverage_loss(weights: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    r"""What attention repeats: :math:`\sum_j \min(\alpha_{t,j}, \sum_{t' < t} \alpha_{t',j})`, the mean over steps t.

    See et al. 2017, arXiv 1704.04368, eq. 12.

    Args:
        weights: ``[B, T, S]``.
        lengths: integers ``[B]``, real steps of the target; None: all.
        mask: bool ``[B, T]``, True where a step of the target is real. Not with ``lengths``.

    Returns:
        A scalar; 0 where no step is real.

    Raises:
        ValueError: both ``lengths`` and ``mask``.

    Example:
        >>> twice = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
        >>> coverage_loss(twice).item(), coverage_loss(twice, lengths=torch.tensor([1])).item()
        (0.5, 0.0)
    """
    if lengths is not None and mask is not None:
        raise ValueError("coverage_loss: give lengths or mask, not both")
    before = F.pad(weights.cumsum(1)[:, :-1], (0, 0, 1, 0))
    repeated = torch.minimum(weights, before).sum(2)
    if lengths is not None:
        mask = sequence_mask(lengths, weights.shape[1])
    real = torch.ones_like(repeated, dtype=torch.bool) if mask is None else mask
    return torch.where(real, repeated, 0).sum() / real.sum().clamp(min=1)
