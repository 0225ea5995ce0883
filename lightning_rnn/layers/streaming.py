"""One step at a time through SimpleRNN, LSTM and GRU, for input that arrives while it is answered.

Parameters are read from the layer at every step, by name: nothing is copied, so replaced, moved, parametrized or
functionally swapped parameters count at once. What is kept between steps is only which kernel fits the layer's options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import _VF, Tensor

from lightning_rnn.functional import StepOptions
from lightning_rnn.layers.cell import follow, like
from lightning_rnn.layers.gates import bind, collect
from lightning_rnn.layers.options import Regularization
from lightning_rnn.layers.recurrent_checks import in_parts
from lightning_rnn.types import LSTMState, State

if TYPE_CHECKING:
    from lightning_rnn.layers.recurrent import RecurrentLayer

CELLS: dict[tuple[str, Any], Callable[..., Any]] = {
    ("simple_rnn", "tanh"): _VF.rnn_tanh_cell,
    ("simple_rnn", "relu"): _VF.rnn_relu_cell,
    ("lstm", "tanh"): _VF.lstm_cell,
    ("gru", "tanh"): _VF.gru_cell,
}
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True, eq=False)
class _Plan:
    """How a layer steps, as long as its options are the ones seen here.

    Attributes:
        options: the options it was made for.
        noise: the noise it was made for.
        cell: one fused kernel for the whole step, where the equation is the plain one.
        names: parameters of each layer as the kernel takes them.
        needed: all their names.
        shapes: features of each member of each layer's state.
        skips: layers whose input is added to their output.
        noisy: whether a step in training mode would draw.
    """

    options: StepOptions
    noise: Regularization
    cell: Callable[..., Any] | None
    names: tuple[tuple[str, ...], ...]
    needed: frozenset[str]
    shapes: tuple[tuple[int, ...], ...]
    skips: tuple[bool, ...]
    noisy: bool


_PLANS: WeakKeyDictionary[RecurrentLayer, _Plan] = WeakKeyDictionary()


def stream_step(layer: RecurrentLayer, x_t: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """One step of a layer: all its stacked layers, from one ``x_t`` to one output.

    Steps in a row equal ``layer(x)`` over the whole sequence in eval mode, with every option of the equations. It is
    differentiable where gradients are enabled. In training mode a layer without noise steps alike; one with noise is
    refused, as its masks are drawn once a sequence. ``step`` calls no forward hooks.

    Args:
        layer: a SimpleRNN, LSTM or GRU in one direction, from the start.
        x_t: ``[B, D]`` in the dtype of the weights.
        state: as ``RNNOutput.state`` has it, each tensor ``[B, H]``; None: the kept one of a ``stateful`` layer (which
            then keeps the new one), else that of ``initial_state``.

    Returns:
        The output of the step, ``[B, H]`` (``[B, P]`` with a projection), and the new state.

    Raises:
        ValueError: a shape or device does not fit; the layer is bidirectional or reversed, or it is in training mode
            and has noise.
        TypeError: the dtype of ``x_t`` or of the state is not that of the weights.

    Example:
        >>> from lightning_rnn import LSTM
        >>> layer, x = LSTM(3, 5).eval(), torch.randn(2, 7, 3)
        >>> state = None
        >>> with torch.inference_mode():
        ...     for x_t in x.unbind(1):
        ...         output_t, state = stream_step(layer, x_t, state)
        >>> torch.allclose(output_t, layer(x).last, atol=1e-6)
        True
    """
    _check_input(layer, x_t)
    traced = torch.compiler.is_compiling()
    plan = None if traced else _PLANS.get(layer)
    if plan is None or plan.options is not layer.step_options or plan.noise is not layer.regularization:
        plan = _plan(layer)
        if not traced:
            _PLANS[layer] = plan
    if plan.noisy and layer.training:
        name = type(layer).__name__
        raise ValueError(f"{name}.step: noise is drawn once a sequence, not step by step; call .eval() before stepping")
    old: Any = state if state is not None else layer._kept(x_t)
    if old is None:
        old = like(layer.initial_state(x_t.shape[0]), x_t)
    olds = old if layer.num_layers > 1 else (old,)
    if not _fits(plan, olds, x_t):
        olds = [one for (one,) in in_parts(layer, x_t, old)]  # raises with the reason, or takes lists and autocast
    if plan.cell is None or traced or _interposed() or not layer._parameters.keys() >= plan.needed:
        output, news = _general(layer, plan, x_t, olds)
    else:
        output, news = _fused(layer, plan.cell, plan, x_t, olds)
    final = tuple(news) if layer.num_layers > 1 else news[0]
    if layer.stateful:
        layer._keep(final)
    return output, final


def _plan(layer: RecurrentLayer) -> _Plan:
    """What a step depends on beside tensors.

    Raises:
        ValueError: the layer needs the end of the sequence.
    """
    for what, there in (("bidirectional", layer.bidirectional), ("reverse", layer.reverse)):
        if there:
            raise ValueError(
                f"{type(layer).__name__}.step: a {what} layer starts at the end of the sequence; "
                "run it over whole sequences"
            )
    options, noise = layer.step_options, layer.regularization
    plain = options == StepOptions(activation=options.activation, layer_norm_eps=options.layer_norm_eps)
    usual = plain and not layer.proj_size and not noise.zoneout
    names = tuple(tuple(f"{name}_l{i}" for name in _NAMES[: 4 if layer.bias else 2]) for i in range(layer.num_layers))
    widths = layer._widths()
    return _Plan(
        options,
        noise,
        CELLS.get((layer.kind, options.activation)) if usual else None,
        names,
        frozenset(name for one in names for name in one),
        tuple((width, size)[: layer._kind.states] for width, size in zip(widths, layer.sizes, strict=True)),
        tuple(layer.residual and (i > 0 or layer.input_size == widths[0]) for i in range(layer.num_layers)),
        any(share for share in astuple(replace(noise, variational=False))),
    )


def _interposed() -> bool:
    """Whether autocast or a transform of ``torch.func`` acts on operations, which act on the kernels otherwise."""
    return torch._C._is_any_autocast_enabled() or torch._C._are_functorch_transforms_active()


def _check_input(layer: RecurrentLayer, x: Tensor) -> None:
    name = f"{type(layer).__name__}.step"
    if not isinstance(x, Tensor) or x.ndim != 2:
        got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected x_t of shape [B, {layer.input_size or 'D'}], got {got}")
    if layer.input_size is None:
        follow(layer.build(x.shape[1]), x)
    if x.shape[1] != layer.input_size:
        raise ValueError(f"{name}: expected x_t of shape [B, {layer.input_size}], got {list(x.shape)}")
    first = layer._parameters.get("weight_ih_l0")
    weight = layer._dtype_and_device() if first is None else first  # None: it is parametrized
    if x.device != weight.device:
        raise ValueError(f"{name}: x_t is on {x.device}, the weights are on {weight.device}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name}: x_t is {x.dtype}, the weights are {weight.dtype}; convert one of them with .to()")


def _fits(plan: _Plan, states: Any, x: Tensor) -> bool:
    """Whether states are what the layer returns: kernels broadcast what does not fit rather than refuse it."""
    if type(states) is not tuple or len(states) != len(plan.shapes):
        return False
    rows, dtype, device = x.shape[0], x.dtype, x.device
    for state, widths in zip(states, plan.shapes, strict=True):
        if len(widths) == 1:
            members: Any = (state,)
        elif isinstance(state, tuple) and len(state) == 2:
            members = state
        else:
            return False
        for tensor, width in zip(members, widths, strict=True):
            if not isinstance(tensor, Tensor) or tensor.dtype != dtype or tensor.device != device:
                return False
            if tensor.shape != (rows, width):
                return False
    return True


def _fused(
    layer: RecurrentLayer, cell: Callable[..., Any], plan: _Plan, x: Tensor, states: Any
) -> tuple[Tensor, list[State]]:
    """One kernel a layer."""
    parameters = layer._parameters
    news: list[State] = []
    for names, state, skip in zip(plan.names, states, plan.skips, strict=True):
        new = cell(x, state, *[parameters[name] for name in names])
        output, new = (new, new) if isinstance(new, Tensor) else (new[0], LSTMState(*new))
        news.append(new)
        x = output + x if skip else output
    return x, news


def _general(layer: RecurrentLayer, plan: _Plan, x: Tensor, states: Any) -> tuple[Tensor, list[State]]:
    """The step of the ``scan`` engine, which has every option."""
    news: list[State] = []
    for i, (state, skip) in enumerate(zip(states, plan.skips, strict=True)):
        gates = bind(layer._kind, collect(layer, f"_l{i}"), plan.options, plan.noise, x.shape[0], training=False)
        output, new = gates.step(gates.project(x), state)
        news.append(new)
        x = output + x if skip else output
    return x, news
