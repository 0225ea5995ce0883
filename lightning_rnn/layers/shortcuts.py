"""Shortcuts around a cell: residual and highway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.wrapper import Around, CellWrapper, same
from lightning_rnn.types import Nest


class ResidualWrapper(CellWrapper):
    r"""A shortcut around a cell: :math:`y = x + \mathrm{cell}(x, s)` (Wu et al. 2016, arXiv 1609.08144, eq. 6).

    TF1's ``ResidualWrapper``.

    Args:
        cell: what is wrapped; nests of inputs and outputs must be alike.
        residual_fn: ``residual_fn(x, output)`` in place of the sum.

    Raises:
        ValueError: without ``residual_fn``, input and output differ in shape.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> cell = ResidualWrapper(GRUCell(5, 5))
        >>> x = torch.ones(2, 5)
        >>> output, h = cell(x)
        >>> torch.equal(output, x + h)
        True
    """

    def __init__(self, cell: Any, residual_fn: Callable[[Nest, Nest], Nest] | None = None) -> None:
        super().__init__(cell)
        self.residual_fn = residual_fn
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        if self.residual_fn is None:
            self._check_shortcut()

    def bind(self, x: Nest, batch: int) -> Stepper:
        return Around(ready(self.cell, x, batch), beside=same, leave=self._add)

    def _add(self, output: Nest, x: Nest) -> Nest:
        return (self.residual_fn or add)(x, output)


def add(x: Nest, output: Nest) -> Nest:
    """The sum of two nests of the same shapes."""
    leaves, spec = pytree.tree_flatten(output)
    inputs = pytree.tree_leaves(x)
    shapes = [list(leaf.shape) for leaf in inputs], [list(leaf.shape) for leaf in leaves]
    if shapes[0] != shapes[1]:
        raise ValueError(f"ResidualWrapper: the input is {shapes[0]}, the output {shapes[1]}; give a residual_fn")
    return pytree.tree_unflatten([a + b for a, b in zip(inputs, leaves, strict=True)], spec)


class HighwayWrapper(CellWrapper):
    r"""A gated shortcut around a cell: :math:`y = c \odot x + t \odot \mathrm{cell}(x, s)`.

    :math:`c = \sigma(W_c x + b_c)`, :math:`t = 1 - c`, or, where not coupled, :math:`t = \sigma(W_t x + b_t)`
    (Srivastava, Greff, Schmidhuber 2015, arXiv 1505.00387, eq. 2-3; TF1's ``contrib.rnn.HighwayWrapper``).

    Args:
        cell: what is wrapped; its input and output are of one size.
        carry_bias: :math:`b_c` starts here, :math:`b_t` at its negative.
        coupled: :math:`t = 1 - c`.

    Raises:
        ValueError: input and output differ in size.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> x = torch.ones(2, 5)
        >>> output, h = HighwayWrapper(GRUCell(5, 5), carry_bias=100.0)(x)
        >>> torch.equal(output, x)
        True
    """

    def __init__(self, cell: Any, carry_bias: float = 1.0, coupled: bool = True) -> None:
        super().__init__(cell)
        self.carry_bias, self.coupled = carry_bias, coupled
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        self._check_shortcut()
        self.carry = self._dense(input_size, input_size, self.carry_bias)
        self.transform = None if self.coupled else self._dense(input_size, input_size, -self.carry_bias)

    def bind(self, x: Nest, batch: int) -> Stepper:
        self._need_size()
        return Around(ready(self.cell, x, batch), beside=self._gates, leave=self._mix)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        carry = torch.sigmoid(self.carry(x))
        transform = 1 - carry if self.transform is None else torch.sigmoid(self.transform(x))
        return carry * x, transform

    def _mix(self, output: Tensor, gates: tuple[Tensor, Tensor]) -> Tensor:
        carried, transform = gates
        return carried + transform * output
