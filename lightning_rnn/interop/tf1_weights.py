"""One cell's weights in TF1's layout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_rnn.interop.keras_weights import copy
from lightning_rnn.layers.cells import GateCell
from lightning_rnn.layers.gates import collect

_TF_ORDER = (0, 2, 1, 3)  # i j f o among torch's i f g o, and back
_NORMED = ("i", "j", "f", "o")


def variables(cell: GateCell, inputs: int) -> dict[str, tuple[int, ...]]:
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
def take(cell: GateCell, arrays: list[Tensor]) -> None:
    """Copy a cell's variables, whose first, a kernel, tells the size of the input."""
    rows = arrays[0].shape[0] if arrays[0].ndim else 0
    inputs = cell.input_size or max(rows - cell.output_size, 1)
    shapes = variables(cell, inputs)
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


def give(cell: GateCell) -> list[Tensor]:
    """A cell's variables, in the order of :func:`variables`."""
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
