"""The fused kernels, cuDNN and oneDNN, made safe: any mask, second derivatives, torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import _VF, Tensor

from lightning_rnn.functional import StepOptions, Weights
from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.scan import Ran, Resets, scan
from lightning_rnn.layers.gates import KINDS, Gates
from lightning_rnn.layers.replay import gradients
from lightning_rnn.types import LSTMState

KERNELS: dict[tuple[str, Any], Any] = {
    ("simple_rnn", "tanh"): _VF.rnn_tanh,
    ("simple_rnn", "relu"): _VF.rnn_relu,
    ("lstm", "tanh"): _VF.lstm,
    ("gru", "tanh"): _VF.gru,
}
_FULL = 1e4  # saturates a gate exactly: sigmoid(1e4) == 1 and sigmoid(-1e4) == 0 in every floating dtype
_CARRY = (-_FULL, _FULL, 0.0, 0.0)  # what padding adds to i, f, g, o: the memory is kept


def run_fused(gates: Gates, x: Tensor, state: Any, valid: Valid | None, resets: Resets | None, all_states: bool) -> Ran:
    """One kernel call on the padded batch: no packing, no host synchronisation, any mask.

    Where a mask has holes, valid steps are gathered to the left first and outputs scattered back. The state after the
    last valid step is read off the outputs; an LSTM's memory, which is not among them, is kept to the end by one more
    input feature, 1 on padding, that closes the input gate and opens the forget gate (exact: a gate of 1e4 saturates).
    """
    if not x.shape[1] or not x.shape[0]:
        return scan(gates, x, state, valid, resets, all_states)
    place, x = None, gates.enter(x)
    lengths = None if valid is None else valid.lengths
    if valid is not None and lengths is None:
        order = torch.argsort((~valid.mask).to(torch.uint8), dim=1, stable=True)
        x = x.gather(1, order.unsqueeze(2).expand(x.shape))
        lengths = valid.mask.sum(1)
        place = (valid.mask.cumsum(1) - 1).clamp(min=0)
    flat = (state,) if gates.kind.states == 1 else tuple(state)
    if lengths is None:
        outputs, final = _call(gates, x, flat)
    else:
        outputs, final = _call_padded(gates, x, flat, lengths)
    if place is not None:
        outputs = outputs.gather(1, place.unsqueeze(2).expand(outputs.shape))
    return Ran(outputs, LSTMState(*final) if len(final) > 1 else final[0])


def _call_padded(gates: Gates, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, Any]:
    w = gates.weights
    if gates.kind.states > 1:
        column = w.weight_ih.new_tensor(_CARRY).repeat_interleave(w.weight_ih.shape[0] // 4).unsqueeze(1)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        x = torch.cat([x, padding.unsqueeze(2).to(x.dtype)], dim=2)
        w = w._replace(weight_ih=torch.cat([w.weight_ih, column], dim=1))
    outputs, final = _call(Gates(gates.kind, w, gates.options), x, state)
    index = (lengths.long() - 1).clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, outputs.shape[2])
    end = outputs.gather(1, index).squeeze(1)
    h = torch.where((lengths == 0).unsqueeze(1), state[0].to(end.dtype), end)
    return outputs, (h, *final[1:])


def _call(gates: Gates, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    w = gates.weights
    weights = [p for p in (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh, w.weight_hr) if p is not None]
    tensors = [x, *state, *weights]
    if torch.is_autocast_enabled(x.device.type):  # cast here, so that no engine sees mixed dtypes
        dtype = torch.get_autocast_dtype(x.device.type)
        tensors = [tensor.to(dtype) for tensor in tensors]
    name = f"{gates.kind.name} {gates.options.activation} {int(w.bias_ih is not None)}"
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            outputs, *final = torch.ops.lightning_rnn.fused(name, tensors)
        elif torch.is_grad_enabled() and _once(gates, x) and any(tensor.requires_grad for tensor in tensors):
            outputs, *final = _TwiceDifferentiable.apply(name, *tensors)  # type: ignore[no-untyped-call]
        else:
            outputs, *final = _kernel(name, tensors)
    return outputs, tuple(final)


def _once(gates: Gates, x: Tensor) -> bool:
    """Whether the kernel has no second derivative: cuDNN's and oneDNN's have none, torch's own loop has."""
    return (gates.kind.name == "lstm" or x.is_cuda) and not torch._C._are_functorch_transforms_active()


def _kernel(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """Outputs and final states ``[B, ...]``. Shapes were checked: the kernels do not check them themselves."""
    cell, activation, bias = name.split()
    states = KINDS[cell].states
    x, hidden, weights = tensors[0], [s.unsqueeze(0) for s in tensors[1 : 1 + states]], tensors[1 + states :]
    projected = cell == "lstm" and len(weights) % 2 and not torch.compiler.is_compiling()
    with _without_onednn() if projected else nullcontext():
        outputs, *final = KERNELS[cell, activation](
            x,
            [h.contiguous() for h in hidden] if states > 1 else hidden[0].contiguous(),
            weights,
            bias == "1",
            1,  # layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # cuDNN keeps what backward needs, in eval mode too
            False,  # bidirectional
            True,  # batch first
        )
    return [outputs, *(s.squeeze(0) for s in final)]


@contextmanager
def _without_onednn() -> Iterator[None]:
    """OneDNN has no projections: it would warn and leave them to torch's loop."""
    (enabled, *_) = torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)  # type: ignore[no-untyped-call]


def _by_scan(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """The same function in operations that have every derivative."""
    cell, activation, bias = name.split()
    states = KINDS[cell].states
    ih, hh, *rest = tensors[1 + states :]
    biases = rest[:2] if bias == "1" else [None, None]
    projection = rest[2:] if bias == "1" else rest
    gates = Gates(KINDS[cell], Weights(ih, hh, *biases, *projection), StepOptions(activation=activation))
    state = LSTMState(tensors[1], tensors[2]) if states > 1 else tensors[1]
    ran = scan(gates, tensors[0], state)
    return [ran.outputs, *(ran.state if states > 1 else (ran.state,))]


class _TwiceDifferentiable(torch.autograd.Function):
    """A kernel whose backward, when it must itself be differentiable, goes through the loop instead."""

    @staticmethod
    def forward(ctx: Any, name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        needs = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            inner = [t.detach().requires_grad_(need) for t, need in zip(tensors, needs, strict=True)]
            outputs = _kernel(name, inner)
        ctx.save_for_backward(*tensors)
        ctx.name, ctx.inner, ctx.outputs = name, inner, outputs
        ctx.set_materialize_grads(False)
        return tuple(output.detach() for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            tensors = list(ctx.saved_tensors)
            return None, *gradients(_by_scan(ctx.name, tensors), tensors, grads, create_graph=True)
        return None, *gradients(ctx.outputs, ctx.inner, grads, retain_graph=True)


def _dense(tensor: Tensor) -> Tensor:
    """A copy in the order of memory that the compiler is told of; kernels return time first."""
    return tensor.clone(memory_format=torch.contiguous_format)


@torch.library.custom_op("lightning_rnn::fused", mutates_args=())
def _fused(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """The kernel as one opaque operation for ``torch.compile``, which would unroll it otherwise."""
    with torch.no_grad():
        return [_dense(output) for output in _kernel(name, tensors)]


@_fused.register_fake
def _(name: str, tensors: list[Tensor]) -> list[Tensor]:
    x, *states = tensors[: 1 + KINDS[name.split()[0]].states]
    return [x.new_empty(*x.shape[:2], states[0].shape[1]), *(state.new_empty(state.shape) for state in states)]


@contextmanager
def _recording() -> Iterator[None]:
    """Autograd inside a custom operation, which otherwise runs below it."""
    keys = torch._C.DispatchKey
    included, excluded = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    for key in (keys.AutogradFunctionality, keys.ADInplaceOrView, keys.AutogradCPU, keys.AutogradCUDA):
        excluded = excluded.remove(key)
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        yield


@torch.library.custom_op("lightning_rnn::fused_backward", mutates_args=())
def _fused_backward(name: str, tensors: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    with _recording():
        inner = [tensor.detach().requires_grad_() for tensor in tensors]
        found = gradients(_kernel(name, inner), inner, grads)
    return [t.new_zeros(t.shape) if g is None else _dense(g) for t, g in zip(tensors, found, strict=True)]


@_fused_backward.register_fake
def _(name: str, tensors: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in tensors]


def _setup(ctx: Any, inputs: tuple[str, list[Tensor]], output: list[Tensor]) -> None:
    ctx.name = inputs[0]
    ctx.shapes = [(tensor.shape, tensor.dtype, tensor.device) for tensor in output]
    ctx.save_for_backward(*inputs[1])


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[None, list[Tensor]]:
    full = [
        torch.zeros(shape, dtype=dtype, device=device) if grad is None else grad
        for grad, (shape, dtype, device) in zip(grads, ctx.shapes, strict=True)
    ]
    return None, torch.ops.lightning_rnn.fused_backward(ctx.name, list(ctx.saved_tensors), full)


torch.library.register_autograd("lightning_rnn::fused", _backward, setup_context=_setup)
