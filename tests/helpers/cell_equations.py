"""The equations of the further cells, one step in NumPy: ``(parameters, x, states) -> (output, states)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

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


def close(mine: Any, theirs: Any, atol: float = 1e-12) -> None:
    a, b = pytree.tree_leaves(mine), pytree.tree_leaves(theirs)
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, torch.as_tensor(right), rtol=0, atol=atol)


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
        width = h.shape[-1]
        size = width // heads
        full = np.zeros((4 * width, width))
        for row in range(4 * width):
            first = (row % width) // size * size
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
