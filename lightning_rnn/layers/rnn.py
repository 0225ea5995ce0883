"""Any cell over time."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.functional.scan import Stepper, in_order
from lightning_rnn.layers.cell import Cell, ConditionalCell, first_tensor, like
from lightning_rnn.layers.cells import StackedCells, check_cell, ready
from lightning_rnn.layers.engines import Engine, EngineChoice
from lightning_rnn.layers.gates import Gates
from lightning_rnn.layers.options import TimeOptions
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import Nest, RNNOutput


class RNN(SequenceLayer):
    """A cell run over time: ``RNN(LSTMCell(3, 5))`` computes what ``LSTM(3, 5)`` does.

    Args:
        cell: a :class:`Cell`, or any module with ``forward(x_t, state) -> (output, state)`` and
            ``initial_state(batch)``; inputs, outputs and states may be nests. A list is stacked
            (:class:`StackedCells`).
        reverse: from the last step to the first (Keras' ``go_backwards``); outputs are in the order of processing.
        stateful: the final state is where the next call starts; see :meth:`reset_states`.
        zero_output_for_mask: outputs of masked steps are zero; else they repeat the last valid one.
        time_options: unrolling, checkpoints, axis order, states of all steps.
        engine: ``auto``, ``fused`` or ``scan``; anything but auto raises rather than fall back.

    Example:
        >>> class Sum(nn.Module):
        ...     def initial_state(self, batch): return torch.zeros(batch, 1)
        ...     def forward(self, x, state): return x + state, x + state
        >>> RNN(Sum())(torch.tensor([[[1.0], [2.0], [3.0]]])).sequence.flatten().tolist()
        [1.0, 3.0, 6.0]
    """

    def __init__(
        self,
        cell: Any,
        *,
        reverse: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        time_options: TimeOptions | None = None,
        engine: Engine = "auto",
    ) -> None:
        super().__init__()
        if isinstance(cell, (list, tuple)):
            cell = StackedCells(list(cell))
        check_cell(cell)
        if engine not in get_args(Engine):
            raise ValueError(f"RNN: engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
        self.cell: nn.Module = cell
        self.reverse, self.stateful, self.zero_output_for_mask = reverse, stateful, zero_output_for_mask
        self.time_options, self.engine = time_options or TimeOptions(), engine

    def initial_state(self, batch: int) -> Nest:
        """The cell's."""
        return self.cell.initial_state(batch)  # type: ignore[operator]

    def _fresh(self, batch: int, constants: Any) -> Nest:
        if isinstance(self.cell, ConditionalCell):
            return self.cell.initial_state_for(batch, constants)
        return self.initial_state(batch)

    @property
    def output_size(self) -> Any:
        """Features of the output, where the cell tells."""
        return getattr(self.cell, "output_size", None)

    def build(self, input_size: Any) -> RNN:
        """Make the parameters of the cell for this size of input, once."""
        if isinstance(self.cell, Cell):
            self.cell.build(input_size)
        return self

    def _ready(self, x: Nest, constants: Any = None) -> Stepper:
        stepper = ready(self.cell, x, first_tensor(x).shape[0], constants)
        self._check_size(x, stepper)
        return stepper

    def explain(
        self,
        x: Nest,
        state: Nest | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
        constants: Any = None,
    ) -> EngineChoice:
        """The engine that ``forward`` with these arguments runs on, and why."""
        first = first_tensor(x)
        with torch.random.fork_rng(devices=[first.device] if first.is_cuda else [], enabled=self.training):
            x, masked = self._turn(x), lengths is not None or mask is not None
            return self._choose(self._ready(x, constants), x, masked, self._turn(reset_mask))

    def forward(
        self,
        x: Nest,
        state: Nest | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset_mask: Tensor | None = None,
        constants: Any = None,
    ) -> RNNOutput:
        """Run over a batch.

        Args:
            x: ``[B, T, ...]`` or a nest of such tensors.
            state: initial state as the cell has it; None: the kept one of a ``stateful`` layer, else the cell's.
            lengths: integers ``[B]``, valid steps of each row, padding on the right.
            mask: bool ``[B, T]``, True where a step is valid. Not with ``lengths``.
            reset_mask: bool ``[B, T]``, True where an episode starts.
            constants: seen by the cell at every step, as by ``cell(x_t, state, constants=constants)``.

        Raises:
            ValueError: a shape does not fit, a length is outside 0..T, both ``lengths`` and ``mask``, or the ``engine``
                asked for cannot run the call.
            TypeError: wrong dtype of ``lengths`` or ``mask``.
        """
        x, mask, reset_mask = self._turn(x), self._turn(mask), self._turn(reset_mask)
        first = first_tensor(x)
        for leaf in pytree.tree_leaves(x):
            if leaf.ndim < 2 or leaf.shape[:2] != first.shape[:2]:
                raise ValueError(
                    f"RNN: every input must be [B, T, ...] with the same B and T; got {list(leaf.shape)} "
                    f"beside {list(first.shape)}"
                )
        valid = self._valid(first, lengths, mask, reset_mask)
        stepper = self._ready(x, constants)

        fresh = like(self._fresh(first.shape[0], constants), first)
        given = state if state is not None else self._kept(first)
        start = fresh if given is None else self._like_initial(given, fresh)
        ran, last = self._run(stepper, x, start, valid, reset_mask, fresh, reverse=self.reverse)
        self._keep(ran.state)
        return RNNOutput(self._turn(self._order(ran.outputs)), ran.state, last, self._turn(self._order(ran.all_states)))

    def _check_size(self, x: Nest, stepper: Stepper) -> None:
        name = type(self.cell).__name__
        if isinstance(stepper, Gates) and not (isinstance(x, Tensor) and x.ndim == 3):
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"RNN: {name} expects x of shape [B, T, D], got {got}")
        wanted = getattr(self.cell, "input_size", None)
        if isinstance(self.cell, Cell) and isinstance(x, Tensor) and isinstance(wanted, int):
            got = self.cell.size_of(x)
            if got != wanted:
                raise ValueError(f"RNN: {name} expects inputs of {wanted} features, got {got}")
            weight = next(self.cell.parameters(), None)
            if isinstance(stepper, Gates) and weight is not None and x.device != weight.device:
                raise ValueError(f"RNN: x is on {x.device}, the weights are on {weight.device}")
            number = isinstance(stepper, Gates) or x.is_floating_point()
            mixed = weight is not None and number and x.dtype != weight.dtype
            if mixed and not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"RNN: x is {x.dtype}, the weights are not; convert one of them with .to()")

    def _like_initial(self, state: Nest, fresh: Nest) -> Nest:
        """A given state, in the structure of the cell's own and with its shapes."""
        own, spec = pytree.tree_flatten(fresh)
        leaves = pytree.tree_leaves(in_order(state, fresh))
        if len(leaves) != len(own):
            raise ValueError(f"RNN: the state of this cell has {len(own)} tensors, got {len(leaves)}")
        for mine, given in zip(own, leaves, strict=True):
            if not isinstance(given, Tensor):
                raise TypeError(f"RNN: a state is made of tensors, got {type(given).__name__}")
            if mine.device != given.device:
                raise ValueError(f"RNN: the state is on {given.device}, x on {mine.device}")
            if mine.shape != given.shape:
                raise ValueError(f"RNN: expected a state of shape {list(mine.shape)}, got {list(given.shape)}")
            if (
                mine.is_floating_point()
                and mine.dtype != given.dtype
                and not torch.is_autocast_enabled(given.device.type)
            ):
                raise TypeError(f"RNN: the state is {given.dtype}, x is {mine.dtype}")
        return pytree.tree_unflatten(leaves, spec)
