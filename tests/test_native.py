"""The native engine against the loop: every option, mask, direction, dtype and number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import leaves, twin
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions, native_library
from lightning_rnn.layers.native import ACTIVATIONS

pytestmark = pytest.mark.skipif(native_library.why_not() is not None, reason=str(native_library.why_not()))

B, T, D, H = 5, 7, 3, 19  # H is no multiple of a vector
CELLS: dict[str, type[RecurrentLayer]] = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
NORMS = {"SimpleRNN": ["addons"], "LSTM": ["addons", "haste", "basic"], "GRU": ["haste"]}
NOISES = {
    "variational": Regularization(0.3, 0.3, 0.3, 0.3, zoneout=0.2, weight_dropout=0.3),
    "each step": Regularization(0.3, 0.0, 0.3, variational=False),
    "zoneout": Regularization(zoneout=0.3),
    "all each step": Regularization(0.2, 0.0, 0.3, 0.2, variational=False, zoneout=0.3),
}


def variants() -> list[tuple[str, dict[str, Any]]]:
    """Each option alone, and some together."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in CELLS:
        found += [(name, {}), (name, {"bias": False}), (name, {"num_layers": 2, "bidirectional": True})]
        found += [(name, {"residual": True, "num_layers": 2}), (name, {"initial_state": "learned"})]
        found += [(name, {"step_options": StepOptions(layer_norm=norm)}) for norm in NORMS[name]]
        found += [(name, {"step_options": StepOptions(layer_norm=norm), "bias": False}) for norm in NORMS[name]]
        found += [(name, {"step_options": StepOptions(activation=act)}) for act in ACTIVATIONS]
        found += [(name, {"regularization": noise}) for noise in NOISES.values()]
    for name in ("LSTM", "GRU"):
        found += [(name, {"step_options": StepOptions(recurrent_activation=act)}) for act in ACTIVATIONS]
    before = StepOptions(reset_after=False)
    found += [("GRU", {"step_options": before}), ("GRU", {"step_options": before, "bias": False})]
    found += [("GRU", {"step_options": before, "regularization": noise}) for noise in NOISES.values()]
    found += [
        ("LSTM", {"step_options": StepOptions(peephole=True)}),
        ("LSTM", {"step_options": StepOptions(cell_clip=0.1)}),
        ("LSTM", {"step_options": StepOptions(cell_clip=0.1, peephole=True, activation="relu")}),
        ("LSTM", {"proj_size": 4}),
        ("LSTM", {"proj_size": 21}),
        ("LSTM", {"proj_size": 4, "step_options": StepOptions(proj_clip=0.05)}),
        ("LSTM", {"proj_size": 4, "regularization": NOISES["variational"]}),
    ]
    for norm in NORMS["LSTM"]:
        step = StepOptions(layer_norm=norm, peephole=True, cell_clip=0.3, activation="gelu", layer_norm_eps=0.1)  # type: ignore[arg-type]
        found.append(("LSTM", {"step_options": step, "proj_size": 5, "regularization": NOISES["all each step"]}))
    return found


VARIANTS = variants()
MASKS = ["none", "lengths", "holes", "left", "nothing", "resets", "resets and holes"]


def call_of(mask: str, batch: int = B, steps: int = T) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator)
    holes = torch.rand(batch, steps, generator=generator) < 0.6
    starts = torch.rand(batch, steps, generator=generator) < 0.3
    return {
        "none": {},
        "lengths": {"lengths": lengths},
        "holes": {"mask": holes},
        "left": {"mask": sequence_mask(lengths, steps).flip(1)},
        "nothing": {"mask": torch.zeros(batch, steps, dtype=torch.bool)},
        "resets": {"reset_mask": starts},
        "resets and holes": {"reset_mask": starts, "mask": holes},
    }[mask]


def evaluated(layer: Any, x: Tensor, state: Any, call: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of x, states and weights of a random sum of all of them; noise from one seed."""
    torch.manual_seed(11)
    output = leaves(layer(x, state, **call))
    generator = torch.Generator().manual_seed(5)
    total = sum((leaf * torch.randn(leaf.shape, generator=generator).to(leaf)).sum() for leaf in output)
    sources = [x, *leaves(state), *layer.parameters()]
    assert isinstance(total, Tensor)
    return output, list(torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True))


def compare(layer: Any, mask: str, dtype: torch.dtype, tolerance: float, x: Tensor | None = None) -> None:
    """The native engine in ``dtype`` against the loop in float64."""
    double = twin(layer, engine="scan").double()
    native = twin(double, engine="native").to(dtype)
    for parameter in native.parameters():  # the loop starts from what the other has rounded to
        parameter.data = parameter.data.to(dtype)
    double.load_state_dict(native.state_dict())
    x = torch.randn(B, T, D) if x is None else x
    state = pytree.tree_map(lambda leaf: torch.randn_like(leaf).clamp(-1, 1), layer.initial_state(x.shape[0]))
    call, found = call_of(mask, *x.shape[:2]), []
    for engine, kind in ((native, dtype), (double, torch.float64)):
        own = x.to(dtype).to(kind).requires_grad_()
        start = pytree.tree_map(lambda leaf, kind=kind: leaf.detach().to(dtype).to(kind).requires_grad_(), state)
        assert engine.explain(own, start, **call).engine == engine.engine
        found.append(evaluated(engine, own, start, call))
    for mine, its in zip(leaves(found[0]), leaves(found[1]), strict=True):
        scale = max(1.0, its.abs().max().item() if its.numel() else 0.0)
        torch.testing.assert_close(mine.double(), its, rtol=0, atol=tolerance * scale)


def make(name: str, options: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(0)
    layer: Any = CELLS[name](D, H, **options, **more)
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # gains off 1, offsets off 0, biases all of them
        if "exponential" in str(options):  # which grows without bound
            parameter.data *= 0.1
    return layer


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n} {o}" for n, o in VARIANTS])
def test_every_option_equals_the_loop(name: str, options: dict[str, Any], mask: str) -> None:
    compare(make(name, options), mask, torch.float64, 1e-10)  # gates without bounds make large gradients


EXACT = [(name, options) for name, options in VARIANTS if "regularization" not in options]  # draws depend on the dtype


@pytest.mark.parametrize(("name", "options"), EXACT, ids=[f"{n} {o}" for n, o in EXACT])
def test_float32_is_near_float64(name: str, options: dict[str, Any]) -> None:
    kinks = ("relu", "hard", "elu", "clip=0", "selu")  # a rounding moves a unit across
    compare(make(name, options), "holes", torch.float32, 5e-2 if any(k in str(options) for k in kinks) else 2e-5)


TIMES = [
    {"time_options": TimeOptions(return_all_states=True)},
    {"time_options": TimeOptions(checkpoint=3)},
    {"time_options": TimeOptions(time_major=False, keep_order=True), "reverse": True},
    {"reverse": True},
    {"reverse": True, "time_options": TimeOptions(return_all_states=True)},
    {"reverse": True, "time_options": TimeOptions(checkpoint=3)},
    {"zero_output_for_mask": True},
    {"zero_output_for_mask": True, "reverse": True},
    {"regularization": NOISES["all each step"], "reverse": True},
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", TIMES, ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_every_way_through_time_equals_the_loop(name: str, options: dict[str, Any], mask: str) -> None:
    compare(make(name, options), mask, torch.float64, 1e-11)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(CELLS)),
    batch=st.integers(0, 40),
    steps=st.integers(0, 9),
    inputs=st.integers(1, 40),
    hidden=st.integers(1, 70),
    threads=st.integers(1, 3),
    mask=st.sampled_from(MASKS),
    dtype=st.sampled_from([(torch.float64, 1e-11), (torch.float32, 5e-5)]),
)
def test_any_shape_equals_the_loop(
    name: str, batch: int, steps: int, inputs: int, hidden: int, threads: int, mask: str, dtype: tuple[Any, float]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(batch + steps)
        compare(CELLS[name](inputs, hidden), mask, *dtype, x=torch.randn(batch, steps, inputs))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", CELLS)
def test_memory_may_lie_anyhow(name: str) -> None:
    layer = make(name, {}, engine="native")
    x = torch.randn(T, D * 2, B).permute(2, 0, 1)[:, :, ::2]
    assert not x.is_contiguous()
    plain = layer(x.contiguous())
    assert torch.equal(layer(x).sequence, plain.sequence)
    time_first = torch.randn(T, B, D).transpose(0, 1)
    assert torch.equal(layer(time_first).last, layer(time_first.contiguous()).last)
    own = time_first.requires_grad_()
    (expanded,) = torch.autograd.grad(layer(own).sequence.sum(), [own])  # a gradient without memory of its own
    (dense,) = torch.autograd.grad(layer(own).sequence, [own], torch.ones(B, T, H))
    torch.testing.assert_close(expanded, dense)


@pytest.mark.parametrize("name", CELLS)
def test_runs_are_equal_to_the_bit(name: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        layer, x = make(name, {"bidirectional": True}, engine="native"), torch.randn(33, 20, D).requires_grad_()
        first = evaluated(layer, x, None, {})
        for _ in range(20):
            again = evaluated(layer, x, None, {})
            assert all(torch.equal(a, b) for a, b in zip(leaves(first), leaves(again), strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("options", [{}, {"step_options": StepOptions(layer_norm="addons", peephole=True)}], ids=str)
def test_lstm_derivatives_are_right(options: dict[str, Any]) -> None:
    check_derivatives(LSTM(2, 3, engine="native", **options).double())


@pytest.mark.parametrize("layer", [SimpleRNN(2, 3), GRU(2, 3), GRU(2, 3, step_options=StepOptions(reset_after=False))])
def test_derivatives_are_right(layer: Any) -> None:
    check_derivatives(twin(layer, engine="native").double())


def check_derivatives(layer: Any) -> None:
    names = [name for name, _ in layer.named_parameters()]
    mask = torch.tensor([[True, False, True], [True, True, False]])

    def run(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, weights, strict=True))
        output = torch.func.functional_call(layer, given, (x,), {"mask": mask})
        return tuple(leaves((output.sequence, output.state)))

    inputs = (torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True), *layer.parameters())
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_nothing_in_padding_is_read() -> None:
    for name in CELLS:
        layer, x = make(name, {}, engine="native"), torch.randn(B, T, D)
        lengths = torch.tensor([7, 3, 0, 1, 5])
        x[~sequence_mask(lengths, T)] = float("nan")
        own = x.requires_grad_()
        output = layer(own, lengths=lengths)
        output.sequence.sum().backward()
        assert output.sequence.isfinite().all() and own.grad is not None and own.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("engine", ["native", "fused", "scan"])
def test_the_last_output_does_not_keep_the_sequence(engine: Any) -> None:
    with torch.no_grad():
        output = LSTM(D, H, engine=engine)(torch.randn(B, T, D))
    assert output.last.untyped_storage().nbytes() == 4 * B * H


def test_a_graph_may_be_used_twice() -> None:
    layer, x = make("LSTM", {}, engine="native"), torch.randn(B, T, D)
    total = layer(x).sequence.square().sum()
    weights = list(layer.parameters())
    first = torch.autograd.grad(total, weights, retain_graph=True)
    again = torch.autograd.grad(total, weights)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_bfloat16_is_near_float32(name: str) -> None:
    layer = make(name, {}, engine="native")
    half = twin(layer, engine="native").bfloat16()
    x = torch.randn(B, T, D)
    output = half(x.bfloat16())
    assert output.sequence.dtype == torch.bfloat16
    torch.testing.assert_close(output.sequence.float(), layer(x).sequence, rtol=0, atol=3e-2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).sequence.float(), layer(x).sequence.float(), rtol=0, atol=3e-2)


def test_states_of_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"the state is torch\.float64"):
        LSTM(D, H, engine="native")(torch.randn(B, T, D), LSTMState(*torch.zeros(2, B, H).double()))


@pytest.mark.parametrize("count", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(count: int) -> None:
    resource = pytest.importorskip("resource")
    layer, x = make("GRU", {}, engine="native"), torch.randn(8, 30, D)

    def steps(count: int) -> int:
        for _ in range(count):
            layer(x).sequence.sum().backward()
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    start = steps(300)
    assert steps(count) - start < 4096  # kilobytes


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout + done.stderr


SAY = "import torch; from lightning_rnn import GRU; print(GRU(3, 5).explain(torch.zeros(2, 7, 3)))"


def test_it_can_be_switched_off() -> None:
    assert "LIGHTNING_RNN_NATIVE=0" in run_python(SAY, LIGHTNING_RNN_NATIVE="0")


def test_without_a_compiler_another_engine_runs_and_says_why(tmp_path: Any) -> None:
    said = run_python(SAY, LIGHTNING_RNN_CACHE=str(tmp_path), PATH="", CXX="")
    assert "engine='fused'" in said and "no C++ compiler" in said
    asked = """
import torch
from lightning_rnn import GRU
try:
    GRU(3, 5, engine="native").explain(torch.zeros(2, 7, 3))
except ValueError as error:
    print(error)
"""
    said = run_python(asked, LIGHTNING_RNN_CACHE=str(tmp_path), PATH="", CXX="")
    assert "engine='native' cannot run this call: " in said and "no C++ compiler" in said


def test_a_broken_compiler_is_named(tmp_path: Any) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'fatal error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    said = run_python(SAY, LIGHTNING_RNN_CACHE=str(tmp_path), CXX=str(broken))
    assert "engine='fused'" in said and "no such thing" in said
