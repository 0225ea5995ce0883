"""The options of SimpleRNN, LSTM and GRU against their equations, written out row by row in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_checks import ENGINES, HERE, check_refused, close, engines, gradients, leaves, rand, random_like
from layer_equations import CALLS, reference, valid_of
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, SimpleRNN, SimpleRNNCell
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer, Regularization, TimeOptions

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
LEFT = sequence_mask(LENGTHS, T).flip(1)
CLASSES: list[type[RecurrentLayer]] = [SimpleRNN, LSTM, GRU]
ours = pytest.mark.parametrize("cls", CLASSES)


def compare(layer: Any, call: dict[str, Tensor], names: tuple[str, ...], given: bool = False, width: int = D) -> None:
    """Values and the gradients of input, state and all weights, on each of the engines; the others refuse the call."""
    layer = layer.double()
    x = rand(B, T, width).requires_grad_()
    state = layer.initial_state(B)
    if given:
        state = random_like(state, requires_grad=True)
    expected = reference(layer, x, state, valid_of(call))
    sources = [x, *layer.parameters(), *(leaves(state) if given else [])]
    slopes = gradients(expected, sources)
    for name in HERE:
        if name not in names:
            check_refused(layer, name, "", x, **call)
            continue
        layer.engine = name
        assert layer.explain(x, **call).engine == name
        output = layer(x, state if given else None, **call)
        found = output.sequence, output.state, output.last
        close(found, expected, what=name)
        close(gradients(found, sources), slopes, atol=1e-11, what=name)


STRUCTURES: dict[str, dict[str, Any]] = {
    "a list of sizes": {"hidden_size": [4, 2, 3]},
    "a list of sizes, both ways": {"hidden_size": [4, 2], "bidirectional": True},
    "no bias": {"bias": False, "num_layers": 2},
    "residual": {"num_layers": 3, "residual": True},
    "residual from the first": {"hidden_size": 3, "num_layers": 2, "residual": True},
    "residual both ways": {"hidden_size": 2, "num_layers": 3, "residual": True, "bidirectional": True},
    "reverse": {"reverse": True, "num_layers": 2},
    "reverse, order kept": {"reverse": True, "time_options": TimeOptions(keep_order=True), "residual": True},
    "learned start": {"initial_state": "learned", "num_layers": 2, "bidirectional": True},
    "zero at masked steps": {"zero_output_for_mask": True, "num_layers": 2, "bidirectional": True, "residual": True},
    "reverse, zero": {"reverse": True, "zero_output_for_mask": True},
}


@ours
@pytest.mark.parametrize("call", ["all valid", "lengths", "holes"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_equal_the_equations(cls: type[RecurrentLayer], call: str, structure: str) -> None:
    layer = cls(D, **({"hidden_size": H} | STRUCTURES[structure]))
    if layer.start == "learned":
        for name, parameter in layer.named_parameters():
            if name.startswith(("h0", "c0")):
                torch.nn.init.normal_(parameter)
    compare(layer, CALLS[call], ENGINES)


@ours
@pytest.mark.parametrize("call", ["lengths", "holes"])
def test_residual_of_the_input_both_ways(cls: type[RecurrentLayer], call: str) -> None:
    compare(cls(6, 3, 2, bidirectional=True, residual=True), CALLS[call], ENGINES, given=True, width=6)


@ours
@engines()
@pytest.mark.parametrize("ways", [{"reverse": True}, {"num_layers": 2, "bidirectional": True, "residual": True}])
def test_what_masked_steps_hold_reaches_nothing(cls: Any, engine: str, ways: dict[str, Any]) -> None:
    layer = cls(D, H, engine=engine, **ways).double()
    x = rand(B, T, D)
    dirty = torch.where(HOLES.unsqueeze(2), x, torch.nan).requires_grad_()
    output = layer(dirty, mask=HOLES)
    close(output, layer(x, mask=HOLES))
    output.sequence.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in [dirty, *layer.parameters()])
    assert dirty.grad is not None and bool((dirty.grad[~HOLES] == 0).all())


@ours
def test_learned_states_start_at_zero(cls: Any) -> None:
    layer = cls(D, H, 2, bidirectional=True, initial_state="learned")
    starts = [p for name, p in layer.named_parameters() if name.startswith(("h0", "c0"))]
    assert len(starts) == (8 if cls is LSTM else 4)
    for parameter in starts:
        torch.nn.init.ones_(parameter)
    close(layer.initial_state(B), pytree.tree_map(torch.ones_like, layer.initial_state(B)))
    layer.reset_parameters()
    assert not any(bool(parameter.any()) for parameter in starts)


def squash(v: Tensor) -> Tensor:
    return v / (1 + v**2)


VARIANTS: list[tuple[type[RecurrentLayer], StepOptions, dict[str, Any]]] = [
    (SimpleRNN, StepOptions(activation="softsign"), {}),
    (SimpleRNN, StepOptions(activation=squash), {}),
    (SimpleRNN, StepOptions(layer_norm="addons"), {}),
    (SimpleRNN, StepOptions(layer_norm="addons", layer_norm_eps=0.1), {"bias": False}),
    (LSTM, StepOptions(activation=squash, recurrent_activation="hard_sigmoid"), {}),
    (LSTM, StepOptions(recurrent_activation="hard_sigmoid_keras2"), {}),
    (LSTM, StepOptions(peephole=True), {}),
    (LSTM, StepOptions(cell_clip=0.2), {}),
    (LSTM, StepOptions(peephole=True, cell_clip=0.1, activation="relu"), {"bidirectional": True}),
    (LSTM, StepOptions(), {"proj_size": 2, "num_layers": 2}),
    (LSTM, StepOptions(), {"proj_size": 5, "residual": True, "num_layers": 2}),
    (LSTM, StepOptions(proj_clip=0.05), {"proj_size": 2, "bidirectional": True, "bias": False}),
    (LSTM, StepOptions(proj_clip=0.1, cell_clip=0.1, peephole=True), {"proj_size": 3, "initial_state": "learned"}),
    (LSTM, StepOptions(layer_norm="addons"), {}),
    (LSTM, StepOptions(layer_norm="haste"), {"num_layers": 2}),
    (LSTM, StepOptions(layer_norm="basic"), {}),
    (LSTM, StepOptions(layer_norm="basic", peephole=True), {"bias": False, "bidirectional": True}),
    (GRU, StepOptions(reset_after=False), {}),
    (GRU, StepOptions(reset_after=False), {"bias": False, "bidirectional": True}),
    (GRU, StepOptions(activation="relu", recurrent_activation="hard_sigmoid"), {}),
    (GRU, StepOptions(activation=squash, reset_after=False), {"num_layers": 2}),
    (GRU, StepOptions(layer_norm="haste"), {"num_layers": 2}),
    (GRU, StepOptions(layer_norm="haste"), {"bias": False}),
]


@pytest.mark.parametrize("call", ["lengths", "holes"])
@pytest.mark.parametrize("index", range(len(VARIANTS)))
def test_variants_of_the_step_equal_the_equations(index: int, call: str) -> None:
    cls, options, structure = VARIANTS[index]
    layer = cls(D, H, step_options=options, **structure)
    for parameter in layer.parameters():  # also the gains, offsets and starts, which are 1 and 0 at first
        torch.nn.init.uniform_(parameter, -1, 1)
    native = () if callable(options.activation) else ("native",)
    fused = ("fused",) if options == StepOptions() and layer.proj_size < H else ()
    compare(layer, CALLS[call], (*native, *fused, "scan"), given=layer.start == "zeros")


@ours
def test_variants_of_one_cell_are_named_to_another(cls: type[RecurrentLayer]) -> None:
    wrong: dict[Any, list[StepOptions]] = {
        SimpleRNN: [StepOptions(recurrent_activation="relu"), StepOptions(layer_norm="haste")],
        LSTM: [StepOptions(reset_after=False), StepOptions(proj_clip=1.0)],
        GRU: [StepOptions(layer_norm="haste", reset_after=False), StepOptions(cell_clip=1.0)],
    }
    for options in wrong[cls]:
        with pytest.raises(ValueError, match=rf"^{cls.__name__}.*(no option|must be one of|needs)"):
            cls(D, H, step_options=options)
    with pytest.raises(ValueError, match="no activation is called 'nope'"):
        StepOptions(activation="nope")


@pytest.mark.parametrize(("value", "expected"), [(True, 1.0), (False, 0.0)])
def test_unit_forget_bias(value: bool, expected: float) -> None:
    for layer in (LSTM(D, H, unit_forget_bias=value, bidirectional=True), LSTMCell(D, H, unit_forget_bias=value)):
        biases = {name: parameter for name, parameter in layer.named_parameters() if "bias" in name}
        sums = {name: float(parameter[H : 2 * H].detach().sum()) for name, parameter in biases.items()}
        assert sums == {name: expected * H if "ih" in name else 0.0 for name in biases}
        assert all(bool((parameter[:H] != 0).any()) for parameter in biases.values())


# A cell in RNN is the layer

CELLS: list[tuple[Any, Any, StepOptions, dict[str, Any]]] = [
    (SimpleRNN, SimpleRNNCell, StepOptions(activation="relu"), {}),
    (LSTM, LSTMCell, StepOptions(), {"proj_size": 2}),
    (LSTM, LSTMCell, StepOptions(peephole=True, cell_clip=0.3), {}),
    (LSTM, LSTMCell, StepOptions(layer_norm="addons"), {"bias": False}),
    (GRU, GRUCell, StepOptions(), {}),
    (GRU, GRUCell, StepOptions(reset_after=False), {}),
]
TIMES: list[dict[str, Any]] = [
    {},
    {"reverse": True},
    {"reverse": True, "time_options": TimeOptions(keep_order=True, return_all_states=True)},
    {"zero_output_for_mask": True, "time_options": TimeOptions(checkpoint=2)},
    {"time_options": TimeOptions(unroll=True)},
]
NOISE = Regularization(dropout=0.3, recurrent_dropout=0.3, zoneout=0.2, weight_dropout=0.3)


@pytest.mark.parametrize("noise", [Regularization(), Regularization(dropout=0.5, variational=False), NOISE])
@pytest.mark.parametrize("ways", TIMES)
@pytest.mark.parametrize("index", range(len(CELLS)))
def test_a_cell_over_time_is_the_layer(index: int, ways: dict[str, Any], noise: Regularization) -> None:
    cls, cell, options, more = CELLS[index]
    layer = cls(D, H, step_options=options, regularization=noise, **ways, **more).double()
    rnn = RNN(cell(D, H, step_options=options, regularization=noise, **more), **ways).double()
    rnn.load_state_dict({f"cell.{name.removesuffix('_l0')}": v for name, v in layer.state_dict().items()})
    x, resets = rand(B, T, D), torch.rand(B, T) < 0.3
    state = random_like(layer.initial_state(B))
    for call in ({"lengths": LENGTHS}, {"mask": LEFT, "reset_mask": resets}):
        assert layer.explain(x, state, **call) == rnn.explain(x, state, **call)
        for given in (None, state):
            torch.manual_seed(1)
            expected = layer(x, given, **call)
            torch.manual_seed(1)
            close(rnn(x, given, **call), expected)
