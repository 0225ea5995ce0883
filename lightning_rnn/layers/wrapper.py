"""What a wrapper around a cell is: a cell itself, so wrappers nest, stack (:class:`StackedCells`) and run over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell, first_tensor
from lightning_rnn.layers.cells import check_cell
from lightning_rnn.types import Nest


def same(x: Nest) -> Nest:
    """The identity."""
    return x


@dataclass(frozen=True, eq=False)
class Around:
    """A cell made ready for one call, and what happens before and after each step of it.

    Attributes:
        inner: the wrapped cell.
        enter: from the wrapper's input to the cell's, for a step ``[B, ...]`` or all of them ``[B, T, ...]``.
        beside: what ``leave`` needs of the input beside the cell's output, for a step or all of them.
        leave: from the cell's output, and what ``beside`` gave, to the wrapper's output.
        take: from the state given to the cell's.
        keep: from the cell's new state to the one handed on.
    """

    inner: Stepper
    enter: Callable[[Nest], Nest] = same
    beside: Callable[[Nest], Nest] = lambda x: ()
    leave: Callable[[Nest, Nest], Nest] = lambda output, beside: output
    take: Callable[[Nest], Nest] = same
    keep: Callable[[Nest], Nest] = same

    def project(self, x: Nest) -> Nest:
        return self.inner.project(self.enter(x)), self.beside(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        inside, beside = projected
        output, new = self.inner.step(inside, self.take(state))
        return self.leave(output, beside), self.keep(new)


class CellWrapper(Cell):
    """What the wrappers share: sizes and states are the wrapped cell's, a subclass says in ``bind`` what it changes.

    Args:
        cell: a :class:`Cell`, or any module with ``forward(x_t, state)`` and ``initial_state(batch)``.
    """

    def __init__(self, cell: Any) -> None:
        super().__init__()
        check_cell(cell)
        self.cell: nn.Module = cell

    @property
    def output_size(self) -> Any:
        """Features of the output, where the cell tells."""
        return getattr(self.cell, "output_size", None)

    def initial_state(self, batch: int) -> Nest:
        """The wrapped cell's."""
        return self.cell.initial_state(batch)  # type: ignore[operator]

    def size_of(self, x: Nest) -> Any:
        if isinstance(self.cell, Cell):
            return self.cell.size_of(x)
        return super().size_of(x) if isinstance(x, Tensor) and x.is_floating_point() else None

    def create(self, input_size: Any) -> None:
        """Sizes the wrapped cell."""
        self._size_cell(input_size)

    def project(self, x: Nest) -> Nest:
        return self.bind(x, first_tensor(x).shape[0]).project(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.bind(projected, first_tensor(projected).shape[0]).step(projected, state)

    def _size_cell(self, size: Any) -> None:
        """Make the parameters of the cell for inputs of this size."""
        if isinstance(self.cell, Cell):
            self.cell.build(size)
        wanted = getattr(self.cell, "input_size", None)
        if isinstance(wanted, int) and isinstance(size, int) and wanted != size:
            raise ValueError(
                f"{type(self).__name__}: {type(self.cell).__name__} expects inputs of {wanted} features, got {size}"
            )

    def _need_size(self) -> None:
        """Refuse an input that does not tell its size."""
        if self.input_size is None:
            raise ValueError(f"{type(self).__name__}: the input must be one tensor of floats")

    def _dense(self, inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
        """An affine map that starts as TF1's do: Glorot's uniform weights, a constant bias."""
        linear = nn.Linear(inputs, outputs, dtype=self.zeros(0).dtype)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.constant_(linear.bias, bias)
        return linear

    def _check_shortcut(self) -> None:
        """Input and output must be of one size to be added."""
        sizes = self.input_size, self.output_size
        if all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
            raise ValueError(
                f"{type(self).__name__}: the cell turns {sizes[0]} features into {sizes[1]}; both must be equal"
            )
