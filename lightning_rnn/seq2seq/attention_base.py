"""What every kind of attention shares: the memory, one step or all of them, beams that share a memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.functional.masks import sequence_mask
from lightning_rnn.layers.cell import map_tensors
from lightning_rnn.layers.config import Configurable
from lightning_rnn.types import Nest


class Memory(NamedTuple):
    """What is attended to, ready for every step.

    Attributes:
        values: ``[B, S, M]``, zero at steps that are not real.
        keys: what queries are compared with, ``[B, S, A]``.
        mask: bool ``[B, S]``, True where a step is real; None: all are.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor | None = None


class AttentionOutput(NamedTuple):
    """What attention gives.

    Attributes:
        context: the weighted sum of the values, ``[..., M]``.
        weights: ``[..., S]``; 0 at steps that are not real.
        state: what the kind carries to the next step; ``()`` for most.
    """

    context: Tensor
    weights: Tensor
    state: Nest = ()


class Attention(Configurable, nn.Module, ABC):
    r"""Reads a memory of ``B`` sentences by queries: :math:`c = \sum_j \alpha_j m_j`.

    A subclass says what the weights :math:`\alpha` are, in :meth:`weigh`. Nothing is kept on the module between calls:
    the memory comes from :meth:`remember`, what a kind carries from step to step is an argument and a result.

    Args:
        query_size: features of a query, ``Q``.
        memory_size: features of a value, ``M``.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        for name, size in (("query_size", query_size), ("memory_size", memory_size)):
            if size < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be at least 1, got {size}")
        self.query_size, self.memory_size = query_size, memory_size

    @abstractmethod
    def keys(self, values: Tensor) -> Tensor:
        """What queries are compared with, ``[B, S, A]``, of values ``[B, S, M]``."""

    @abstractmethod
    def weigh(self, query: Tensor, memory: Memory, state: Nest) -> tuple[Tensor, Nest]:
        """One step: weights ``[B, K, S]`` and the new state, of queries ``[B, K, Q]``; leaves are ``[B, K, ...]``."""

    def initial_state(self, memory: Memory, rows: int) -> Nest:
        """What is carried into the first step of ``rows`` rows, leaves ``[N, ...]``."""
        return ()

    def remember(self, values: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Memory:
        """Make a memory: its keys are computed once for all steps.

        Args:
            values: ``[B, S, M]``; what stands at steps that are not real does not matter.
            lengths: integers ``[B]``, real steps of each row, padding on the right; 0 is legal.
            mask: bool ``[B, S]``, True where a step is real. Not with ``lengths``.

        Raises:
            ValueError: a shape does not fit, or both ``lengths`` and ``mask``.
            TypeError: ``mask`` is not bool.
        """
        name = f"{type(self).__name__}.remember"
        if values.ndim != 3 or values.shape[2] != self.memory_size:
            raise ValueError(f"{name}: expected values of shape [B, S, {self.memory_size}], got {list(values.shape)}")
        if lengths is not None and mask is not None:
            raise ValueError(f"{name}: give lengths or mask, not both")
        if lengths is not None:
            if lengths.shape != values.shape[:1]:
                raise ValueError(f"{name}: expected lengths of shape [{len(values)}], got {list(lengths.shape)}")
            mask = sequence_mask(lengths, values.shape[1])
        if mask is None:
            return Memory(values, self.keys(values))
        if mask.shape != values.shape[:2]:
            raise ValueError(f"{name}: expected a mask of shape {list(values.shape[:2])}, got {list(mask.shape)}")
        if mask.dtype != torch.bool:
            raise TypeError(f"{name}: the mask must be bool, got {mask.dtype}")
        values = torch.where(mask.unsqueeze(2), values, 0)
        return Memory(values, self.keys(values), mask)

    def forward(self, query: Tensor, memory: Memory, state: Nest = ()) -> AttentionOutput:
        """One step.

        Args:
            query: ``[N, Q]``; ``N`` is a multiple of the ``B`` rows of the memory, and those of a sentence are
                adjacent: the memory is not repeated.
            memory: from :meth:`remember`.
            state: from :meth:`initial_state` or the step before, leaves ``[N, ...]``.

        Returns:
            context ``[N, M]``, weights ``[N, S]`` and the state for the next step.

        Raises:
            ValueError: a shape does not fit.
        """
        sentences, rows = memory.values.shape[0], query.shape[0]
        if query.ndim != 2 or query.shape[1] != self.query_size or rows % max(sentences, 1):
            raise ValueError(
                f"{type(self).__name__}: expected queries of shape [N, {self.query_size}] with N a multiple of the "
                f"memory's {sentences} rows, got {list(query.shape)}"
            )
        beams = rows // sentences if sentences else 1
        query, state = map_tensors(lambda leaf: leaf.reshape(sentences, beams, *leaf.shape[1:]), (query, state))
        weights, carried = self.weigh(query, memory, state)
        context, weights = self.read(weights, memory).flatten(0, 1), weights.flatten(0, 1)
        return AttentionOutput(context, weights, map_tensors(lambda leaf: leaf.flatten(0, 1), carried))

    def attend_all(self, query: Tensor, memory: Memory, state: Nest | None = None) -> AttentionOutput:
        """All steps of queries that are known beforehand.

        Args:
            query: ``[B, T, Q]``.
            memory: from :meth:`remember`.
            state: what is carried into the first step; None: the initial state.

        Returns:
            context ``[B, T, M]``, weights ``[B, T, S]`` and the state after the last step.

        Raises:
            ValueError: a shape does not fit.
        """
        self._check_all(query, memory)
        state = self.initial_state(memory, len(query)) if state is None else state
        if not query.shape[1]:
            none = query.new_zeros(*query.shape[:2], memory.values.shape[1])
            return AttentionOutput(self.read(none, memory), none, state)
        steps: list[AttentionOutput] = []
        for one in query.unbind(1):
            steps.append(self(one, memory, state))
            state = steps[-1].state
        context, weights, _ = zip(*steps, strict=True)
        return AttentionOutput(torch.stack(context, 1), torch.stack(weights, 1), state)

    def read(self, weights: Tensor, memory: Memory) -> Tensor:
        """Contexts ``[B, K, M]`` of weights ``[B, K, S]``."""
        return torch.bmm(weights, memory.values)

    def _check_all(self, query: Tensor, memory: Memory) -> None:
        rows = memory.values.shape[0]
        if query.ndim != 3 or query.shape[0] != rows or query.shape[2] != self.query_size:
            raise ValueError(
                f"{type(self).__name__}.attend_all: expected queries of shape [{rows}, T, {self.query_size}], "
                f"got {list(query.shape)}"
            )


def masked_softmax(energy: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the real steps.

    Args:
        energy: ``[..., S]``.
        mask: bool, broadcasts over ``energy``; None: all steps are real.

    Returns:
        Weights of the dtype of ``energy``: exactly 0 at steps that are not real, all 0 in a row without a real one.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]])).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    if mask is None:
        return energy.softmax(-1)
    lowest = torch.finfo(energy.dtype).min
    return torch.where(mask, energy.masked_fill(~mask, lowest).softmax(-1), 0)
