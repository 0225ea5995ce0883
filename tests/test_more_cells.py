"""The further cells against their equations in NumPy, one step and over time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cell_equations import (
    States,
    Step,
    cifg,
    close,
    esn,
    indrnn,
    layer_norm_gru,
    layer_norm_lstm,
    mgu,
    min_gru,
    min_lstm,
    nas,
    phased,
    slstm,
    ugrnn,
)
from torch.utils import _pytree as pytree

from lightning_rnn.functional import StepOptions
from lightning_rnn.layers import RNN, Cell, StackedCells
from lightning_rnn.layers.gated_cells import (
    CIFGCell,
    IndRNNCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    MGUCell,
    NASCell,
    UGRNNCell,
)
from lightning_rnn.layers.minimal_cells import MinGRU, MinGRUCell, MinLSTMCell
from lightning_rnn.layers.special_cells import ESNCell, PhasedLSTMCell, SLSTMCell, SLSTMState

B, T, D, H = 3, 6, 3, 4
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
