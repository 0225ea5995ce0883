"""Step by step equals the whole sequence."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, LSTMState, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions
from lightning_rnn.layers.streaming import _PLANS

B, T, D, H = 3, 5, 4, 6
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)


def close(a: Any, b: Any, atol: float = 1e-12) -> None:
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    assert pytree.tree_structure(a) == pytree.tree_structure(b)
    for mine, its in pairs:
        torch.testing.assert_close(mine, its, rtol=0, atol=atol)


def stream(layer: RecurrentLayer, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    outputs = []
    for x_t in x.unbind(1):
        output, state = layer.step(x_t, state)
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def random_state(layer: RecurrentLayer) -> Any:
    return pytree.tree_map(torch.randn_like, layer.initial_state(B))


COMMON: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"hidden_size": [H, 3, 5]},
    {"num_layers": 2, "input_size": H, "residual": True},
    {"num_layers": 2, "residual": True},
    {"initial_state": "learned", "num_layers": 2},
    {"regularization": Regularization(zoneout=0.3)},
    {"regularization": Regularization(dropout=0.3, recurrent_dropout=0.3, layer_dropout=0.2), "num_layers": 2},
    {"step_options": StepOptions(activation="relu")},
    {"step_options": StepOptions(activation=torch.sin), "num_layers": 2},
    {"time_options": TimeOptions(time_major=True, return_all_states=True)},
    {"engine": "scan", "zero_output_for_mask": True},
]
OWN: list[tuple[Any, dict[str, Any]]] = [
    (LSTM, {"proj_size": 2, "num_layers": 2, "step_options": StepOptions(proj_clip=0.1)}),
    (LSTM, {"proj_size": 2, "num_layers": 2, "residual": True}),
    (LSTM, {"step_options": StepOptions(peephole=True, cell_clip=0.3, recurrent_activation="hard_sigmoid")}),
    *((LSTM, {"step_options": StepOptions(layer_norm=norm), "num_layers": 2}) for norm in ("addons", "haste", "basic")),
    (GRU, {"step_options": StepOptions(reset_after=False)}),
    (GRU, {"step_options": StepOptions(layer_norm="haste")}),
    (SimpleRNN, {"step_options": StepOptions(layer_norm="addons", layer_norm_eps=0.1)}),
]
CASES = [(cls, options) for cls in CLASSES for options in COMMON] + OWN


@pytest.mark.parametrize("index", range(len(CASES)))
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("grad", [True, False])
def test_step_by_step_equals_the_whole(index: int, given: bool, grad: bool) -> None:
    cls, options = CASES[index]
    layer = cls(**({"input_size": D, "hidden_size": H} | options)).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # learned states and gains are not what they start at
    x = torch.randn(B, T, layer.input_size or 0, dtype=torch.float64)
    state = random_state(layer) if given else None
    with torch.set_grad_enabled(grad):
        outputs, final = stream(layer, x, state)
        whole = layer(layer._turn(x), state)
    close(outputs, layer._turn(whole.sequence))
    close(final, whole.state)


@ours
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"step_options": StepOptions(activation="softsign")}])
def test_gradients_through_steps_equal_those_of_the_whole(cls: Any, options: dict[str, Any]) -> None:
    layer = cls(D, H, **options).double()  # training mode: no noise, so it steps alike
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    found = []
    for sequence, final in (stream(layer, x), layer(x)):
        loss = (sequence * torch.arange(T).view(1, T, 1)).sum() + sum(leaf.sum() for leaf in pytree.tree_leaves(final))
        found.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    close(found[0], found[1], atol=1e-11)


@ours
def test_the_plain_step_equals_the_cell_of_torch(cls: Any) -> None:
    layer = cls(D, H).double()
    cell = {"simple_rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[cls.kind](D, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, state = torch.randn(B, D, dtype=torch.float64), random_state(layer)
    output, new = layer.step(x, state)
    its = cell(x, tuple(state) if cls is LSTM else state)
    close(tuple(pytree.tree_leaves(new)), its if cls is LSTM else (its,), atol=0)
    assert torch.equal(output, pytree.tree_leaves(new)[0])


def test_the_structure_of_states_is_that_of_the_whole() -> None:
    x = torch.randn(B, D)
    assert isinstance(LSTM(D, H).step(x)[1], LSTMState)
    both = LSTM(D, H, num_layers=2).step(x)[1]
    assert type(both) is tuple and all(isinstance(one, LSTMState) for one in both)
    lists = [[one.h, one.c] for one in both]
    layer = LSTM(D, H, num_layers=2)
    close(layer.step(x, lists), layer.step(x, both), atol=0)  # type: ignore[arg-type]


@ours
def test_parameters_that_change_count_at_once(cls: Any) -> None:
    layer, x = cls(D, H).double(), torch.randn(B, T, D, dtype=torch.float64)
    stream(layer, x)

    def check() -> None:
        outputs, final = stream(layer, x)
        whole = layer(x)
        close(outputs, whole.sequence)
        close(final, whole.state)
        seen.append(outputs)
        assert all(not torch.equal(outputs, other) for other in seen[:-1])

    seen: list[Tensor] = []
    check()
    layer.weight_hh_l0.data.mul_(0.5)  # what bumps no version
    check()
    layer.weight_ih_l0 = nn.Parameter(torch.randn_like(layer.weight_ih_l0))
    check()
    layer.load_state_dict({name: 0.3 * value for name, value in layer.state_dict().items()})
    check()
    nn.utils.parametrizations.spectral_norm(layer, "weight_hh_l0").eval()
    check()
    nn.utils.parametrizations.weight_norm(layer, "bias_ih_l0")  # a bias that is not there is not a bias of zero
    with torch.no_grad():
        layer.parametrizations.bias_ih_l0.original0.mul_(3)
    check()
    layer.step_options = StepOptions(activation="softsign")
    check()


@ours
def test_it_steps_under_functional_call_and_vmap(cls: Any) -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = cls(D, H)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer.step(x)[0]  # type: ignore[no-any-return]

    step, x = Step().eval(), torch.randn(2, B, D)
    stacked = {name: torch.stack([value, 0.5 * value]) for name, value in step.named_parameters()}
    one = functional_call(step, {name: value[1] for name, value in stacked.items()}, x[1])
    assert not torch.allclose(one, step(x[1]))
    both = vmap(lambda weights, rows: functional_call(step, weights, rows))(stacked, x)
    close(both[1], one, atol=1e-6)
    close(both[0], step(x[0]), atol=1e-6)


@ours
def test_it_exports_and_compiles_as_one_graph(cls: Any) -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = cls(D, H, num_layers=2)

        def forward(self, x: Tensor, state: Any) -> Any:
            return self.layer.step(x, state)

    step, x = Step().eval(), torch.randn(B, D)
    state = random_state(step.layer)
    close(torch.export.export(step, (x, state)).module()(x, state), step(x, state), atol=1e-6)
    close(torch.compile(step, backend="eager", fullgraph=True)(x, state), step(x, state), atol=1e-6)


@ours
def test_a_stateful_layer_keeps_its_state_and_forgets_it(cls: Any) -> None:
    layer, x = cls(D, H, stateful=True).double().eval(), torch.randn(B, T, D, dtype=torch.float64)
    first = layer(x).sequence
    second = layer(x).sequence
    layer.reset_states()
    close(torch.stack([layer.step(x_t)[0] for x_t in x.unbind(1)], 1), first)
    close(torch.stack([layer.step(x_t)[0] for x_t in x.unbind(1)], 1), second)
    assert layer.states is not None and not pytree.tree_leaves(layer.states)[0].requires_grad


@ours
def test_it_builds_an_unbuilt_layer(cls: Any) -> None:
    layer = cls(None, H, residual=True)
    x = torch.randn(B, T, H, dtype=torch.float64)
    output, _ = layer.step(x[:, 0])
    close(output, layer(x[:, :1]).last)


@ours
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_rows_are_independent(cls: Any, rows: int) -> None:
    layer, x = cls(D, H).double(), torch.randn(rows, D, dtype=torch.float64)
    output, _ = layer.step(x)
    assert output.shape == (rows, H)
    close([*output], [layer.step(x[i : i + 1])[0][0] for i in range(rows)])


@ours
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_dtype_and_stays_near(cls: Any, dtype: torch.dtype) -> None:
    layer, x = cls(16, 32, num_layers=2).eval(), torch.randn(B, 20, 16)
    exact, _ = stream(layer, x)
    low = copy.deepcopy(layer).to(dtype)
    outputs, final = stream(low, x.to(dtype))
    assert {leaf.dtype for leaf in pytree.tree_leaves((outputs, final))} == {dtype}
    close(outputs.float(), exact, atol=3e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = stream(layer, x)
    close(mixed.float(), exact, atol=3e-2)


def test_nothing_is_kept_of_a_layer_that_is_gone() -> None:
    gc.collect()
    before = len(_PLANS)
    layer = GRU(D, H)
    layer.step(torch.zeros(B, D))
    assert len(_PLANS) == before + 1
    again = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    close(again.step(torch.ones(B, D)), layer.step(torch.ones(B, D)), atol=0)
    del layer, again
    gc.collect()
    assert len(_PLANS) == before


X = torch.zeros(B, D)
BAD: list[tuple[Any, tuple[Any, ...], type[Exception], str]] = [
    (LSTM(D, H), (torch.zeros(B, T, D),), ValueError, r"expected x_t of shape \[B, 4\], got \[3, 5, 4\]"),
    (LSTM(D, H), (torch.zeros(B, D + 1),), ValueError, r"expected x_t of shape \[B, 4\], got \[3, 5\]"),
    (LSTM(D, H), ([1.0],), ValueError, r"expected x_t of shape \[B, 4\], got list"),
    (LSTM(D, H), (X.double(),), TypeError, "x_t is torch.float64, the weights are torch.float32"),
    (LSTM(D, H), (X.to("meta"),), ValueError, "x_t is on meta, the weights are on cpu"),
    (LSTM(D, H), (X, torch.zeros(B, H)), TypeError, r"must be an LSTMState\(h, c\), got Tensor"),
    (LSTM(D, H), (X, LSTMState(torch.zeros(B, H), torch.zeros(1, H))), ValueError, r"shape \[3, 6\].*got \[1, 6\]"),
    (GRU(D, H), (X, torch.zeros(1, H)), ValueError, r"states of shape \[3, 6\] .*got \[1, 6\]"),
    (GRU(D, H), (X, torch.zeros(B, H).double()), TypeError, "the state is torch.float64, x is torch.float32"),
    (GRU(D, H, 2), (X, torch.zeros(B, H)), ValueError, "expected a state tuple of 2 layers"),
    (GRU(D, H, 2), (X, (torch.zeros(B, H),) * 3), ValueError, "expected a state tuple of 2 layers"),
    (GRU(D, H, bidirectional=True), (X,), ValueError, "a bidirectional layer starts at the end"),
    (GRU(D, H, reverse=True), (X,), ValueError, "a reverse layer starts at the end"),
    (GRU(D, H, regularization=Regularization(dropout=0.1)), (X,), ValueError, r"call \.eval\(\) before stepping"),
    (GRU(D, H, regularization=Regularization(zoneout=0.1)), (X,), ValueError, r"call \.eval\(\) before stepping"),
]


@pytest.mark.parametrize("index", range(len(BAD)))
@pytest.mark.parametrize("warm", [False, True])
def test_mistakes_give_one_sentence(index: int, warm: bool) -> None:
    layer, arguments, kind, message = BAD[index]
    if warm and not (layer.bidirectional or layer.reverse):
        layer.eval().step(X)
        layer.train()
    with pytest.raises(kind, match=message) as caught:
        layer.step(*arguments)
    assert "\n" not in str(caught.value)
