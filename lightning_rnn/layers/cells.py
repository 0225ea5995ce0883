"""The cells of SimpleRNN, LSTM and GRU, and cells stacked on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell, ConditionalCell
from lightning_rnn.layers.gates import (
    KINDS,
    Gates,
    bind,
    check_options,
    collect,
    create,
    parameter_shapes,
    reset,
    zero_state,
)
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.options import Regularization
from lightning_rnn.types import Nest, State


class GateCell(Cell):
    """What the three cells share. A subclass names its row of the table of cells and nothing else.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there are bias vectors.
        proj_size: LSTM: outputs are projected to this many features; 0: not.
        initializer: ``torch``, ``keras`` or ``chrono``.
        unit_forget_bias: LSTM: whether the forget gate's bias starts at 1, else 0; None: as the initializer has it.
        step_options: variants of the equation.
        regularization: ``dropout``, ``recurrent_dropout``, ``variational``, ``zoneout`` and ``weight_dropout``; what
            stands around a cell is a wrapper's, :class:`DropoutWrapper`.

    Parameters have the names, shapes and gate order of ``torch.nn.LSTMCell``. In :class:`RNN` a fused kernel runs the
    cell where one can.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        proj_size: int = 0,
        initializer: Initializer = "torch",
        unit_forget_bias: bool | None = None,
        step_options: StepOptions | None = None,
        regularization: Regularization | None = None,
    ) -> None:
        super().__init__()
        if hidden_size < 1:
            raise ValueError(f"{type(self).__name__}: hidden_size must be at least 1, got {hidden_size}")
        self.hidden_size, self.bias, self.proj_size = hidden_size, bias, proj_size
        self.initializer, self.unit_forget_bias = initializer, unit_forget_bias
        self.step_options = step_options or StepOptions()
        self.regularization = regularization or Regularization()
        check_options(type(self).__name__, KINDS[self.kind], self.step_options, proj_size)
        for name in ("layer_dropout", "output_dropout"):
            if getattr(self.regularization, name):
                raise ValueError(f"{type(self).__name__}: a cell has no {name}; wrap it in a DropoutWrapper")
        self.build(input_size)

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.proj_size or self.hidden_size

    def create(self, input_size: int) -> None:
        kind = KINDS[self.kind]
        create(self, parameter_shapes(kind, input_size, self.hidden_size, self.proj_size, self.bias, self.step_options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset(KINDS[self.kind], collect(self), self.initializer, self.unit_forget_bias)

    def bind(self, x: Nest, batch: int) -> Gates:
        return bind(KINDS[self.kind], collect(self), self.step_options, self.regularization, batch, self.training)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return Gates(KINDS[self.kind], collect(self), self.step_options).step(projected, state)

    def initial_state(self, batch: int) -> State:
        return zero_state(KINDS[self.kind], batch, self.hidden_size, self.proj_size, self.zeros())

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class SimpleRNNCell(GateCell):
    """One step of :class:`SimpleRNN`; state ``h [B, H]``.

    Example:
        >>> output, h = SimpleRNNCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    kind = "simple_rnn"


class LSTMCell(GateCell):
    """One step of :class:`LSTM`; state :class:`LSTMState` ``(h, c)``.

    Example:
        >>> output, (h, c) = LSTMCell(3, 5)(torch.zeros(2, 3))
        >>> c.shape
        torch.Size([2, 5])
    """

    kind = "lstm"


class GRUCell(GateCell):
    """One step of :class:`GRU`; state ``h [B, H]``.

    Example:
        >>> output, h = GRUCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    kind = "gru"


class StackedCells(Cell):
    """Cells on top of each other, as one cell; the state is a tuple of theirs (TF1's ``MultiRNNCell``).

    Args:
        cells: from the first to the last.

    Example:
        >>> cell = StackedCells([LSTMCell(3, 5), GRUCell(5, 4)])
        >>> output, (first, second) = cell(torch.zeros(2, 3))
        >>> output.shape, first.c.shape, second.shape
        (torch.Size([2, 4]), torch.Size([2, 5]), torch.Size([2, 4]))
    """

    def __init__(self, cells: list[Any]) -> None:
        super().__init__()
        if not cells:
            raise ValueError("StackedCells needs at least one cell")
        self.cells = nn.ModuleList(cells)
        self.build(getattr(cells[0], "input_size", None))

    def create(self, input_size: Any) -> None:
        """Sizes every cell: each one's input is the output of the one before."""
        for cell in self.cells:
            if isinstance(cell, Cell):
                cell.build(input_size)
            input_size = getattr(cell, "output_size", None)

    def size_of(self, x: Nest) -> Any:
        first = self.cells[0]
        return first.size_of(x) if isinstance(first, Cell) else super().size_of(x)

    @property
    def output_size(self) -> Any:
        """Features of the last cell's output."""
        return getattr(self.cells[-1], "output_size", None)

    def bind(self, x: Nest, batch: int) -> Stepper:
        return _Stack([ready(cell, x, batch) for cell in self.cells])

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return _Stack([ready(cell, projected, 0) for cell in self.cells]).step(projected, state)

    def initial_state(self, batch: int) -> Nest:
        return tuple(cell.initial_state(batch) for cell in self.cells)  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class _Stack:
    steppers: list[Stepper]

    def project(self, x: Nest) -> Nest:
        return self.steppers[0].project(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        states = []
        for i, (stepper, old) in enumerate(zip(self.steppers, state, strict=True)):
            projected, new = stepper.step(stepper.project(projected) if i else projected, old)
            states.append(new)
        return projected, tuple(states)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A module that is a cell by its ``forward(x_t, state)`` alone."""

    cell: Any
    constants: tuple[Tensor, ...] | None = None

    def project(self, x: Nest) -> Nest:
        return x

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        if self.constants is None:
            output, new = self.cell(projected, state)
        else:
            output, new = self.cell(projected, state, constants=self.constants)
        return output, new


def ready(cell: Any, x: Nest, batch: int, constants: Any = None) -> Stepper:
    """A cell, or any module that serves as one, ready for a call."""
    if isinstance(cell, ConditionalCell):
        cell.build_for(x)
        return cell.bind_constants(x, batch, constants)
    stepwise = isinstance(cell, Cell) and type(cell).forward is Cell.forward
    if constants is None and stepwise:
        cell.build_for(x)
        stepper: Stepper = cell.bind(x, batch)
        return stepper
    return Foreign(cell, constants)


@torch.no_grad()
def check_cell(cell: Any) -> None:
    """Refuse what cannot serve as a cell."""
    if not isinstance(cell, nn.Module) or not callable(getattr(cell, "initial_state", None)):
        raise TypeError(
            f"a cell is a module with forward(x_t, state) and initial_state(batch); {type(cell).__name__} is not one"
        )
