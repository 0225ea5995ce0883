"""Keras 2 and 3: layers from their configs, weights and states in their order and layout, ``.keras`` files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.interop.keras_configs import layer_from_config as layer_from_config
from lightning_rnn.interop.keras_files import Sequential as Sequential
from lightning_rnn.interop.keras_files import load_model as load_model
from lightning_rnn.interop.keras_layers import ChannelsLast
from lightning_rnn.interop.keras_weights import get_weights as get_weights
from lightning_rnn.interop.keras_weights import set_weights as set_weights
from lightning_rnn.layers import Bidirectional, ConvLSTM1d, ConvLSTM2d, ConvLSTM3d
from lightning_rnn.types import LSTMState, Nest


def state_from_keras(layer: nn.Module, states: Any) -> Nest:
    """A state for ``layer(x, state)`` from Keras' states, flat in Keras' order or nested as Keras returns them.

    Args:
        layer: from :func:`layer_from_config`.
        states: numpy arrays or tensors; the result has the layer's dtype and device.

    Raises:
        ValueError: a wrong number of states.
    """
    weight = next(layer.parameters(), torch.zeros(()))
    flat = [torch.as_tensor(np.asarray(s) if not isinstance(s, Tensor) else s).to(weight) for s in _flatten(states)]
    spec = pytree.tree_structure(state_structure(layer))
    if spec.num_leaves != len(flat):
        raise ValueError(f"{type(layer).__name__} has {spec.num_leaves} states, got {len(flat)}")
    return pytree.tree_unflatten(flat, spec)


def _flatten(states: Any) -> Iterator[Any]:
    if isinstance(states, (list, tuple)):
        for member in states:
            yield from _flatten(member)
    else:
        yield states


def state_structure(layer: nn.Module) -> Nest:
    """A state of the layer's structure; its tensors mean nothing."""
    if isinstance(layer, ChannelsLast):
        return state_structure(layer.layer)
    if isinstance(layer, Bidirectional):
        return state_structure(layer.layer), state_structure(layer.backward_layer)
    if isinstance(layer, (ConvLSTM1d, ConvLSTM2d, ConvLSTM3d)):
        return LSTMState(torch.zeros(()), torch.zeros(()))
    return layer.initial_state(1)  # type: ignore[operator]
