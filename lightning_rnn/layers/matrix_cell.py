"""What cells share whose gates are one product with the input and something of the state."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from lightning_rnn.functional.options import Activation, activation
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.gates import create
from lightning_rnn.types import Nest


class MatrixCell(Cell):
    """What cells share whose gates are ``W_ih x + b_ih`` and something of the state; a subclass gives the step.

    ``weight_ih [G*H, D]``, ``weight_hh [G*H, H]`` and the biases ``[G*H]`` named in :attr:`biases` start uniform in
    ±1/√H, as in ``torch.nn``.

    Args:
        hidden_size: features of the state, ``H``.
        bias: whether there are bias vectors.
    """

    gates: ClassVar[int]
    biases: ClassVar[tuple[str, ...]] = ("bias_ih",)
    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(self, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if hidden_size < 1:
            raise ValueError(f"{type(self).__name__}: hidden_size must be at least 1, got {hidden_size}")
        self.hidden_size, self.bias = hidden_size, bias

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.hidden_size

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters but the biases."""
        rows = self.gates * self.hidden_size
        return {"weight_ih": (rows, input_size), "weight_hh": (rows, self.output_size)}

    def create(self, input_size: int) -> None:
        create(self, self.parameter_shapes(input_size))
        for name in ("bias_ih", "bias_hh"):
            there = self.bias and name in self.biases
            bias = nn.Parameter(torch.empty(self.gates * self.hidden_size)) if there else None
            self.register_parameter(name, bias)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.hidden_size**-0.5), self.hidden_size**-0.5)

    def initial_state(self, batch: int) -> Nest:
        return self.zeros(batch, self.hidden_size)

    def project(self, x: Nest) -> Nest:
        return F.linear(x, self.weight_ih, self.bias_ih)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


def known(name: Activation) -> Activation:
    """The same activation; one without a function raises ``ValueError``."""
    activation(name)
    return name
