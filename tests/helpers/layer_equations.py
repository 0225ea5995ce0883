"""SimpleRNN, LSTM and GRU row by row in float64: one step, one direction, layers of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from layer_checks import leaves
from torch import Tensor

from lightning_rnn import LSTMState
from lightning_rnn.functional import StepOptions, sequence_mask
from lightning_rnn.layers import RecurrentLayer

B, T, D, H = 4, 6, 3, 4
LENGTHS = torch.tensor([6, 2, 0, 5])
HOLES = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()
LEFT = sequence_mask(LENGTHS, T).flip(1)
CALLS: dict[str, dict[str, Tensor]] = {
    "all valid": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "left": {"mask": LEFT},
}


def valid_of(call: dict[str, Tensor]) -> Tensor:
    if "lengths" in call:
        return sequence_mask(call["lengths"], T)
    return call.get("mask", torch.ones(B, T, dtype=torch.bool))


# The reference: one step, one row in one direction, then layers of them


def norm(v: Tensor, gain: Any, offset: Any = None, eps: float = 1e-5) -> Tensor:
    centred = v - v.mean(-1, keepdim=True)
    v = centred / ((centred**2).mean(-1, keepdim=True) + eps) ** 0.5
    v = v if gain is None else v * gain
    return v if offset is None else v + offset


ACTIVATION: dict[Any, Callable[[Tensor], Tensor]] = {
    "tanh": lambda v: (v.exp() - (-v).exp()) / (v.exp() + (-v).exp()),
    "sigmoid": lambda v: 1 / (1 + (-v).exp()),
    "relu": lambda v: v * (v > 0),
    "linear": lambda v: v,
    "softsign": lambda v: v / (1 + v.abs()),
    "hard_sigmoid": lambda v: (v / 6 + 0.5).clamp(0, 1),
    "hard_sigmoid_keras2": lambda v: (v / 5 + 0.5).clamp(0, 1),
}


def step(kind: str, w: dict[str, Any], o: StepOptions, x: Tensor, old: list[Tensor], drop: Any = None) -> list[Tensor]:
    """One step of one row; ``drop [G, P]`` multiplies the state as each gate sees it."""
    phi = ACTIVATION.get(o.activation, o.activation)
    sigma = ACTIVATION.get(o.recurrent_activation, o.recurrent_activation)
    assert callable(phi) and callable(sigma)
    gates, h = {"simple_rnn": 1, "lstm": 4, "gru": 3}[kind], old[0]
    size = w["weight_hh"].shape[0] // gates
    drop = torch.ones(gates, h.shape[0], dtype=h.dtype) if drop is None else drop
    u = w["weight_hh"].reshape(gates, size, -1)
    zero = torch.zeros(gates * size, dtype=h.dtype)
    b_x, b_h = (zero if w["bias_ih"] is None else w[name] for name in ("bias_ih", "bias_hh"))
    a, r = w["weight_ih"] @ x, torch.cat([u[g] @ (h * drop[g]) for g in range(gates)])
    if kind == "simple_rnn":
        total = a + r if o.layer_norm == "none" else norm(a + r, w["norm_hh_weight"], eps=o.layer_norm_eps or 1e-5)
        return [phi(total + b_x + b_h)]
    if kind == "gru":
        if o.layer_norm == "haste":
            a, r = norm(a, w["norm_ih_weight"]), norm(r, w["norm_hh_weight"])
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (a + b_x).chunk(3), (r + b_h).chunk(3)
        gate, z = sigma(x_r + h_r), sigma(x_z + h_z)
        inner = gate * h_n if o.reset_after else u[2] @ (gate * h * drop[2]) + b_h[2 * size :]
        return [(1 - z) * phi(x_n + inner) + z * h]
    c = old[1]
    if o.layer_norm == "addons":
        a = norm(a, w["norm_ih_weight"], w["norm_ih_bias"], 1e-3)
        r = norm(r, w["norm_hh_weight"], w["norm_hh_bias"], 1e-3)
    if o.layer_norm == "haste":
        a, r = norm(a, w["norm_ih_weight"]), norm(r, w["norm_hh_weight"])
    total = a + r
    if o.layer_norm == "basic":
        each = [norm(part, None, eps=1e-12) for part in total.chunk(4)]
        total = torch.cat(each) * w["norm_hh_weight"] + w["norm_hh_bias"]
    i, f, g, out = (total + b_x + b_h).chunk(4)
    if o.peephole:
        i, f = i + w["weight_ch"][0] * c, f + w["weight_ch"][1] * c
    c = sigma(f) * c + sigma(i) * phi(g)
    if o.cell_clip is not None:
        c = c.clamp(-o.cell_clip, o.cell_clip)
    read = c
    if o.layer_norm != "none":
        eps = {"addons": 1e-3, "haste": 1e-5, "basic": 1e-12}[o.layer_norm]
        read = norm(c, w["norm_c_weight"], w["norm_c_bias"], eps)
        c = c if o.layer_norm == "haste" else read
    if o.peephole:
        out = out + w["weight_ch"][2] * c
    h = sigma(out) * phi(read)
    if w["weight_hr"] is not None:
        h = w["weight_hr"] @ h
        h = h if o.proj_clip is None else h.clamp(-o.proj_clip, o.proj_clip)
    return [h, c]


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch")
NORM_NAMES = tuple(f"norm_{side}_{what}" for side in ("ih", "hh", "c") for what in ("weight", "bias"))


def direction(
    layer: RecurrentLayer, suffix: str, x: Tensor, start: Any, valid: Tensor, backwards: bool, skip: Any, drop: Any
) -> tuple[Tensor, Tensor, Any]:
    w = {name: getattr(layer, name + suffix, None) for name in NAMES + NORM_NAMES}
    parts = leaves(start)
    rows, finals = [], []
    for b in range(x.shape[0]):
        state, output, steps = [part[b] for part in parts], torch.zeros_like(parts[0][b]), {}
        for t in sorted(range(x.shape[1]), reverse=backwards):
            if valid[b, t]:
                state = step(layer.kind, w, layer.step_options, x[b, t], state, None if drop is None else drop[b])
                output = state[0] if skip is None else state[0] + skip[b, t]
            steps[t] = output if valid[b, t] or not layer.zero_output_for_mask else torch.zeros_like(output)
        rows.append(torch.stack([steps[t] for t in range(x.shape[1])]))
        finals.append(state)
    sequence = torch.stack(rows)
    states = [torch.stack(column) for column in zip(*finals, strict=True)]
    return sequence, sequence[:, 0 if backwards else -1], LSTMState(*states) if len(states) > 1 else states[0]


def reference(layer: RecurrentLayer, x: Tensor, state: Any, valid: Tensor, drop: Any = None) -> tuple[Any, ...]:
    """Sequence, state and last output, in the axes and the order of the layer's own."""
    suffixes = ["", "_reverse"] if layer.bidirectional else [""]
    finals: list[Any] = []
    lasts: list[Tensor] = []
    for i in range(layer.num_layers):
        here = state[i] if layer.num_layers > 1 else state
        adds = layer.residual and (i > 0 or x.shape[2] == layer.output_size)
        halves = x.chunk(len(suffixes), -1)
        ran = [
            direction(
                layer,
                f"_l{i}{suffix}",
                x,
                here[d] if layer.bidirectional else here,
                valid,
                d == 1 or layer.reverse,
                halves[d] if adds else None,
                drop,
            )
            for d, suffix in enumerate(suffixes)
        ]
        x, lasts = torch.cat([r[0] for r in ran], -1), [r[1] for r in ran]
        finals.append(tuple(r[2] for r in ran) if layer.bidirectional else ran[0][2])
    x = x.flip(1) if layer.reverse and not layer.time_options.keep_order else x
    return x, tuple(finals) if layer.num_layers > 1 else finals[0], torch.cat(lasts, -1)
