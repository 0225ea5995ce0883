"""How the weights of a recurrent layer start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Initializer = Literal["torch", "keras", "chrono"]


def _torch(kind: str, weight_ih: Tensor, weight_hh: Tensor, biases: list[Tensor]) -> None:
    bound = 1 / math.sqrt(weight_hh.shape[1]) if weight_hh.numel() else 0.0
    for parameter in (weight_ih, weight_hh, *biases):
        nn.init.uniform_(parameter, -bound, bound)


def _keras(kind: str, weight_ih: Tensor, weight_hh: Tensor, biases: list[Tensor]) -> None:
    nn.init.xavier_uniform_(weight_ih)
    nn.init.orthogonal_(weight_hh)
    for bias in biases:
        nn.init.zeros_(bias)
    if kind == "lstm" and biases:
        _gate(biases[0], 1, 4).fill_(1.0)


def _chrono(kind: str, weight_ih: Tensor, weight_hh: Tensor, biases: list[Tensor]) -> None:
    _keras(kind, weight_ih, weight_hh, biases)
    longest = 784.0
    if kind == "simple_rnn" or not biases:
        return
    hidden = weight_hh.shape[1]
    memory = torch.log(torch.empty(hidden, dtype=biases[0].dtype).uniform_(1.0, longest - 1.0))
    if kind == "lstm":
        _gate(biases[0], 1, 4).copy_(memory)
        _gate(biases[0], 0, 4).copy_(-memory)
    else:
        _gate(biases[0], 1, 3).copy_(memory)


def _gate(bias: Tensor, index: int, gates: int) -> Tensor:
    return bias.chunk(gates)[index]


_INITIALIZERS: dict[str, Callable[[str, Tensor, Tensor, list[Tensor]], None]] = {
    "torch": _torch,
    "keras": _keras,
    "chrono": _chrono,
}


@torch.no_grad()
def initialize(how: Initializer, kind: str, weight_ih: Tensor, weight_hh: Tensor, biases: list[Tensor]) -> None:
    r"""Fill the parameters of one layer and direction in place.

    ``torch``: all uniform in :math:`\pm 1/\sqrt{H}`. ``keras``: Glorot-uniform input matrix, orthogonal recurrent
    matrix, zero biases but 1 for an LSTM's forget gate. ``chrono``: as keras, with forget (GRU: update) gate biases
    :math:`\log U(1, T_{max} - 1)` so that units remember over time scales up to :math:`T_{max} = 784`
    (Tallec and Ollivier 2018, arXiv 1804.11188, section 3).
    """
    _INITIALIZERS[how](kind, weight_ih, weight_hh, biases)
