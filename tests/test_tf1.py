"""TF1's cells, against its equations written out in float64 from its own layout: one kernel over [x; h], i j f o."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tf1_equations import STEPS, Array, Step, dynamic_rnn, lstm_step
from torch import nn
from torch.utils import _pytree as pytree

from lightning_rnn.interop.tf1 import (
    bidirectional_from_config,
    cell_from_config,
    get_weights,
    layer_from_config,
    set_weights,
    state_from_tf1,
    state_to_tf1,
)
from lightning_rnn.layers import RNN, Bidirectional, CIFGCell, LSTMCell, TimeOptions

B, T, D, H = 4, 5, 3, 4
LENGTHS = np.array([5, 3, 0, 1])


def one(name: str, **options: Any) -> dict[str, Any]:
    return {"class_name": name, "config": {"num_units": H, **options}}


def shapes(config: dict[str, Any], inputs: int = D) -> list[tuple[int, ...]]:
    name, options = config["class_name"], config["config"]
    units = options["num_units"]
    out = options.get("num_proj") or units
    if name == "BasicRNNCell":
        return [(inputs + units, units), (units,)]
    if name == "GRUCell":
        return [(inputs + units, 2 * units), (2 * units,), (inputs + units, units), (units,)]
    if name == "LayerNormBasicLSTMCell":
        return [(inputs + units, 4 * units)] + [(units,)] * 10
    peepholes = [(units,)] * (3 if options.get("use_peepholes") else 0)
    projection = [(units, out)] if options.get("num_proj") else []
    return [(inputs + out, 4 * units), (4 * units,), *peepholes, *projection]


def draw(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.7, shape)


def variables(config: dict[str, Any], inputs: int = D, seed: int = 0) -> list[Array]:
    return [draw(*shape, seed=seed + i) for i, shape in enumerate(shapes(config, inputs))]


def start(config: dict[str, Any], seed: int | None) -> Any:
    """A state as TF1 has it, random or zero."""
    options = config["config"]
    widths = [options["num_units"], options.get("num_proj") or options["num_units"]]
    made = [np.zeros((B, n)) if seed is None else draw(B, n, seed=seed + i) for i, n in enumerate(widths)]
    return tuple(made) if "LSTM" in config["class_name"] else made[0]


def step_of(config: dict[str, Any], weights: list[Array]) -> Step:
    return STEPS[config["class_name"]](config["config"], *weights)


def close(mine: Any, its: Any) -> None:
    flat, flat_its = pytree.tree_leaves(mine), pytree.tree_leaves(its)
    assert len(flat) == len(flat_its)
    for a, b in zip(flat, flat_its, strict=True):
        np.testing.assert_allclose(a.detach().numpy() if isinstance(a, torch.Tensor) else a, b, rtol=0, atol=1e-12)


CELLS = {
    "rnn": one("BasicRNNCell"),
    "rnn relu": one("BasicRNNCell", activation="relu"),
    "rnn TF1's hard sigmoid": one("BasicRNNCell", activation="hard_sigmoid"),
    "basic lstm": one("BasicLSTMCell"),
    "basic lstm, another forget bias": one("BasicLSTMCell", forget_bias=0.3),
    "lstm": one("LSTMCell", forget_bias=0.0, activation="relu"),
    "lstm, peepholes": one("LSTMCell", use_peepholes=True),
    "lstm, peepholes and clip": one("LSTMCell", use_peepholes=True, cell_clip=0.3),
    "lstm, projected": one("LSTMCell", num_proj=3),
    "lstm, projected wide and clipped": one("LSTMCell", num_proj=6, proj_clip=0.2),
    "lstm, all": one("LSTMCell", use_peepholes=True, cell_clip=0.4, num_proj=2, proj_clip=0.3, forget_bias=0.6),
    "lstm, clip of no projection": one("LSTMCell", proj_clip=0.01),
    "gru": one("GRUCell"),
    "gru relu": one("GRUCell", activation="relu"),
    "layer norm": one("LayerNormBasicLSTMCell", forget_bias=0.7),
}
cells = pytest.mark.parametrize("config", CELLS.values(), ids=CELLS)


@cells
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("seed", [None, 30], ids=["from zero", "from a state"])
def test_dynamic_rnn(config: dict[str, Any], lengths: Array | None, seed: int | None) -> None:
    weights, x, state = variables(config), draw(B, T, D, seed=20), start(config, seed)
    layer = layer_from_config(config)
    set_weights(layer, weights)
    mine = layer(
        torch.as_tensor(x),
        None if seed is None else state_from_tf1(layer, state),
        lengths=None if lengths is None else torch.as_tensor(lengths),
    )
    outputs, final = dynamic_rnn(step_of(config, weights), x, state, lengths)
    close(mine.sequence, outputs)
    close(state_to_tf1(mine.state), final)


@cells
def test_weights_come_back(config: dict[str, Any]) -> None:
    weights = variables(config)
    layer = layer_from_config(config)
    set_weights(layer, weights)
    back = get_weights(layer)
    assert [array.shape for array in back] == shapes(config)
    close(back, weights)


def test_forget_bias_is_added_in_the_equation() -> None:
    config = one("BasicLSTMCell", forget_bias=2.0)
    layer = layer_from_config(config)
    set_weights(layer, [np.zeros(shape) for shape in shapes(config)])
    cell: Any = layer.cell
    assert cell.bias_ih.tolist() == [0.0] * 4 + [2.0] * 4 + [0.0] * 8  # torch's order i f g o
    assert not get_weights(layer)[1].any()


STACK = [one("LSTMCell", use_peepholes=True, num_proj=3), one("GRUCell"), one("BasicRNNCell"), one("BasicLSTMCell")]


def stack_of(weights: list[list[Array]]) -> Step:
    steps = [step_of(config, arrays) for config, arrays in zip(STACK, weights, strict=True)]

    def step(x: Array, states: Any) -> tuple[Array, Any]:
        new = []
        for inner, state in zip(steps, states, strict=True):
            x, after = inner(x, state)
            new.append(after)
        return x, tuple(new)

    return step


def stack_weights(seed: int) -> list[list[Array]]:
    sizes = [D, 3, H, H]
    return [variables(config, n, seed + 10 * i) for i, (config, n) in enumerate(zip(STACK, sizes, strict=True))]


def stack_start(seed: int | None) -> Any:
    return tuple(start(config, None if seed is None else seed + 2 * i) for i, config in enumerate(STACK))


def multi() -> dict[str, Any]:
    return {"class_name": "MultiRNNCell", "config": {"cells": STACK, "state_is_tuple": True}}


@pytest.mark.parametrize("seed", [None, 40], ids=["from zero", "from a state"])
def test_multi_rnn_cell(seed: int | None) -> None:
    weights, x, state = stack_weights(0), draw(B, T, D, seed=20), stack_start(seed)
    layer = layer_from_config(multi())
    set_weights(layer, [array for arrays in weights for array in arrays])
    mine = layer(torch.as_tensor(x), state_from_tf1(layer, state), lengths=torch.as_tensor(LENGTHS))
    outputs, final = dynamic_rnn(stack_of(weights), x, state, LENGTHS)
    close(mine.sequence, outputs)
    close(state_to_tf1(mine.state), final)
    close(get_weights(layer), [array for arrays in weights for array in arrays])


def reverse_sequence(x: Array, lengths: Array) -> Array:
    return np.stack([np.concatenate([row[:n][::-1], row[n:]]) for row, n in zip(x, lengths, strict=True)])


@pytest.mark.parametrize("lengths", [np.full(B, T), LENGTHS], ids=["full", "lengths"])
def test_bidirectional_dynamic_rnn(lengths: Array) -> None:
    weights, x = [stack_weights(0), stack_weights(100)], draw(B, T, D, seed=20)
    states = stack_start(40), stack_start(60)
    layer = bidirectional_from_config(multi())
    flat = [array for direction in weights for arrays in direction for array in arrays]
    set_weights(layer, flat)
    mine = layer(torch.as_tensor(x), state_from_tf1(layer, states), lengths=torch.as_tensor(lengths))
    ahead, ahead_state = dynamic_rnn(stack_of(weights[0]), x, states[0], lengths)
    behind, behind_state = dynamic_rnn(stack_of(weights[1]), reverse_sequence(x, lengths), states[1], lengths)
    close(mine.sequence, (ahead, reverse_sequence(behind, lengths)))
    close(state_to_tf1(mine.state), (ahead_state, behind_state))
    close(get_weights(layer), flat)


def test_directions_of_two_cells() -> None:
    forward, backward = one("LSTMCell", forget_bias=0.5), one("GRUCell")
    weights, x = [variables(forward), variables(backward, seed=50)], draw(B, T, D, seed=20)
    layer = bidirectional_from_config(forward, backward)
    set_weights(layer, [*weights[0], *weights[1]])
    mine = layer(torch.as_tensor(x))
    close(mine.sequence[0], dynamic_rnn(step_of(forward, weights[0]), x, start(forward, None), None)[0])
    behind = dynamic_rnn(step_of(backward, weights[1]), x[:, ::-1], start(backward, None), None)[0]
    close(mine.sequence[1], behind[:, ::-1])


def test_a_direction_made_by_the_wrapper_has_the_same_forget_bias() -> None:
    config = one("BasicLSTMCell", forget_bias=0.25)
    weights = [*variables(config), *variables(config, seed=50)]
    layer, copied = bidirectional_from_config(config), Bidirectional(layer_from_config(config), None)
    for both in (layer, copied):
        set_weights(both, weights)
        close(get_weights(both), weights)
    x = torch.as_tensor(draw(B, T, D, seed=20))
    close(copied(x).sequence, tuple(part.detach().numpy() for part in layer(x).sequence))


def test_time_major() -> None:
    config = one("GRUCell")
    weights, x = variables(config), draw(B, T, D, seed=20)
    layer = RNN(cell_from_config(config), zero_output_for_mask=True, time_options=TimeOptions(time_major=True))
    set_weights(layer, weights)
    mine = layer(torch.as_tensor(x).transpose(0, 1), lengths=torch.as_tensor(LENGTHS))
    close(mine.sequence.transpose(0, 1), dynamic_rnn(step_of(config, weights), x, start(config, None), LENGTHS)[0])


def test_wrappers() -> None:
    """TF1's ``tf.nn.rnn_cell.*Wrapper`` as their ``get_config`` writes them, with dropout in evaluation."""
    inner = one("LSTMCell", num_proj=D)
    keep = {"input_keep_prob": 0.5, "output_keep_prob": 0.75, "state_keep_prob": 0.25, "variational_recurrent": True}
    dropout = {"class_name": "DropoutWrapper", "config": {"cell": inner, **keep}}
    device = {"class_name": "DeviceWrapper", "config": {"cell": dropout, "device": "/gpu:1"}}
    residual = {"class_name": "ResidualWrapper", "config": {"cell": device}}
    weights, x, state = variables(inner), draw(B, T, D, seed=20), start(inner, 30)
    layer = layer_from_config(residual).eval()
    set_weights(layer, weights)
    plain = step_of(inner, weights)

    def step(x: Array, state: Any) -> tuple[Array, Any]:
        output, new = plain(x, state)
        return x + output, new

    mine = layer(torch.as_tensor(x), state_from_tf1(layer, state), lengths=torch.as_tensor(LENGTHS))
    outputs, final = dynamic_rnn(step, x, state, LENGTHS)
    close(mine.sequence, outputs)
    close(state_to_tf1(mine.state), final)
    close(get_weights(layer), weights)
    wrapper: Any = layer.cell
    noise = wrapper.cell
    assert (noise.input_dropout, noise.output_dropout, noise.state_dropout) == (0.5, 0.25, 0.75)
    assert noise.variational


def test_layer_norm_cell_without_its_norms_is_the_basic_one() -> None:
    config = one("LayerNormBasicLSTMCell", layer_norm=False)
    weights, x = variables(one("BasicLSTMCell")), draw(B, T, D, seed=20)
    layer = layer_from_config(config)
    set_weights(layer, weights)
    close(layer(torch.as_tensor(x)).sequence, dynamic_rnn(lstm_step({}, *weights), x, start(config, None), None)[0])


def test_gradients_reach_the_variables() -> None:
    """The gradient of a kernel in TF1's layout, against differences of the equations."""
    config = one("LSTMCell", use_peepholes=True, num_proj=2)
    weights, x, state = variables(config), draw(B, T, D, seed=20), start(config, 30)
    layer = layer_from_config(config)
    set_weights(layer, weights)
    layer(torch.as_tensor(x), state_from_tf1(layer, state), lengths=torch.as_tensor(LENGTHS)).sequence.sum().backward()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            gradient = parameter.grad
            assert gradient is not None
            parameter.copy_(torch.zeros_like(gradient) if name.endswith("bias_hh") else gradient)
    cell: Any = layer.cell
    cell.forget_bias = 0.0
    mine = get_weights(layer)
    small = 1e-6
    for k, at in ((0, (1, 6)), (0, (4, 9)), (1, (11,)), (2, (3,)), (3, (0,)), (4, (2,)), (5, (1, 1))):
        sums = []
        for sign in (1, -1):
            moved = [array.copy() for array in weights]
            moved[k][at] += sign * small
            sums.append(dynamic_rnn(step_of(config, moved), x, state, LENGTHS)[0].sum())
        np.testing.assert_allclose(mine[k][at], (sums[0] - sums[1]) / (2 * small), rtol=1e-6)


def test_state_to_tf1_turns_every_lstm_state() -> None:
    layer = layer_from_config(multi())
    set_weights(layer, [array for arrays in stack_weights(0) for array in arrays])
    state = stack_start(40)
    close(state_to_tf1(state_from_tf1(layer, state)), state)
    (c, h), gru, rnn, (c2, h2) = state_to_tf1(layer.initial_state(2))
    assert [tuple(part.shape) for part in (c, h, gru, rnn, c2, h2)] == [(2, 4), (2, 3), (2, 4), (2, 4), (2, 4), (2, 4)]


BAD_CONFIGS = [
    (one("GridLSTMCell"), "no counterpart for the TF1 cell 'GridLSTMCell'; known: BasicRNNCell, "),
    (one("GRUCell", activation="nope"), "no activation is called 'nope'"),
    (one("LSTMCell", cell_clip=-1.0), "cell_clip must be positive"),
    (one("LayerNormBasicLSTMCell", dropout_keep_prob=0.5), "LayerNormBasicLSTMCell: dropout of the candidate"),
    (
        {"class_name": "ResidualWrapper", "config": {"cell": one("GRUCell"), "residual_fn": "f"}},
        "code that a config cannot bring",
    ),
]


@pytest.mark.parametrize(("config", "message"), BAD_CONFIGS, ids=[c["class_name"] for c, _ in BAD_CONFIGS])
def test_bad_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_from_config(config)


def test_bad_weights() -> None:
    layer = layer_from_config(one("LSTMCell"))
    with pytest.raises(ValueError, match="LSTMCell takes 2 arrays of weights, got 1"):
        set_weights(layer, [np.zeros((7, 16))])
    with pytest.raises(ValueError, match=r"LSTMCell kernel: expected an array of shape \[7, 16\], got \[7, 15\]"):
        set_weights(layer, [np.zeros((7, 15)), np.zeros(16)])
    with pytest.raises(ValueError, match=r"LSTMCell bias: expected an array of shape \[16\], got \[4, 4\]"):
        set_weights(layer, [np.zeros((7, 16)), np.zeros((4, 4))])
    with pytest.raises(ValueError, match=r"LSTMCell kernel: expected an array of shape \[5, 16\], got \[3, 16\]"):
        set_weights(layer, [np.zeros((3, 16)), np.zeros(16)])
    with pytest.raises(ValueError, match="RNN takes 2 arrays of weights, got 3"):
        set_weights(layer, [np.zeros((7, 16)), np.zeros(16), np.zeros(4)])
    with pytest.raises(ValueError, match="GRUCell has no weights yet"):
        get_weights(layer_from_config(one("GRUCell")))
    with pytest.raises(ValueError, match="no TF1 layout is known for the weights of Linear"):
        set_weights(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match="no TF1 layout is known for the weights of CIFGCell"):
        get_weights(RNN(CIFGCell(3, 4)))
    with pytest.raises(ValueError, match="LSTMCell has no bias; TF1's cells have one"):
        get_weights(LSTMCell(3, 4, bias=False))


def test_bad_states() -> None:
    layer = layer_from_config(one("LSTMCell"))
    with pytest.raises(ValueError, match=r"LSTMCell: expected \(c, h\) as the state, got 1 arrays"):
        state_from_tf1(layer, np.zeros((B, 2 * H)))
    with pytest.raises(ValueError, match="GRUCell: expected one array as the state, got 2 arrays"):
        state_from_tf1(layer_from_config(one("GRUCell")), (np.zeros((B, H)), np.zeros((B, H))))
    with pytest.raises(ValueError, match="StackedCells: expected a tuple of 4 states, got 2"):
        state_from_tf1(layer_from_config(multi()), stack_start(0)[:2])
    with pytest.raises(ValueError, match="Bidirectional: expected a tuple of 2 states, got ndarray"):
        state_from_tf1(bidirectional_from_config(one("GRUCell")), np.zeros((B, H)))
