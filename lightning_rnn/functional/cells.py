"""One step of each cell. Gates follow torch's order, so weights are interchangeable with ``torch.nn``.

Every step takes the input's share already projected, ``x_t = W_ih x + b_ih  [B, G*H]``, because that product needs no
loop: it is taken once for all steps. It returns the new state as a tuple whose first member is the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


def simple_rnn_step(
    x_t: Tensor, state: tuple[Tensor, ...], weight_hh: Tensor, bias_hh: Tensor | None, activation: Activation = "tanh"
) -> tuple[Tensor, ...]:
    r"""Elman's step :math:`h' = \phi(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})` (Elman 1990, Finding Structure in Time).

    Args:
        x_t: projected input, ``[B, H]``.
        state: ``(h,)``, ``[B, H]``.
        weight_hh: ``[H, H]``.
        bias_hh: ``[H]`` or None.
        activation: ``tanh`` or ``relu``.
    """
    (h,) = state
    return (ACTIVATIONS[activation](x_t + F.linear(h, weight_hh, bias_hh)),)


def lstm_step(
    x_t: Tensor, state: tuple[Tensor, ...], weight_hh: Tensor, bias_hh: Tensor | None, activation: Activation = "tanh"
) -> tuple[Tensor, ...]:
    r"""LSTM with forget gate (Gers, Schmidhuber, Cummins 2000, Learning to Forget, eq. 2-8).

    :math:`i, f, o = \sigma(\cdot),\ g = \tanh(\cdot),\ c' = f c + i g,\ h' = o \tanh(c')`.

    Args:
        x_t: projected input, ``[B, 4H]`` in the order i, f, g, o.
        state: ``(h, c)``, each ``[B, H]``.
        weight_hh: ``[4H, H]``.
        bias_hh: ``[4H]`` or None.
        activation: ``tanh`` or ``relu``, of the candidate and of the output.
    """
    h, c = state
    phi = ACTIVATIONS[activation]
    i, f, g, o = (x_t + F.linear(h, weight_hh, bias_hh)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * phi(g)
    return torch.sigmoid(o) * phi(c), c


def gru_step(
    x_t: Tensor, state: tuple[Tensor, ...], weight_hh: Tensor, bias_hh: Tensor | None, activation: Activation = "tanh"
) -> tuple[Tensor, ...]:
    r"""GRU, the reset gate after the product (Cho et al. 2014, arXiv 1406.1078, in cuDNN's form).

    :math:`r, z = \sigma(\cdot),\ n = \tanh(x_n + r (W_{hn} h + b_{hn})),\ h' = (1 - z) n + z h`.

    Args:
        x_t: projected input, ``[B, 3H]`` in the order r, z, n.
        state: ``(h,)``, ``[B, H]``.
        weight_hh: ``[3H, H]``.
        bias_hh: ``[3H]`` or None.
        activation: ``tanh`` or ``relu``, of the candidate.
    """
    (h,) = state
    x_r, x_z, x_n = x_t.chunk(3, dim=-1)
    h_r, h_z, h_n = F.linear(h, weight_hh, bias_hh).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    z = torch.sigmoid(x_z + h_z)
    n = ACTIVATIONS[activation](x_n + r * h_n)
    return ((1 - z) * n + z * h,)
