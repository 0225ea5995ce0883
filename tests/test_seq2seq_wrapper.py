"""Cells that attend: the wrapper over time against loops written by hand, masks, states, any cell inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.layers import (
    RNN,
    DropoutWrapper,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    Regularization,
    ResidualWrapper,
    SimpleRNNCell,
    StackedCells,
    TimeOptions,
)
from lightning_rnn.layers.cell import Cell, ConditionalCell, map_tensors
from lightning_rnn.layers.cells import ready
from lightning_rnn.layers.config import from_config, to_config
from lightning_rnn.layers.table import CELLS
from lightning_rnn.seq2seq.attention import Attention, Memory, build_attention
from lightning_rnn.seq2seq.feeding import Joined, Split, feeder
from lightning_rnn.seq2seq.layered import LayeredCell, build_cell
from lightning_rnn.seq2seq.states import output_of
from lightning_rnn.seq2seq.wrapper import AttendingCell, AttentionState, AttentionWrapper, QueryFirstCell
from lightning_rnn.types import Nest

B, T, S, D, H, M, A = 3, 5, 6, 4, 8, 7, 2
LENGTHS = torch.tensor([6, 2, 0])
NAMES: Any = ["lstm", "gru", "simple_rnn", *CELLS]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def attention_of(kind: Any = "bahdanau") -> Attention:
    return build_attention(kind, H, M).double()


def wrapped(cell: Cell, attention: Attention, **options: Any) -> AttentionWrapper:
    torch.manual_seed(0)
    return AttentionWrapper(cell, attention, **options).double()


def leaves(nest: Nest) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(lambda leaf: found.append(leaf) or leaf, nest)  # type: ignore[func-returns-value]
    return found


def remembered(attention: Attention) -> Memory:
    return attention.remember(drawn(B, S, M), lengths=LENGTHS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["bahdanau", "location"])
def test_the_wrapper_over_time_is_the_loop_of_the_paper(name: Any, kind: str) -> None:
    attention, inner = attention_of(kind), build_cell(name, D + A, H).double()
    layer = RNN(
        wrapped(inner, attention, attention_layer_size=A, attention_activation="tanh"),
        time_options=TimeOptions(return_all_states=True),
    )
    memory, x = remembered(attention), drawn(B, T, D)
    output = layer(x, constants=memory)
    state, carried = inner.initial_state(B), attention.initial_state(memory, B)
    fed = torch.zeros(B, A, dtype=torch.float64)
    weight = layer.cell.attention_layer.weight  # type: ignore[union-attr]
    for t in range(T):
        y, state = inner(torch.cat([x[:, t], fed], 1), state)
        context, weights, carried = attention(y, memory, carried)
        fed = torch.tanh(torch.cat([y, context], 1) @ weight.t())  # type: ignore[operator]
        torch.testing.assert_close(output.sequence[:, t], fed, rtol=0, atol=1e-12)
        torch.testing.assert_close(output.all_states.alignments[:, t], weights, rtol=0, atol=1e-12)
    assert isinstance(output.state, AttentionState)
    expected = leaves((state, fed, weights, carried))
    for one, other in zip(leaves(output.state), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_cell_that_queries_first_over_time_is_its_loop(name: Any) -> None:
    attention, inner = attention_of(), build_cell(name, D + M, H).double()
    memory, x = remembered(attention), drawn(B, T, D)
    sequence, final = RNN(QueryFirstCell(inner, attention))(x, constants=memory)
    state: Nest = inner.initial_state(B)
    for t in range(T):
        context, weights, _ = attention(output_of(state), memory)
        y, state = inner(torch.cat([x[:, t], context], 1), state)
        torch.testing.assert_close(sequence[:, t], torch.cat([y, context], 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(final.alignments, weights)
    torch.testing.assert_close(final.attention, context)


def test_without_an_attention_layer_the_context_is_fed() -> None:
    attention = attention_of()
    layer = RNN(wrapped(LSTMCell(None, H), attention))
    memory, x = remembered(attention), drawn(B, T, D)
    sequence, state = layer(x, constants=memory)
    assert layer.cell.cell.input_size == D + M and layer.output_size == M  # type: ignore[union-attr]
    torch.testing.assert_close(sequence[:, -1], torch.einsum("bs,bsm->bm", state.alignments, memory.values))


def test_the_cell_may_see_its_input_alone_or_any_function() -> None:
    attention, memory, x = attention_of(), None, drawn(B, T, D)
    memory = remembered(attention)
    inner = LSTMCell(D, H).double()
    alone = RNN(wrapped(inner, attention, cell_input="input", output_attention=False))
    torch.testing.assert_close(alone(x, constants=memory).sequence, RNN(inner)(x).sequence)
    assert alone.output_size == H
    scaled = RNN(wrapped(inner, attention, cell_input=lambda x, a: 2 * x, output_attention=False))
    torch.testing.assert_close(scaled(x, constants=memory).sequence, RNN(inner)(2 * x).sequence)
    wide = LSTMCell(D + M, H).double()
    same = RNN(wrapped(wide, attention, cell_input=lambda x, a: torch.cat([x, a], 1)))
    torch.testing.assert_close(same(x, constants=memory)[0], RNN(wrapped(wide, attention))(x, constants=memory)[0])


def cells() -> dict[str, Cell]:
    return {
        "stacked": StackedCells([LSTMCell(D + A, 3), GRUCell(3, H)]),
        "layered": LayeredCell([LSTMCell(D + A, H), LSTMCell(H, H)], residual=True),
        "residual": ResidualWrapper(GRUCell(H, H)),
        "dropped": DropoutWrapper(LSTMCell(D + A, H), input_dropout=0.5),
        "normed": LayerNormLSTMCell(D + A, H),
        "zoneout": LSTMCell(D + A, H, regularization=Regularization(zoneout=0.3)),
    }


@pytest.mark.parametrize("name", list(cells()))
def test_any_cell_works_inside_and_steps_equal_the_whole(name: str) -> None:
    attention, size = attention_of(), H - A if name == "residual" else D
    cell = wrapped(cells()[name].double(), attention, attention_layer_size=A).eval()
    memory, x = remembered(attention), drawn(B, T, size)
    sequence, final = RNN(cell)(x, constants=memory)
    state = None
    for t in range(T):
        output, state = cell(x[:, t], state, constants=memory)
        torch.testing.assert_close(output, sequence[:, t], rtol=0, atol=1e-12)
    for one, other in zip(leaves(state), leaves(final), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise", [Regularization(), Regularization(zoneout=0.5, variational=False)])
def test_the_input_split_from_what_is_fed_is_the_input_joined(noise: Regularization) -> None:
    cell = GRUCell(D + A, H, regularization=noise).double()
    x, fed, h = drawn(B, T, D), drawn(B, A), drawn(B, H)
    stepper = ready(cell, x, B)
    split = feeder(stepper, D)
    assert isinstance(split, Split)
    torch.manual_seed(0)
    fast = stepper.step(split.join(map_tensors(lambda leaf: leaf[:, 0], split.project(x[:, :1])), fed), h)[0]
    torch.manual_seed(0)
    plain = stepper.step(Joined(stepper).join(x[:, 0], fed), h)[0]
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dropout", [{"dropout": 0.5}, {"dropout": 0.5, "variational": False}])
def test_input_dropout_of_the_cell_touches_what_is_fed_too(dropout: Any) -> None:
    cell = LSTMCell(D + A, H, regularization=Regularization(**dropout)).double()
    assert isinstance(feeder(ready(cell, drawn(B, D), B), D), Joined)
    assert isinstance(feeder(ready(cell.eval(), drawn(B, D), B), D), Split)
    assert isinstance(feeder(ready(LayerNormLSTMCell(D + A, H).double(), drawn(B, D), B), D), Joined)


def test_variational_dropout_is_drawn_once_a_call() -> None:
    attention = attention_of()
    inner = DropoutWrapper(LSTMCell(D + A, H), output_dropout=0.5, variational=True)
    layer = RNN(wrapped(inner, attention, attention_layer_size=A, cell_input="concat", output_attention=False))
    dropped = layer(drawn(B, T, D), constants=remembered(attention)).sequence == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) and dropped.any() and not dropped.all()


def test_masked_steps_carry_the_whole_state() -> None:
    attention = attention_of("coverage")
    layer = RNN(wrapped(GRUCell(None, H), attention, attention_layer_size=A))
    memory, x, lengths = remembered(attention), drawn(B, T, D), torch.tensor([5, 2, 0])
    output = layer(x, lengths=lengths, constants=memory)
    short = layer(x[:, :2], constants=memory)
    for one, other in zip(leaves(output.state), leaves(short.state), strict=True):
        torch.testing.assert_close(one[1], other[1])
    for one, other in zip(leaves(output.state), leaves(layer.cell.initial_state_for(B, memory)), strict=True):  # type: ignore[operator]
        assert torch.equal(one[2], other[2])
    mask = torch.arange(T) < lengths[:, None]
    assert torch.equal(layer(x, mask=mask, constants=memory).sequence, output.sequence)


def test_two_chunks_with_the_state_carried_are_one_run() -> None:
    attention = attention_of("bahdanau_monotonic")
    layer = RNN(wrapped(LSTMCell(None, H), attention, attention_layer_size=A))
    memory, x = remembered(attention), drawn(B, T, D)
    whole = layer(x, constants=memory)
    first = layer(x[:, :2], constants=memory)
    rest = layer(x[:, 2:], first.state, constants=memory)
    torch.testing.assert_close(torch.cat([first.sequence, rest.sequence], 1), whole.sequence)


def test_the_cell_may_start_from_a_state_of_an_encoder() -> None:
    attention, h = attention_of(), drawn(B, H)
    cell = wrapped(GRUCell(D + M, H).double(), attention)
    memory, x = remembered(attention), drawn(B, D)
    started = cell.initial_state_for(B, memory)._replace(cell_state=h)
    _, state = cell(x, started, constants=memory)
    expected, _ = cell.cell(torch.cat([x, torch.zeros(B, M, dtype=torch.float64)], 1), h)
    torch.testing.assert_close(state.cell_state, expected)


def test_beams_share_the_memory() -> None:
    attention, beams = attention_of("coverage"), 2
    cell = wrapped(LSTMCell(D + M, H).double(), attention)
    values, x = drawn(B, S, M), drawn(B * beams, D)
    shared = attention.remember(values, lengths=LENGTHS)
    copied = attention.remember(values.repeat_interleave(beams, 0), lengths=LENGTHS.repeat_interleave(beams))
    one, other = cell(x, constants=shared), cell(x, constants=copied)
    one, other = cell(x, one[1], constants=shared), cell(x, other[1], constants=copied)
    for a, b in zip(leaves(one), leaves(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_gradients_are_those_of_differences() -> None:
    attention = attention_of()
    layer = RNN(wrapped(GRUCell(None, H), attention, attention_layer_size=A, attention_activation="tanh"))

    def function(x: Tensor, values: Tensor) -> Any:
        return layer(x, constants=attention.remember(values, lengths=torch.tensor([3, 1]))).sequence

    assert torch.autograd.gradcheck(
        function, (drawn(2, 2, D).requires_grad_(), drawn(2, 3, M).requires_grad_()), fast_mode=True
    )


def test_weights_move_by_state_dict_and_options_by_config() -> None:
    attention = attention_of("normed_bahdanau")
    layer = RNN(wrapped(LSTMCell(D + A, H), attention, attention_layer_size=A, attention_activation="tanh"))
    again = from_config(to_config(layer)).double()
    again.load_state_dict(layer.state_dict())
    x, values = drawn(B, T, D), drawn(B, S, M)
    one = layer(x, constants=attention.remember(values)).sequence
    assert torch.equal(one, again(x, constants=again.cell.attention.remember(values)).sequence)


@pytest.mark.parametrize("cell", [LSTMCell, GRUCell, SimpleRNNCell])
def test_bfloat16_autocast_stays_near_float32(cell: Any) -> None:
    attention = attention_of().float()
    layer = RNN(AttentionWrapper(cell(None, H), attention, A).float())
    x, values = drawn(B, T, D).float(), drawn(B, S, M).float()
    exact = layer(x, constants=attention.remember(values, lengths=LENGTHS)).sequence
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, lengths=torch.tensor([5, 3, 5]), constants=attention.remember(values, lengths=LENGTHS))
    torch.testing.assert_close(mixed.sequence[0].float(), exact[0], rtol=0, atol=0.03)


class Affine(nn.Module):
    """A module that is a cell by its methods alone."""

    output_size = H

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D + A, H).double()

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, H, dtype=torch.float64)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = F.silu(self.linear(x) + state)
        return h, h


def test_a_module_of_the_users_is_a_cell_too() -> None:
    attention = attention_of()
    layer = RNN(AttentionWrapper(Affine(), attention, A).double())
    assert layer(drawn(B, T, D), constants=remembered(attention)).sequence.shape == (B, T, A)


def test_mistakes_are_told() -> None:
    attention = attention_of()
    cell: AttendingCell = AttentionWrapper(LSTMCell(D + M, H), attention).double()
    memory = remembered(attention)
    assert isinstance(cell, ConditionalCell)
    with pytest.raises(ValueError, match="constants must be the Memory"):
        RNN(cell)(drawn(B, T, D))
    with pytest.raises(ValueError, match="got tuple"):
        RNN(cell)(drawn(B, T, D), constants=(drawn(B, S, M),))
    with pytest.raises(ValueError, match="depends on the constants"):
        cell.initial_state(B)
    with pytest.raises(ValueError, match="expects inputs of 4 features, got 5"):
        RNN(cell)(drawn(B, T, D + 1), constants=memory)
    with pytest.raises(ValueError, match="cell_input must be"):
        AttentionWrapper(LSTMCell(None, H), attention, cell_input="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs its input_size"):
        AttentionWrapper(LSTMCell(None, H), attention, cell_input=torch.add)
    with pytest.raises(ValueError, match="no activation"):
        AttentionWrapper(LSTMCell(None, H), attention, attention_activation="tan")
    with pytest.raises(ValueError, match="expected queries of shape"):
        RNN(AttentionWrapper(LSTMCell(None, H + 1), attention).double())(drawn(B, T, D), constants=memory)
    with pytest.raises(ValueError, match="at least one cell"):
        LayeredCell([])
