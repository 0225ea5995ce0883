"""A recurrent layer that holds several, seen layer by layer and piece by piece of time."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Ran, Stepper
from lightning_rnn.layers.cell import first_tensor, like
from lightning_rnn.layers.cells import StackedCells, ready
from lightning_rnn.layers.recurrent import RecurrentLayer
from lightning_rnn.layers.recurrent_checks import in_parts
from lightning_rnn.layers.rnn import RNN
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.layers.wrappers import moves
from lightning_rnn.types import Nest

LAYER = re.compile(r"_l(\d+)(_reverse)?\b")  # of which layer a parameter is


class Piece(NamedTuple):
    """Steps ``start`` to ``stop`` of a batch, with what is known of them.

    Attributes:
        start: the first step.
        stop: the one after the last.
        valid: which of these steps are real; None: all.
        resets: bool ``[B, stop - start]``, where episodes start; None: nowhere.
    """

    start: int
    stop: int
    valid: Valid | None
    resets: Tensor | None

    def to(self, device: torch.device) -> Piece:
        """The same on a device."""
        return Piece(self.start, self.stop, valid_on(self.valid, device), moves(device)(self.resets))


def valid_on(valid: Valid | None, device: torch.device) -> Valid | None:
    """Which steps are real, told on a device."""
    return None if valid is None else Valid(*moves(device)((valid.mask, valid.lengths)))


def pieces_of(steps: int, chunks: int, valid: Valid | None, resets: Tensor | None) -> list[Piece]:
    """``steps`` in as many pieces of time, no two of which differ by more than one step; none is empty but a lone one.

    Example:
        >>> [(piece.start, piece.stop) for piece in pieces_of(7, 3, None, None)]
        [(0, 2), (2, 4), (4, 7)]
    """
    count = max(1, min(chunks, steps))
    ends = [steps * i // count for i in range(count + 1)]
    return [
        Piece(a, b, valid and valid.chunk(a, b), None if resets is None else resets[:, a:b]) for a, b in pairwise(ends)
    ]


LayerRun = Callable[[Nest, Nest, Nest, Piece], tuple[Ran, Nest]]
"""One layer, in one call, over a piece: of input, state, the state at which episodes start, and the piece. It gives
outputs and state, and the output of the last step processed."""


class Stack(ABC):
    """Layers on top of each other in one module, whose parameters stay there under their names.

    Attributes:
        module: the module.
        depth: how many layers.
    """

    module: SequenceLayer
    depth: int

    @abstractmethod
    def begin(self, x: Nest, state: Nest | None) -> tuple[list[Nest], list[Nest]]:
        """Check a call: the state that each layer starts from, and the one at which its episodes start.

        Raises:
            ValueError: a shape or device does not fit.
            TypeError: a dtype does not.
        """

    @abstractmethod
    def layer(self, place: int, steps: int) -> LayerRun:
        """A layer for one call on ``steps`` steps; what is drawn once a call is drawn with its first piece."""

    @abstractmethod
    def move(self, place: int, device: torch.device) -> None:
        """Put a layer's parameters on a device."""

    @abstractmethod
    def weights(self, place: int) -> list[nn.Parameter]:
        """A layer's parameters."""

    @abstractmethod
    def widths(self) -> list[int]:
        """Features of each layer's output."""

    def public(self, parts: Sequence[Nest]) -> Nest:
        """What layers keep for themselves, such as their states, in the structure of the module's own."""
        return tuple(parts)

    def against_chunks(self) -> list[str]:
        """Why time cannot be cut; empty where it can."""
        return ["it reads from the end"] if self.module.reverse else []


class RecurrentStack(Stack):
    """SimpleRNN, LSTM or GRU of several layers. The state of a layer is a list, of one direction or two."""

    def __init__(self, module: RecurrentLayer) -> None:
        self.module: RecurrentLayer = module
        self.depth = module.num_layers

    def begin(self, x: Tensor, state: Nest | None) -> tuple[list[Nest], list[Nest]]:
        module = self.module
        module._check(x)
        given = state if state is not None else module._kept(x)
        fresh = in_parts(module, x, like(module.initial_state(len(x)), x))
        return list(fresh if given is None else in_parts(module, x, given)), list(fresh)

    def layer(self, place: int, steps: int) -> LayerRun:
        return _Layer(self.module, place, steps)

    def _named(self, place: int) -> list[tuple[str, nn.Parameter]]:
        found = ((name, LAYER.search(name), one) for name, one in self.module.named_parameters())
        return [(name, one) for name, match, one in found if match and int(match[1]) == place]

    def move(self, place: int, device: torch.device) -> None:
        for name, parameter in self._named(place):
            owner, _, last = name.rpartition(".")
            moved = nn.ParameterList([parameter]).to(device)[0]  # the same object, unless torch has to make another
            setattr(self.module.get_submodule(owner), last, moved)

    def weights(self, place: int) -> list[nn.Parameter]:
        return [one for _, one in self._named(place)]

    def widths(self) -> list[int]:
        return self.module._widths()

    def public(self, parts: Sequence[Nest]) -> Nest:
        return tuple(tuple(part) if self.module.bidirectional else part[0] for part in parts)

    def against_chunks(self) -> list[str]:
        noise = self.module.regularization
        once = noise.weight_dropout or (
            noise.variational and (noise.dropout or noise.recurrent_dropout or noise.output_dropout)
        )
        return [
            *super().against_chunks(),
            *(["it is bidirectional"] if self.module.bidirectional else []),
            *(["its dropout is the same at every step of a call"] if once else []),
        ]


class _Layer:
    """A :data:`LayerRun` of a :class:`RecurrentStack`."""

    def __init__(self, module: RecurrentLayer, place: int, steps: int) -> None:
        self.module, self.place, self.steps = module, place, steps
        self.noise: Tensor | None = None

    def __call__(self, x: Tensor, state: Nest, fresh: Nest, piece: Piece) -> tuple[Ran, Tensor]:
        if self.place and self.module.training and self.module.regularization.layer_dropout:
            x = x * self._noise(x)[:, piece.start : piece.stop]
        outputs, lasts, states, kept = self.module._layer(self.place, x, state, piece.valid, piece.resets, fresh)
        all_states = self.module.time_options.return_all_states
        return Ran(outputs, states, kept if all_states else None), torch.cat(lasts, dim=-1)

    def _noise(self, x: Tensor) -> Tensor:
        """Dropout between layers for all steps, so that as many numbers are drawn as in a call that is not cut."""
        if self.noise is None:
            ones = x.new_ones(len(x), self.steps, x.shape[2])
            self.noise = F.dropout(ones, self.module.regularization.layer_dropout)
        return self.noise


class CellStack(Stack):
    """``RNN([cell, cell, ...])``: any cells on top of each other."""

    def __init__(self, module: RNN, cells: StackedCells) -> None:
        self.module: RNN = module
        self.cells = cells
        self.depth = len(cells.cells)

    def begin(self, x: Nest, state: Nest | None) -> tuple[list[Nest], list[Nest]]:
        module, first = self.module, first_tensor(x)
        module._check_size(x, self.cells)
        fresh = like(module.initial_state(len(first)), first)
        given = state if state is not None else module._kept(first)
        return list(fresh if given is None else module._like_initial(given, fresh)), list(fresh)

    def layer(self, place: int, steps: int) -> LayerRun:
        return _CellLayer(self.module, self.cells.cells[place])

    def move(self, place: int, device: torch.device) -> None:
        self.cells.cells[place].to(device)

    def weights(self, place: int) -> list[nn.Parameter]:
        return list(self.cells.cells[place].parameters())

    def widths(self) -> list[int]:
        return [int(cell.output_size) for cell in self.cells.cells]  # type: ignore[arg-type]


class _CellLayer:
    """A :data:`LayerRun` of a :class:`CellStack`."""

    def __init__(self, module: RNN, cell: nn.Module) -> None:
        self.module, self.cell = module, cell
        self.stepper: Stepper | None = None

    def __call__(self, x: Nest, state: Nest, fresh: Nest, piece: Piece) -> tuple[Ran, Nest]:
        if self.stepper is None:
            self.stepper = ready(self.cell, x, len(first_tensor(x)))
        reverse = self.module.reverse
        return self.module._run(self.stepper, x, state, piece.valid, piece.resets, fresh, reverse=reverse)


def stack_of(module: nn.Module) -> Stack | None:
    """A module as a stack; None where it does not hold several layers on top of each other.

    Example:
        >>> from lightning_rnn import GRU
        >>> stack_of(GRU(3, 5, 2)).depth, stack_of(GRU(3, 5))
        (2, None)
    """
    if isinstance(module, RecurrentLayer) and module.num_layers > 1:
        return RecurrentStack(module)
    if isinstance(module, RNN) and isinstance(module.cell, StackedCells) and len(module.cell.cells) > 1:
        return CellStack(module, module.cell)
    return None
