"""Layers on top of each other with dropout between them and shortcuts, as one cell and as layers over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers import GRUCell, LSTMCell, RecurrentLayer, SimpleRNNCell
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.table import CellName, recurrent
from lightning_rnn.types import Nest

FAST_CELLS: dict[str, Any] = {"simple_rnn": SimpleRNNCell, "lstm": LSTMCell, "gru": GRUCell}


def build_cell(cell: CellName, input_size: int, hidden_size: int, initializer: Initializer | None = None) -> Any:
    """The cell of the layer that :func:`lightning_rnn.layers.table.recurrent` makes.

    Raises:
        ConfigError: there is no such cell, or it has no ``initializer``.

    Example:
        >>> build_cell("gru", 3, 5)
        GRUCell(3, 5)
    """
    if cell in FAST_CELLS:
        return FAST_CELLS[cell](input_size, hidden_size, initializer=initializer or "torch")
    layer = recurrent(cell, input_size, hidden_size, initializer=initializer)
    assert isinstance(layer, RNN)
    return layer.cell


class LayeredCell(Cell):
    """Cells on top of each other: dropout of what enters every cell but the first, shortcuts around all but the first.

    The state is a tuple of theirs.

    Args:
        cells: from the first to the last; those with a shortcut have inputs and outputs of one size.
        dropout: share of the features dropped between cells while training, drawn anew at each step.
        residual: what enters a cell is added to its output.

    Raises:
        ValueError: there are no cells.

    Example:
        >>> import torch
        >>> cell = LayeredCell([GRUCell(3, 5), GRUCell(5, 5)], residual=True)
        >>> output, (low, high) = cell(torch.ones(2, 3))
        >>> torch.equal(output, low + high)
        True
    """

    def __init__(self, cells: list[Any], dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        if not cells:
            raise ValueError("LayeredCell needs at least one cell")
        self.cells, self.dropout, self.residual = nn.ModuleList(cells), dropout, residual
        self.build(getattr(cells[0], "input_size", None))

    def create(self, input_size: Any) -> None:
        """Sizes the first cell."""
        if isinstance(self.cells[0], Cell):
            self.cells[0].build(input_size)

    @property
    def output_size(self) -> Any:
        """Features of the last cell's output."""
        return getattr(self.cells[-1], "output_size", None)

    def bind(self, x: Nest, batch: int) -> Stepper:
        steppers = [ready(cell, x, batch) for cell in self.cells]
        return Layers(steppers, self.dropout if self.training else 0.0, self.residual)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.bind(projected, len(state[0])).step(projected, state)

    def initial_state(self, batch: int) -> Nest:
        return tuple(cell.initial_state(batch) for cell in self.cells)  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class Layers:
    """A :class:`LayeredCell` made ready for one call."""

    steppers: list[Stepper]
    dropout: float
    residual: bool

    def project(self, x: Nest) -> Nest:
        return self.steppers[0].project(x)

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        output, low = self.steppers[0].step(projected, state[0])
        states = [low]
        for stepper, old in zip(self.steppers[1:], state[1:], strict=True):
            entering = F.dropout(output, self.dropout) if self.dropout else output
            output, new = stepper.step(stepper.project(entering), old)
            output = output + entering if self.residual else output
            states.append(new)
        return output, tuple(states)


def first_of(stepper: Stepper) -> Stepper:
    """What the input of a cell made ready for a call enters: of layers, the first."""
    return stepper.steppers[0] if isinstance(stepper, Layers) else stepper


def advance(layer: Any, x: Tensor, state: Nest, lengths: Tensor | None = None) -> tuple[Tensor, Nest]:
    """A recurrent layer over all steps ``x [B, T, D]``, or over one ``x [N, D]``: outputs and the new state.

    Example:
        >>> import torch
        >>> from lightning_rnn import GRU
        >>> layer, x, h = GRU(3, 5), torch.randn(2, 1, 3), torch.zeros(2, 5)
        >>> whole, _ = advance(layer, x, h)
        >>> torch.allclose(whole[:, 0], advance(layer, x[:, 0], h)[0])
        True
    """
    if x.ndim == 3:
        output = layer(x, state, lengths=lengths)
        return output.sequence, output.state
    if isinstance(layer, RecurrentLayer):
        return layer.step(x, state)
    if isinstance(layer, RNN):
        stepped, new = layer.cell(x, state)
        return stepped, new
    output = layer(x.unsqueeze(1), state)  # of int8 weights
    return output.sequence.squeeze(1), output.state
