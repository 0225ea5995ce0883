"""Layers from torch.nn and back: outputs, states and gradients in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.functional import StepOptions
from lightning_rnn.interop.torch_nn import from_torch, state_from_torch, state_to_torch, to_torch
from lightning_rnn.layers import GRUCell, LSTMCell, RecurrentLayer, Regularization, SimpleRNNCell, TimeOptions
from lightning_rnn.layers.cells import GateCell

B, T, D, H = 4, 6, 3, 5
CASES: list[tuple[type[Any], dict[str, Any]]] = [
    (cls, options)
    for cls in (nn.RNN, nn.LSTM, nn.GRU)
    for options in (
        {"batch_first": True},
        {},
        {"num_layers": 3, "batch_first": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 2, "bidirectional": True, "bias": False},
    )
]
CASES += [
    (nn.RNN, {"nonlinearity": "relu", "num_layers": 2, "batch_first": True}),
    (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}),
    (nn.LSTM, {"proj_size": 2}),
]
every = pytest.mark.parametrize(("cls", "options"), CASES)
CELLS: list[tuple[type[Any], type[GateCell]]] = [
    (nn.RNNCell, SimpleRNNCell),
    (nn.LSTMCell, LSTMCell),
    (nn.GRUCell, GRUCell),
]
cells = pytest.mark.parametrize(("theirs", "ours"), CELLS)


def module_of(cls: type[Any], options: dict[str, Any]) -> Any:
    return cls(D, H, dtype=torch.float64, **options)


def random_hx(module: nn.RNNBase) -> Any:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(rows, B, module.proj_size or H, dtype=torch.float64)
    return (h, torch.randn(rows, B, H, dtype=torch.float64)) if isinstance(module, nn.LSTM) else h


def flat(hx: Any) -> list[Tensor]:
    return [hx] if isinstance(hx, Tensor) else list(hx)


def gradients(module: nn.Module, tensors: list[Tensor]) -> dict[str, Tensor]:
    """Of a loss that weighs every element differently."""
    loss = sum((tensor * torch.arange(tensor.numel()).view(tensor.shape).cos()).sum() for tensor in tensors)
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(torch.as_tensor(loss), parameters), strict=True))


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def assert_same_gradients(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert_equal(list(one.values()), [other[name] for name in one])


@every
def test_a_module_and_its_layer_are_equal(cls: type[Any], options: dict[str, Any]) -> None:
    module = module_of(cls, options)
    layer = from_torch(module)
    shape = (B, T, D) if module.batch_first else (T, B, D)
    x, hx = torch.randn(shape, dtype=torch.float64), random_hx(module)
    expected, last = module(x, hx)
    output, state = layer(x, state_from_torch(layer, hx))
    states = flat(state_to_torch(layer, state))
    assert_equal([output, *states], [expected, *flat(last)])
    assert_same_gradients(gradients(layer, [output, *states]), gradients(module, [expected, *flat(last)]))


@every
def test_packed_rows_are_lengths(cls: type[Any], options: dict[str, Any]) -> None:
    module = module_of(cls, options)
    layer = from_torch(module)
    x, hx, lengths = torch.randn(B, T, D, dtype=torch.float64), random_hx(module), torch.tensor([3, 6, 1, 4])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed_output, last = module(packed, hx)
    expected, _ = pad_packed_sequence(packed_output, batch_first=True)
    given = x if module.batch_first else x.transpose(0, 1)
    output, state = layer(given, state_from_torch(layer, hx), lengths=lengths)
    output = output if module.batch_first else output.transpose(0, 1)
    valid = torch.arange(T) < lengths.unsqueeze(1)
    states = flat(state_to_torch(layer, state))
    assert_equal([output[valid], *states], [expected[valid], *flat(last)])
    ours, theirs = [output[valid], *states], [expected[valid], *flat(last)]
    assert_same_gradients(gradients(layer, ours), gradients(module, theirs))


@every
def test_there_and_back(cls: type[Any], options: dict[str, Any]) -> None:
    module = module_of(cls, options | {"dropout": 0.25 if options.get("num_layers", 1) > 1 else 0.0}).eval()
    module.weight_hh_l0.requires_grad_(False)
    layer = from_torch(module)
    back = to_torch(layer)
    assert type(back) is cls and repr(back) == repr(module)
    assert layer.regularization.layer_dropout == module.dropout
    for (name, one), (other_name, other) in zip(module.named_parameters(), back.named_parameters(), strict=True):
        assert name == other_name and torch.equal(one, other) and one.requires_grad == other.requires_grad
        assert one.data_ptr() != other.data_ptr()
    assert not layer.training and not back.training and back.weight_hh_l0.dtype is torch.float64
    x = torch.randn(B, T, D, dtype=torch.float64)
    assert_equal([back(x)[0]], [module(x)[0]])


@every
def test_states_there_and_back(cls: type[Any], options: dict[str, Any]) -> None:
    module = module_of(cls, options)
    hx = random_hx(module)
    layer = from_torch(module)
    assert_equal(flat(state_to_torch(layer, state_from_torch(layer, hx))), flat(hx))


@cells
@pytest.mark.parametrize("bias", [False, True])
def test_cells(theirs: type[Any], ours: type[GateCell], bias: bool) -> None:
    module = theirs(D, H, bias=bias, dtype=torch.float64)
    cell = from_torch(module)
    back = to_torch(cell)
    assert type(cell) is ours and type(back) is theirs and repr(back) == repr(module)
    x = torch.randn(B, D, dtype=torch.float64)
    h = torch.randn(B, H, dtype=torch.float64)
    hx = (h, h.flip(0)) if theirs is nn.LSTMCell else h
    _, state = cell(x, state_from_torch(cell, hx))
    assert_equal(flat(state_to_torch(cell, state)), flat(module(x, hx)))
    assert_equal(flat(back(x, hx)), flat(module(x, hx)))


def test_a_relu_cell_keeps_its_activation() -> None:
    cell = from_torch(nn.RNNCell(D, H, nonlinearity="relu"))
    assert cell.step_options.activation == "relu"
    assert "relu" in repr(to_torch(cell))


def test_nothing_is_drawn() -> None:
    module = nn.LSTM(D, H)
    before = torch.get_rng_state()
    to_torch(from_torch(module))
    assert torch.equal(before, torch.get_rng_state())


def test_parametrized_weights_are_read_as_they_act() -> None:
    module = parametrizations.weight_norm(nn.GRU(D, H, batch_first=True), "weight_hh_l0")
    x = torch.randn(B, T, D)
    torch.testing.assert_close(from_torch(module)(x).sequence, module(x)[0])


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LSTM(D, H, step_options=StepOptions(peephole=True)), "peephole=True"),
        (LSTM(D, H, step_options=StepOptions(layer_norm="haste", cell_clip=1.0)), "layer_norm='haste', cell_clip=1.0"),
        (LSTM(D, H, proj_size=2, step_options=StepOptions(proj_clip=1.0)), "proj_clip=1.0"),
        (LSTM(D, H, step_options=StepOptions(activation="relu")), "activation='relu'"),
        (LSTM(D, H, proj_size=H), "proj_size that is not below hidden_size"),
        (LSTMCell(D, H, proj_size=2), "proj_size"),
        (GRU(D, H, step_options=StepOptions(reset_after=False)), "reset_after=False"),
        (GRU(D, H, step_options=StepOptions(recurrent_activation="hard_sigmoid")), "recurrent_activation"),
        (GRUCell(D, H, step_options=StepOptions(reset_after=False)), "reset_after=False"),
        (SimpleRNN(D, H, step_options=StepOptions(activation="elu")), "activation='elu'"),
        (GRU(D, H, regularization=Regularization(dropout=0.1, zoneout=0.1)), "dropout of the input, zoneout"),
        (GRU(D, H, regularization=Regularization(recurrent_dropout=0.1)), "recurrent_dropout"),
        (GRU(D, H, 2, residual=True, stateful=True), "residual, stateful"),
        (GRU(D, H, reverse=True), "reverse"),
        (GRU(D, [H, H + 1]), "hidden_size of each layer its own"),
        (GRU(D, H, initial_state="learned"), "learned initial_state"),
        (GRU(D, H, time_options=TimeOptions(return_all_states=True)), "return_all_states"),
        (GRU(None, H), "no weights yet"),
    ],
)
def test_what_torch_has_not_is_refused_by_name(layer: RecurrentLayer, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_torch(layer)


def test_other_modules_are_refused() -> None:
    with pytest.raises(TypeError, match="got Linear"):
        from_torch(nn.Linear(D, H))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="got Linear"):
        to_torch(nn.Linear(D, H))  # type: ignore[call-overload]


def test_states_that_do_not_fit_are_refused() -> None:
    layer = LSTM(D, H, num_layers=2)
    h = torch.zeros(1, B, H)
    with pytest.raises(ValueError, match=r"each of shape \[2, B, H\], got \[\[1, 4, 5\], \[1, 4, 5\]\]"):
        state_from_torch(layer, (h, h))
    with pytest.raises(ValueError, match="expected"):
        state_from_torch(layer, torch.zeros(2, B, H))
    with pytest.raises(ValueError, match="a state of 4 tensors, got 1"):
        state_to_torch(layer, h[0])
    sizes = GRU(D, [H, H + 1])
    with pytest.raises(ValueError, match="one size for all layers"):
        state_to_torch(sizes, sizes(torch.zeros(B, T, D)).state)
