"""Dropout around a cell: what is drawn, when, for which tensors, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_checks import HERE, rand
from torch import Tensor
from wrapped_cells import Sum, close

from lightning_rnn import LSTMState
from lightning_rnn.layers import RNN, GRUCell, LSTMCell, SimpleRNNCell, StackedCells, TimeOptions
from lightning_rnn.layers.wrappers import DropoutWrapper

B, T, D, H = 4, 6, 3, 5


# Dropout


def draws(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Replaces dropout by masks that count up, and keeps them."""
    made: list[Tensor] = []

    def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
        made.append(torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape) / 7 + 100 * len(made))
        return x * made[-1]

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    return made


def test_dropout_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, x = DropoutWrapper(SimpleRNNCell(D, H), 0.1, 0.2, 0.3).double(), rand(B, T, D)
    made = draws(monkeypatch)
    ours = RNN(cell)(x).sequence
    assert [tuple(mask.shape) for mask in made] == [(B, T, D)] + [(B, H), (B, H)] * T
    h = torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        output, h = cell.cell(x[:, t] * made[0][:, t], h)
        close(ours[:, t], output * made[1 + 2 * t])
        h = h * made[2 + 2 * t]


def test_variational_dropout_is_the_same_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, x = DropoutWrapper(LSTMCell(D, H), 0.1, 0.2, 0.3, variational=True).double(), rand(B, T, D)
    made = draws(monkeypatch)
    ours = RNN(cell)(x)
    assert [tuple(mask.shape) for mask in made] == [(B, D), (B, H), (B, H), (B, H)]
    state = cell.initial_state(B)
    for t in range(T):
        output, (h, c) = cell.cell(x[:, t] * made[0], state)
        close(ours.sequence[:, t], output * made[1])
        state = LSTMState(h * made[2], c)
    close(ours.state, state)
    single, _ = cell(x[:, 0])
    assert single.shape == (B, H) and len(made) == 8


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("which", [None, True, [False, True], lambda s: LSTMState(False, False) if len(s) == 2 else s])
def test_which_state_is_dropped(which: Any, variational: bool) -> None:
    cell = DropoutWrapper(LSTMCell(D, H), state_dropout=1.0, variational=variational, state_filter=which)
    output, (h, c) = cell(torch.ones(B, D))
    kept = {None: (False, True), True: (False, False)}.get(which if not isinstance(which, list) else None)
    if isinstance(which, list):
        kept = (True, False)
    if callable(which):
        kept = (True, True)
    assert (bool(h.any()), bool(c.any())) == kept and output.any()


def test_the_memory_of_a_stack_is_never_dropped() -> None:
    cell = DropoutWrapper(StackedCells([LSTMCell(D, H), GRUCell(H, 2)]), state_dropout=1.0)
    _, (first, second) = cell(torch.ones(B, D))
    assert not first.h.any() and first.c.any() and not second.any()
    halves = DropoutWrapper(cell.cell, state_dropout=1.0, state_filter=[True, False])
    _, (first, second) = halves(torch.ones(B, D))
    assert not first.h.any() and not first.c.any() and second.any()
    with pytest.raises(ValueError, match="does not fit the state"):
        DropoutWrapper(cell.cell, state_dropout=1.0, state_filter=[True, False, True])(torch.ones(B, D))


def test_dropout_does_nothing_in_eval_and_leaves_the_kernel() -> None:
    layer, x = RNN(DropoutWrapper(LSTMCell(D, H), 0.5, 0.5, 0.5, True)).double(), rand(B, T, D)
    assert layer.explain(x).engine == "scan"  # no other has a cell with something around it
    close(layer.eval()(x), RNN(layer.cell.cell)(x))
    for engine in HERE:
        layer.engine = engine
        assert layer.explain(x).engine == engine
        close(layer(x), RNN(layer.cell.cell)(x))


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_keeps_the_mean_and_its_share(variational: bool) -> None:
    cell = DropoutWrapper(Sum(), 0.25, variational=variational)
    y = RNN(cell)(torch.ones(2000, 2, 1, dtype=torch.float64)).sequence.diff(dim=1, prepend=torch.zeros(2000, 1, 1))
    assert (y == 0).double().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.all(((y - 4 / 3).abs() < 1e-12) | (y == 0))
    assert torch.equal(y[:, 0], y[:, 1]) == variational


def test_dropout_draws_the_same_when_a_chunk_is_computed_again() -> None:
    gradients = []
    for checkpoint in (None, 2):
        torch.manual_seed(1)
        cell = DropoutWrapper(GRUCell(D, H), 0.3, 0.3, 0.3, variational=True).double()
        RNN(cell, time_options=TimeOptions(checkpoint=checkpoint))(
            torch.ones(B, T, D).double()
        ).sequence.sum().backward()
        gradients.append([parameter.grad for parameter in cell.parameters()])
    close(*gradients)
