"""ConvLSTM and ConvGRU written out with loops."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from lightning_rnn.layers.convolutional import ConvCell, ConvLSTMCell, ConvRNN


def convolution(x: Tensor, w: Tensor, stride: int = 1, padding: str = "same", dilation: int = 1) -> Tensor:
    """Place by place; how much ``same`` pads is TensorFlow's rule as its manual has it."""
    sizes, kernel = x.shape[2:], w.shape[2:]
    places, before = [], []
    for n, k in zip(sizes, kernel, strict=True):
        reach = (k - 1) * dilation + 1
        if padding == "valid":
            places, before = [*places, len(range(0, n - reach + 1, stride))], [*before, 0]
        else:
            missing = max(reach - (stride if n % stride == 0 else n % stride), 0)
            places, before = [*places, -(-n // stride)], [*before, missing // 2]
    y = x.new_zeros(x.shape[0], w.shape[0], *places)
    for place in itertools.product(*map(range, places)):
        for tap in itertools.product(*map(range, kernel)):
            at = [p * stride + t * dilation - b for p, t, b in zip(place, tap, before, strict=True)]
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                y[(..., *place)] += x[(..., *at)] @ w[(..., *tap)].T
    return y


def equations(cell: ConvCell, x: Tensor, h: Tensor, c: Tensor | None, **window: Any) -> tuple[Tensor, Tensor | None]:
    """One step, gate by gate."""
    gates = 4 if isinstance(cell, ConvLSTMCell) else 3
    w, u = cell.weight_ih.chunk(gates), cell.weight_hh.chunk(gates)
    b = cell.bias_ih.chunk(gates) if cell.bias else [torch.zeros(cell.out_channels)] * gates
    how = {"padding": "valid"} | {name: value for name, value in window.items() if name not in ("kernel_size", "bias")}

    def inner(gate: int) -> Tensor:
        return convolution(x, w[gate], **how) + b[gate].reshape(-1, *[1] * cell.dimensions)

    def outer(gate: int, state: Tensor) -> Tensor:
        return convolution(state, u[gate])

    if c is not None:
        i, f, o = (torch.sigmoid(inner(gate) + outer(gate, h)) for gate in (0, 1, 3))
        c = f * c + i * torch.tanh(inner(2) + outer(2, h))
        return o * torch.tanh(c), c
    r, z = (torch.sigmoid(inner(gate) + outer(gate, h)) for gate in (0, 1))
    return (1 - z) * h + z * torch.tanh(inner(2) + outer(2, r * h)), None


def loop(layer: ConvRNN, x: Tensor, state: Any, mask: Tensor, **window: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs in the order of processing and the final state, row by row where the mask says so."""
    h, c = state if isinstance(state, tuple) else (state, None)
    previous = torch.zeros_like(h)
    outputs: list[Tensor] = []
    for t in reversed(range(x.shape[1])) if layer.reverse else range(x.shape[1]):
        new_h, new_c = equations(layer.cell, x[:, t], h, c, **window)
        for row in range(x.shape[0]):
            if not mask[row, t]:
                new_h[row] = h[row]
                if c is not None and new_c is not None:
                    new_c[row] = c[row]
        shown = mask[:, t].reshape(-1, *[1] * (h.ndim - 1))
        previous = torch.where(shown, new_h, torch.zeros_like(h) if layer.zero_output_for_mask else previous)
        outputs.append(previous)
        h, c = new_h, new_c
    return outputs, [h] if c is None else [h, c]
