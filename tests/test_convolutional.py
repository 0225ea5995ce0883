"""ConvLSTM and ConvGRU against their equations written out with loops, in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from convolutional_equations import convolution, loop
from torch import Tensor

from lightning_rnn import LSTMState
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import GRUCell, LSTMCell, TimeOptions
from lightning_rnn.layers.convolutional import (
    ConvGRU2d,
    ConvGRUCell,
    ConvLSTM1d,
    ConvLSTM2d,
    ConvLSTM3d,
    ConvLSTMCell,
    ConvRNN,
)
from lightning_rnn.layers.rnn import RNN

B, T, C, F = 3, 4, 2, 3
SIZES = {1: (9,), 2: (5, 6), 3: (4, 5, 3)}
LAYERS: dict[int, type[ConvRNN]] = {1: ConvLSTM1d, 2: ConvLSTM2d, 3: ConvLSTM3d}
WINDOWS: dict[str, dict[str, Any]] = {
    "valid": {"kernel_size": 3},
    "even": {"kernel_size": 2, "padding": "same"},
    "even_stride": {"kernel_size": 4, "padding": "same", "stride": 2},
    "odd_stride": {"kernel_size": 3, "padding": "same", "stride": 3},
    "stride_beyond_kernel": {"kernel_size": 1, "padding": "same", "stride": 2},
    "stride": {"kernel_size": 2, "stride": 2},
    "dilation": {"kernel_size": 2, "dilation": 2},
    "dilation_same": {"kernel_size": 2, "padding": "same", "dilation": 3},
    "no_bias": {"kernel_size": 2, "bias": False},
}
both = pytest.mark.parametrize("cls", [ConvLSTM2d, ConvGRU2d])


def exact(cls: type[Any], *arguments: Any, **options: Any) -> Any:
    """In float64, every parameter random."""
    layer = cls(*arguments, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def states(state: Any) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


def same(output: Any, outputs: list[Tensor], final: list[Tensor]) -> None:
    torch.testing.assert_close(output.sequence, torch.stack(outputs, 1), rtol=0, atol=1e-10)
    torch.testing.assert_close(output.last, outputs[-1], rtol=0, atol=1e-10)
    for mine, its in zip(states(output.state), final, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-10)


CASES = [(LAYERS[d], d, name) for d in (1, 2) for name in WINDOWS] + [
    *[(ConvLSTM3d, 3, name) for name in ("even", "stride", "dilation")],
    *[(ConvGRU2d, 2, name) for name in ("valid", "even_stride", "dilation_same", "no_bias")],
]


@torch.no_grad()
@pytest.mark.parametrize(("cls", "dimensions", "name"), CASES)
def test_equals_the_equations(cls: type[ConvRNN], dimensions: int, name: str) -> None:
    window = WINDOWS[name]
    layer = exact(cls, C, F, **window)
    x = images(2, 2, C, *SIZES[dimensions])
    output = layer(x)
    assert output.sequence.shape[2] == F
    start = [torch.zeros_like(leaf) for leaf in states(output.state)]
    first = LSTMState(*start) if len(start) > 1 else start[0]
    same(output, *loop(layer, x, first, torch.ones(2, 2, dtype=torch.bool), **window))


@torch.no_grad()
@both
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_masks_with_holes_and_a_given_state(cls: type[ConvRNN], reverse: bool, zero: bool) -> None:
    layer = exact(cls, C, F, 2, padding="same", stride=2, reverse=reverse, zero_output_for_mask=zero)
    x = images(B, T, C, 3, 4)
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    start = LSTMState(images(B, F, 2, 2), images(B, F, 2, 2)) if cls is ConvLSTM2d else images(B, F, 2, 2)
    same(layer(x, start, mask=mask), *loop(layer, x, start, mask, stride=2, padding="same"))


@both
def test_padding_changes_nothing(cls: type[ConvRNN]) -> None:
    layer, lengths = exact(cls, C, F, 2), torch.tensor([4, 0, 2])
    x = images(B, T, C, 3, 4)
    filled = torch.where(sequence_mask(lengths, T)[..., None, None, None], x, torch.nan).requires_grad_()
    expected, output = layer(x, lengths=lengths), layer(filled, lengths=lengths)
    torch.testing.assert_close(output.sequence, expected.sequence)
    (gradient,) = torch.autograd.grad(output.sequence.sum(), filled)
    assert gradient.isfinite().all() and not gradient[1].any() and not gradient[2, 2:].any()


@both
def test_step_by_step_equals_the_whole(cls: type[ConvRNN]) -> None:
    layer, x = exact(cls, C, F, 3), images(B, T, C, 5, 4)
    output, state = layer(x), None
    for t in range(T):
        out, state = layer.cell(x[:, t], state)
        torch.testing.assert_close(out, output.sequence[:, t])
    torch.testing.assert_close(states(state), states(output.state))


@both
def test_chunks_with_carried_state_equal_one_run(cls: type[ConvRNN]) -> None:
    layer = exact(cls, C, F, 3, stateful=True)
    x = images(B, T, C, 5, 4)
    whole = layer(x)
    layer.reset_states()
    parts = [layer(part).sequence for part in x.split(3, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole.sequence)
    layer.reset_states()
    layer.time_options = TimeOptions(time_major=True, checkpoint=2, return_all_states=True)
    other = layer(x.transpose(0, 1))
    torch.testing.assert_close(other.sequence.transpose(0, 1), whole.sequence)
    torch.testing.assert_close(states(other.all_states)[0].transpose(0, 1), whole.sequence)
    with pytest.raises(ValueError, match="expected a state of shape"):
        layer(images(T, B, C, 8, 8))


def test_episode_starts_equal_separate_runs() -> None:
    layer, x = exact(ConvLSTM1d, C, F, 3), images(B, T, C, 6)
    resets = torch.zeros(B, T, dtype=torch.bool)
    resets[:, 2] = True
    output = layer(x, reset_mask=resets)
    torch.testing.assert_close(output.sequence[:, 2:], layer(x[:, 2:]).sequence)


@both
@pytest.mark.parametrize("shape", [(0, T), (B, 0), (0, 0)])
def test_empty_batches_are_legal(cls: type[ConvRNN], shape: tuple[int, int]) -> None:
    output = cls(C, F, 3)(torch.zeros(*shape, C, 5, 4))
    assert output.sequence.shape == (*shape, F, 3, 2)
    assert states(output.state)[0].shape == (shape[0], F, 3, 2)


@both
def test_images_may_change_their_size(cls: type[ConvRNN]) -> None:
    layer = exact(cls, C, F, 3, padding="same")
    small, large = images(1, T, C, 3, 4), images(1, T, C, 6, 5)
    first = layer(small).sequence
    assert layer(large).sequence.shape == (1, T, F, 6, 5)
    torch.testing.assert_close(layer(small).sequence, first)


def test_channels_are_taken_from_the_first_input() -> None:
    layer = ConvLSTM2d(None, F, 3, stateful=True)
    assert layer.cell.in_channels is None and not list(layer.parameters())
    with pytest.raises(ValueError, match="say build"):
        layer.initial_state(B)
    layer.build((C, 5, 6))
    assert layer.initial_state(B).h.shape == (B, F, 3, 4)
    layer.reset_states([torch.ones(B, F, 3, 4)] * 2)
    layer(torch.zeros(B, T, C, 5, 6))
    assert {name: list(p.shape) for name, p in layer.cell.named_parameters()} == {
        "weight_ih": [4 * F, C, 3, 3],
        "weight_hh": [4 * F, F, 3, 3],
        "bias_ih": [4 * F],
    }


@both
def test_gradients(cls: type[ConvRNN]) -> None:
    layer = exact(cls, 1, 2, 2, padding="same", stride=2)
    mask = torch.tensor([[True, False, True]])

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        given = dict(zip(names, parameters, strict=True))
        output = torch.func.functional_call(layer, given, (x,), {"mask": mask})
        return output.sequence + states(output.state)[-1].unsqueeze(1)

    assert torch.autograd.gradcheck(run, (images(1, 3, 1, 3, 2).requires_grad_(), *layer.parameters()))


def test_one_pixel_is_an_lstm() -> None:
    conv, plain = exact(ConvLSTMCell, C, F, 1), LSTMCell(C, F).double()
    with torch.no_grad():
        plain.weight_ih.copy_(conv.weight_ih.flatten(1))
        plain.weight_hh.copy_(conv.weight_hh.flatten(1))
        plain.bias_ih.copy_(conv.bias_ih)
        plain.bias_hh.zero_()
    x, state = images(B, C), LSTMState(images(B, F), images(B, F))
    _, mine = conv(x[..., None, None], LSTMState(*[leaf[..., None, None] for leaf in state]))
    for a, b in zip(mine, plain(x, state)[1], strict=True):
        torch.testing.assert_close(a.flatten(1), b)


def test_one_pixel_is_a_gru_whose_update_gate_is_turned() -> None:
    conv = exact(ConvGRUCell, C, F, 1)
    plain = GRUCell(C, F, step_options=StepOptions(reset_after=False)).double()
    sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).repeat_interleave(F)
    with torch.no_grad():
        plain.weight_ih.copy_(conv.weight_ih.flatten(1) * sign[:, None])
        plain.weight_hh.copy_(conv.weight_hh.flatten(1) * sign[:, None])
        plain.bias_ih.copy_(conv.bias_ih * sign)
        plain.bias_hh.zero_()
    x, h = images(B, C), images(B, F)
    torch.testing.assert_close(conv(x[..., None, None], h[..., None, None])[0].flatten(1), plain(x, h)[0])


@both
def test_dropout_is_one_mask_for_each_gate_and_all_steps(cls: type[ConvRNN]) -> None:
    layer = exact(cls, C, F, 2, dropout=0.5, recurrent_dropout=0.5)
    x = images(B, T, C, 3, 4)
    gates = layer.cell.kind.gates
    ready = layer.cell.bind(x, B)
    assert ready.dropped_input.shape == (B, gates, C, 3, 4) and ready.dropped.shape == (B, gates, F, 2, 3)
    assert set(ready.dropped_input.unique().tolist()) == {0.0, 2.0}
    whole = ready.project(x)
    w, b = layer.cell.weight_ih.chunk(gates), layer.cell.bias_ih
    for t in range(T):
        torch.testing.assert_close(ready.project(x[:, t]), whole[:, t])
        alone = [convolution(x[:, t] * ready.dropped_input[:, g], w[g], padding="valid") for g in range(gates)]
        torch.testing.assert_close(torch.cat(alone, 1) + b[:, None, None], whole[:, t])
    h, u = images(B, F, 2, 3), layer.cell.weight_hh.chunk(gates)
    for first, last in ((0, gates), (1, 2)):
        alone = [convolution(h * ready.dropped[:, g], u[g]) for g in range(first, last)]
        torch.testing.assert_close(ready.recurrent(h, first, last), torch.cat(alone, 1))
    assert not torch.equal(layer(x).sequence, layer(x).sequence)
    layer.eval()
    torch.testing.assert_close(layer(x).sequence, layer(x).sequence)


def test_all_dropped_is_an_input_of_zeros() -> None:
    layer = exact(ConvLSTM2d, C, F, 2, dropout=1.0)
    x = images(B, T, C, 3, 4)
    torch.testing.assert_close(layer(x).sequence, layer(0 * x).sequence)


@pytest.mark.parametrize("forget", [True, False])
def test_start_of_the_parameters(forget: bool) -> None:
    cell = ConvLSTMCell(C, F, 3, unit_forget_bias=forget)
    assert cell.bias_ih.chunk(4)[1].tolist() == [float(forget)] * F
    assert cell.bias_ih.sum() == F * forget
    weight = cell.weight_hh.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(4 * F))
    limit = (6 / (9 * C + 9 * 4 * F)) ** 0.5
    assert 0.8 * limit < cell.weight_ih.abs().max() <= limit


@pytest.mark.parametrize("cls", [ConvLSTM1d, ConvLSTM2d, ConvLSTM3d, ConvGRU2d])
def test_config_goes_there_and_back(cls: type[ConvRNN]) -> None:
    layer = cls(C, F, 2, padding="same", stride=2, dropout=0.1, reverse=True, time_options=TimeOptions(checkpoint=3))
    config = json.loads(json.dumps(layer.get_config()))
    again = cls.from_config(config)
    assert again.get_config() == layer.get_config() and again.time_options == layer.time_options
    again.load_state_dict(layer.state_dict())
    x = torch.randn(B, T, C, *SIZES[layer.dimensions])
    torch.testing.assert_close(again.eval()(x).sequence, layer.eval()(x).sequence)
    wrapped = RNN(ConvGRUCell(C, F, (3, 2), recurrent_activation="hard_sigmoid"))
    copy = RNN.from_config(json.loads(json.dumps(wrapped.get_config())))
    assert copy.cell.get_config() == wrapped.cell.get_config()


def test_only_the_loop_runs_it() -> None:
    x = torch.zeros(B, T, C, 5, 5)
    assert ConvLSTM2d(C, F, 3).explain(x).engine == "scan"
    with pytest.raises(ValueError, match="no fused kernel computes"):
        ConvLSTM2d(C, F, 3, engine="fused")(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2, "dilation": 2}, "only one may be above 1"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be a number"),
        ({"kernel_size": 0}, "kernel_size must be a number"),
        ({"padding": "full"}, "padding must be one of valid, same"),
        ({"activation": "tan"}, "no activation is called 'tan'"),
        ({"dropout": 1.5}, "dropout must be between 0 and 1"),
        ({"out_channels": 0}, "out_channels must be at least 1"),
        ({"engine": "quick"}, "engine must be one of"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvLSTM2d(**{"in_channels": C, "out_channels": F, "kernel_size": 3} | options)


def test_dimensions_are_one_to_three() -> None:
    with pytest.raises(ValueError, match="dimensions must be 1, 2 or 3"):
        ConvLSTMCell(C, F, 3, dimensions=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(torch.zeros(B, T, C, 5)), r"expected x \[B, T, C, \*sizes\], 5 axes"),
        (lambda layer: layer(torch.zeros(B, T, 7, 5, 5)), "expects inputs of 2 features, got 7"),
        (lambda layer: layer(torch.zeros(B, T, C, 2, 5)), "smaller than the kernel"),
        (lambda layer: layer(torch.zeros(B, T, C, 5, 5), torch.zeros(B, F, 3, 3)), "2 tensors, got 1"),
        (lambda layer: layer(torch.zeros(B, T, C, 5, 5), [torch.zeros(B, F, 1, 1)] * 2), "expected a state of shape"),
        (lambda layer: layer.cell(torch.zeros(B, 7, 5, 5)), "expected inputs of 2 channels, got 7"),
        (lambda layer: layer.cell(torch.zeros(B, C, 5)), "expected a tensor"),
        (lambda layer: layer.cell(torch.zeros(B, C, 5, 5), [torch.zeros(B, F, 1, 1)] * 2), "the state has places"),
        (lambda layer: layer.build((C, 5)), r"expected a shape \(C, \*sizes\)"),
    ],
)
def test_bad_input_is_refused(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(ConvLSTM2d(C, F, 3))
