"""TF1's cells written out in float64 from its own layout: one step each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Step = Callable[[Array, Any], tuple[Array, Any]]


ACTIVATIONS: dict[str, Callable[[Array], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def norm(x: Array, gamma: Array, beta: Array) -> Array:
    normal: Array = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
    return normal * gamma + beta


def clip(x: Array, limit: float | None) -> Array:
    return x if limit is None else np.clip(x, -limit, limit)


def rnn_step(config: dict[str, Any], kernel: Array, bias: Array) -> Step:
    def step(x: Array, h: Array) -> tuple[Array, Array]:
        h = ACTIVATIONS[config.get("activation", "tanh")](np.concatenate([x, h], 1) @ kernel + bias)
        return h, h

    return step


def gru_step(config: dict[str, Any], gates: Array, gates_bias: Array, kernel: Array, bias: Array) -> Step:
    def step(x: Array, h: Array) -> tuple[Array, Array]:
        r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ gates + gates_bias), 2, axis=1)
        candidate = ACTIVATIONS[config.get("activation", "tanh")](np.concatenate([x, r * h], 1) @ kernel + bias)
        h = u * h + (1 - u) * candidate
        return h, h

    return step


def lstm_step(config: dict[str, Any], kernel: Array, bias: Array, *rest: Array) -> Step:
    rest_of = iter(rest)
    zero = np.zeros(len(bias) // 4)
    w_f, w_i, w_o = [next(rest_of) for _ in range(3)] if config.get("use_peepholes") else [zero] * 3
    projection = next(rest_of) if config.get("num_proj") else None
    phi, shift = ACTIVATIONS[config.get("activation", "tanh")], config.get("forget_bias", 1.0)

    def step(x: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        c, m = state
        i, j, f, o = np.split(np.concatenate([x, m], 1) @ kernel + bias, 4, axis=1)
        c = sigmoid(f + shift + w_f * c) * c + sigmoid(i + w_i * c) * phi(j)
        c = clip(c, config.get("cell_clip"))
        m = sigmoid(o + w_o * c) * phi(c)
        if projection is not None:
            m = clip(m @ projection, config.get("proj_clip"))
        return m, (c, m)

    return step


def norm_lstm_step(config: dict[str, Any], kernel: Array, *norms: Array) -> Step:
    gammas, betas = norms[0::2], norms[1::2]

    def step(x: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        c, h = state
        sums = np.split(np.concatenate([x, h], 1) @ kernel, 4, axis=1)
        i, j, f, o = (norm(s, g, b) for s, g, b in zip(sums, gammas[:4], betas[:4], strict=True))
        c = c * sigmoid(f + config.get("forget_bias", 1.0)) + sigmoid(i) * np.tanh(j)
        c = norm(c, gammas[4], betas[4])
        h = np.tanh(c) * sigmoid(o)
        return h, (c, h)

    return step


STEPS: dict[str, Callable[..., Step]] = {
    "BasicRNNCell": rnn_step,
    "BasicLSTMCell": lstm_step,
    "LSTMCell": lstm_step,
    "GRUCell": gru_step,
    "LayerNormBasicLSTMCell": norm_lstm_step,
}


def pick(valid: Array, new: Any, old: Any) -> Any:
    return (
        tuple(pick(valid, *pair) for pair in zip(new, old, strict=True))
        if isinstance(new, tuple)
        else np.where(valid, new, old)
    )


def dynamic_rnn(step: Step, x: Array, state: Any, lengths: Array | None) -> tuple[Array, Any]:
    """Past the end the output is zero and the state is copied through."""
    outputs = []
    for t in range(x.shape[1]):
        output, new = step(x[:, t], state)
        valid = np.ones((len(x), 1), bool) if lengths is None else (t < lengths)[:, None]
        outputs.append(np.where(valid, output, 0))
        state = pick(valid, new, state)
    return np.stack(outputs, 1), state
