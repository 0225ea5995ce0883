"""Attention by content alone: softmax over the energies of one query, all steps at once where queries are known."""

from __future__ import annotations

from torch import Tensor

from lightning_rnn.seq2seq.attention_base import Attention, AttentionOutput, Memory, masked_softmax
from lightning_rnn.seq2seq.energies import Energy
from lightning_rnn.types import Nest


class SoftmaxAttention(Attention):
    r""":math:`\alpha = \mathrm{softmax}_j(e(q, m_j))` over the real steps; nothing is carried from step to step.

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        energy: e, made for these sizes.

    Example:
        >>> import torch
        >>> from lightning_rnn.seq2seq.energies import DotEnergy
        >>> attention = SoftmaxAttention(2, 2, DotEnergy(2, 2))
        >>> memory = attention.remember(torch.randn(3, 4, 2), lengths=torch.tensor([4, 1, 0]))
        >>> attention.attend_all(torch.randn(3, 7, 2), memory).weights.sum(2)[:, 0].round()
        tensor([1., 1., 0.])
    """

    def __init__(self, query_size: int, memory_size: int, energy: Energy) -> None:
        super().__init__(query_size, memory_size)
        self.energy = energy

    def keys(self, values: Tensor) -> Tensor:
        return self.energy.keys(values)

    def weigh(self, query: Tensor, memory: Memory, state: Nest) -> tuple[Tensor, Nest]:
        mask = None if memory.mask is None else memory.mask.unsqueeze(1)
        return masked_softmax(self.energy(query, memory.keys), mask), state

    def attend_all(self, query: Tensor, memory: Memory, state: Nest | None = None) -> AttentionOutput:
        """All steps of queries ``[B, T, Q]`` in one batch product, see :meth:`Attention.attend_all`."""
        self._check_all(query, memory)
        weights, _ = self.weigh(query, memory, ())
        return AttentionOutput(self.read(weights, memory), weights)
