"""Every transform of torch against the plain call: compile, export, vmap, functional calls, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_calls import CALLS, HOLES, B, D, H, T, ours
from layer_checks import close, engines, gradients, rand
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from lightning_rnn import GRU, LSTM, SimpleRNN

# Transforms


def compiled_equals_eager(cls: Any, call: str, backend: str, **options: Any) -> None:
    torch.compiler.reset()
    layer = cls(D, H, **options)
    x = torch.randn(B, T, D, requires_grad=True)
    expected = layer(x, **CALLS[call])
    compiled: Any = torch.compile(layer, fullgraph=True, backend=backend)
    output = compiled(x, **CALLS[call])
    close(output, expected, atol=1e-5)
    sources = [x, *layer.parameters()]
    close(gradients(output, sources), gradients(expected, sources), atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "call", "options"),
    [
        (SimpleRNN, "holes", {"engine": "fused"}),
        (LSTM, "holes", {"engine": "fused"}),
        (GRU, "holes", {"engine": "fused"}),
        (LSTM, "lengths", {"engine": "fused", "bidirectional": True}),
        (GRU, "holes", {"engine": "scan"}),
        (LSTM, "holes", {}),  # what auto takes need not be what it takes when it is compiled
        (GRU, "lengths", {}),
    ],
)
def test_compiled_equals_eager(cls: Any, call: str, options: dict[str, Any]) -> None:
    compiled_equals_eager(cls, call, "aot_eager", **options)


@pytest.mark.parametrize(("name", "gates"), [("simple_rnn relu 0", 1), ("lstm tanh 1", 4), ("gru tanh 1", 3)])
def test_what_the_compiler_is_told_of_the_kernel_holds(name: str, gates: int) -> None:
    state = rand(H, B).T  # dense, but not in order
    tensors = [rand(T, B, D).transpose(0, 1), state, rand(gates * H, D), rand(gates * H, H)]
    if gates == 4:
        tensors.insert(1, rand(B, 2 * H)[:, ::2])
    if name.endswith("1"):
        tensors += [rand(gates * H), rand(gates * H)]
    tensors = [tensor.requires_grad_() for tensor in tensors]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.lightning_rnn.fused.default, (name, tensors), test_utils=tests)
    detached = [tensor.detach() for tensor in tensors]
    grads = [rand(T, B, H).transpose(0, 1), *(rand(B, H) for _ in range(2 if gates == 4 else 1))]
    torch.library.opcheck(torch.ops.lightning_rnn.fused_backward.default, (name, detached, grads), test_utils=tests)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "engine"), [(SimpleRNN, "fused"), (LSTM, "fused"), (GRU, "fused"), (GRU, "scan")])
@pytest.mark.filterwarnings("ignore")  # what the compiler of kernels says
def test_inductor_equals_eager(cls: Any, engine: str) -> None:
    compiled_equals_eager(cls, "lengths", "inductor", engine=engine)
    if engine == "fused":
        compiled_equals_eager(cls, "holes", "inductor", engine=engine, num_layers=2, bidirectional=True)


@pytest.mark.parametrize(
    ("cls", "call", "engine"),
    [
        (SimpleRNN, "holes", "fused"),
        (LSTM, "lengths", "fused"),
        (LSTM, "holes", "fused"),
        (GRU, "lengths", "fused"),
        (GRU, "holes", "auto"),
    ],
)
def test_exported_program_equals_the_layer(cls: Any, call: str, engine: Any) -> None:
    layer, x = cls(D, H, engine=engine).eval(), torch.randn(B, T, D)
    program = torch.export.export(layer, (x,), dict(CALLS[call])).module()
    other = {name: value.flip(0) for name, value in CALLS[call].items()}
    y = torch.randn(B, T, D)
    close(program(y, **other), layer(y, **other), atol=1e-6)


@ours
@engines()
def test_functional_call_uses_the_weights_given(cls: Any, engine: Any) -> None:
    options: dict[str, Any] = {"bidirectional": True, "initial_state": "learned", "engine": engine}
    layer, other = (cls(D, H, 2, **options).double() for _ in range(2))
    x = rand(B, T, D)
    for name, parameter in other.named_parameters():
        if name.startswith(("h0", "c0")):
            torch.nn.init.normal_(parameter)
    weights = {name: p.detach().requires_grad_() for name, p in other.named_parameters()}
    output = functional_call(layer, weights, (x,), {"mask": HOLES})
    close(output, other(x, mask=HOLES))
    close(gradients(output, list(weights.values())), gradients(other(x, mask=HOLES), list(other.parameters())))


@ours
@pytest.mark.parametrize("call", ["all valid", "lengths", "holes"])
def test_vmap_over_models_equals_a_loop(cls: Any, call: str) -> None:
    layers = [cls(D, H, 2).double() for _ in range(3)]
    weights, buffers = stack_module_state(layers)
    x, reasons = rand(B, T, D), []

    def run(parameters: Any, kept: Any) -> Any:
        reasons.extend(layers[0].explain(x, **CALLS[call]).reasons)
        return functional_call(layers[0], (parameters, kept), (x,), CALLS[call]).sequence

    stacked = vmap(run)(weights, buffers)
    close(stacked, torch.stack([layer(x, **CALLS[call]).sequence for layer in layers]))
    assert any("vmap" in reason for reason in reasons)


@ours
@pytest.mark.parametrize("call", ["lengths", "holes"])
def test_torch_func_grad_equals_backward(cls: Any, call: str) -> None:
    layer = cls(D, H, bidirectional=True).double()
    x = rand(B, T, D)
    weights = dict(layer.named_parameters())

    def loss(parameters: Any, x: Tensor) -> Tensor:
        value: Tensor = functional_call(layer, parameters, (x,), CALLS[call]).sequence.pow(2).sum()
        return value

    expected = torch.autograd.grad(loss(weights, x), list(weights.values()))
    close(list(grad(loss)({k: v.detach() for k, v in weights.items()}, x).values()), list(expected))
    rows = vmap(grad(loss, argnums=1), in_dims=(None, 0))(weights, torch.stack([x, 2 * x]))
    y = x.clone().requires_grad_()
    close(rows[0], torch.autograd.grad(loss(weights, y), y)[0])


@ours
@engines()
def test_jacobian_of_all_outputs_at_once(cls: Any, engine: Any) -> None:
    layer, x = cls(D, 2, engine=engine).double(), rand(1, 3, D)

    def run(x: Tensor) -> Tensor:
        sequence: Tensor = layer(x, lengths=torch.tensor([2])).sequence
        return sequence

    jacobian: Any = torch.autograd.functional.jacobian
    slow, fast = (jacobian(run, x, vectorize=vectorize) for vectorize in (False, True))
    close(slow, fast)
