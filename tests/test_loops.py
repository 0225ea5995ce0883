"""TensorFlow 1's loops against their contract, written out row by row, and against the layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, LSTMState
from lightning_rnn.functional.loops import bidirectional_dynamic_rnn, dynamic_rnn, raw_rnn, static_rnn
from lightning_rnn.layers import GRUCell, LSTMCell, StackedCells

B, T, D, H = 5, 6, 3, 4
LENGTHS = [6, 0, 3, 1, 4]


class Pair(nn.Module):
    """A cell whose input, output and state are nests."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = LSTMCell(D, H).double()

    def initial_state(self, batch: int) -> dict[str, Any]:
        return {"lstm": self.inner.initial_state(batch), "steps": torch.zeros(batch, dtype=torch.int64)}

    def forward(self, x: dict[str, Tensor], state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        h, new = self.inner(x["a"] + x["b"], state["lstm"])
        return (h, {"double": 2 * h}), {"lstm": new, "steps": state["steps"] + 1}


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def start(batch: int = B) -> LSTMState:
    return LSTMState(features(batch, H), features(batch, H))


def row_by_row(cell: Any, x: Tensor, state: LSTMState, lengths: list[int]) -> tuple[Tensor, LSTMState]:
    """Each row alone, only its valid steps, zeros after them."""
    outputs, ends = torch.zeros(len(lengths), x.shape[1], H, dtype=x.dtype), []
    for row, length in enumerate(lengths):
        own = LSTMState(state.h[row : row + 1], state.c[row : row + 1])
        for t in range(length):
            outputs[row, t : t + 1], own = cell(x[row : row + 1, t], own)
        ends.append(own)
    return outputs, LSTMState(torch.cat([end.h for end in ends]), torch.cat([end.c for end in ends]))


@torch.no_grad()
@pytest.mark.parametrize("lengths", [LENGTHS, torch.tensor(LENGTHS, dtype=torch.int32), None])
def test_outputs_past_the_end_are_zero_and_states_are_carried(lengths: Any) -> None:
    cell, x, state = LSTMCell(D, H).double(), features(B, T, D), start()
    expected, end = row_by_row(cell, x, state, [T] * B if lengths is None else LENGTHS)
    outputs, final = dynamic_rnn(cell, x, lengths, state)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(tuple(final), tuple(end))
    steps, final = static_rnn(cell, list(x.unbind(1)), state, lengths)
    torch.testing.assert_close(torch.stack(steps, 1), expected)
    torch.testing.assert_close(tuple(final), tuple(end))
    outputs, final = dynamic_rnn(cell, x.transpose(0, 1), lengths, state, time_major=True)
    torch.testing.assert_close(outputs.transpose(0, 1), expected)
    torch.testing.assert_close(tuple(final), tuple(end))


def test_length_zero_keeps_the_initial_state() -> None:
    cell, x, state = LSTMCell(D, H).double(), features(B, T, D), start()
    outputs, final = dynamic_rnn(cell, x, [0] * B, state)
    assert not outputs.any()
    assert torch.equal(final.h, state.h) and torch.equal(final.c, state.c)
    outputs, final = dynamic_rnn(cell, x[:, :0], None, state)
    assert outputs.shape == (B, 0, H) and torch.equal(final.h, state.h)


def test_equals_the_layers_but_for_padding() -> None:
    layer, lengths = LSTM(D, H, bidirectional=True, zero_output_for_mask=True).double(), torch.tensor(LENGTHS)
    forward, backward = LSTMCell(D, H).double(), LSTMCell(D, H).double()
    for cell, suffix in ((forward, "_l0"), (backward, "_l0_reverse")):
        cell.load_state_dict({name: getattr(layer, f"{name}{suffix}") for name in cell.state_dict()})
    x, first, second = features(B, T, D), start(), start()
    sequence, state = layer(x, (first, second), lengths=lengths)
    for major in (False, True):
        inputs = x.transpose(0, 1) if major else x
        outputs, states = bidirectional_dynamic_rnn(forward, backward, inputs, lengths, first, second, major)
        both = torch.cat(outputs, -1)
        torch.testing.assert_close(both.transpose(0, 1) if major else both, sequence)
        for mine, its in zip(states, state, strict=True):
            torch.testing.assert_close(tuple(mine), tuple(its))
    outputs, _ = bidirectional_dynamic_rnn(forward, backward, x)
    torch.testing.assert_close(torch.cat(outputs, -1), layer(x).sequence)


def test_what_stands_in_padding_reaches_nothing() -> None:
    cell, x = GRUCell(D, H).double(), features(B, T, D)
    for row, length in enumerate(LENGTHS):
        x[row, length:] = torch.nan
    x.requires_grad_()
    outputs, state = dynamic_rnn(cell, x, LENGTHS)
    gradients = torch.autograd.grad(outputs.sum() + state.sum(), [x, *cell.parameters()])
    assert outputs.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_nests_everywhere() -> None:
    cell = Pair()
    x = {"a": features(B, T, D), "b": features(B, T, D)}
    (h, more), state = dynamic_rnn(cell, x, LENGTHS)
    zero = LSTMState(features(B, H) * 0, features(B, H) * 0)
    expected, end = row_by_row(cell.inner, x["a"] + x["b"], zero, LENGTHS)
    torch.testing.assert_close(h, expected)
    torch.testing.assert_close(more["double"], 2 * expected)
    torch.testing.assert_close(state["lstm"].c, end.c)
    assert state["steps"].tolist() == LENGTHS
    steps, _ = static_rnn(cell, [{"a": x["a"][:, t], "b": x["b"][:, t]} for t in range(T)], None, LENGTHS)
    torch.testing.assert_close(steps[2][1]["double"], 2 * expected[:, 2])


def test_stacked_cells_and_the_dtype_of_the_inputs() -> None:
    cells = StackedCells([LSTMCell(D, H), GRUCell(H, H)])
    outputs, (first, second) = dynamic_rnn(cells.double(), features(B, T, D))
    assert outputs.dtype == first.c.dtype == second.dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sequence_length": [1, 2]}, ValueError, r"expected sequence_length of shape \[5\], got \[2\]"),
        ({"sequence_length": [7, 0, 0, 0, 0]}, ValueError, r"must be in 0..6 \(T\), got 0..7"),
        ({"sequence_length": [-1, 0, 0, 0, 0]}, ValueError, r"must be in 0..6 \(T\), got -1..0"),
        ({"sequence_length": torch.ones(5)}, TypeError, "must be integers, got torch.float32"),
        ({"sequence_length": torch.ones(5, dtype=torch.bool)}, TypeError, "must be integers, got torch.bool"),
        ({"initial_state": torch.zeros(2, H)}, ValueError, r"expected an initial_state of 5 rows, got \[2, 4\]"),
        ({"inputs": [torch.zeros(5, 6, 3), torch.zeros(5, 2, 3)]}, ValueError, "same batch and time axes"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dynamic_rnn(GRUCell(D, H), **{"inputs": torch.zeros(B, T, D)} | arguments)


@pytest.mark.parametrize("inputs", [[], torch.zeros(B, T, D)])
def test_static_rnn_wants_steps(inputs: Any) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        static_rnn(GRUCell(D, H), inputs)


class Reader:
    """Reads ``x`` row by row up to its lengths, as the example in TF1's manual."""

    def __init__(self, x: Tensor, lengths: list[int], state: Any) -> None:
        self.x, self.lengths, self.state = x, torch.tensor(lengths), state

    def __call__(self, time: int, output: Any, state: Any, loop_state: Any) -> Any:
        steps = self.x.shape[1]
        x = self.x[:, time] if time < steps else torch.zeros_like(self.x[:, 0])
        return time >= self.lengths, x, self.state if state is None else state, output, None


@torch.no_grad()
def test_raw_rnn_that_reads_is_dynamic_rnn() -> None:
    cell, x, state = LSTMCell(D, H).double(), features(B, T, D), start()
    emitted, final, loop_state = raw_rnn(cell, Reader(x, LENGTHS, state))
    outputs, end = dynamic_rnn(cell, x, LENGTHS, state)
    torch.testing.assert_close(emitted, outputs.transpose(0, 1))
    torch.testing.assert_close(tuple(final), tuple(end))
    assert loop_state is None


@torch.no_grad()
def test_raw_rnn_with_its_own_emits_states_and_loop_state() -> None:
    cell, x, state = LSTMCell(D, H).double(), features(B, T, D), start()
    ends = torch.tensor([3, 1, 0, 2, 3])

    def steer(time: int, output: Any, given: Any, loop_state: Any) -> Any:
        if output is None:
            shape = {"sum": torch.zeros((), dtype=torch.float64), "time": torch.zeros(1, dtype=torch.int64)}
            return time >= ends, x[:, 0], state, shape, ["begin"]
        emit = {"sum": output.sum(1), "time": torch.full((B, 1), time)}
        halved = LSTMState(given.h / 2, given.c)
        log = None if time == 2 else [*loop_state, time]
        return time == ends, x[:, time], halved, emit, log  # TF1 joins: a row once finished stays so

    emitted, final, loop_state = raw_rnn(cell, steer)
    h, c = state
    sums, times = torch.zeros(3, B, dtype=torch.float64), torch.zeros(3, B, 1, dtype=torch.int64)
    for t in range(3):
        for row in range(B):
            if t < ends[row]:
                one = slice(row, row + 1)
                output, (new_h, new_c) = cell(x[one, t], LSTMState(h[one], c[one]))
                sums[t, row], times[t, row] = output.sum(), t + 1
                h = torch.cat([h[:row], new_h / 2, h[row + 1 :]])
                c = torch.cat([c[:row], new_c, c[row + 1 :]])
    torch.testing.assert_close(emitted["sum"], sums)
    assert torch.equal(emitted["time"], times)
    torch.testing.assert_close(tuple(final), (h, c))
    assert loop_state == ["begin", 1, 3]


def test_raw_rnn_finished_at_once_emits_nothing() -> None:
    cell, state = GRUCell(D, H).double(), features(B, H)
    emitted, final, _ = raw_rnn(cell, Reader(features(B, T, D), [0] * B, state))
    assert emitted.shape == (0, B, H) and final is state
    emitted, _, _ = raw_rnn(cell, Reader(features(0, T, D), [], features(0, H)))
    assert emitted.shape == (0, 0, H)


def test_gradients_flow_through_raw_rnn() -> None:
    layer = GRU(D, H).double()
    cell = GRUCell(D, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x = features(B, T, D).requires_grad_()
    emitted, _, _ = raw_rnn(cell, Reader(x, [T] * B, torch.zeros(B, H, dtype=torch.float64)))
    weight = torch.randn_like(emitted)
    (mine,) = torch.autograd.grad((emitted * weight).sum(), x)
    (its,) = torch.autograd.grad((layer(x).sequence * weight.transpose(0, 1)).sum(), x)
    torch.testing.assert_close(mine, its)


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, torch.zeros(B), TypeError, r"must be a bool tensor \[B\], got torch.float32"),
        (0, True, TypeError, "must be a bool tensor"),
        (0, torch.zeros(2, dtype=torch.bool), ValueError, r"must be \[5\], got \[2\]"),
        (2, torch.zeros(B, H + 1), ValueError, "next_cell_state of loop_fn had shapes"),
        (3, torch.zeros(H), ValueError, "emit_output of loop_fn had shapes"),
        (3, None, ValueError, "emit_output of loop_fn had shapes"),
    ],
)
def test_raw_rnn_names_what_does_not_fit(position: int, value: Any, error: type[Exception], message: str) -> None:
    reader = Reader(torch.zeros(B, T, D), LENGTHS, torch.zeros(B, H))

    def steer(time: int, *others: Any) -> Any:
        told = list(reader(time, *others))
        if time == 2:
            told[position] = value
        return told

    with pytest.raises(error, match=message):
        raw_rnn(GRUCell(D, H), steer)
