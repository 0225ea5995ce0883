"""Layers and cells from ``torch.nn`` and back: the same weights, and states between the two layouts.

``torch.nn`` stacks the states of all layers and directions, ``[L * directions, B, H]``; ours are nests of ``[B, H]``.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import activation
from lightning_rnn.layers.cells import GateCell, GRUCell, LSTMCell, SimpleRNNCell
from lightning_rnn.layers.options import Regularization, TimeOptions
from lightning_rnn.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN
from lightning_rnn.types import State

PAIRS: tuple[tuple[type[Any], type[Any]], ...] = (
    (nn.RNN, SimpleRNN),
    (nn.LSTM, LSTM),
    (nn.GRU, GRU),
    (nn.RNNCell, SimpleRNNCell),
    (nn.LSTMCell, LSTMCell),
    (nn.GRUCell, GRUCell),
)


@overload
def from_torch(module: nn.RNNBase) -> RecurrentLayer: ...
@overload
def from_torch(module: nn.RNNCellBase) -> GateCell: ...
def from_torch(module: nn.RNNBase | nn.RNNCellBase) -> RecurrentLayer | GateCell:
    """Our layer or cell with a copy of a ``torch.nn`` module's weights, its dtype, device and mode.

    The layer takes what the module took: without ``batch_first`` it is ``time_major``, ``x [T, B, D]``. States are
    ours, see :func:`state_from_torch`. ``dropout`` becomes ``layer_dropout``, ``nonlinearity`` the activation.

    Args:
        module: an ``RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` or ``GRUCell``.

    Raises:
        TypeError: the module is none of these.

    Example:
        >>> layer = from_torch(nn.LSTM(3, 5, num_layers=2, batch_first=True))
        >>> output, (first, second) = layer(torch.zeros(4, 7, 3), lengths=torch.tensor([7, 3, 1, 0]))
        >>> output.shape, second.c.shape
        (torch.Size([4, 7, 5]), torch.Size([4, 5]))
    """
    for theirs, ours in PAIRS:
        if isinstance(module, theirs):
            with torch.device("meta"):  # nothing is drawn
                made: RecurrentLayer | GateCell = ours(**_arguments(module))
            _copy(module, made)
            return made
    raise TypeError(f"from_torch takes an RNN, LSTM or GRU of torch.nn or a cell of it, got {type(module).__name__}")


@overload
def to_torch(layer: RecurrentLayer) -> nn.RNNBase: ...
@overload
def to_torch(layer: GateCell) -> nn.RNNCellBase: ...
def to_torch(layer: RecurrentLayer | GateCell) -> nn.RNNBase | nn.RNNCellBase:
    """The ``torch.nn`` module with a copy of a layer's or cell's weights, its dtype, device and mode.

    It takes what the layer took: ``batch_first`` unless ``time_major``. How time is run (engine, unrolling,
    checkpoints, offload) and what masked steps put out does not move: ``torch.nn`` has no such options.

    Raises:
        TypeError: ``layer`` is not a layer or cell of ours.
        ValueError: the layer has options that ``torch.nn`` has not, each named, or no parameters yet.

    Example:
        >>> to_torch(GRU(3, 5, bidirectional=True))
        GRU(3, 5, batch_first=True, bidirectional=True)
    """
    for theirs, ours in PAIRS:
        if isinstance(layer, ours):
            arguments = _torch_arguments(layer)
            with torch.device("meta"):
                made: nn.RNNBase | nn.RNNCellBase = theirs(**arguments)
            _copy(layer, made)
            return made
    raise TypeError(f"to_torch takes a SimpleRNN, LSTM or GRU or a cell of them, got {type(layer).__name__}")


def state_from_torch(layer: RecurrentLayer | GateCell, hx: Tensor | tuple[Tensor, Tensor]) -> State:
    """A state of ``torch.nn`` as a state of ``layer``.

    Args:
        layer: whose state it will be.
        hx: ``h_n [L * directions, B, H]``, or ``(h_n, c_n)`` of an LSTM; of a cell without the first axis.

    Raises:
        ValueError: not the number of tensors, of axes, or of layers and directions.

    Example:
        >>> (first, second) = state_from_torch(GRU(3, 5, num_layers=2), torch.zeros(2, 4, 5))
        >>> second.shape
        torch.Size([4, 5])
    """
    spec = pytree.tree_structure(layer.initial_state(1))
    tensors = [hx] if isinstance(hx, Tensor) else list(hx)
    memories = _memories(layer)
    if isinstance(layer, GateCell):
        tensors = [tensor.unsqueeze(0) for tensor in tensors]
    wanted = spec.num_leaves // memories
    shapes = [list(tensor.shape) for tensor in tensors]
    if len(shapes) != memories or any(len(shape) != 3 or shape[0] != wanted for shape in shapes):
        what = "(h, c), each" if memories > 1 else "h"
        raise ValueError(f"{type(layer).__name__}: expected {what} of shape [{wanted}, B, H], got {shapes}")
    leaves = [tensor[i] for i in range(wanted) for tensor in tensors]
    state: State = pytree.tree_unflatten(leaves, spec)
    return state


def state_to_torch(layer: RecurrentLayer | GateCell, state: State) -> Tensor | tuple[Tensor, Tensor]:
    """A state of ``layer`` as ``torch.nn`` has it: the inverse of :func:`state_from_torch`.

    Returns:
        ``h [L * directions, B, H]``, or ``(h, c)`` of an LSTM; of a cell without the first axis.

    Raises:
        ValueError: the state has not the structure of the layer's.

    Example:
        >>> layer = LSTM(3, 5, bidirectional=True)
        >>> h, c = state_to_torch(layer, layer(torch.zeros(4, 7, 3)).state)
        >>> h.shape
        torch.Size([2, 4, 5])
    """
    leaves = pytree.tree_leaves(state)
    wanted = len(pytree.tree_leaves(layer.initial_state(1)))
    if len(leaves) != wanted:
        raise ValueError(f"{type(layer).__name__}: expected a state of {wanted} tensors, got {len(leaves)}")
    memories = _memories(layer)
    if isinstance(layer, GateCell):
        return leaves[0] if memories == 1 else (leaves[0], leaves[1])
    if any(leaf.shape != leaves[i % memories].shape for i, leaf in enumerate(leaves)):
        raise ValueError(f"{type(layer).__name__}: torch.nn has one size for all layers, this state has several")
    tensors = [torch.stack(leaves[i::memories]) for i in range(memories)]
    return tensors[0] if memories == 1 else (tensors[0], tensors[1])


def _memories(layer: RecurrentLayer | GateCell) -> int:
    return 2 if isinstance(layer, (LSTM, LSTMCell)) else 1


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Weights, read by name so that parametrized ones count too, with dtype, device, freezing and mode."""
    values = {name: getattr(source, name) for name, _ in target.named_parameters()}
    first = next(iter(values.values()))
    target.to(first.dtype).to_empty(device=first.device)
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            parameter.copy_(values[name])
            parameter.requires_grad_(values[name].requires_grad)
    target.train(source.training)


def _arguments(module: nn.RNNBase | nn.RNNCellBase) -> dict[str, Any]:
    """Our constructor's arguments for a module of ``torch.nn``."""
    arguments: dict[str, Any] = {name: getattr(module, name) for name in ("input_size", "hidden_size", "bias")}
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        arguments["step_options"] = StepOptions(activation=module.nonlinearity)
    if isinstance(module, nn.RNNCellBase):
        return arguments
    return arguments | {
        "num_layers": module.num_layers,
        "bidirectional": module.bidirectional,
        "proj_size": module.proj_size,
        "regularization": Regularization(layer_dropout=module.dropout),
        "time_options": TimeOptions(time_major=not module.batch_first),
    }


def _torch_arguments(layer: RecurrentLayer | GateCell) -> dict[str, Any]:
    """The constructor's arguments in ``torch.nn``."""
    name = type(layer).__name__
    refused = _step_refusals(layer) + _noise_refusals(layer)
    refused += _layer_refusals(layer) if isinstance(layer, RecurrentLayer) else ["proj_size"] * bool(layer.proj_size)
    if refused:
        raise ValueError(f"{name}: torch.nn has no {', '.join(refused)}")
    if layer.input_size is None:
        raise ValueError(f"{name}: there are no weights yet: call build(input_size), or the layer once, before")
    size = layer.sizes[0] if isinstance(layer, RecurrentLayer) else layer.hidden_size
    arguments: dict[str, Any] = {"input_size": layer.input_size, "hidden_size": size, "bias": layer.bias}
    if isinstance(layer, (SimpleRNN, SimpleRNNCell)):
        relu = activation(layer.step_options.activation) is torch.relu
        arguments["nonlinearity"] = "relu" if relu else "tanh"
    if isinstance(layer, GateCell):
        return arguments
    if layer.proj_size:
        arguments["proj_size"] = layer.proj_size
    return arguments | {
        "num_layers": layer.num_layers,
        "bidirectional": layer.bidirectional,
        "dropout": layer.regularization.layer_dropout if layer.num_layers > 1 else 0.0,  # else it warns
        "batch_first": not layer.time_options.time_major,
    }


def _step_refusals(layer: RecurrentLayer | GateCell) -> list[str]:
    options = layer.step_options
    simple = isinstance(layer, (SimpleRNN, SimpleRNNCell))
    allowed = {"activation": (torch.tanh, torch.relu) if simple else (torch.tanh,)}
    allowed["recurrent_activation"] = (torch.sigmoid,)
    refused = []
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in allowed:
            fits = activation(value) in allowed[field.name]
        else:
            fits = value == field.default or (field.name == "layer_norm_eps" and options.layer_norm == "none")
        if not fits:
            refused.append(f"{field.name}={value!r}")
    return refused


def _noise_refusals(layer: RecurrentLayer | GateCell) -> list[str]:
    noise = layer.regularization
    names = ("dropout", "recurrent_dropout", "output_dropout", "zoneout", "weight_dropout")
    shares = {"dropout of the input" if name == "dropout" else name: getattr(noise, name) for name in names}
    return [name for name, share in shares.items() if share]


def _layer_refusals(layer: RecurrentLayer) -> list[str]:
    names = [name for name in ("residual", "reverse", "stateful") if getattr(layer, name)]
    if len(set(layer.sizes)) > 1:
        names.append("hidden_size of each layer its own")
    if layer.start == "learned":
        names.append("learned initial_state")
    if layer.proj_size >= min(layer.sizes):
        names.append("proj_size that is not below hidden_size")
    if layer.time_options.return_all_states:
        names.append("return_all_states")
    return names
