"""What a recurrent layer refuses: arguments, inputs and states that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_rnn.types import LSTMState, State

if TYPE_CHECKING:
    from lightning_rnn.layers.recurrent_layer import RecurrentLayer


def layer_sizes(name: str, input_size: int | None, hidden_size: int | list[int], num_layers: int) -> list[int]:
    """Features of each layer.

    Raises:
        ValueError: a size or their number is out of range, or they contradict each other.
    """
    sizes = list(hidden_size) if isinstance(hidden_size, (list, tuple)) else [hidden_size] * num_layers
    if isinstance(hidden_size, (list, tuple)) and num_layers not in (1, len(sizes)):
        raise ValueError(f"{name}: hidden_size has {len(sizes)} entries, num_layers is {num_layers}")
    named = [("num_layers", len(sizes)), ("input_size", input_size), *(("hidden_size", size) for size in sizes)]
    for what, size in named:
        if size is not None and size < 1:
            raise ValueError(f"{name}: {what} must be at least 1, got {size}")
    return sizes


def check_choices(name: str, choices: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Raise ``ValueError`` unless each option ``(what, value, allowed)`` has a value that is allowed."""
    for what, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{name}: {what} must be one of {', '.join(allowed)}, got {value!r}")


def check_input(layer: RecurrentLayer, x: Tensor) -> None:
    """Raise unless ``x`` is ``[B, T, D]`` of the features, dtype and device of the weights."""
    name, weight = type(layer).__name__, layer._dtype_and_device()
    if x.shape[2] != layer.input_size:
        raise ValueError(f"{name}: expected x of shape [B, T, {layer.input_size}], got {list(x.shape)}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name}: x is {x.dtype}, the weights are {weight.dtype}; convert one of them with .to()")
    if x.device != weight.device:
        raise ValueError(f"{name}: x is on {x.device}, the weights are on {weight.device}")


def members(layer: nn.Module, state: State, count: int, what: str) -> tuple[State, ...]:
    """The parts of a state, one for each of ``count`` layers or directions, checked."""
    if not isinstance(state, (tuple, list)) or isinstance(state, LSTMState) or len(state) != count:
        name = layer._get_name()  # type: ignore[no-untyped-call]
        raise ValueError(f"{name}: expected a state tuple of {count} {what}")
    return tuple(state)


def in_parts(layer: RecurrentLayer, x: Tensor, state: State) -> list[list[State]]:
    """A state as ``[layer][direction]``, checked against the layer and its input ``x [B, ...]``.

    Raises:
        ValueError: a number of parts, a shape or a device does not fit.
        TypeError: a part is no state of such a cell, or of another dtype than ``x``.
    """
    layers = members(layer, state, layer.num_layers, "layers") if layer.num_layers > 1 else (state,)
    return [
        [
            _checked(layer, x, one, layer.sizes[i])
            for one in (members(layer, part, 2, "directions") if layer.bidirectional else (part,))
        ]
        for i, part in enumerate(layers)
    ]


def _checked(layer: RecurrentLayer, x: Tensor, state: State, size: int) -> State:
    parts = tuple(state) if isinstance(state, (tuple, list)) else (state,)
    name = type(layer).__name__
    if len(parts) != layer._kind.states or not all(isinstance(part, Tensor) for part in parts):
        wanted = "an LSTMState(h, c)" if layer._kind.states > 1 else "one tensor h"
        raise TypeError(f"{name}: the state of one layer and direction must be {wanted}, got {type(state).__name__}")
    tensors = [part for part in parts if isinstance(part, Tensor)]
    for tensor, width in zip(tensors, (layer.proj_size or size, size), strict=False):
        shape = [x.shape[0], width]
        if list(tensor.shape) != shape:
            raise ValueError(f"{name}: expected states of shape {shape} ([B, H]), got {list(tensor.shape)}")
        if tensor.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name}: the state is {tensor.dtype}, x is {x.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"{name}: the state is on {tensor.device}, x on {x.device}")
    return LSTMState(*tensors) if len(tensors) > 1 else tensors[0]
