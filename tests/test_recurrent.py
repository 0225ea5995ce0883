"""SimpleRNN, LSTM and GRU against torch.nn in float64, and one engine against the other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from layer_checks import check_refused, close, engines, leaves, rand
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, LSTMState, RNNOutput, SimpleRNN
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import (
    RecurrentLayer,
    TimeOptions,
    float32_precision,
    set_float32_precision,
    use_float32_precision,
)

B, T, D, H = 5, 7, 3, 4
LAYERS: list[tuple[type[RecurrentLayer], Any]] = [
    (SimpleRNN, torch.nn.RNN),
    (LSTM, torch.nn.LSTM),
    (GRU, torch.nn.GRU),
]
ours = pytest.mark.parametrize("cls", [cls for cls, _ in LAYERS])
both = pytest.mark.parametrize(("cls", "reference"), LAYERS)
shapes = pytest.mark.parametrize(("layers", "bidirectional"), list(itertools.product([1, 2], [False, True])))


def build(cls: type[RecurrentLayer], **options: Any) -> RecurrentLayer:
    return cls(D, H, **options).double()


def random_state(layer: RecurrentLayer, batch: int = B) -> Any:
    def one() -> Any:
        tensors = [torch.randn(batch, layer.hidden_size, dtype=torch.float64) for _ in range(2)]
        return LSTMState(*tensors) if isinstance(layer, LSTM) else tensors[0]

    rows = [(one(), one()) if layer.bidirectional else one() for _ in range(layer.num_layers)]
    return tuple(rows) if layer.num_layers > 1 else rows[0]


def torch_states(state: Any, layer: RecurrentLayer) -> list[Tensor]:
    """Our state as torch's ``[layers * directions, B, H]`` tensors."""
    count = 2 if isinstance(layer, LSTM) else 1
    return [torch.stack(leaves(state)[i::count]) for i in range(count)]


@both
@engines()
@shapes
def test_equals_torch_on_packed_rows(
    cls: type[RecurrentLayer], reference: Any, engine: Any, layers: int, bidirectional: bool
) -> None:
    layer = build(cls, num_layers=layers, bidirectional=bidirectional, engine=engine)
    theirs = reference(D, H, layers, bidirectional=bidirectional, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    x, lengths = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True), torch.tensor([7, 2, 5, 1, 7])
    state = random_state(layer)
    assert layer.explain(x, state, lengths=lengths).engine == engine
    output = layer(x, state, lengths=lengths)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    hidden = torch_states(state, layer)
    sequence, final = theirs(packed, tuple(hidden) if len(hidden) > 1 else hidden[0])
    sequence, _ = pad_packed_sequence(sequence, batch_first=True)
    mask = sequence_mask(lengths, T)
    torch.testing.assert_close(output.sequence[mask], sequence[mask], rtol=0, atol=1e-12)
    for mine, its in zip(torch_states(output.state, layer), final if len(hidden) > 1 else [final], strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-12)
    weight = torch.randn_like(sequence[mask])
    mine = torch.autograd.grad((output.sequence[mask] * weight).sum(), [x, *layer.parameters()], retain_graph=True)
    its = torch.autograd.grad((sequence[mask] * weight).sum(), [x, *theirs.parameters()])
    for a, b in zip(mine, its, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@ours
@shapes
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("given", [False, True])
@engines("native", "fused")
def test_engines_agree_on_lengths_of_zero(
    cls: type[RecurrentLayer], layers: int, bidirectional: bool, zero: bool, given: bool, engine: Any
) -> None:
    options = {"num_layers": layers, "bidirectional": bidirectional, "zero_output_for_mask": zero}
    kernel, scan = build(cls, engine=engine, **options), build(cls, engine="scan", **options)
    scan.load_state_dict(kernel.state_dict())
    x, lengths = rand(B, T, D), torch.tensor([0, 7, 3, 1, 0])
    state = random_state(kernel) if given else None
    mask = sequence_mask(lengths, T)
    found = kernel(x, state, lengths=lengths)
    close(scan(x, state, lengths=lengths), found)
    close(scan(x, state, mask=mask), found)


@ours
@engines()
def test_padding_changes_nothing(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = build(cls, bidirectional=True, num_layers=2, engine=engine)
    x, lengths = torch.randn(B, T, D, dtype=torch.float64), torch.tensor([7, 2, 5, 1, 3])
    longer = torch.cat([x, torch.full((B, 4, D), torch.nan, dtype=torch.float64)], dim=1)
    longer = torch.where(sequence_mask(lengths, T + 4).unsqueeze(2), longer, torch.nan)
    expected, output = layer(x, lengths=lengths), layer(longer, lengths=lengths)
    torch.testing.assert_close(output.last, expected.last)
    torch.testing.assert_close(
        output.sequence[:, :T][sequence_mask(lengths, T)], expected.sequence[sequence_mask(lengths, T)]
    )
    for a, b in zip(leaves(expected)[1:], leaves(output)[1:], strict=True):
        torch.testing.assert_close(a, b)


@ours
@engines()
def test_gradient_at_padding_is_zero(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = build(cls, bidirectional=True, engine=engine)
    x, lengths = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True), torch.tensor([7, 2, 5, 1, 0])
    output = layer(x, lengths=lengths)
    (output.sequence.sum() + sum(leaf.sum() for leaf in leaves(output)[1:])).backward()
    assert x.grad is not None
    assert bool((x.grad[~sequence_mask(lengths, T)] == 0).all())


@ours
@engines()
@pytest.mark.parametrize("time_major", [False, True])
def test_packed_and_nested_rows(cls: type[RecurrentLayer], time_major: bool, engine: Any) -> None:
    layer = build(cls, bidirectional=True, time_options=TimeOptions(time_major=time_major), engine=engine)
    rows = [torch.randn(n, D, dtype=torch.float64) for n in (3, 7, 1)]
    padded, lengths = torch.nn.utils.rnn.pad_sequence(rows, batch_first=not time_major), torch.tensor([3, 7, 1])
    expected = layer(padded, lengths=lengths)
    sequence = expected.sequence.transpose(0, 1) if time_major else expected.sequence
    given = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    assert layer.explain(given).engine == engine
    packed = layer(given)
    nested = layer(torch.nested.nested_tensor(rows, layout=torch.jagged))
    back, sizes = pad_packed_sequence(packed.sequence, batch_first=True)
    assert sizes.tolist() == [3, 7, 1]
    for i, row in enumerate(nested.sequence.unbind()):
        torch.testing.assert_close(row, sequence[i, : len(rows[i])])
        torch.testing.assert_close(back[i, : len(rows[i])], sequence[i, : len(rows[i])])
    for output in (packed, nested):
        states = RNNOutput(expected.sequence, output.state, output.last)
        torch.testing.assert_close(leaves(states), leaves(expected))


@ours
@engines()
def test_chunks_with_carried_state_equal_one_run(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = build(cls, num_layers=2, engine=engine)
    x = torch.randn(B, T, D, dtype=torch.float64)
    whole = layer(x)
    first, state = layer(x[:, :3])
    second, state = layer(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole.sequence)
    torch.testing.assert_close(torch_states(state, layer), torch_states(whole.state, layer))


@ours
@engines()
def test_masked_steps_carry_the_state_and_repeat_the_output(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = build(cls, engine=engine)
    x = torch.randn(1, T, D, dtype=torch.float64)
    mask = torch.tensor([[False, True, True, False, True, False, False]])
    output = layer(x, mask=mask)
    without = layer(x[:, mask[0]])
    assert layer.explain(x, mask=mask).engine == engine
    repeated = without.sequence[:, [0, 1, 1, 2, 2, 2]]
    torch.testing.assert_close(output.sequence[:, 1:], repeated)
    assert bool((output.sequence[:, 0] == 0).all())
    torch.testing.assert_close(torch_states(output.state, layer), torch_states(without.state, layer))


@ours
@engines()
@pytest.mark.parametrize("shape", [(B, 0, D), (0, T, D)])
def test_empty_batches_are_legal(cls: type[RecurrentLayer], engine: Any, shape: tuple[int, int, int]) -> None:
    layer = build(cls, bidirectional=True, engine=engine)
    output = layer(torch.zeros(shape, dtype=torch.float64), lengths=torch.zeros(shape[0], dtype=torch.int64))
    assert output.sequence.shape == (*shape[:2], 2 * H)
    assert output.last.shape == (shape[0], 2 * H)


@ours
@engines()
def test_last_of_two_directions_is_end_and_start(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = build(cls, bidirectional=True, engine=engine)
    output = layer(torch.randn(B, T, D, dtype=torch.float64))
    torch.testing.assert_close(output.last, torch.cat([output.sequence[:, -1, :H], output.sequence[:, 0, H:]], dim=1))


@ours
@engines()
def test_float32_kernels_stay_near_float64(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = cls(28, 64, bidirectional=True, engine=engine)
    x, lengths = torch.randn(16, 50, 28), torch.randint(0, 51, (16,))
    low = leaves(layer(x, lengths=lengths))
    for a, b in zip(low, leaves(layer.double()(x.double(), lengths=lengths)), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


@ours
@engines()
def test_bfloat16_autocast_stays_near_float32(cls: type[RecurrentLayer], engine: Any) -> None:
    layer = cls(D, H, bidirectional=True, engine=engine)
    x, lengths = torch.randn(B, T, D), torch.tensor([7, 2, 5, 1, 0])
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x, lengths=lengths)
    torch.testing.assert_close(low.last.float(), layer(x, lengths=lengths).last, rtol=0, atol=3e-2)


def test_output_unpacks_as_sequence_and_state() -> None:
    output = GRU(D, H)(torch.zeros(B, T, D))
    sequence, state = output
    assert sequence is output.sequence and state is output.state and output[1] is state and len(output) == 2
    doubled = pytree.tree_map_only(Tensor, lambda tensor: tensor * 2, output)
    assert isinstance(doubled, RNNOutput)


@pytest.mark.parametrize("initializer", ["torch", "keras", "chrono"])
@ours
def test_initializers(cls: type[RecurrentLayer], initializer: Any) -> None:
    layer = cls(D, H, initializer=initializer)
    (hh, bias) = layer.weight_hh_l0, layer.bias_ih_l0
    assert isinstance(hh, Tensor) and isinstance(bias, Tensor)
    if initializer == "torch":
        assert float(hh.detach().abs().max()) <= H**-0.5
    else:
        torch.testing.assert_close((hh.T @ hh).detach(), torch.eye(H))
    if initializer == "keras" and cls is LSTM:
        assert bias.tolist() == [0.0] * H + [1.0] * H + [0.0] * 2 * H


@engines()
def test_activation_other_than_tanh(engine: Any) -> None:
    layer, reference = (
        SimpleRNN(D, H, step_options=StepOptions(activation="relu"), engine=engine),
        torch.nn.RNN(D, H, nonlinearity="relu", batch_first=True),
    )
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(B, T, D)
    torch.testing.assert_close(layer(x).sequence, reference(x)[0])
    assert layer.explain(x).engine == engine


def test_an_activation_without_a_fused_kernel_is_named() -> None:
    layer, x = LSTM(D, H, step_options=StepOptions(activation="relu")), torch.randn(B, T, D)
    check_refused(layer, "fused", "the activation 'relu'", x)
    choice = layer.explain(x)
    assert choice.engine != "fused" and choice.reasons


X = torch.zeros(B, T, D)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": torch.zeros(B, T, 9)}, r"\[B, T, 3\], got \[5, 7, 9\]"),
    ({"x": X.double()}, "x is torch.float64, the weights are torch.float32"),
    ({"x": X, "state": LSTMState(torch.zeros(2, H), torch.zeros(2, H))}, r"shape \[5, 4\].*got \[2, 4\]"),
    ({"x": X, "state": torch.zeros(B, H)}, r"LSTMState\(h, c\)"),
    ({"x": X, "state": LSTMState(torch.zeros(B, H).double(), torch.zeros(B, H))}, "state is torch.float64"),
    ({"x": X, "lengths": torch.tensor([8, 1, 1, 1, 1])}, r"0..7 \(T\), got 1..8"),
    ({"x": X, "lengths": torch.tensor([-1, 1, 1, 1, 1])}, r"got -1..1"),
    ({"x": X, "lengths": torch.tensor([1, 1])}, r"shape \[5\], got \[2\]"),
    ({"x": X, "lengths": torch.ones(B)}, "must be integers"),
    ({"x": X, "mask": torch.ones(B, T)}, "must be bool"),
    ({"x": X, "mask": torch.ones(B, 2, dtype=torch.bool)}, r"shape \[5, 7\], got \[5, 2\]"),
    ({"x": X, "mask": torch.ones(B, T).bool(), "lengths": torch.ones(B).long()}, "lengths or mask, not both"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_refused_before_any_kernel(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LSTM(D, H)(**arguments)


def test_fused_that_cannot_run_says_why() -> None:
    with pytest.raises(ValueError, match=r"engine='fused' cannot run.*reset_after=False"):
        GRU(D, H, engine="fused", step_options=StepOptions(reset_after=False))(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"step_options": StepOptions(peephole=True)}, "GRU has no option peephole"),
        ({"engine": "cudnn"}, "engine must be one of"),
        ({"initializer": "zeros"}, "initializer must be one of"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRU(**({"input_size": D, "hidden_size": H} | options))


def test_one_float32_policy_for_all_engines() -> None:
    before = float32_precision()
    with use_float32_precision("tf32"):
        assert torch.backends.cudnn.rnn.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.export.export(GRU(D, H), (X,)) is not None
        with use_float32_precision("ieee"):
            assert float32_precision() == "ieee"
        assert float32_precision() == "tf32"
    assert float32_precision() == before
    with pytest.raises(ValueError, match="must be one of ieee, tf32, got 'fp8'"):
        set_float32_precision("fp8")  # type: ignore[arg-type]
