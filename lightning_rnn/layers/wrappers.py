"""What stands around a cell: dropout, shortcuts, projections, an embedding, a device. TF1's cell wrappers.

A wrapper is a cell itself, so wrappers nest, stack (:class:`StackedCells`) and run over time (:class:`RNN`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.functional.options import Activation
from lightning_rnn.functional.options import activation as function_of
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell, first_tensor
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.dropout_wrapper import DropoutWrapper as DropoutWrapper
from lightning_rnn.layers.dropout_wrapper import chosen as chosen
from lightning_rnn.layers.dropout_wrapper import not_memory as not_memory
from lightning_rnn.layers.shortcuts import HighwayWrapper as HighwayWrapper
from lightning_rnn.layers.shortcuts import ResidualWrapper as ResidualWrapper
from lightning_rnn.layers.wrapper import Around
from lightning_rnn.layers.wrapper import CellWrapper as CellWrapper
from lightning_rnn.types import Nest


class InputProjectionWrapper(CellWrapper):
    r"""The cell sees :math:`\phi(W x + b)`, taken for all steps at once (TF1's ``InputProjectionWrapper``).

    Args:
        cell: what is wrapped.
        size: features that the cell sees.
        activation: :math:`\phi`, a name or a function.
        input_size: features of the input; None: taken from the first input.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = InputProjectionWrapper(GRUCell(4, 5), 4)(torch.ones(2, 30))
        >>> h.shape
        torch.Size([2, 5])
    """

    def __init__(self, cell: Any, size: int, activation: Activation = "linear", input_size: int | None = None) -> None:
        super().__init__(cell)
        self.size, self.activation = size, activation
        function_of(activation)  # refuses unknown names
        self._size_cell(size)
        self.build(input_size)

    def size_of(self, x: Nest) -> Any:
        return Cell.size_of(self, x)

    def create(self, input_size: int) -> None:
        self.projection = self._dense(input_size, self.size)

    def bind(self, x: Nest, batch: int) -> Stepper:
        self._need_size()
        phi = function_of(self.activation)
        return Around(ready(self.cell, x, batch), enter=lambda x: phi(self.projection(x)))


class OutputProjectionWrapper(CellWrapper):
    r"""The output is :math:`\phi(W y + b)` of the cell's; the state is as it was (TF1's ``OutputProjectionWrapper``).

    Args:
        cell: what is wrapped.
        size: features of the output.
        activation: :math:`\phi`, a name or a function.

    Raises:
        ValueError: the cell does not tell its ``output_size``.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = OutputProjectionWrapper(GRUCell(3, 5), 2)(torch.ones(2, 3))
        >>> output.shape, h.shape
        (torch.Size([2, 2]), torch.Size([2, 5]))
    """

    def __init__(self, cell: Any, size: int, activation: Activation = "linear") -> None:
        super().__init__(cell)
        self.size, self.activation = size, activation
        function_of(activation)  # refuses unknown names
        inside = getattr(cell, "output_size", None)
        if not isinstance(inside, int):
            raise ValueError(f"OutputProjectionWrapper: {type(cell).__name__} does not tell its output_size")
        self.projection = self._dense(inside, size)
        self.build(getattr(cell, "input_size", None))

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.size

    def bind(self, x: Nest, batch: int) -> Stepper:
        phi = function_of(self.activation)
        return Around(ready(self.cell, x, batch), leave=lambda output, _: phi(self.projection(output)))


class EmbeddingWrapper(CellWrapper):
    """The cell sees the vectors of integer inputs, looked up for all steps at once (TF1's ``EmbeddingWrapper``).

    Inputs are ids ``[B]`` or ``[B, 1]`` for one step, ``[B, T]`` or ``[B, T, 1]`` for all.

    Args:
        cell: what is wrapped.
        classes: number of different ids.
        size: features of a vector.

    Raises:
        TypeError: the input is not of integers.
        ValueError: the cell expects another size.

    Example:
        >>> from lightning_rnn.layers import RNN, GRUCell
        >>> RNN(EmbeddingWrapper(GRUCell(4, 5), 100, 4))(torch.tensor([[7, 99, 0]])).sequence.shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, cell: Any, classes: int, size: int) -> None:
        super().__init__(cell)
        self.classes, self.size = classes, size
        self.embedding = nn.Embedding(classes, size)
        nn.init.uniform_(self.embedding.weight, -(3**0.5), 3**0.5)  # variance 1, as TF1
        self._size_cell(size)
        self.build(1)

    def size_of(self, x: Nest) -> int:
        """One id, with or without an axis of its own."""
        return 1

    def create(self, input_size: int) -> None:
        """The table is there from the beginning."""

    def bind(self, x: Nest, batch: int) -> Stepper:
        return _Embedded(ready(self.cell, x, batch), self.embedding)


@dataclass(frozen=True, eq=False)
class _Embedded:
    inner: Stepper
    embedding: nn.Embedding

    def project(self, ids: Tensor) -> tuple[Nest, Tensor]:
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
            got = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"EmbeddingWrapper: the input must be a tensor of integers, got {got}")
        if ids.ndim > 3 or (ids.ndim == 3 and ids.shape[2] != 1):
            raise ValueError(f"EmbeddingWrapper: expected ids of shape [B], [B, 1] or [B, T], got {list(ids.shape)}")
        ids = ids.squeeze(2) if ids.ndim == 3 else ids
        return self.inner.project(self.embedding(ids)), ids

    def step(self, projected: tuple[Nest, Tensor], state: Nest) -> tuple[Nest, Nest]:
        inside, ids = projected
        if ids.ndim == 2:  # one step given as [B, 1]: it was projected as a sequence of one
            inside = pytree.tree_map(lambda leaf: leaf.squeeze(1), inside)
        return self.inner.step(inside, state)


class DeviceWrapper(CellWrapper):
    """The cell lives and runs on a device of its own (TF1's ``DeviceWrapper``).

    Input and state are moved there, output and new state back to the device of the input. Moving the wrapper moves its
    dtype only.

    Args:
        cell: what is wrapped.
        device: such as ``cuda:1``.

    Example:
        >>> from lightning_rnn.layers import GRUCell
        >>> output, h = DeviceWrapper(GRUCell(3, 5), "cpu")(torch.ones(2, 3))
        >>> h.device
        device(type='cpu')
    """

    def __init__(self, cell: Any, device: str | torch.device) -> None:
        super().__init__(cell)
        self.device = str(torch.device(device))
        self.cell.to(self.device)
        self.build(getattr(cell, "input_size", None))

    def create(self, input_size: Any) -> None:
        super().create(input_size)
        self.cell.to(self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DeviceWrapper:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not any(parameter.is_meta for parameter in self.cell.parameters()):
            self.cell.to(self.device)
        return self

    def bind(self, x: Nest, batch: int) -> Stepper:
        home = first_tensor(x).device
        there = moves(torch.device(self.device))
        back = moves(home)
        return Around(
            ready(self.cell, there(x), batch),
            enter=there,
            leave=lambda output, _: back(output),
            take=there,
            keep=back,
        )

    def extra_repr(self) -> str:
        return f"device={self.device}"


def moves(device: torch.device) -> Callable[[Nest], Nest]:
    """A function that moves the tensors of a nest to ``device``."""
    return lambda nest: pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), nest)
