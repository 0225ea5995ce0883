"""What a cell is: one step. Time is the business of :class:`lightning_rnn.layers.rnn.RNN`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.config import Configurable
from lightning_rnn.types import LSTMState, Nest


class Cell(Configurable, nn.Module, ABC):
    """One step of a recurrent network: ``output, new_state = cell(x_t, state)``.

    Inputs, outputs and states may be nests of tensors whose first axis is the batch. A subclass gives
    :meth:`initial_state` and either :meth:`step` or ``forward``; :meth:`create` makes the parameters, once the size of
    the input is known: at construction, or, where ``input_size`` is None, at the first call or :meth:`build`.

    Its constructor ends with ``self.build(input_size)``, where None waits for the first input. Any ``nn.Module`` with
    ``forward(x_t, state)`` and ``initial_state(batch)`` serves as a cell too.
    """

    input_size: Any

    def __init__(self) -> None:
        super().__init__()
        self.input_size = None
        self._built = False

    def build(self, input_size: Any) -> Self:
        """Make the parameters for inputs of this size; None waits for the first call."""
        if input_size is not None and not self._built:
            self.input_size, self._built = input_size, True
            self.create(input_size)
        return self

    def build_for(self, x: Nest) -> None:
        """Make the parameters, if they are not there yet, as a first input asks: its size, dtype and device."""
        size, there = self.size_of(x), self._built
        self.build(size)
        if self._built and not there:
            follow(self, first_tensor(x))

    def create(self, input_size: Any) -> None:
        """Register the parameters. A cell without any has nothing to do."""

    def size_of(self, x: Nest) -> Any:
        """The ``input_size`` that fits a step or a whole sequence."""
        return x.shape[-1] if isinstance(x, Tensor) else None

    def bind(self, x: Nest, batch: int) -> Stepper:
        """Ready for one call: what is drawn once a call, such as dropout masks, is drawn here."""
        return self

    def project(self, x: Nest) -> Nest:
        """The part of a step that does not see the state: for ``[B, ...]`` or all steps ``[B, T, ...]`` at once."""
        return x

    @abstractmethod
    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        """One step on what :meth:`project` returned: ``(output, new state)``."""

    @abstractmethod
    def initial_state(self, batch: int) -> Nest:
        """The state before the first step, for ``batch`` rows."""

    def forward(self, x: Nest, state: Nest | None = None) -> tuple[Nest, Nest]:
        """One step: ``(output, new state)``; no state is the initial one."""
        self.build_for(x)
        batch = first_tensor(x).shape[0]
        if state is None:
            state = like(self.initial_state(batch), first_tensor(x))
        stepper = self.bind(x, batch)
        return stepper.step(stepper.project(x), state)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros with the parameters' dtype and device."""
        parameter = next(self.parameters(), None)
        return torch.zeros(shape) if parameter is None else parameter.new_zeros(shape)


class ConditionalCell(Cell):
    """A cell that also sees what is the same at every step: ``RNN(cell)(x, constants=constants)``."""

    @abstractmethod
    def bind_constants(self, x: Nest, batch: int, constants: Nest) -> Stepper:
        """Ready for one call, as :meth:`bind`, with these constants."""

    @abstractmethod
    def initial_state_for(self, batch: int, constants: Nest) -> Nest:
        """The state before the first step, for ``batch`` rows and these constants."""

    def bind(self, x: Nest, batch: int) -> Stepper:
        raise ValueError(f"{type(self).__name__} needs constants: RNN(cell)(x, constants=constants)")

    def initial_state(self, batch: int) -> Nest:
        raise ValueError(f"{type(self).__name__}: the initial state depends on the constants: initial_state_for")

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        raise ValueError(f"{type(self).__name__} steps with constants alone: cell(x_t, state, constants=constants)")

    def forward(self, x: Nest, state: Nest | None = None, *, constants: Nest = None) -> tuple[Nest, Nest]:
        """One step: ``(output, new state)``; no state is the initial one."""
        self.build_for(x)
        first = first_tensor(x)
        if state is None:
            state = like(self.initial_state_for(first.shape[0], constants), first)
        stepper = self.bind_constants(x, first.shape[0], constants)
        return stepper.step(stepper.project(x), state)


def follow(module: nn.Module, x: Tensor) -> None:
    """Move new parameters to the device of their first input and, outside of autocast, to its floating dtype."""
    floating = x.is_floating_point() and not torch.is_autocast_enabled(x.device.type)
    module.to(x.device, x.dtype if floating else None)


def first_tensor(x: Nest) -> Tensor:
    """The first tensor of a nest."""
    if isinstance(x, Tensor):
        return x
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(x) if isinstance(leaf, Tensor)]
    if not leaves:
        raise TypeError(f"expected a tensor or a nest of tensors, got {type(x).__name__}")
    return leaves[0]


def map_tensors(function: Callable[[Tensor], Tensor], nest: Nest) -> Nest:
    """A function of every tensor of a nest; torch's ``tree_map`` takes as long as a kernel for a lone tensor."""
    if isinstance(nest, Tensor):
        return function(nest)
    if type(nest) is LSTMState:
        return LSTMState(function(nest.h), function(nest.c))
    if type(nest) in (tuple, list):
        return type(nest)(map_tensors(function, part) for part in nest)
    return torch.utils._pytree.tree_map_only(Tensor, function, nest)


def like(state: Nest, x: Tensor) -> Nest:
    """A state moved to the device of ``x``, and to its dtype where both are floating."""

    def move(leaf: Tensor) -> Tensor:
        if leaf.dtype == x.dtype and leaf.device == x.device:
            return leaf
        both = leaf.is_floating_point() and x.is_floating_point()
        return leaf.to(x.device, x.dtype if both else leaf.dtype)

    return map_tensors(move, state)
