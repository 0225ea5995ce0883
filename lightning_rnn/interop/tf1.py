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
from lightning_rnn.layers import RNN, Bidirectional, GRUCell, LSTMCell, SimpleRNNCell, StackedCells
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.layers.gates import collect
from lightning_rnn.types import LSTMState, Nest

Config = dict[str, Any]
_TF_ORDER = (0, 2, 1, 3)  # i j f o among torch's i f g o, and back


def layer_from_config(config: Config) -> RNN:
    """``tf.nn.dynamic_rnn`` over a cell: past the end outputs are zero and the state is copied through.

    Args:
        config: ``{"class_name": "LSTMCell", "config": {...}}`` with the arguments of the TF1 cell; ``MultiRNNCell`` has
            ``cells``. Known are ``BasicRNNCell``, ``BasicLSTMCell``, ``LSTMCell``, ``GRUCell``,
            ``LayerNormBasicLSTMCell`` and ``MultiRNNCell``.

    Returns:
        A layer called as ``layer(x, state, lengths=sequence_length)``.

    Raises:
        ValueError: an unknown cell.

    Example:
        >>> layer = layer_from_config({"class_name": "LSTMCell", "config": {"num_units": 4, "num_proj": 2}})
        >>> layer(torch.zeros(1, 7, 3)).sequence.shape
        torch.Size([1, 7, 2])
    """
    return RNN(cell_from_config(config), zero_output_for_mask=True)


def cell_from_config(config: Config) -> GateCell | StackedCells:
    """The cell alone, see :func:`layer_from_config`."""
    name = str(config.get("class_name", "")).split(".")[-1]
    if name not in _BUILDERS:
        raise ValueError(f"no counterpart for the TF1 cell {config.get('class_name')!r}; known: {', '.join(_BUILDERS)}")
    cell: GateCell | StackedCells = _BUILDERS[name](dict(config.get("config", {})))
    return cell


def _options(config: Config, **step: Any) -> Config:
    activation = config.get("activation") or "tanh"
    if callable(activation):
        activation = getattr(activation, "__name__", "tanh")
    return {"hidden_size": config["num_units"], "step_options": StepOptions(activation=activation, **step)}


def _lstm(config: Config) -> LSTMCell:
    step = {"peephole": config.get("use_peepholes", False), "cell_clip": config.get("cell_clip")}
    if config.get("num_proj"):
        step["proj_clip"] = config.get("proj_clip")
    return _with_bias(
        LSTMCell(None, **_options(config, **step), proj_size=config.get("num_proj") or 0, unit_forget_bias=False),
        config,
    )


def _with_bias(cell: LSTMCell, config: Config) -> LSTMCell:
    """TF1 adds ``forget_bias`` in the equation; here it is part of the bias, and remembered for :func:`get_weights`."""
    cell.forget_bias = float(config.get("forget_bias", 1.0))  # type: ignore[assignment]
    return cell


def _stacked(config: Config) -> StackedCells:
    return StackedCells([cell_from_config(cell) for cell in config["cells"]])


_BUILDERS: dict[str, Callable[[Config], Any]] = {
    "BasicRNNCell": lambda config: SimpleRNNCell(None, **_options(config)),
    "BasicLSTMCell": _lstm,
    "LSTMCell": _lstm,
    "LayerNormBasicLSTMCell": lambda config: _with_bias(
        LSTMCell(None, **_options(config, layer_norm="basic"), bias=False), config
    ),
    "GRUCell": lambda config: GRUCell(None, **_options(config, reset_after=False)),
    "MultiRNNCell": _stacked,
}


def _cells(layer: nn.Module) -> Iterator[GateCell]:
    if isinstance(layer, RNN):
        yield from _cells(layer.cell)
    elif isinstance(layer, Bidirectional):
        yield from _cells(layer.layer)
        yield from _cells(layer.backward_layer)
    elif isinstance(layer, StackedCells):
        for cell in layer.cells:
            yield from _cells(cell)
    elif isinstance(layer, GateCell):
        yield layer
    else:
        raise ValueError(f"no TF1 layout is known for the weights of {type(layer).__name__}")


def set_weights(layer: nn.Module, weights: list[Any]) -> None:
    """Variables in the order in which the TF1 cells make them.

    ``LSTMCell``: kernel ``[D+P, 4H]``, bias, then, where there are, ``w_f_diag``, ``w_i_diag``, ``w_o_diag`` and the
    projection's kernel ``[H, P]``. ``GRUCell``: gates' kernel ``[D+H, 2H]`` and bias, candidate's kernel ``[D+H, H]``
    and bias. ``BasicRNNCell``: kernel and bias. ``LayerNormBasicLSTMCell``: kernel, then gamma and beta of input,
    transform, forget, output and state. Cells of a stack follow each other.

    Raises:
        ValueError: too many or too few arrays, or a shape that does not fit.
    """
    arrays = [torch.as_tensor(np.asarray(w) if not isinstance(w, Tensor) else w) for w in weights]
    used = 0
    for cell in _cells(layer):
        rest = arrays[used:]
        if len(rest) < len(_names(cell)):
            raise ValueError(f"{type(cell).__name__} takes {len(_names(cell))} arrays of weights, got {len(rest)}")
        cell.build(rest[0].shape[0] - cell.output_size)
        cell.to(rest[0].dtype)
        with torch.no_grad():
            used += _TAKE[cell.kind](cell, rest)
    if used != len(arrays):
        raise ValueError(f"{type(layer).__name__} takes {used} arrays of weights, got {len(arrays)}")


def _names(cell: GateCell) -> list[str]:
    """The variables of a cell."""
    options = cell.step_options
    if options.layer_norm == "basic":
        return ["kernel", *(f"{gate}/{part}" for gate in ("i", "j", "f", "o", "c") for part in ("gamma", "beta"))]
    if cell.kind == "gru":
        return ["gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"]
    return ["kernel", "bias"] + ["w_f", "w_i", "w_o"] * options.peephole + ["projection"] * bool(cell.proj_size)


def _lstm_take(cell: Any, arrays: list[Tensor]) -> int:
    names = _names(cell)
    given = dict(zip(names, arrays, strict=False))
    w = collect(cell)
    _kernel_take(cell, given["kernel"], _TF_ORDER)
    if "bias" in given:
        bias = _blocks(given["bias"], _TF_ORDER).clone()
        bias.chunk(4)[1].add_(_forget_bias(cell))
        copy(w.bias_ih, bias, "bias")
        if w.bias_hh is not None:
            w.bias_hh.zero_()
    else:
        gates = ("i", "f", "j", "o")
        copy(w.norm_hh_weight, torch.cat([given[f"{gate}/gamma"] for gate in gates]), "gamma")
        beta = torch.cat([given[f"{gate}/beta"] for gate in gates])
        beta.chunk(4)[1].add_(_forget_bias(cell))
        copy(w.norm_hh_bias, beta, "beta")
        copy(w.norm_c_weight, given["c/gamma"], "state gamma")
        copy(w.norm_c_bias, given["c/beta"], "state beta")
    if w.weight_ch is not None:
        copy(w.weight_ch, torch.stack([given["w_i"], given["w_f"], given["w_o"]]), "peepholes")
    if w.weight_hr is not None:
        copy(w.weight_hr, given["projection"].T, "projection kernel")
    return len(names)


def _gru_take(cell: Any, arrays: list[Tensor]) -> int:
    kernel = torch.cat([arrays[0], arrays[2]], dim=1)
    _kernel_take(cell, kernel, (0, 1, 2))
    copy(cell.bias_ih, torch.cat([arrays[1], arrays[3]]), "bias")
    cell.bias_hh.zero_()
    return 4


def _simple_take(cell: Any, arrays: list[Tensor]) -> int:
    _kernel_take(cell, arrays[0], (0,))
    copy(cell.bias_ih, arrays[1], "bias")
    cell.bias_hh.zero_()
    return 2


_TAKE: dict[str, Callable[[Any, list[Tensor]], int]] = {
    "lstm": _lstm_take,
    "gru": _gru_take,
    "simple_rnn": _simple_take,
}


def _blocks(x: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = x.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _kernel_take(cell: Any, kernel: Tensor, order: tuple[int, ...]) -> None:
    size = cell.input_size
    copy(cell.weight_ih, _blocks(kernel[:size].T, order), "kernel's rows of x")
    copy(cell.weight_hh, _blocks(kernel[size:].T, order), "kernel's rows of h")


def _forget_bias(cell: Any) -> float:
    return float(getattr(cell, "forget_bias", 1.0))


def get_weights(layer: nn.Module) -> list[np.ndarray[Any, Any]]:
    """Variables in TF1's order and layout, see :func:`set_weights`."""
    with torch.no_grad():
        return [array.cpu().numpy() for cell in _cells(layer) for array in _give(cell)]


def _give(cell: Any) -> list[Tensor]:
    w = collect(cell)
    both = torch.cat([w.weight_ih, w.weight_hh], dim=1)
    bias = None if w.bias_ih is None or w.bias_hh is None else w.bias_ih + w.bias_hh
    if cell.kind == "simple_rnn":
        assert bias is not None
        return [both.T, bias]
    if cell.kind == "gru":
        assert bias is not None
        split = 2 * cell.hidden_size
        return [both[:split].T, bias[:split], both[split:].T, bias[split:]]
    arrays = [_blocks(both, _TF_ORDER).T]
    if bias is not None:
        bias = bias.clone()
        bias.chunk(4)[1].sub_(_forget_bias(cell))
        arrays.append(_blocks(bias, _TF_ORDER))
    if w.norm_hh_weight is not None and w.norm_hh_bias is not None:
        beta = w.norm_hh_bias.clone()
        beta.chunk(4)[1].sub_(_forget_bias(cell))
        gammas = _blocks(w.norm_hh_weight, _TF_ORDER).chunk(4)
        pairs = zip(gammas, _blocks(beta, _TF_ORDER).chunk(4), strict=True)
        arrays += [part for pair in pairs for part in pair]
        assert w.norm_c_weight is not None and w.norm_c_bias is not None
        arrays += [w.norm_c_weight, w.norm_c_bias]
    if w.weight_ch is not None:
        arrays += [w.weight_ch[1], w.weight_ch[0], w.weight_ch[2]]
    return arrays + ([w.weight_hr.T] if w.weight_hr is not None else [])


def state_from_tf1(layer: nn.Module, states: Any) -> Nest:
    """A state for ``layer(x, state)`` from TF1's, whose LSTM members are ``(c, h)``; arrays take the layer's dtype."""
    weight = next(layer.parameters(), torch.zeros(()))

    def turn(cell: GateCell, given: Any) -> Nest:
        tensors = [torch.as_tensor(np.asarray(leaf)).to(weight) for leaf in pytree.tree_leaves(given)]
        if len(tensors) != (2 if cell.kind == "lstm" else 1):
            raise ValueError(f"{type(cell).__name__} got {len(tensors)} arrays of state")
        return LSTMState(tensors[1], tensors[0]) if cell.kind == "lstm" else tensors[0]

    cells = list(_cells(layer))
    if isinstance(layer, RNN) and isinstance(layer.cell, StackedCells):
        return tuple(turn(cell, given) for cell, given in zip(cells, states, strict=True))
    if isinstance(layer, Bidirectional):
        return tuple(turn(cell, given) for cell, given in zip(cells, states, strict=True))
    return turn(cells[0], states)


def state_to_tf1(state: Nest) -> Nest:
    """Our state with every :class:`LSTMState` as TF1's ``(c, h)``."""
    return pytree.tree_map(
        lambda one: (one.c, one.h) if isinstance(one, LSTMState) else one,
        state,
        is_leaf=lambda one: isinstance(one, (LSTMState, Tensor)),
    )
