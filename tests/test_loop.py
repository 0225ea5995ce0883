"""The loop with a backward by hand, against the loop that autograd follows."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTMState
from lightning_rnn.functional import StepOptions, Weights
from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.options import ACTIVATIONS, DERIVATIVES
from lightning_rnn.functional.scan import Ran, Resets, scan
from lightning_rnn.layers import Regularization, loop
from lightning_rnn.layers.chunks import run_chunks
from lightning_rnn.layers.engines import Call
from lightning_rnn.layers.gates import KINDS, Gates, bind, parameter_shapes
from lightning_rnn.layers.loop import against_loop, run_loop
from lightning_rnn.layers.replay import Operands, operands, replay

B, T, D, H = 3, 6, 2, 4
MASK = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1]]).bool()
STARTS = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0]]).bool()

VARIANTS: dict[str, tuple[str, StepOptions, int]] = {
    "simple_rnn": ("simple_rnn", StepOptions(), 0),
    "simple_rnn relu": ("simple_rnn", StepOptions("relu"), 0),
    "simple_rnn gelu": ("simple_rnn", StepOptions("gelu"), 0),
    "lstm": ("lstm", StepOptions(), 0),
    "lstm peephole": ("lstm", StepOptions(peephole=True), 0),
    "lstm cell_clip": ("lstm", StepOptions(cell_clip=0.3), 0),
    "lstm projection": ("lstm", StepOptions(), 2),
    "lstm proj_clip": ("lstm", StepOptions(proj_clip=0.1), 2),
    "lstm all": ("lstm", StepOptions("softsign", "hard_sigmoid", peephole=True, cell_clip=0.5, proj_clip=0.2), 3),
    "lstm by input": ("lstm", StepOptions("silu", "softplus", peephole=True), 0),
    "gru": ("gru", StepOptions(), 0),
    "gru before": ("gru", StepOptions(reset_after=False), 0),
    "gru by input": ("gru", StepOptions("mish", "softplus"), 0),
    "gru before by input": ("gru", StepOptions("mish", "softplus", reset_after=False), 0),
}
NOISES: dict[str, tuple[Regularization, bool]] = {
    "none": (Regularization(), True),
    "variational": (Regularization(dropout=0.2, recurrent_dropout=0.4), True),
    "each step": (Regularization(dropout=0.2, recurrent_dropout=0.4, variational=False), True),
    "zoneout": (Regularization(zoneout=0.4), True),
    "zoneout in eval": (Regularization(zoneout=0.4), False),
    "all": (Regularization(recurrent_dropout=0.4, variational=False, zoneout=0.3, weight_dropout=0.2), True),
}
variants = pytest.mark.parametrize("variant", VARIANTS)
noises = pytest.mark.parametrize("noise", NOISES)


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).mul_(0.5).requires_grad_()


def state_of(kind: str, width: int, hidden: int = H) -> Any:
    return LSTMState(leaf(B, width), leaf(B, hidden)) if kind == "lstm" else leaf(B, width)


class Case:
    """One cell with its tensors."""

    def __init__(self, variant: str, noise: str = "none", bias: bool = True, masked: bool = False, reset: bool = False):
        self.kind, self.options, width = VARIANTS[variant]
        self.noise, self.training = NOISES[noise]
        shapes = parameter_shapes(KINDS[self.kind], D, H, width, bias, self.options)
        self.weights = Weights(**{name: leaf(*shape) for name, shape in shapes.items()})
        self.x, self.state = leaf(B, T, D), state_of(self.kind, width or H)
        self.valid = Valid(MASK) if masked else None
        self.resets = Resets(STARTS, state_of(self.kind, width or H)) if reset else None
        fresh = None if self.resets is None else self.resets.state
        self.tensors = [t for t in pytree.tree_leaves((self.x, self.state, fresh, list(self.weights))) if t is not None]

    def gates(self) -> Gates:
        torch.manual_seed(5)
        return bind(KINDS[self.kind], self.weights, self.options, self.noise, B, self.training)

    def run(self, engine: Any, all_states: bool = False, chunk: int | None = None) -> list[Tensor]:
        gates = self.gates()
        ran: Ran = run_chunks(engine, gates, self.x, self.state, self.valid, self.resets, all_states, chunk)
        found = [leaf for leaf in pytree.tree_leaves(tuple(ran)) if leaf is not None]
        if self.valid is not None:  # what stands at masked steps is set later
            found[0] = torch.where(self.valid.mask.unsqueeze(2), found[0], 0)
        return found

    def gradients(self, found: list[Tensor], **options: bool) -> list[Tensor]:
        torch.manual_seed(1)
        loss = sum((one * torch.randn(one.shape, dtype=one.dtype)).sum() for one in found)
        grads = torch.autograd.grad(loss, self.tensors, allow_unused=True, **options)  # type: ignore[arg-type]
        return [torch.zeros_like(t) if g is None else g for t, g in zip(self.tensors, grads, strict=True)]


def close(a: list[Tensor], b: list[Tensor], atol: float = 1e-12) -> None:
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=atol)


@variants
@noises
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_loop_equals_scan(variant: str, noise: str, masked: bool, reset: bool) -> None:
    for bias, all_states in ((True, False), (False, True)):
        case = Case(variant, noise, bias, masked, reset)
        assert against_loop(case.gates(), Call()) == []
        expected, found = case.run(scan, all_states), case.run(run_loop, all_states)
        close(found, expected)
        close(case.gradients(found), case.gradients(expected))
        with torch.no_grad():
            close(case.run(run_loop, all_states), expected)


@variants
def test_stretches_change_nothing(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(variant, "all", masked=True, reset=True)
    expected = case.run(run_loop, True)
    grads = case.gradients(expected)
    monkeypatch.setattr(loop, "CACHED", 4 * B * 4 * H)
    found = case.run(run_loop, True)
    close(found, expected)
    close(case.gradients(found), grads)
    with torch.no_grad():
        close(case.run(run_loop, True), expected)


@variants
@noises
@pytest.mark.parametrize("engine", [scan, run_loop])
def test_chunks_draw_what_a_whole_run_draws(variant: str, noise: str, engine: Any) -> None:
    case = Case(variant, noise, masked=True, reset=True)
    if case.noise.dropout and not case.noise.variational:
        pytest.skip("the input's dropout is drawn chunk by chunk, before the steps of a chunk")
    whole, parts = case.run(engine, True), case.run(engine, True, chunk=4)
    close(parts, whole)
    close(case.gradients(parts), case.gradients(whole))


@variants
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(variant: str, masked: bool) -> None:
    case = Case(variant, "all" if masked else "none", masked=masked, reset=masked)
    plan, row = operands(case.gates(), case.x[:, :3], case.state, None, None, True)
    if masked and case.resets is not None and case.valid is not None:
        short = Resets(STARTS[:, :3], case.resets.state)
        plan, row = operands(case.gates(), case.x[:, :3], case.state, Valid(MASK[:, :3]), short, True)
    row = Operands._make(t.detach() if t is not None and t.is_floating_point() else t for t in row)
    names = [n for n, t in row._asdict().items() if t is not None and t.is_floating_point() and n != "dropped"]

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = row._replace(**dict(zip(names, tensors, strict=True)))
        return tuple(loop._Loop.apply(loop.POINTWISE, plan, *given))  # type: ignore[no-untyped-call]

    tensors = [getattr(row, name).clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize("variant", ["simple_rnn", "lstm", "gru", "gru before"])
def test_gradcheck_of_every_entry(variant: str) -> None:
    case = Case(variant)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        case.weights = Weights(*tensors[:4])
        case.x = tensors[4]
        return tuple(case.run(run_loop))

    assert torch.autograd.gradcheck(function, [*case.weights[:4], leaf(B, 3, D)])
    case = Case(variant)
    assert torch.autograd.gradgradcheck(function, [*case.weights[:4], leaf(B, 2, D)])


@variants
def test_second_derivatives_equal_those_of_scan(variant: str) -> None:
    case, found = Case(variant, "all", masked=True, reset=True), []
    for engine in (scan, run_loop):
        first = case.gradients(case.run(engine, True), create_graph=True)
        penalty = sum(g.pow(2).sum() for g in first)
        second = torch.autograd.grad(penalty, case.tensors, allow_unused=True)  # type: ignore[arg-type]
        found.append([torch.zeros(1) if g is None else g for g in second])
    close(found[1], found[0], atol=1e-11)


@variants
def test_replay_is_the_same_function(variant: str) -> None:
    case = Case(variant, "all", masked=True, reset=True)
    plan, row = operands(case.gates(), case.x, case.state, case.valid, case.resets, True)
    outputs = replay(plan, row)
    with torch.no_grad():
        found, _ = loop.run_forward(loop.POINTWISE, plan, row, keep=False)
    given = MASK.unsqueeze(2)
    close([torch.where(given, found[0], 0), *found[1:]], [torch.where(given, outputs[0], 0), *outputs[1:]])


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_by_hand(name: str) -> None:
    how, x = DERIVATIVES[name], torch.linspace(-8, 8, 999, dtype=torch.float64)
    grad, place = torch.randn_like(x), x.clone()
    leaf = x.clone().requires_grad_()
    y = ACTIVATIONS[name](leaf)
    (expected,) = torch.autograd.grad(y, leaf, grad)
    assert torch.equal(how.write(place, place), y)
    found = how.slope(grad, place if how.of_output else x, torch.empty_like(x))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_only_softmax_has_no_derivative_by_hand() -> None:
    assert set(ACTIVATIONS) - set(DERIVATIVES) == {"softmax"}


@variants
@pytest.mark.parametrize(("batch", "steps"), [(0, T), (B, 0), (0, 0)])
def test_nothing_to_do(variant: str, batch: int, steps: int) -> None:
    case = Case(variant)
    case.x = leaf(batch, steps, D)
    case.state = pytree.tree_map(lambda t: t[:batch], case.state)
    outputs, *final = case.run(run_loop)
    assert outputs.shape[:2] == (batch, steps)
    close(final, pytree.tree_leaves(case.state))


def live() -> int:
    """Numbers held by tensors."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if type(found) is Tensor:
            storages[found.untyped_storage().data_ptr()] = found.untyped_storage().nbytes() // found.element_size()
    return sum(storages.values())


@pytest.mark.parametrize("variant", ["simple_rnn", "lstm", "lstm projection", "gru", "gru before"])
def test_without_gradients_nothing_is_kept(variant: str) -> None:
    case = Case(variant)
    case.x = torch.randn(B, 500, D, dtype=torch.float64)
    before = live()
    with torch.no_grad():
        outputs, *final = case.run(run_loop)
    assert outputs.grad_fn is None and all(one.grad_fn is None for one in final)
    states = sum(one.numel() for one in final)
    assert live() - before <= outputs.numel() + 2 * states  # the outputs, the state before them, the final state


def test_memory_goes_with_the_graph() -> None:
    case = Case("lstm")
    case.run(run_loop)
    before = live()
    for _ in range(3):
        found = case.run(run_loop)
        case.gradients(found)
    del found
    assert live() == before


def test_backward_twice_and_in_part() -> None:
    case = Case("lstm all", masked=True)
    found = case.run(run_loop)
    first = case.gradients(found, retain_graph=True)
    close(case.gradients(found), first, atol=0)
    case.weights.weight_hh.requires_grad_(False)
    outputs = case.run(run_loop)[0]
    (grad,) = torch.autograd.grad(outputs.sum(), [case.x])
    (expected,) = torch.autograd.grad(case.run(scan)[0].sum(), [case.x])
    close([grad], [expected])


def test_a_changed_output_is_noticed() -> None:
    case = Case("gru")
    with pytest.raises(RuntimeError, match="inplace"):
        case.run(run_loop)[0].zero_().sum().backward()


@pytest.mark.parametrize("variant", ["simple_rnn", "lstm all", "gru"])
def test_autocast_casts_all(variant: str) -> None:
    case = Case(variant)
    exact = case.run(scan)
    with torch.autocast("cpu", torch.bfloat16):
        found = case.run(run_loop)
    assert all(one.dtype == torch.bfloat16 for one in found)
    for one, other in zip(found, exact, strict=True):
        assert float((one.double() - other).detach().abs().max()) < 0.05
    assert all(bool(g.isfinite().all()) and g.dtype == torch.float64 for g in case.gradients(found))


def test_jacobian_of_all_outputs_at_once() -> None:
    case = Case("lstm all", masked=True)
    case.weights = Weights(*(None if w is None else w.detach() for w in case.weights))

    def function(x: Tensor) -> Tensor:
        case.x = x
        return case.run(run_loop)[0]

    jacobian: Any = torch.autograd.functional.jacobian
    x = case.x.detach()
    torch.testing.assert_close(jacobian(function, x, vectorize=True), jacobian(function, x))


def test_what_is_not_written_by_hand_is_named() -> None:
    gates = Case("lstm").gates()
    for options, reason in (
        (StepOptions(layer_norm="addons"), "layer normalization"),
        (StepOptions("softmax"), "the activation 'softmax'"),
        (StepOptions(torch.sin), "the activation <built-in"),
    ):
        (why,) = against_loop(Gates(gates.kind, gates.weights, options), Call())
        assert reason in why
    assert against_loop(gates, Call(unroll=True)) == ["unroll=True asks for the loop"]
    assert "GRU is not written by hand" in against_loop(GRU(D, H), Call())[0]
