"""TensorFlow Addons' cells through their Keras configs, against their equations in float64 from Keras' layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from lightning_rnn.interop.keras import get_weights, layer_from_config, set_weights, state_from_keras

Array = np.ndarray[Any, Any]
States = tuple[Array, ...]
Step = Callable[[Array, States], tuple[Array, States]]
B, T, D, H = 4, 5, 3, 4
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
FUNCTIONS: dict[str, Callable[[Array], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),  # Addons stands on Keras 2
}
sigmoid = FUNCTIONS["sigmoid"]


def norm(x: Array, eps: float, gamma: Array, beta: Array | float = 0.0) -> Array:
    normal: Array = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps)
    return normal * gamma + beta


def of(config: dict[str, Any], name: str, default: str) -> Callable[[Array], Any]:
    return FUNCTIONS[config.get(name, default)]


def bias_of(config: dict[str, Any], arrays: list[Array], default: bool = True) -> Any:
    return arrays.pop(0) if config.get("use_bias", default) else 0.0


def peephole(config: dict[str, Any], arrays: list[Array]) -> Step:
    """``kernel, recurrent_kernel, [bias], input, forget and output gate's peephole_weights``; gates i f c o."""
    kernel, recurrent = arrays.pop(0), arrays.pop(0)
    bias = bias_of(config, arrays)
    p_i, p_f, p_o = arrays
    phi, sigma = of(config, "activation", "tanh"), of(config, "recurrent_activation", "sigmoid")

    def step(x: Array, states: States) -> tuple[Array, States]:
        h, c = states
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
        c_new = sigma(f + p_f * c) * c + sigma(i + p_i * c) * phi(g)
        h = sigma(o + p_o * c_new) * phi(c_new)
        return h, (h, c_new)

    return step


def layer_norm_lstm(config: dict[str, Any], arrays: list[Array]) -> Step:
    """``kernel, recurrent_kernel, [bias]``, gamma and beta of kernel, recurrent and state; the normed c is kept."""
    kernel, recurrent = arrays.pop(0), arrays.pop(0)
    bias = bias_of(config, arrays)
    phi, sigma = of(config, "activation", "tanh"), of(config, "recurrent_activation", "sigmoid")
    eps = config.get("norm_epsilon", 1e-3)

    def step(x: Array, states: States) -> tuple[Array, States]:
        h, c = states
        z = norm(x @ kernel, eps, *arrays[:2]) + norm(h @ recurrent, eps, *arrays[2:4]) + bias
        i, f, g, o = np.split(z, 4, axis=1)
        c = norm(sigma(f) * c + sigma(i) * phi(g), eps, *arrays[4:])
        h = sigma(o) * phi(c)
        return h, (h, c)

    return step


def layer_norm_rnn(config: dict[str, Any], arrays: list[Array]) -> Step:
    """``kernel, recurrent_kernel, [bias], gamma``: the sum is normalized, then comes the bias."""
    kernel, recurrent = arrays.pop(0), arrays.pop(0)
    bias = bias_of(config, arrays)

    def step(x: Array, states: States) -> tuple[Array, States]:
        net = norm(x @ kernel + states[0] @ recurrent, config.get("layernorm_epsilon", 1e-5), arrays[0])
        h = of(config, "activation", "tanh")(net + bias)
        return h, (h,)

    return step


def nas(config: dict[str, Any], arrays: list[Array]) -> Step:
    """``recurrent_kernel, kernel, [bias], [projection_weights]``; the states are (c, m)."""
    recurrent, kernel = arrays.pop(0), arrays.pop(0)
    bias = bias_of(config, arrays, default=False)

    def step(x: Array, states: States) -> tuple[Array, States]:
        c, m = states
        a, b = np.split(x @ kernel, 8, axis=1), np.split(m @ recurrent + bias, 8, axis=1)
        relu = FUNCTIONS["relu"]
        first = np.tanh(sigmoid(a[0] + b[0]) * relu(a[1] + b[1]))
        second = np.tanh(sigmoid(a[2] + b[2]) + relu(a[3] * b[3]))
        third = np.tanh(np.tanh(a[4] + b[4]) * sigmoid(a[5] + b[5]))
        fourth = sigmoid(np.tanh(a[6] + b[6]) + sigmoid(a[7] + b[7]))
        c = np.tanh(first + c) * second
        m = np.tanh(c * np.tanh(third + fourth))
        m = m @ arrays[0] if arrays else m
        return m, (c, m)

    return step


def esn(config: dict[str, Any], arrays: list[Array]) -> Step:
    """``recurrent_kernel, kernel, [bias]``."""
    recurrent, kernel = arrays.pop(0), arrays.pop(0)
    bias, leaky = bias_of(config, arrays), config.get("leaky", 1)

    def step(x: Array, states: States) -> tuple[Array, States]:
        new = of(config, "activation", "tanh")(x @ kernel + states[0] @ recurrent + bias)
        h = (1 - leaky) * states[0] + leaky * new
        return h, (h,)

    return step


def lstm_shapes(config: dict[str, Any]) -> list[tuple[int, ...]]:
    return [(D, 4 * H), (H, 4 * H)] + [(4 * H,)] * config.get("use_bias", True)


def rnn_shapes(config: dict[str, Any]) -> list[tuple[int, ...]]:
    bias = [(H,)] * config.get("use_bias", True)
    return [(D, H), (H, H), *bias, (H,)]


def nas_shapes(config: dict[str, Any]) -> list[tuple[int, ...]]:
    out = config.get("projection") or H
    bias = [(8 * H,)] * config.get("use_bias", False)
    shapes: list[tuple[int, ...]] = [(out, 8 * H), (D, 8 * H), *bias]
    return shapes + ([(H, out)] if config.get("projection") else [])


SHAPES: dict[str, Callable[[dict[str, Any]], list[tuple[int, ...]]]] = {
    "PeepholeLSTMCell": lambda config: lstm_shapes(config) + [(H,)] * 3,
    "LayerNormLSTMCell": lambda config: lstm_shapes(config) + [(4 * H,)] * 4 + [(H,)] * 2,
    "LayerNormSimpleRNNCell": rnn_shapes,
    "NASCell": nas_shapes,
    "ESNCell": lambda config: [(H, H), (D, H)] + [(H,)] * config.get("use_bias", True),
}
STEPS: dict[str, Callable[[dict[str, Any], list[Array]], Step]] = {
    "PeepholeLSTMCell": peephole,
    "LayerNormLSTMCell": layer_norm_lstm,
    "LayerNormSimpleRNNCell": layer_norm_rnn,
    "NASCell": nas,
    "ESNCell": esn,
}
KERAS2 = {"implementation": 2, "recurrent_activation": "hard_sigmoid"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("PeepholeLSTMCell", {}),
    ("PeepholeLSTMCell", {"use_bias": False, "activation": "relu", **KERAS2}),
    ("LayerNormLSTMCell", {}),
    ("LayerNormLSTMCell", {"norm_epsilon": 0.05, "use_bias": False}),
    ("LayerNormLSTMCell", KERAS2),
    ("LayerNormSimpleRNNCell", {}),
    ("LayerNormSimpleRNNCell", {"layernorm_epsilon": 0.05, "use_bias": False, "activation": "relu"}),
    ("NASCell", {}),
    ("NASCell", {"use_bias": True}),
    ("NASCell", {"projection": 3}),
    ("NASCell", {"projection": 6, "use_bias": True}),
    ("ESNCell", {}),
    ("ESNCell", {"leaky": 0.3, "use_bias": False, "activation": "relu"}),
]
cells = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{'-'.join(o)}" for n, o in CASES])


def draw(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.7, shape)


def weights_of(name: str, options: dict[str, Any]) -> list[Array]:
    return [draw(*shape, seed=i) for i, shape in enumerate(SHAPES[name](options))]


def layer_of(name: str, options: dict[str, Any], **layer: Any) -> Any:
    cell = {"class_name": f"Addons>{name}", "config": {"units": H, **options}}
    return layer_from_config({"class_name": "RNN", "config": {"cell": cell, **layer}})


def start(name: str, options: dict[str, Any]) -> States:
    """In the order in which Addons' ``state_size`` names them."""
    widths = {"NASCell": [H, options.get("projection") or H]}.get(name, [H, H] if "LSTM" in name else [H])
    return tuple(draw(B, width, seed=20 + i) for i, width in enumerate(widths))


def run(step: Step, x: Array, states: States, mask: Array) -> tuple[Array, States]:
    """Keras' loop over time: a masked step keeps the states and repeats the output, which begins with zero."""
    outputs: list[Array] = []
    for t in range(T):
        new, after = step(x[:, t], states)
        valid = mask[:, t, None]
        outputs.append(np.where(valid, new, outputs[-1] if outputs else 0))
        states = tuple(np.where(valid, a, b) for a, b in zip(after, states, strict=True))
    return np.stack(outputs, 1), states


def close(mine: Any, its: Any) -> None:
    flat, flat_its = pytree.tree_leaves(mine), pytree.tree_leaves(its)
    assert len(flat) == len(flat_its)
    for a, b in zip(flat, flat_its, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=0, atol=1e-12)


@cells
@pytest.mark.parametrize("masked", [False, True])
def test_outputs_and_states(name: str, options: dict[str, Any], masked: bool) -> None:
    layer, weights, x = layer_of(name, options), weights_of(name, options), draw(B, T, D, seed=30)
    set_weights(layer, weights)
    states, mask = start(name, options), MASK if masked else np.ones((B, T), bool)
    mine = layer(torch.as_tensor(x), state_from_keras(layer, states), mask=torch.as_tensor(MASK) if masked else None)
    outputs, final = run(STEPS[name](options, list(weights)), x, states, mask)
    close(mine.sequence, outputs)
    close(mine.last, outputs[:, -1])
    close(mine.state, final)


@cells
def test_weights_come_back(name: str, options: dict[str, Any]) -> None:
    layer, weights = layer_of(name, options), weights_of(name, options)
    set_weights(layer, weights)
    back = get_weights(layer)
    assert [array.shape for array in back] == SHAPES[name](options)
    for a, b in zip(back, weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_backwards_and_stacked() -> None:
    """An Addons cell is a cell as any other: here under a Keras one, in a layer that goes backwards."""
    members = [("LayerNormLSTMCell", {"norm_epsilon": 0.01}), ("PeepholeLSTMCell", {})]
    configs = [{"class_name": f"Addons>{name}", "config": {"units": H, **options}} for name, options in members]
    stack = {"class_name": "StackedRNNCells", "config": {"cells": configs}}
    layer = layer_from_config({"class_name": "RNN", "config": {"cell": stack, "go_backwards": True}})
    first = weights_of(*members[0])
    second = [draw(*shape, seed=40 + i) for i, shape in enumerate([(H, 4 * H), (H, 4 * H), (4 * H,), (H,), (H,), (H,)])]
    set_weights(layer, [*first, *second])
    x, zero = draw(B, T, D, seed=30), (np.zeros((B, H)), np.zeros((B, H)))
    ones = np.ones((B, T), bool)
    middle, below = run(layer_norm_lstm({"norm_epsilon": 0.01}, list(first)), x[:, ::-1], zero, ones)
    outputs, above = run(peephole({}, list(second)), middle, zero, ones)
    mine = layer(torch.as_tensor(x))
    close(mine.sequence, outputs)
    close(mine.state, (below, above))


def test_a_reservoir_is_not_trained() -> None:
    layer = layer_of("ESNCell", {})
    set_weights(layer, weights_of("ESNCell", {}))
    assert not any(parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.parametrize(("name", "count"), [("PeepholeLSTMCell", 6), ("LayerNormLSTMCell", 9), ("NASCell", 2)])
def test_what_does_not_fit_is_said(name: str, count: int) -> None:
    layer, weights = layer_of(name, {}), weights_of(name, {})
    with pytest.raises(ValueError, match=f"takes {count} arrays of weights, got {count - 1}"):
        set_weights(layer, weights[:-1])
    with pytest.raises(ValueError, match=f"takes {count} arrays of weights, got {count + 1}"):
        set_weights(layer, [*weights, weights[0]])
    with pytest.raises(ValueError, match="expected an array of shape"):
        set_weights(layer_of(name, {}), [weights[0], weights[1][:, :-1], *weights[2:]])
    with pytest.raises(ValueError, match=r"RNN has 2 states, got 1"):
        state_from_keras(layer, [np.zeros((B, H))])
