"""The further cells against their equations in NumPy, over time, and the minimal ones as one parallel scan."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.linear_scan import LinearStepper, linear_scan
from lightning_rnn.layers import RNN, Cell, StackedCells, TimeOptions
from lightning_rnn.layers.gated_cells import (
    CIFGCell,
    IndRNNCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    MGUCell,
    NASCell,
    UGRNNCell,
)
from lightning_rnn.layers.minimal_cells import MinGRU, MinGRUCell, MinimalLayer, MinLSTM, MinLSTMCell
from lightning_rnn.layers.special_cells import ESNCell, PhasedLSTMCell, SLSTMCell, SLSTMState

B, T, D, H = 3, 6, 3, 4
Array = NDArray[np.float64]
Params = dict[str, Array]
States = tuple[Array, ...]
Step = Callable[[Any, States, Params], tuple[Array, States]]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def split(x: Array, parts: int) -> list[Array]:
    return list(np.split(x, parts, axis=-1))


def norm(x: Array, gain: Array, eps: float, shift: Array | float = 0.0) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    return np.asarray(centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps) * gain + shift)


def cifg(x: Array, s: States, p: Params) -> tuple[Array, States]:
    h, c = s
    f, g, o = split(x @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias_ih"], 3)
    keep = sigmoid(f + 1.0)
    c = keep * c + (1 - keep) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


def nas(x: Array, s: States, p: Params) -> tuple[Array, States]:
    c, h = s
    u = split(x @ p["weight_ih"].T, 8)
    m = split(h @ p["weight_hh"].T + p["bias_hh"], 8)
    a = [sigmoid(u[0] + m[0]), relu(u[1] + m[1]), sigmoid(u[2] + m[2]), relu(u[3] * m[3])]
    a += [np.tanh(u[4] + m[4]), sigmoid(u[5] + m[5]), np.tanh(u[6] + m[6]), sigmoid(u[7] + m[7])]
    left = np.tanh(np.tanh(a[0] * a[1]) + c) * np.tanh(a[2] + a[3])
    right = np.tanh(np.tanh(a[4] * a[5]) + sigmoid(a[6] + a[7]))
    h = np.tanh(left * right) @ p["weight_hr"].T
    return h, (left, h)


def ugrnn(x: Array, s: States, p: Params) -> tuple[Array, States]:
    (h,) = s
    g, n = split(x @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias_ih"], 2)
    gate = sigmoid(g + 0.5)
    h = gate * h + (1 - gate) * np.tanh(n)
    return h, (h,)


def mgu(paper: bool, reset: bool) -> Step:
    def step(x: Array, s: States, p: Params) -> tuple[Array, States]:
        (h,) = s
        (w_f, w_n), (b_f, b_n) = np.split(p["weight_hh"], 2), np.split(p["bias_hh"], 2)
        x_f, x_n = split(x @ p["weight_ih"].T + p["bias_ih"], 2)
        f = sigmoid(x_f + h @ w_f.T + b_f)
        if paper:
            n = np.tanh(x_n + (f * h if reset else h) @ w_n.T + b_n)
            h = (1 - f) * h + f * n
        else:
            n = np.tanh(x_n + (f if reset else 1.0) * (h @ w_n.T + b_n))
            h = (1 - f) * n + f * h
        return h, (h,)

    return step


def indrnn(x: Array, s: States, p: Params) -> tuple[Array, States]:
    h = relu(x @ p["weight_ih"].T + p["weight_hh"] * s[0] + p["bias_ih"])
    return h, (h,)


def esn(x: Array, s: States, p: Params) -> tuple[Array, States]:
    h = 0.7 * s[0] + 0.3 * np.tanh(x @ p["weight_ih"].T + s[0] @ p["weight_hh"].T + p["bias_ih"])
    return h, (h,)


def layer_norm_lstm(variant: str) -> Step:
    def step(x: Array, s: States, p: Params) -> tuple[Array, States]:
        h, c = s
        in_, rec = x @ p["weight_ih"].T, h @ p["weight_hh"].T
        bias = p["bias_ih"] + p["bias_hh"]
        if variant == "basic":
            gains, shifts = split(p["norm_hh_weight"], 4), split(p["norm_hh_bias"], 4)
            blocks = [norm(z, w, 1e-12, b) for z, w, b in zip(split(in_ + rec, 4), gains, shifts, strict=True)]
            total = np.concatenate(blocks, -1) + bias
        else:
            eps = 1e-3 if variant == "addons" else 1e-5
            total = norm(in_, p["norm_ih_weight"], eps, p.get("norm_ih_bias", 0.0)) + bias
            total = total + norm(rec, p["norm_hh_weight"], eps, p.get("norm_hh_bias", 0.0))
        i, f, g, o = split(total, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        eps = {"addons": 1e-3, "haste": 1e-5, "basic": 1e-12}[variant]
        normal = norm(c, p["norm_c_weight"], eps, p["norm_c_bias"])
        h = sigmoid(o) * np.tanh(normal)
        return h, (h, c if variant == "haste" else normal)

    return step


def layer_norm_gru(x: Array, s: States, p: Params) -> tuple[Array, States]:
    (h,) = s
    x_r, x_z, x_n = split(norm(x @ p["weight_ih"].T, p["norm_ih_weight"], 1e-5) + p["bias_ih"], 3)
    h_r, h_z, h_n = split(norm(h @ p["weight_hh"].T, p["norm_hh_weight"], 1e-5) + p["bias_hh"], 3)
    z = sigmoid(x_z + h_z)
    h = (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h
    return h, (h,)


def phased(x: tuple[Array, Array], s: States, p: Params) -> tuple[Array, States]:
    time, features = x
    h, c = s
    i, f, g, o = split(features @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias_ih"], 4)
    new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    new_h = sigmoid(o) * np.tanh(new_c)
    cycle, share = np.mod(time - p["phase"], p["period"]) / p["period"], p["open_share"]
    k = np.select([cycle < share / 2, cycle < share], [2 * cycle / share, 2 - 2 * cycle / share], 0.001 * cycle)
    h, c = k * new_h + (1 - k) * h, k * new_c + (1 - k) * c
    return h, (h, c)


def slstm(heads: int, exponential: bool) -> Step:
    """Without the stabilizer: ``c e^m`` and ``n e^m`` are the memory and the normalizer."""

    def step(x: Array, s: States, p: Params) -> tuple[Array, States]:
        h, c, n, m = s
        size = H // heads
        full = np.zeros((4 * H, H))
        for row in range(4 * H):
            first = (row % H) // size * size
            full[row, first : first + size] = p["weight_hh"][row]
        i, f, z, o = split(x @ p["weight_ih"].T + h @ full.T + p["bias_ih"], 4)
        keep = np.exp(f) if exponential else sigmoid(f)
        log_keep = np.log(keep)
        new_m = np.maximum(log_keep + m, i)
        memory = keep * c * np.exp(m) + np.exp(i) * np.tanh(z)
        normalizer = keep * n * np.exp(m) + np.exp(i)
        h = sigmoid(o) * memory / normalizer
        return h, (h, memory * np.exp(-new_m), normalizer * np.exp(-new_m), new_m)

    return step


def candidate(x: Array, positive: bool) -> Array:
    return np.where(x >= 0, x + 0.5, sigmoid(x)) if positive else x


def min_gru(positive: bool) -> Step:
    def step(x: Array, s: States, p: Params) -> tuple[Array, States]:
        z, n = split(x @ p["weight_ih"].T + p["bias_ih"], 2)
        h = (1 - sigmoid(z)) * s[0] + sigmoid(z) * candidate(n, positive)
        return h, (h,)

    return step


def min_lstm(positive: bool) -> Step:
    def step(x: Array, s: States, p: Params) -> tuple[Array, States]:
        i, f, n = split(x @ p["weight_ih"].T + p["bias_ih"], 3)
        i, f = sigmoid(i), sigmoid(f)
        h = f / (f + i) * s[0] + i / (f + i) * candidate(n, positive)
        return h, (h,)

    return step


CASES: dict[str, tuple[type[Any], dict[str, Any], Step]] = {
    "cifg": (CIFGCell, {}, cifg),
    "nas": (NASCell, {"bias": True, "proj_size": 2}, nas),
    "ugrnn": (UGRNNCell, {"forget_bias": 0.5}, ugrnn),
    "mgu": (MGUCell, {}, mgu(True, True)),
    "mgu-no-reset": (MGUCell, {"reset_gate": False}, mgu(True, False)),
    "mgu-flax": (MGUCell, {"variant": "flax"}, mgu(False, True)),
    "mgu-flax-no-reset": (MGUCell, {"variant": "flax", "reset_gate": False}, mgu(False, False)),
    "indrnn": (IndRNNCell, {}, indrnn),
    "esn": (ESNCell, {"leaky": 0.3, "connectivity": 0.5}, esn),
    "phased": (PhasedLSTMCell, {"ratio_on": 0.4, "period_init_max": 8.0}, phased),
    "slstm": (SLSTMCell, {"num_heads": 2}, slstm(2, False)),
    "slstm-exp": (SLSTMCell, {"forget_gate": "exp"}, slstm(1, True)),
    "min-gru": (MinGRUCell, {}, min_gru(True)),
    "min-gru-linear": (MinGRUCell, {"positive": False}, min_gru(False)),
    "min-lstm": (MinLSTMCell, {}, min_lstm(True)),
    "min-lstm-linear": (MinLSTMCell, {"positive": False}, min_lstm(False)),
    "layer-norm-lstm": (LayerNormLSTMCell, {}, layer_norm_lstm("addons")),
    "layer-norm-lstm-haste": (LayerNormLSTMCell, {"variant": "haste"}, layer_norm_lstm("haste")),
    "layer-norm-lstm-basic": (LayerNormLSTMCell, {"variant": "basic"}, layer_norm_lstm("basic")),
    "layer-norm-gru": (LayerNormGRUCell, {}, layer_norm_gru),
}
every = pytest.mark.parametrize("name", CASES)
layers = pytest.mark.parametrize("cls", [MinGRU, MinLSTM])


def build(name: str) -> Any:
    """A cell in float64 with random parameters: biases, gains and offsets too."""
    cls, options, _ = CASES[name]
    cell = cls(D, H, **options).double()
    with torch.no_grad():
        for key, parameter in cell.named_parameters():
            if key not in ("period", "phase", "open_share"):
                parameter.copy_(0.7 * torch.randn_like(parameter))
    return cell


def sequence(name: str, dtype: torch.dtype = torch.float64) -> Any:
    x = torch.randn(B, T, D, dtype=dtype)
    return (torch.rand(B, T, 1, dtype=dtype).cumsum(1) * 2, x) if name == "phased" else x


def random_state(cell: Cell) -> Any:
    state = pytree.tree_map(torch.randn_like, cell.initial_state(B))
    return state._replace(n=state.n.abs() + 0.5) if isinstance(state, SLSTMState) else state


def at(x: Any, t: int) -> Any:
    return pytree.tree_map(lambda leaf: leaf[:, t], x)


def numbers(nest: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().numpy(), nest)


def arrays(state: Any) -> States:
    return tuple(numbers(leaf) for leaf in pytree.tree_leaves(state))


def close(mine: Any, theirs: Any, atol: float = 1e-12) -> None:
    a, b = pytree.tree_leaves(mine), pytree.tree_leaves(theirs)
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, torch.as_tensor(right), rtol=0, atol=atol)


@every
def test_equals_the_equations(name: str) -> None:
    cell, x = build(name), sequence(name)
    state = random_state(cell)
    theirs, params = arrays(state), {key: p.detach().numpy() for key, p in cell.named_parameters()}
    for t in range(T):
        output, state = cell(at(x, t), state)
        expected, theirs = CASES[name][2](numbers(at(x, t)), theirs, params)
        assert output.dtype == torch.float64
        close(output, expected)
        close(state, theirs)


@every
def test_over_time_with_a_mask_of_holes_equals_the_loop(name: str) -> None:
    cell, x = build(name), sequence(name)
    mask = torch.rand(B, T) < 0.6
    mask[0], mask[1, 0] = False, True
    start = state = random_state(cell)
    output = RNN(cell)(x, start, mask=mask)
    last = torch.zeros(B, cell.output_size, dtype=torch.float64)
    for t in range(T):
        new_output, new = cell(at(x, t), state)
        valid = mask[:, t, None]
        state = pytree.tree_map(lambda a, b, valid=valid: torch.where(valid, a, b), new, state)
        last = torch.where(valid, new_output, last)
        close(output.sequence[:, t], last)
    close(output.state, state)
    close(output.last, last)
    close(pytree.tree_map(lambda leaf: leaf[0], output.state), pytree.tree_map(lambda leaf: leaf[0], start))


@every
def test_config_makes_the_same_cell(name: str) -> None:
    cls, options, _ = CASES[name]
    cell = cls(D, H, **options)
    copy = cls.from_config(json.loads(json.dumps(cell.get_config())))
    assert copy.get_config() == cell.get_config()
    shapes = {key: (value.shape, value.requires_grad) for key, value in cell.named_parameters()}
    assert {key: (value.shape, value.requires_grad) for key, value in copy.named_parameters()} == shapes
    assert all(copy.get_config()[key] == value for key, value in options.items())


@every
def test_input_size_comes_from_the_first_input(name: str) -> None:
    cls, options, _ = CASES[name]
    cell = cls(None, H, **options)
    assert not list(cell.parameters())
    output = RNN(cell)(sequence(name, torch.float32))
    assert output.sequence.shape == (B, T, cell.output_size) and cell.input_size == D
    alone = cls(None, H, **options)
    alone(at(sequence(name, torch.float32), 0))
    assert {k: v.shape for k, v in alone.named_parameters()} == {k: v.shape for k, v in cell.named_parameters()}


@every
def test_gradients_reach_every_trained_parameter(name: str) -> None:
    cell, x = build(name), sequence(name)
    output = RNN(cell)(x, random_state(cell))
    trained = [parameter for parameter in cell.parameters() if parameter.requires_grad]
    if name == "esn":
        assert not trained and not output.sequence.requires_grad
        return
    grads = torch.autograd.grad(output.sequence.square().sum(), trained)
    assert all(bool(grad.isfinite().all()) and bool(grad.abs().sum() > 0) for grad in grads)


def test_without_bias_there_is_none() -> None:
    for cell in (CIFGCell(D, H, bias=False), MGUCell(D, H, bias=False), MinLSTMCell(D, H, bias=False), NASCell(D, H)):
        assert not any("bias" in name for name, _ in cell.named_parameters())
        cell(torch.randn(B, D))
    assert not any("bias" in name for name, _ in ESNCell(D, H, use_bias=False).named_parameters())


def test_a_stack_of_a_mix_runs() -> None:
    cells: list[Cell] = [CIFGCell(D, 4), NASCell(None, 5, proj_size=3), SLSTMCell(None, 6, num_heads=3)]
    cells += [MinGRUCell(None, 4), ESNCell(None, 7), LayerNormLSTMCell(None, 4), MGUCell(None, 2), IndRNNCell(None, 3)]
    stack = StackedCells(cells)
    output = RNN(stack)(torch.randn(B, T, D), lengths=torch.tensor([T, 2, 0]))
    assert output.sequence.shape == (B, T, 3) and len(output.state) == len(cells)
    assert StackedCells.from_config(stack.get_config()).get_config() == stack.get_config()


def test_reservoir_is_fixed_sparse_and_scaled() -> None:
    cell = ESNCell(D, 60, spectral_radius=0.8).double()
    assert not any(parameter.requires_grad for parameter in cell.parameters())
    assert torch.linalg.eigvals(cell.weight_hh).abs().max().item() == pytest.approx(0.8, abs=1e-5)
    assert (cell.weight_hh != 0).double().mean().item() == pytest.approx(0.1, abs=0.02)
    bounded = ESNCell(D, 60, spectral_radius=0.8, use_norm2=True)
    assert bounded.weight_hh.norm().item() == pytest.approx(0.8, abs=1e-5)
    assert not ESNCell(D, H, connectivity=0.0).weight_hh.any()
    assert set(cell.state_dict()) == {"weight_ih", "weight_hh", "bias_ih"}


def test_phased_units_are_closed_most_of_the_time() -> None:
    cell = PhasedLSTMCell(D, 50, leak=0.0, trainable_ratio_on=False)
    assert not cell.open_share.requires_grad and bool((cell.period >= 1).all() and (cell.period <= 1000).all())
    assert bool((cell.phase >= 0).all() and (cell.phase <= cell.period).all())
    k = cell.openness(torch.linspace(0, 5000, 2000).unsqueeze(-1))
    assert (k > 0).float().mean().item() == pytest.approx(0.1, abs=0.02) and k.min() >= 0 and k.max() <= 1


def test_phased_times_may_be_more_precise_than_features() -> None:
    cell = PhasedLSTMCell(D, H)
    time = 1e9 + torch.arange(T, dtype=torch.float64).expand(B, T).unsqueeze(-1)
    output = RNN(cell)((time, torch.randn(B, T, D)), mask=torch.rand(B, T) < 0.7)
    assert output.sequence.dtype == torch.float32


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_slstm_stays_finite_where_its_gates_overflow(forget_gate: Any) -> None:
    cell = SLSTMCell(D, H, forget_gate=forget_gate)
    x = 1e3 * torch.randn(B, 20, D)
    output = RNN(cell)(x)
    assert all(bool(leaf.isfinite().all()) for leaf in pytree.tree_leaves((output.sequence, output.state)))
    assert output.sequence.abs().max() <= 1.0 + 1e-6
    grads = torch.autograd.grad(output.sequence.sum(), list(cell.parameters()))
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_slstm_first_step_is_the_gated_candidate() -> None:
    cell = SLSTMCell(D, H).double()
    with torch.no_grad():
        cell.weight_ih.mul_(100)
    x = torch.randn(B, D, dtype=torch.float64)
    output, _ = cell(x)
    _, _, z, o = cell.project(x).chunk(4, dim=-1)
    close(output, torch.sigmoid(o) * torch.tanh(z))


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


@pytest.mark.parametrize(
    "make",
    [
        lambda: CIFGCell(D, 0),
        lambda: CIFGCell(D, H, activation="tahn"),
        lambda: MGUCell(D, H, variant="keras"),  # type: ignore[arg-type]
        lambda: NASCell(D, H, proj_size=-1),
        lambda: ESNCell(D, H, connectivity=2.0),
        lambda: PhasedLSTMCell(D, H, ratio_on=0.0),
        lambda: PhasedLSTMCell(D, H, period_init_min=2.0, period_init_max=1.0),
        lambda: SLSTMCell(D, H, num_heads=3),
        lambda: SLSTMCell(D, H, forget_gate="tanh"),  # type: ignore[arg-type]
        lambda: LayerNormLSTMCell(D, H, step_options=StepOptions(layer_norm="haste")),
        lambda: LayerNormLSTMCell(D, H, variant="none"),  # type: ignore[arg-type]
        lambda: MinGRU(D, H, engine="fused")(torch.zeros(B, T, D)),
    ],
)
def test_mistakes_are_named(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must|no activation|step_options|cannot run"):
        make()
