"""TensorFlow 1's cells (``tf.nn.rnn_cell``, ``tf.contrib.rnn``): layers from their configs, kernels, states.

TF1 keeps one kernel over ``[x; h]``, orders an LSTM's gates i, j, f, o, adds ``forget_bias`` at run time, and writes an
LSTM's state ``(c, h)``. All of that is turned here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.functional import StepOptions
from lightning_rnn.interop.keras_weights import copy
from lightning_rnn.layers import (
    RNN,
    Bidirectional,
    DropoutWrapper,
    GRUCell,
    LSTMCell,
    ResidualWrapper,
    SimpleRNNCell,
    StackedCells,
)
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.layers.gates import collect
from lightning_rnn.types import LSTMState, Nest

Config = dict[str, Any]
_TF_ORDER = (0, 2, 1, 3)  # i j f o among torch's i f g o, and back
_NORMED = ("i", "j", "f", "o")


def layer_from_config(config: Config) -> RNN:
    """``tf.nn.dynamic_rnn`` over a cell: past the end outputs are zero and the state is copied through.

    Args:
        config: ``{"class_name": "LSTMCell", "config": {...}}`` with the arguments of the TF1 cell; ``MultiRNNCell`` has
            ``cells``, a wrapper ``cell``. Known are ``BasicRNNCell``, ``BasicLSTMCell``, ``LSTMCell``, ``GRUCell``,
            ``LayerNormBasicLSTMCell``, ``MultiRNNCell``, ``DropoutWrapper``, ``ResidualWrapper`` and ``DeviceWrapper``,
            whose device is left to ``.to()``.

    Returns:
        A layer called as ``layer(x, state, lengths=sequence_length)``.

    Raises:
        ValueError: an unknown cell, or an option that there is no counterpart for.

    Example:
        >>> layer = layer_from_config({"class_name": "LSTMCell", "config": {"num_units": 4, "num_proj": 2}})
        >>> layer(torch.zeros(1, 7, 3)).sequence.shape
        torch.Size([1, 7, 2])
    """
    return RNN(cell_from_config(config), zero_output_for_mask=True)


def bidirectional_from_config(forward: Config, backward: Config | None = None) -> Bidirectional:
    """``tf.nn.bidirectional_dynamic_rnn`` over two cells: outputs and states are pairs ``(forward, backward)``.

    Args:
        forward: of the cell from start to end, as in :func:`layer_from_config`.
        backward: of the cell from end to start; None: as ``forward``.

    Example:
        >>> layer = bidirectional_from_config({"class_name": "GRUCell", "config": {"num_units": 4}})
        >>> [output.shape for output in layer(torch.zeros(1, 7, 3)).sequence]
        [torch.Size([1, 7, 4]), torch.Size([1, 7, 4])]
    """
    behind = RNN(cell_from_config(backward or forward), reverse=True, zero_output_for_mask=True)
    return Bidirectional(layer_from_config(forward), None, behind)


def cell_from_config(config: Config) -> Cell:
    """The cell alone, see :func:`layer_from_config`."""
    name = str(config.get("class_name", "")).split(".")[-1]
    if name not in _BUILDERS:
        raise ValueError(f"no counterpart for the TF1 cell {config.get('class_name')!r}; known: {', '.join(_BUILDERS)}")
    return _BUILDERS[name](dict(config.get("config", {})))


def _options(config: Config, **step: Any) -> Config:
    activation = config.get("activation") or "tanh"
    if callable(activation):
        activation = getattr(activation, "__name__", repr(activation))
    if activation == "hard_sigmoid":
        activation = "hard_sigmoid_keras2"  # TF1's slope is 1/5
    return {"hidden_size": config["num_units"], "step_options": StepOptions(activation=activation, **step)}


def _basic_lstm(config: Config) -> LSTMCell:
    return _with_bias(LSTMCell(None, **_options(config), unit_forget_bias=False), config)


def _lstm(config: Config) -> LSTMCell:
    step = {"peephole": config.get("use_peepholes", False), "cell_clip": config.get("cell_clip")}
    if config.get("num_proj"):
        step["proj_clip"] = config.get("proj_clip")  # without a projection TF1 does not look at it
    cell = LSTMCell(None, **_options(config, **step), proj_size=config.get("num_proj") or 0, unit_forget_bias=False)
    return _with_bias(cell, config)


def _norm_lstm(config: Config) -> LSTMCell:
    if config.get("dropout_keep_prob", 1.0) != 1:
        raise ValueError(
            "LayerNormBasicLSTMCell: dropout of the candidate has no counterpart; give dropout_keep_prob 1"
        )
    if not config.get("layer_norm", True):
        return _basic_lstm(config)
    return _with_bias(LSTMCell(None, **_options(config, layer_norm="basic"), bias=False), config)


def _with_bias(cell: LSTMCell, config: Config) -> LSTMCell:
    """TF1 adds ``forget_bias`` in the equation; here it is part of the bias, and remembered for :func:`get_weights`."""
    cell.forget_bias = float(config.get("forget_bias", 1.0))  # type: ignore[assignment]
    return cell


def _dropout(config: Config) -> DropoutWrapper:
    enter, leave, keep = (1 - config.get(f"{what}_keep_prob", 1.0) for what in ("input", "output", "state"))
    return DropoutWrapper(
        cell_from_config(config["cell"]), enter, leave, keep, variational=config.get("variational_recurrent", False)
    )


def _residual(config: Config) -> ResidualWrapper:
    if config.get("residual_fn") is not None:
        raise ValueError(
            "ResidualWrapper: residual_fn is code that a config cannot bring; wrap cell_from_config's cell"
        )
    return ResidualWrapper(cell_from_config(config["cell"]))


_BUILDERS: dict[str, Callable[[Config], Cell]] = {
    "BasicRNNCell": lambda config: SimpleRNNCell(None, **_options(config)),
    "BasicLSTMCell": _basic_lstm,
    "LSTMCell": _lstm,
    "LayerNormBasicLSTMCell": _norm_lstm,
    "GRUCell": lambda config: GRUCell(None, **_options(config, reset_after=False)),
    "MultiRNNCell": lambda config: StackedCells([cell_from_config(cell) for cell in config["cells"]]),
    "DropoutWrapper": _dropout,
    "ResidualWrapper": _residual,
    "DeviceWrapper": lambda config: cell_from_config(config["cell"]),
}


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
        count = len(_shapes(cell, 0))
        given = arrays[used : used + count]
        if len(given) < count:
            raise ValueError(f"{type(cell).__name__} takes {count} arrays of weights, got {len(given)}")
        _take(cell, given)
        used += count
    if used != len(arrays):
        raise ValueError(f"{type(layer).__name__} takes {used} arrays of weights, got {len(arrays)}")


def _shapes(cell: GateCell, inputs: int) -> dict[str, tuple[int, ...]]:
    """The variables of a cell whose input has so many features."""
    units, options = cell.hidden_size, cell.step_options
    rows = inputs + cell.output_size
    if cell.kind == "gru":
        gates = {"gates/kernel": (rows, 2 * units), "gates/bias": (2 * units,)}
        return gates | {"candidate/kernel": (rows, units), "candidate/bias": (units,)}
    if cell.kind == "simple_rnn":
        return {"kernel": (rows, units), "bias": (units,)}
    shapes: dict[str, tuple[int, ...]] = {"kernel": (rows, 4 * units)}
    if options.layer_norm == "basic":
        return shapes | {f"{gate}/{part}": (units,) for gate in (*_NORMED, "c") for part in ("gamma", "beta")}
    shapes["bias"] = (4 * units,)
    if options.peephole:
        shapes |= {f"w_{gate}_diag": (units,) for gate in ("f", "i", "o")}
    if cell.proj_size:
        shapes["projection/kernel"] = (units, cell.proj_size)
    return shapes


@torch.no_grad()
def _take(cell: GateCell, arrays: list[Tensor]) -> None:
    """Copy a cell's variables, whose first, a kernel, tells the size of the input."""
    rows = arrays[0].shape[0] if arrays[0].ndim else 0
    inputs = cell.input_size or max(rows - cell.output_size, 1)
    shapes = _shapes(cell, inputs)
    for (what, shape), array in zip(shapes.items(), arrays, strict=True):
        if tuple(array.shape) != shape:
            wanted, got = list(shape), list(array.shape)
            raise ValueError(f"{type(cell).__name__} {what}: expected an array of shape {wanted}, got {got}")
    cell.build(inputs)
    cell.to(arrays[0].dtype)
    _PUT[cell.kind](cell, dict(zip(shapes, arrays, strict=True)))


def _put_lstm(cell: GateCell, given: dict[str, Tensor]) -> None:
    w = collect(cell)
    _put_kernel(cell, given["kernel"], _TF_ORDER)
    if "bias" in given:
        _put_bias(cell, _shift(_blocks(given["bias"], _TF_ORDER), cell, 1))
    else:
        gains, offsets = (torch.cat([given[f"{gate}/{part}"] for gate in _NORMED]) for part in ("gamma", "beta"))
        copy(w.norm_hh_weight, _blocks(gains, _TF_ORDER), "gamma")
        copy(w.norm_hh_bias, _shift(_blocks(offsets, _TF_ORDER), cell, 1), "beta")
        copy(w.norm_c_weight, given["c/gamma"], "gamma of the state")
        copy(w.norm_c_bias, given["c/beta"], "beta of the state")
    if w.weight_ch is not None:
        copy(w.weight_ch, torch.stack([given[f"w_{gate}_diag"] for gate in ("i", "f", "o")]), "peepholes")
    if w.weight_hr is not None:
        copy(w.weight_hr, given["projection/kernel"].T, "projection kernel")


def _put_gru(cell: GateCell, given: dict[str, Tensor]) -> None:
    _put_kernel(cell, torch.cat([given["gates/kernel"], given["candidate/kernel"]], dim=1), (0, 1, 2))
    _put_bias(cell, torch.cat([given["gates/bias"], given["candidate/bias"]]))


def _put_simple(cell: GateCell, given: dict[str, Tensor]) -> None:
    _put_kernel(cell, given["kernel"], (0,))
    _put_bias(cell, given["bias"])


_PUT: dict[str, Callable[[GateCell, dict[str, Tensor]], None]] = {
    "lstm": _put_lstm,
    "gru": _put_gru,
    "simple_rnn": _put_simple,
}


def _blocks(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """Blocks along the first axis in another order."""
    parts = x.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _put_kernel(cell: GateCell, kernel: Tensor, order: tuple[int, ...]) -> None:
    w, size = collect(cell), cell.input_size
    copy(w.weight_ih, _blocks(kernel[:size].T, order), "kernel's rows of x")
    copy(w.weight_hh, _blocks(kernel[size:].T, order), "kernel's rows of h")


def _put_bias(cell: GateCell, bias: Tensor) -> None:
    w = collect(cell)
    copy(w.bias_ih, bias, "bias")
    copy(w.bias_hh, torch.zeros_like(bias), "bias")


def _shift(bias: Tensor, cell: GateCell, sign: int) -> Tensor:
    """The forget gate's block, torch's second, with TF1's ``forget_bias`` in it (1) or without (-1)."""
    parts = list(bias.chunk(4))
    parts[1] = parts[1] + sign * float(getattr(cell, "forget_bias", 1.0))
    return torch.cat(parts)


@torch.no_grad()
def get_weights(layer: nn.Module) -> list[np.ndarray[Any, Any]]:
    """Variables in TF1's order and layout, see :func:`set_weights`."""
    return [array.cpu().numpy() for cell in _cells(layer) for array in _give(cell)]


def _give(cell: GateCell) -> list[Tensor]:
    if cell.input_size is None:
        raise ValueError(f"{type(cell).__name__} has no weights yet: call it, set its weights or build(input_size)")
    w = collect(cell)
    both = torch.cat([w.weight_ih, w.weight_hh], dim=1)
    if cell.kind != "lstm":
        bias, split = _bias(cell), 2 * cell.hidden_size
        if cell.kind == "simple_rnn":
            return [both.T, bias]
        return [both[:split].T, bias[:split], both[split:].T, bias[split:]]
    arrays = [_blocks(both, _TF_ORDER).T]
    if w.norm_hh_weight is None or w.norm_hh_bias is None:
        arrays.append(_blocks(_shift(_bias(cell), cell, -1), _TF_ORDER))
    else:
        gains = _blocks(w.norm_hh_weight, _TF_ORDER).chunk(4)
        offsets = _blocks(_shift(w.norm_hh_bias, cell, -1), _TF_ORDER).chunk(4)
        assert w.norm_c_weight is not None and w.norm_c_bias is not None
        pairs = [*zip(gains, offsets, strict=True), (w.norm_c_weight, w.norm_c_bias)]
        arrays += [part for pair in pairs for part in pair]
    if w.weight_ch is not None:
        arrays += [w.weight_ch[1], w.weight_ch[0], w.weight_ch[2]]
    return arrays + ([w.weight_hr.T] if w.weight_hr is not None else [])


def _bias(cell: GateCell) -> Tensor:
    w = collect(cell)
    if w.bias_ih is None or w.bias_hh is None:
        raise ValueError(f"{type(cell).__name__} has no bias; TF1's cells have one")
    return w.bias_ih + w.bias_hh


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
