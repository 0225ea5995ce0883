"""TensorFlow 1's cells (``tf.nn.rnn_cell``, ``tf.contrib.rnn``): layers from their configs, kernels, states.

TF1 keeps one kernel over ``[x; h]``, orders an LSTM's gates i, j, f, o, adds ``forget_bias`` at run time, and writes an
LSTM's state ``(c, h)``. All of that is turned here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.interop.tf1_configs import bidirectional_from_config as bidirectional_from_config
from lightning_rnn.interop.tf1_configs import cell_from_config as cell_from_config
from lightning_rnn.interop.tf1_configs import layer_from_config as layer_from_config
from lightning_rnn.interop.tf1_weights import give, take, variables
from lightning_rnn.layers import RNN, Bidirectional, DropoutWrapper, ResidualWrapper, StackedCells
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.types import LSTMState, Nest


def _cells(layer: nn.Module) -> Iterator[GateCell]:
    if isinstance(layer, GateCell):
        yield layer
    elif isinstance(layer, (RNN, DropoutWrapper, ResidualWrapper)):
        yield from _cells(layer.cell)
    elif isinstance(layer, Bidirectional):
        forward, backward = list(_cells(layer.layer)), list(_cells(layer.backward_layer))
        for one, other in zip(forward, backward, strict=False):  # a direction that the wrapper made lacks it
            vars(other).setdefault("forget_bias", vars(one).get("forget_bias", 1.0))
        yield from forward + backward
    elif isinstance(layer, StackedCells):
        for cell in layer.cells:
            yield from _cells(cell)
    else:
        raise ValueError(f"no TF1 layout is known for the weights of {type(layer).__name__}")


def set_weights(layer: nn.Module, weights: list[Any]) -> None:
    """Variables in the order in which the TF1 cells make them.

    ``LSTMCell``: kernel ``[D+P, 4H]``, bias, then, where there are, ``w_f_diag``, ``w_i_diag``, ``w_o_diag`` and the
    projection's kernel ``[H, P]``. ``GRUCell``: gates' kernel ``[D+H, 2H]`` and bias, candidate's kernel ``[D+H, H]``
    and bias. ``BasicRNNCell``: kernel and bias. ``LayerNormBasicLSTMCell``: kernel, then gamma and beta of input,
    transform, forget, output and state. Cells of a stack follow each other, the backward direction follows the forward
    one; wrappers have none.

    Raises:
        ValueError: too many or too few arrays, or a shape that does not fit.
    """
    arrays = [torch.as_tensor(np.asarray(w) if not isinstance(w, Tensor) else w) for w in weights]
    used = 0
    for cell in _cells(layer):
        count = len(variables(cell, 0))
        given = arrays[used : used + count]
        if len(given) < count:
            raise ValueError(f"{type(cell).__name__} takes {count} arrays of weights, got {len(given)}")
        take(cell, given)
        used += count
    if used != len(arrays):
        raise ValueError(f"{type(layer).__name__} takes {used} arrays of weights, got {len(arrays)}")


@torch.no_grad()
def get_weights(layer: nn.Module) -> list[np.ndarray[Any, Any]]:
    """Variables in TF1's order and layout, see :func:`set_weights`."""
    return [array.cpu().numpy() for cell in _cells(layer) for array in give(cell)]


def state_from_tf1(layer: nn.Module, states: Any) -> Nest:
    """A state for ``layer(x, state)`` from TF1's, whose LSTM members are ``(c, h)``; arrays take the layer's dtype.

    Raises:
        ValueError: a wrong number of states.
    """
    weight = next(layer.parameters(), torch.zeros(()))
    if isinstance(layer, (RNN, DropoutWrapper, ResidualWrapper)):
        return state_from_tf1(layer.cell, states)
    parts: list[nn.Module] | None = None
    if isinstance(layer, Bidirectional):
        parts = [layer.layer, layer.backward_layer]
    elif isinstance(layer, StackedCells):
        parts = list(layer.cells)
    if parts is not None:
        if not isinstance(states, (list, tuple)) or len(states) != len(parts):
            got = len(states) if isinstance(states, (list, tuple)) else type(states).__name__
            raise ValueError(f"{type(layer).__name__}: expected a tuple of {len(parts)} states, got {got}")
        return tuple(state_from_tf1(part, state) for part, state in zip(parts, states, strict=True))
    (cell,) = _cells(layer)
    tensors = [torch.as_tensor(np.asarray(leaf)).to(weight) for leaf in pytree.tree_leaves(states)]
    wanted = "(c, h)" if cell.kind == "lstm" else "one array"
    if len(tensors) != (2 if cell.kind == "lstm" else 1):
        raise ValueError(f"{type(cell).__name__}: expected {wanted} as the state, got {len(tensors)} arrays")
    return LSTMState(tensors[1], tensors[0]) if cell.kind == "lstm" else tensors[0]


def state_to_tf1(state: Nest) -> Nest:
    """Our state with every :class:`LSTMState` as TF1's ``(c, h)``."""
    return pytree.tree_map(
        lambda one: (one.c, one.h) if isinstance(one, LSTMState) else one,
        state,
        is_leaf=lambda one: isinstance(one, (LSTMState, Tensor)),
    )
