"""A cell, and a comparison, for tests of what stands around cells and layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree


def tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(nest) if isinstance(leaf, Tensor)]


def close(ours: Any, theirs: Any) -> None:
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)


class Sum(nn.Module):
    """A cell that is no :class:`Cell`: the running sum."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 1, dtype=torch.float64)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x + state, x + state
