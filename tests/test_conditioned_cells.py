"""SC-LSTM against its equations in numpy, and what every cell keeps."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_rnn import RNN, LSTMCell, SCLSTMCell, SCLSTMState, TimeOptions
from lightning_rnn.layers.conditioned_cells import reading_loss

B, T, D, H, S = 3, 6, 4, 5, 7
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {"bias": False},
    "biased": {"reading_bias": 1.5, "alpha": 0.3},
    "kept": {"kept": 2},
    "peek": {"peek": True, "kept": 3},
}
every = pytest.mark.parametrize("name", OPTIONS)


def build(name: str) -> SCLSTMCell:
    torch.manual_seed(0)
    return SCLSTMCell(D, H, S, **OPTIONS[name]).double()


def start() -> SCLSTMState:
    generator = torch.Generator().manual_seed(1)
    h, c = (torch.randn(B, H, generator=generator, dtype=torch.float64) for _ in range(2))
    return SCLSTMState(h, c, torch.rand(B, S, generator=generator, dtype=torch.float64))


def inputs() -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def equations(cell: SCLSTMCell, x: Any, h: Any, c: Any, d: Any) -> tuple[Any, Any, Any]:
    """Wen et al. 2015, equations 1 to 4, 7 to 9 and 6, one row."""
    w = {key: value.detach().numpy() for key, value in cell.named_parameters()}
    none = np.zeros(())
    w_i, w_f, w_g, w_o = np.split(w["weight_ih"], 4)
    u_i, u_f, u_g, u_o = np.split(w["weight_hh"], 4)
    b_i, b_f, b_g, b_o = np.split(w["bias_ih"], 4) if cell.bias else (none,) * 4
    v_i, v_f, v_o = np.split(w["weight_dh"], 3) if cell.peek else (np.zeros((H, S)),) * 3
    i = sigmoid(w_i @ x + u_i @ h + v_i @ d + b_i)
    f = sigmoid(w_f @ x + u_f @ h + v_f @ d + b_f)
    o = sigmoid(w_o @ x + u_o @ h + v_o @ d + b_o)
    candidate = np.tanh(w_g @ x + u_g @ h + b_g)
    r = sigmoid(
        w["weight_ir"] @ x
        + cell.alpha * (w["weight_hr"] @ h)
        + (w["weight_dr"] @ d if cell.peek else 0)
        + w.get("bias_ir", none)
    )
    r[: cell.kept] = 1
    d = r * d
    c = f * c + i * candidate + np.tanh(w["weight_dc"] @ d)
    return o * np.tanh(c), c, d


@every
def test_a_step_is_the_papers(name: str) -> None:
    cell, x, state = build(name), inputs()[:, 0], start()
    output, new = cell(x, state)
    assert isinstance(new, SCLSTMState)
    for row in range(B):
        h, c, d = equations(cell, x[row].numpy(), *(leaf[row].numpy() for leaf in state))
        for actual, expected in ((output, h), (new.h, h), (new.c, c), (new.d, d)):
            np.testing.assert_allclose(actual[row].detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@every
def test_step_by_step_equals_the_whole(name: str) -> None:
    cell, x, state = build(name), inputs(), start()
    whole = RNN(cell, time_options=TimeOptions(return_all_states=True))(x, state)
    for time in range(T):
        output, state = cell(x[:, time], state)
        torch.testing.assert_close(whole.sequence[:, time], output)
        torch.testing.assert_close(whole.all_states.d[:, time], state.d)
    torch.testing.assert_close(whole.state, state)


@every
def test_padding_changes_nothing(name: str) -> None:
    rnn, x, state = RNN(build(name)), inputs(), start()
    lengths = torch.tensor([T, 2, 0])
    padded = rnn(x, state, lengths=lengths)
    torch.testing.assert_close(padded.state.d[2], state.d[2])
    for row, length in enumerate(lengths.tolist()):
        alone = rnn(x[row : row + 1, :length], SCLSTMState(*(leaf[row : row + 1] for leaf in state)))
        torch.testing.assert_close(padded.sequence[row, :length], alone.sequence[0])
        torch.testing.assert_close(tuple(leaf[row] for leaf in padded.state), tuple(leaf[0] for leaf in alone.state))


@every
def test_gradients_are_those_of_the_function(name: str) -> None:
    cell, x, state = build(name), inputs()[:, :3].requires_grad_(), start()

    def run(x: Tensor, h: Tensor, c: Tensor, d: Tensor, *_: Tensor) -> Tensor:
        output: Tensor = RNN(cell)(x, SCLSTMState(h, c, d)).sequence
        return output

    given = [leaf.requires_grad_() for leaf in state]
    assert torch.autograd.gradcheck(run, (x, *given, *cell.parameters()))


@every
def test_what_is_read_out_never_comes_back(name: str) -> None:
    cell, state = build(name), start()
    run = RNN(cell, time_options=TimeOptions(return_all_states=True))(inputs(), state)
    left = torch.cat([state.d.unsqueeze(1), run.all_states.d], 1)
    assert bool((left[:, 1:, cell.kept :] < left[:, :-1, cell.kept :]).all())
    assert torch.equal(left[:, -1, : cell.kept], state.d[:, : cell.kept])


def test_without_a_condition_it_is_an_lstm() -> None:
    torch.manual_seed(0)
    cell, lstm = SCLSTMCell(D, H, S).double(), LSTMCell(D, H).double()
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih"):
            getattr(lstm, name).copy_(getattr(cell, name))
        lstm.bias_hh.zero_()
    torch.testing.assert_close(RNN(cell)(inputs()).sequence, RNN(lstm)(inputs()).sequence)


@every
def test_config_makes_the_same_cell(name: str) -> None:
    cell = build(name)
    copy = SCLSTMCell.from_config(json.loads(json.dumps(cell.get_config())))
    assert copy.get_config() == cell.get_config()
    shapes = {key: value.shape for key, value in cell.named_parameters()}
    assert {key: value.shape for key, value in copy.named_parameters()} == shapes


def test_input_size_comes_from_the_first_input() -> None:
    cell = SCLSTMCell(None, H, S)
    assert not list(cell.parameters())
    RNN(cell)(inputs().float())
    assert cell.weight_ih.shape == (4 * H, D) and cell.weight_ir.shape == (S, D)


def test_the_reading_bias_is_where_the_gate_starts() -> None:
    cell = SCLSTMCell(D, H, S, reading_bias=3.0)
    assert cell.bias_ir is not None and torch.equal(cell.bias_ir, torch.full((S,), 3.0))
    assert SCLSTMCell(D, H, S, bias=False).bias_ir is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"condition_size": 0}, "condition_size"), ({"condition_size": 3, "kept": 4}, "kept must be from 0"),
     ({"condition_size": 3, "hidden_size": 0}, "hidden_size")],
)  # fmt: skip
def test_a_wrong_size_is_named(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SCLSTMCell(D, **({"hidden_size": H} | options))  # type: ignore[arg-type]  # of options as they are


# The loss of reading.


def loss_in_numpy(every: Any, eta: float, xi: float) -> float:
    """Wen et al. 2015, equation 13, without the words' term."""
    steps = [np.sqrt(((after - before) ** 2).sum()) for before, after in pairwise(every)]
    return float(np.sqrt((every[-1] ** 2).sum()) + sum(eta * xi**step for step in steps))


@pytest.mark.parametrize("lengths", [None, [T, 2, 0]])
def test_the_loss_of_reading_is_the_papers(lengths: list[int] | None) -> None:
    state, left = start().d, torch.rand(B, T, S, dtype=torch.float64)
    given = None if lengths is None else torch.tensor(lengths)
    costs = reading_loss(state, left, given, eta=1e-4, xi=100.0)
    for row, length in enumerate(lengths or [T] * B):
        every = np.concatenate([state[row : row + 1].numpy(), left[row, :length].numpy()])
        assert costs[row].item() == pytest.approx(loss_in_numpy(every, 1e-4, 100.0), rel=1e-12)


def test_the_loss_of_reading_has_a_gradient_where_nothing_is_read() -> None:
    state = torch.ones(B, S, dtype=torch.float64, requires_grad=True)
    reading_loss(state, state.unsqueeze(1).expand(-1, T, -1)).sum().backward()
    assert state.grad is not None and bool(state.grad.isfinite().all())
