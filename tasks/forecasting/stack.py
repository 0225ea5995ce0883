"""Dilated and residual stacks of recurrent layers (Chang et al. 2017, Dilated Recurrent Neural Networks; Smyl 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName, recurrent
from lightning_rnn.types import Nest


class StackOutput(NamedTuple):
    """What a stack gives, named as in :class:`lightning_rnn.types.RNNOutput`.

    Attributes:
        sequence: ``[B, T, H]``.
        state: of each layer, from which the next step goes on.
        last: ``[B, H]``.
    """

    sequence: Tensor
    state: Nest
    last: Tensor


class DilatedStack(nn.Module):
    """Layers of one size on each other, of which layer i takes its state from ``dilations[i]`` steps before.

    Args:
        cell: of every layer, see :func:`lightning_rnn.layers.table.recurrent`.
        size: features in and out.
        dilations: one a layer.
        residual: whether each layer's input is added to its output.
        initializer: as in that table.
        activation: as in that table.

    Example:
        >>> stack = DilatedStack("gru", 5, [1, 2, 4], residual=True)
        >>> stack(torch.zeros(2, 7, 5)).sequence.shape
        torch.Size([2, 7, 5])
    """

    def __init__(
        self,
        cell: CellName,
        size: int,
        dilations: Sequence[int],
        residual: bool,
        initializer: Initializer | None = None,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        make = partial(recurrent, cell, size, size, initializer=initializer, activation=activation)
        self.layers = nn.ModuleList(make() for _ in dilations)
        self.dilations, self.residual = list(dilations), residual

    def forward(self, x: Tensor, state: Nest | None = None) -> StackOutput:
        """Run a stack.

        Args:
            x: ``[B, T, size]``.
            state: of a call before, for one step more (``T`` is 1); None: from the beginning.
        """
        states = []
        for place, (layer, dilation) in enumerate(zip(self.layers, self.dilations, strict=True)):
            if state is None:
                output, ended = _dilated(layer, x, dilation)
            else:
                output, ended = layer(x, state[place])
            states.append(ended)
            x = x + output if self.residual else output
        return StackOutput(x, tuple(states), x[:, -1])


def _dilated(layer: nn.Module, x: Tensor, dilation: int) -> tuple[Tensor, Nest]:
    """Every ``dilation``-th step is a sequence of its own, zeros before the first; the state is the next step's."""
    b, steps, size = x.shape
    missing = -steps % dilation
    rows = F.pad(x, (0, 0, missing, 0)).reshape(b, -1, dilation, size).transpose(1, 2)
    rows = rows.reshape(b * dilation, -1, size)
    mask = torch.ones(b, dilation, rows.shape[1], dtype=torch.bool, device=x.device)
    mask[:, :missing, 0] = False
    output, state = layer(rows, mask=mask.flatten(0, 1) if missing else None)
    whole: Tensor = output.reshape(b, dilation, -1, size).transpose(1, 2).reshape(b, -1, size)[:, -steps:]
    return whole, pytree.tree_map_only(Tensor, lambda one: one[::dilation], state)
