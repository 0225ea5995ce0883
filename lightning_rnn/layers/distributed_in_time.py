"""Any module at every step."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.layers.config import Configurable
from lightning_rnn.types import Nest


class TimeDistributed(Configurable, nn.Module):
    """``y[:, t] = layer(x[:, t])`` for every ``t``: an image network over the frames of a video (Keras' wrapper).

    As in Keras the layer sees one step at a time, so batch statistics inside it are those of a step.

    Args:
        layer: any module; where its ``forward`` takes ``mask``, it is given that of the step.
        at_once: time is folded into the batch and the layer called once: faster, and the same for every layer that
            treats rows apart (not for batch normalization while training).

    Example:
        >>> frames = torch.zeros(2, 7, 3, 8, 8)
        >>> TimeDistributed(nn.Conv2d(3, 4, 3))(frames).shape
        torch.Size([2, 7, 4, 6, 6])
    """

    def __init__(self, layer: nn.Module, at_once: bool = False) -> None:
        super().__init__()
        if not isinstance(layer, nn.Module):
            raise TypeError(f"TimeDistributed: expected a module, got {type(layer).__name__}")
        self.layer, self.at_once = layer, at_once
        self._takes_mask = "mask" in inspect.signature(layer.forward).parameters

    def forward(self, x: Nest, *, mask: Tensor | None = None) -> Nest:
        """Apply the layer.

        Args:
            x: ``[B, T, ...]`` or a nest of such tensors.
            mask: ``[B, T, ...]``, handed on step by step to a layer that takes it.

        Returns:
            What the layer returns, each tensor ``[B, T, ...]``; with ``T = 0`` the layer is called on no rows.

        Raises:
            ValueError: inputs or mask differ in B or T, or, with ``at_once``, the layer changes the number of rows.
        """
        first = first_tensor(x)
        for what, leaf in (*(("input", leaf) for leaf in pytree.tree_leaves(x)), ("mask", mask)):
            if isinstance(leaf, Tensor) and (leaf.ndim < 2 or leaf.shape[:2] != first.shape[:2]):
                raise ValueError(
                    f"TimeDistributed: every input and the mask must be [B, T, ...] with the same B and T; got {what} "
                    f"{list(leaf.shape)} beside {list(first.shape)}"
                )
        mask = mask if self._takes_mask else None
        if self.at_once or not first.shape[1]:
            return self._fold(x, mask, first.shape[0], first.shape[1])
        steps = [self._call(_at(x, t), None if mask is None else mask[:, t]) for t in range(first.shape[1])]
        return pytree.tree_map(_stack, *steps)

    def _call(self, x: Nest, mask: Tensor | None) -> Nest:
        return self.layer(x) if mask is None else self.layer(x, mask=mask)

    def _fold(self, x: Nest, mask: Tensor | None, batch: int, steps: int) -> Nest:
        def unfold(leaf: Tensor) -> Tensor:
            if not leaf.ndim or leaf.shape[0] != batch * steps:
                raise ValueError(
                    f"TimeDistributed: the layer must return a row for each of {batch * steps}, got {list(leaf.shape)}"
                )
            return leaf.reshape(batch, steps, *leaf.shape[1:])

        folded = pytree.tree_map_only(Tensor, lambda leaf: leaf.flatten(0, 1), x)
        output = self._call(folded, None if mask is None else mask.flatten(0, 1))
        return pytree.tree_map_only(Tensor, unfold, output)


def _at(x: Nest, t: int) -> Nest:
    return pytree.tree_map_only(Tensor, lambda leaf: leaf[:, t], x)


def _stack(*leaves: Any) -> Any:
    return torch.stack(leaves, dim=1) if isinstance(leaves[0], Tensor) else leaves[0]
