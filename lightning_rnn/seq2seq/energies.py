"""How well a query fits a step of the memory: the energies of Bahdanau et al. and of Luong et al."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.layers.config import Configurable


class Energy(Configurable, nn.Module, ABC):
    """Compares queries with the steps of a memory."""

    @abstractmethod
    def keys(self, values: Tensor) -> Tensor:
        """The part of the comparison that is the same at every step, ``[B, S, A]``, of values ``[B, S, M]``."""

    @abstractmethod
    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Energies ``[B, K, S]`` of queries ``[B, K, Q]``."""


class DotEnergy(Energy):
    r"""Luong's dot, :math:`e = q^\top m` (Luong et al. 2015, arXiv 1508.04025, section 3.1).

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        size: None: as they are, so Q must be M; a number: both are projected to so many features without bias.
        scaled: divided by the root of the number of features (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

    Raises:
        ValueError: Q is not M and there is no ``size``.

    Example:
        >>> DotEnergy(2, 2)(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])).tolist()
        [[[11.0, 2.0]]]
    """

    def __init__(self, query_size: int, memory_size: int, size: int | None = None, scaled: bool = False) -> None:
        super().__init__()
        if size is None and query_size != memory_size:
            raise ValueError(
                f"dot attention compares queries of {query_size} features with values of {memory_size}: give a size "
                "to project both to (attention_size), or use general"
            )
        self.query = nn.Linear(query_size, size, bias=False) if size else nn.Identity()
        self.key = nn.Linear(memory_size, size, bias=False) if size else nn.Identity()
        self.query_size, self.memory_size, self.size, self.scaled = query_size, memory_size, size, scaled
        self.scale = (size or query_size) ** -0.5 if scaled else 1.0

    def keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.key(values)
        return keys

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        query = self.query(query)
        return torch.bmm(query if self.scale == 1 else query * self.scale, keys.transpose(1, 2))


class GeneralEnergy(Energy):
    r"""Luong's general, :math:`e = g\, q^\top W m` (Luong et al. 2015, arXiv 1508.04025, section 3.1).

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        scaled: g is learned from 1 on, as tensorflow/nmt's ``scaled_luong`` has it; else 1.

    Example:
        >>> energy = GeneralEnergy(2, 3)
        >>> energy(torch.ones(1, 1, 2), energy.keys(torch.zeros(1, 4, 3))).tolist()
        [[[0.0, 0.0, 0.0, 0.0]]]
    """

    def __init__(self, query_size: int, memory_size: int, scaled: bool = False) -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=False)
        self.query_size, self.memory_size, self.scaled = query_size, memory_size, scaled
        self.g = nn.Parameter(torch.ones(())) if scaled else None

    def keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.key(values)
        return keys

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        query = query if self.g is None else query * self.g
        return torch.bmm(query, keys.transpose(1, 2))


class AdditiveEnergy(Energy):
    r"""Bahdanau's, :math:`e = v^\top \tanh(W q + U m + b)` (Bahdanau et al. 2015, arXiv 1409.0473, A.1.2).

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        size: features inside, ``A``; None: Q.
        normed: :math:`g\,v / |v|` in the place of v (Salimans and Kingma 2016, arXiv 1602.07868, eq. 2), g from
            :math:`\sqrt{1/A}` on.
        bias: whether there is b; from 0 on.

    Example:
        >>> energy = AdditiveEnergy(2, 3, 5)
        >>> energy(torch.ones(1, 1, 2), energy.keys(torch.zeros(1, 4, 3))).shape
        torch.Size([1, 1, 4])
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        size: int | None = None,
        normed: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.query_size, self.memory_size, self.size, self.normed, self.bias = (
            query_size,
            memory_size,
            size,
            normed,
            bias,
        )
        size = size or query_size
        self.create(size)
        self.v = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))
        self.g = nn.Parameter(torch.tensor(size**-0.5)) if normed else None
        self.b = nn.Parameter(torch.zeros(size)) if bias else None

    def create(self, size: int) -> None:
        """Make W and U."""
        self.query = nn.Linear(self.query_size, size, bias=False)
        self.key = nn.Linear(self.memory_size, size, bias=False)

    def queries(self, query: Tensor) -> Tensor:
        """``W q``."""
        projected: Tensor = self.query(query)
        return projected

    def keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.key(values)
        return keys

    def forward(self, query: Tensor, keys: Tensor, more: Tensor | None = None) -> Tensor:
        """Energies ``[B, K, S]``; ``more [B, K, S, A]`` is added inside the tanh."""
        projected = self.queries(query)
        if self.b is not None:
            projected = projected + self.b
        inside = projected.unsqueeze(2) + keys.unsqueeze(1)
        inside = torch.tanh(inside if more is None else inside + more)
        v = self.v if self.g is None else self.g * F.normalize(self.v, dim=0)
        return inside @ v


class ConcatEnergy(AdditiveEnergy):
    r"""Luong's concat, :math:`e = v^\top \tanh(W [q; m])` (Luong et al. 2015, arXiv 1508.04025, section 3.1).

    It is Bahdanau's with one matrix ``[A, Q + M]``, drawn as one; arguments as :class:`AdditiveEnergy`.

    Example:
        >>> ConcatEnergy(2, 3, 5).both.weight.shape
        torch.Size([5, 5])
    """

    def create(self, size: int) -> None:
        self.both = nn.Linear(self.query_size + self.memory_size, size, bias=False)

    def queries(self, query: Tensor) -> Tensor:
        return F.linear(query, self.both.weight[:, : self.query_size])

    def keys(self, values: Tensor) -> Tensor:
        return F.linear(values, self.both.weight[:, self.query_size :])
