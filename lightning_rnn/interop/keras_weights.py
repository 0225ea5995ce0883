"""Weights in Keras' order and layout, one leaf of a layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_rnn.functional import Weights
from lightning_rnn.interop.keras_layers import BatchNorm, ChannelsLast, Dense, LayerNorm, Output
from lightning_rnn.layers import (
    RNN,
    Bidirectional,
    Embedding,
    ESNCell,
    NASCell,
    RecurrentLayer,
    StackedCells,
    TimeDistributed,
)
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.layers.convolutional import ConvLSTMCell
from lightning_rnn.layers.gates import collect

_ORDER = {"simple_rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}  # Keras' gates among torch's, and back
_NORMS = ("norm_ih_weight", "norm_ih_bias", "norm_hh_weight", "norm_hh_bias", "norm_c_weight", "norm_c_bias")


class Leaf(NamedTuple):
    """A module that holds weights itself, and the suffix of their names."""

    module: nn.Module
    suffix: str = ""


def leaves(layer: Any) -> Iterator[Leaf]:
    """The leaves of a layer in Keras' order."""
    if isinstance(layer, RecurrentLayer):
        for number in range(layer.num_layers):
            yield from (Leaf(layer, suffix) for suffix in layer._suffixes(number))
    elif isinstance(layer, Bidirectional):
        yield from leaves(layer.layer)
        yield from leaves(layer.backward_layer)
    elif isinstance(layer, RNN):
        yield from leaves(layer.cell)
    elif isinstance(layer, StackedCells):
        for cell in layer.cells:
            yield from leaves(cell)
    elif isinstance(layer, (TimeDistributed, ChannelsLast, Output)):
        yield from leaves(layer.layer)
    elif _handler(layer) is not None:
        yield Leaf(layer)
    elif list(layer.parameters()):
        raise ValueError(f"no Keras layout is known for the weights of {type(layer).__name__}")


class Handler(NamedTuple):
    """How one sort of leaf takes arrays, telling how many, and gives them."""

    take: Callable[[Leaf, list[Tensor]], int]
    give: Callable[[Leaf], list[Tensor]]


def from_arrays(leaf: Leaf, arrays: list[Tensor]) -> int:
    """Copy a leaf's arrays, the first of ``arrays``, and tell how many they were."""
    handler = _handler(leaf.module)
    assert handler is not None
    with torch.no_grad():
        return handler.take(leaf, arrays)


def to_arrays(leaf: Leaf) -> list[Tensor]:
    """A leaf's arrays."""
    handler = _handler(leaf.module)
    assert handler is not None
    return handler.give(leaf)


def _handler(module: nn.Module) -> Handler | None:
    for cls, handler in _HANDLERS:
        if isinstance(module, cls):
            return handler
    return None


def copy(target: Any, array: Tensor, what: str) -> None:
    """Copy after a check of the shape."""
    if tuple(target.shape) != tuple(array.shape):
        raise ValueError(f"{what}: expected an array of shape {list(target.shape)}, got {list(array.shape)}")
    target.copy_(array)


def _need(arrays: list[Tensor], count: int, module: nn.Module) -> None:
    if len(arrays) < count:
        raise ValueError(f"{type(module).__name__} takes {count} arrays of weights, got {len(arrays)}")


def _permute(kind: str, array: Tensor) -> Tensor:
    """Blocks along the first axis from Keras' order to torch's; its own inverse."""
    blocks = array.chunk(len(_ORDER[kind]))
    return torch.cat([blocks[i] for i in _ORDER[kind]])


def _gate_names(leaf: Leaf) -> tuple[str, bool, list[str]]:
    """The kind of a leaf, whether it has biases, the names beyond kernels and bias."""
    module: Any = leaf.module
    weights = collect(module, leaf.suffix)
    there = [name for name in ("weight_ch", *_NORMS) if getattr(weights, name) is not None]
    return module.kind, weights.bias_ih is not None, there


def _gates_take(leaf: Leaf, arrays: list[Tensor]) -> int:
    module: Any = leaf.module
    _need(arrays, 2, module)
    module.build(arrays[0].shape[0])
    module.to(arrays[0].dtype)
    kind, bias, extra = _gate_names(leaf)
    w: Weights = collect(module, leaf.suffix)
    if w.weight_hr is not None:
        raise ValueError(f"{type(module).__name__}: Keras has no projection")
    names = ["weight_ih", "weight_hh"] + ["bias"] * bias
    name = type(module).__name__
    peepholes = 3 * ("weight_ch" in extra)
    norms = [n for n in extra if n != "weight_ch"]
    count = len(names) + peepholes + len(norms)
    _need(arrays, count, module)
    for target, array, what in ((w.weight_ih, arrays[0], "kernel"), (w.weight_hh, arrays[1], "recurrent_kernel")):
        if tuple(array.shape) != tuple(target.T.shape):
            wanted, got = list(target.T.shape), list(array.shape)
            raise ValueError(f"{name} {what}: expected an array of shape {wanted}, got {got}")
        copy(target, _permute(kind, array.T), f"{name} {what}")
    if bias:
        given = arrays[2] if arrays[2].ndim == 2 else torch.stack([arrays[2], torch.zeros_like(arrays[2])])
        if given.shape[1] != len(w.weight_ih):
            wanted = [len(w.weight_ih)]
            raise ValueError(f"{name} bias: expected an array of shape {wanted}, got {list(arrays[2].shape)}")
        copy(w.bias_ih, _permute(kind, given[0]), f"{name} bias")
        copy(w.bias_hh, _permute(kind, given[1]), f"{name} recurrent bias")
    rest = arrays[len(names) : count]
    for i in range(peepholes):
        copy(w.weight_ch[i], rest[i], f"{name} peephole")  # type: ignore[index]
    for norm, array in zip(norms, rest[peepholes:], strict=True):
        target = getattr(w, norm)
        copy(target, _permute(kind, array) if "norm_c" not in norm else array, f"{name} {norm}")
    return count


def _gates_give(leaf: Leaf) -> list[Tensor]:
    module: Any = leaf.module
    kind, bias, extra = _gate_names(leaf)
    w: Weights = collect(module, leaf.suffix)
    arrays = [_permute(kind, w.weight_ih).T, _permute(kind, w.weight_hh).T]
    if bias:
        assert w.bias_ih is not None and w.bias_hh is not None
        both = torch.stack([_permute(kind, w.bias_ih), _permute(kind, w.bias_hh)])
        split = kind == "gru" and module.step_options.reset_after
        arrays.append(both if split else both.sum(0))
    for name in extra:
        value = getattr(w, name)
        if name == "weight_ch":
            arrays += list(value)
        else:
            arrays.append(_permute(kind, value) if "norm_c" not in name else value)
    return arrays


def _conv_take(leaf: Leaf, arrays: list[Tensor]) -> int:
    module: Any = leaf.module
    count = 3 if module.bias else 2
    _need(arrays, count, module)
    module.build(arrays[0].shape[-2])
    module.to(arrays[0].dtype)
    copy(module.weight_ih, arrays[0].movedim((-1, -2), (0, 1)), "ConvLSTM kernel")
    copy(module.weight_hh, arrays[1].movedim((-1, -2), (0, 1)), "ConvLSTM recurrent_kernel")
    if module.bias:
        copy(module.bias_ih, arrays[2], "ConvLSTM bias")
    return count


def _conv_give(leaf: Leaf) -> list[Tensor]:
    module: Any = leaf.module
    kernels = [w.movedim((0, 1), (-1, -2)) for w in (module.weight_ih, module.weight_hh)]
    return kernels + ([module.bias_ih] if module.bias else [])


def _dense_take(leaf: Leaf, arrays: list[Tensor]) -> int:
    module: Any = leaf.module
    count = 2 if module.use_bias else 1
    _need(arrays, count, module)
    module.build(arrays[0].shape[0])
    module.to(arrays[0].dtype)
    copy(module.weight, arrays[0].T, "Dense kernel")
    if module.use_bias:
        copy(module.bias, arrays[1], "Dense bias")
    return count


def _dense_give(leaf: Leaf) -> list[Tensor]:
    module: Any = leaf.module
    return [module.weight.T] + ([module.bias] if module.use_bias else [])


def _named(names: tuple[str, ...], sized_by: int | None = None, turned: bool = False) -> Handler:
    """Arrays under these names where they are there, as ours or ``turned``.

    That at ``sized_by`` has the size of the input first; None: the size is known.
    """

    def targets(module: Any) -> list[tuple[str, Tensor]]:
        found = [(name, getattr(module, name, None)) for name in names]
        return [(name, value) for name, value in found if value is not None]

    def turn(array: Tensor) -> Tensor:
        return array.T if turned and array.ndim > 1 else array

    def take(leaf: Leaf, arrays: list[Tensor]) -> int:
        module: Any = leaf.module
        if sized_by is not None:
            _need(arrays, sized_by + 1, module)
            module.build(arrays[sized_by].shape[0])
            module.to(arrays[0].dtype)
        wanted = targets(module)
        _need(arrays, len(wanted), module)
        for (name, target), array in zip(wanted, arrays, strict=False):
            copy(target, turn(array), f"{type(module).__name__} {name}")
        return len(wanted)

    return Handler(take, lambda leaf: [turn(value) for _, value in targets(leaf.module)])


_ADDONS = ("weight_hh", "weight_ih", "bias_ih", "bias_hh", "weight_hr")  # in the order of TensorFlow Addons

_HANDLERS: list[tuple[type[nn.Module], Handler]] = [
    (RecurrentLayer, Handler(_gates_take, _gates_give)),
    (GateCell, Handler(_gates_take, _gates_give)),
    (ConvLSTMCell, Handler(_conv_take, _conv_give)),
    (ESNCell, _named(_ADDONS, sized_by=1, turned=True)),
    (NASCell, _named(_ADDONS, sized_by=1, turned=True)),
    (Dense, Handler(_dense_take, _dense_give)),
    (Embedding, _named(("weight",))),
    (BatchNorm, _named(("weight", "bias", "running_mean", "running_var"), sized_by=0)),
    (LayerNorm, _named(("weight", "bias"), sized_by=0)),
]


def set_weights(layer: nn.Module, weights: list[Any]) -> None:
    """Weights in the order and layout of Keras' ``layer.get_weights()``.

    The arrays decide the input size, where the layer has none yet, and the layer's dtype.

    Args:
        layer: from :func:`layer_from_config`, or any of our layers with a Keras counterpart.
        weights: numpy arrays or tensors.

    Raises:
        ValueError: too many or too few arrays, or a shape that does not fit.

    Example:
        >>> from lightning_rnn.interop.keras import layer_from_config
        >>> layer = layer_from_config({"class_name": "LSTM", "config": {"units": 2}})
        >>> set_weights(layer, [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)])
        >>> layer.input_size, layer.weight_ih_l0.dtype
        (3, torch.float64)
    """
    arrays = [torch.as_tensor(np.asarray(w) if not isinstance(w, Tensor) else w) for w in weights]
    for array in arrays:
        if array.is_floating_point():
            layer.to(array.dtype)
            break
    used = 0
    for leaf in leaves(layer):
        used += from_arrays(leaf, arrays[used:])
    if used != len(arrays):
        raise ValueError(f"{type(layer).__name__} takes {used} arrays of weights, got {len(arrays)}")


def get_weights(layer: nn.Module) -> list[np.ndarray[Any, Any]]:
    """Weights in the order and layout of Keras; torch's two biases are summed where Keras has one."""
    return [array.detach().cpu().numpy() for leaf in leaves(layer) for array in to_arrays(leaf)]
