"""Cells that are linear in their state: as one parallel scan against the loop."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from cell_equations import close
from torch import Tensor

from lightning_rnn.functional.linear_scan import LinearStepper, linear_scan
from lightning_rnn.layers import RNN, TimeOptions
from lightning_rnn.layers.minimal_cells import MinGRU, MinimalLayer, MinLSTM

B, T, D, H = 3, 6, 3, 4
layers = pytest.mark.parametrize("cls", [MinGRU, MinLSTM])


def loop(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    states = []
    for t in range(a.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, 1)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 33, 100])
def test_linear_scan_equals_the_loop(steps: int) -> None:
    a, b = torch.rand(B, steps, H, dtype=torch.float64), torch.randn(B, steps, H, dtype=torch.float64)
    a[:, ::5], a[0] = 0.0, -a[0]
    initial = torch.randn(B, H, dtype=torch.float64)
    close(linear_scan(a, b, initial), loop(a, b, initial))
    close(linear_scan(a, b), loop(a, b, torch.zeros_like(initial)))


def test_linear_scan_passes_masked_steps_whatever_they_hold() -> None:
    a, b = torch.rand(B, 9, H, dtype=torch.float64), torch.randn(B, 9, H, dtype=torch.float64)
    mask, initial = torch.rand(B, 9) < 0.5, torch.randn(B, H, dtype=torch.float64)
    mask[0] = False
    dirty = b.masked_fill(~mask.unsqueeze(-1), float("nan")).requires_grad_()
    states = linear_scan(a.masked_fill(~mask.unsqueeze(-1), float("inf")), dirty, initial, mask)
    kept = mask.unsqueeze(-1)
    close(states, loop(torch.where(kept, a, 1.0), torch.where(kept, b, 0.0), initial))
    close(states[0], initial[0].expand(9, H))
    (grad,) = torch.autograd.grad(states.sum(), dirty)
    assert bool(grad.isfinite().all()) and not grad[~mask].any()


def test_linear_scan_of_nothing_is_nothing() -> None:
    assert linear_scan(torch.zeros(B, 0, H), torch.zeros(B, 0, H), torch.ones(B, H)).shape == (B, 0, H)


@pytest.mark.parametrize("steps", [1, 5, 6])
def test_linear_scan_has_first_and_second_derivatives(steps: int) -> None:
    a, b = (torch.randn(2, steps, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    initial = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, steps) < 0.7
    assert torch.autograd.gradcheck(lambda a, b, h: linear_scan(a, b, h, mask), (a, b, initial))
    assert torch.autograd.gradgradcheck(lambda a, b, h: linear_scan(a, b, h, mask), (a, b, initial))


CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "lengths": ({}, {"lengths": torch.tensor([23, 9, 0])}),
    "holes": ({}, {"mask": torch.arange(69).reshape(3, 23) % 3 > 0}),
    "zeros": ({"zero_output_for_mask": True}, {"mask": torch.arange(69).reshape(3, 23) % 3 > 0}),
    "resets": ({}, {"reset_mask": torch.arange(69).reshape(3, 23) % 5 == 0, "lengths": torch.tensor([23, 9, 0])}),
    "reverse": ({"reverse": True}, {"lengths": torch.tensor([23, 9, 0])}),
    "reverse-holes": ({"reverse": True}, {"mask": torch.arange(69).reshape(3, 23) % 3 > 0}),
    "reverse-resets": ({"reverse": True}, {"reset_mask": torch.arange(69).reshape(3, 23) % 5 == 0}),
    "chunks": ({"time_options": TimeOptions(checkpoint=7)}, {"lengths": torch.tensor([23, 9, 0])}),
    "all-states": ({"time_options": TimeOptions(return_all_states=True)}, {"lengths": torch.tensor([23, 9, 0])}),
    "time-major": ({"time_options": TimeOptions(time_major=True)}, {}),
}


@layers
@pytest.mark.parametrize("call", CALLS)
def test_parallel_equals_the_loop(cls: type[MinimalLayer], call: str) -> None:
    options, arguments = CALLS[call]
    layer = cls(D, H, **options).double()
    x = torch.randn(3, 23, D, dtype=torch.float64, requires_grad=True)
    given = x.transpose(0, 1) if call == "time-major" else x
    state = torch.randn(3, H, dtype=torch.float64)
    fits = {"reset_mask": arguments["reset_mask"]} if "reset_mask" in arguments else {}
    assert layer.explain(given, state, **fits).engine == "parallel"
    mine = layer(given, state, **arguments)
    theirs = RNN(layer.cell, engine="scan", **options)(given, state, **arguments)
    close((mine.sequence, mine.state, mine.last), (theirs.sequence, theirs.state, theirs.last), atol=1e-10)
    assert (mine.all_states is None) == (theirs.all_states is None)
    if mine.all_states is not None:
        close(mine.all_states, theirs.all_states, atol=1e-10)
    weight = torch.randn_like(mine.sequence)
    grads = [torch.autograd.grad((o.sequence * weight).sum(), [x, *layer.parameters()]) for o in (mine, theirs)]
    close(grads[0], grads[1], atol=1e-10)


@layers
def test_parallel_is_safe_where_gates_saturate(cls: type[MinimalLayer]) -> None:
    layer = cls(D, H)
    x = (1e4 * torch.randn(B, 50, D)).requires_grad_()
    output = layer(x)
    torch.testing.assert_close(output.sequence, RNN(layer.cell)(x).sequence)
    (grad,) = torch.autograd.grad(output.sequence.sum(), x)
    assert bool(output.sequence.isfinite().all()) and bool(grad.isfinite().all())


@layers
def test_layer_has_a_config_and_chunks_with_carried_state_equal_one_run(cls: type[MinimalLayer]) -> None:
    layer = cls(D, H, stateful=True, bias=False)
    copy = cls.from_config(json.loads(json.dumps(layer.get_config())))
    copy.load_state_dict(layer.state_dict())
    x = torch.randn(B, 8, D)
    parts = torch.cat([copy(x[:, :3]).sequence, copy(x[:, 3:]).sequence], 1)
    torch.testing.assert_close(parts, layer(x).sequence)
    assert cls(None, H)(x).sequence.shape == (B, 8, H) and isinstance(layer.cell, LinearStepper)
    assert layer(x[:, :0]).sequence.shape == (B, 0, H)
    assert cls(D, H, engine="scan").explain(x).engine == "scan"
