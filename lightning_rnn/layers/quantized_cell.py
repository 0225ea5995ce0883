"""One step of SimpleRNN, LSTM or GRU with int8 weights; see :mod:`lightning_rnn.layers.quantized`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.functional import StepOptions
from lightning_rnn.functional.options import activation
from lightning_rnn.functional.scan import Stepper
from lightning_rnn.layers.cell import Cell
from lightning_rnn.layers.gates import collect
from lightning_rnn.layers.recurrent_layer import RecurrentLayer
from lightning_rnn.types import LSTMState, Nest, State

_LEVELS = 127
_TINY = 1e-30  # the scale of a row of zeros


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(rounded, scale)`` with ``x ≈ rounded * scale``: int8 ``[N, K]`` and ``[N, 1]``, symmetric, row by row.

    Example:
        >>> rounded, scale = quantize_rows(torch.tensor([[127.0, -25.4], [0.0, 0.0]]))
        >>> rounded.tolist(), scale[0].item()
        ([[127, -25], [0, 0]], 1.0)
    """
    scale = x.abs().amax(-1, keepdim=True).div_(_LEVELS).clamp_(min=_TINY)
    return (x / scale).round_().to(torch.int8), scale


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear(x, weight * scale, bias)`` with the product in integers.

    Args:
        x: float32 ``[N, K]``, quantized here.
        weight: int8 ``[G, K]``.
        scale: float32 ``[G]``.
        bias: float32 ``[G]``, or ``[N, G]`` to be added to.

    Example:
        >>> weight, scale = quantize_rows(torch.eye(2))
        >>> int8_linear(torch.tensor([[127.0, 3.0]]), weight, scale.squeeze(1))
        tensor([[127.,   3.]])
    """
    rounded, row = quantize_rows(x)
    product = torch._int_mm(rounded, weight.t()).float().mul_(scale)
    return product.mul_(row) if bias is None else torch.addcmul(bias, product, row)


@dataclass(frozen=True)
class Equation:
    """What of a cell is kept in float.

    Attributes:
        kind: ``simple_rnn``, ``lstm`` or ``gru``.
        options: activations.
        zoneout: share of the old output in the new one.
        skip: features of the input that are added to the output.
    """

    kind: str
    options: StepOptions
    zoneout: float
    skip: slice | None


@dataclass(frozen=True, eq=False)
class Int8Step:
    """A cell made ready for one call.

    Attributes:
        equation: what is kept in float.
        enters: int8 weight, scale and bias of the input's product.
        stays: those of the state's.
        phi: activation of the candidate and of the output.
        sigma: activation of the gates.
    """

    equation: Equation
    enters: tuple[Tensor, Tensor, Tensor | None]
    stays: tuple[Tensor, Tensor, Tensor | None]
    phi: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]

    def project(self, x: Nest) -> Nest:
        gates = int8_linear(x.flatten(0, -2), *self.enters).reshape(*x.shape[:-1], self.enters[0].shape[0])
        return gates if self.equation.skip is None else (gates, x[..., self.equation.skip])

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        x_t, skipped = projected if isinstance(projected, tuple) else (projected, None)
        old, memory = (state, None) if isinstance(state, Tensor) else state
        if memory is not None:
            h, memory = self._lstm(x_t, old, memory)
        else:
            h = self._gru(x_t, old) if self.equation.kind == "gru" else self.phi(self._sum(x_t, old))
        if self.equation.zoneout:
            h = self.equation.zoneout * old + (1 - self.equation.zoneout) * h
        return h if skipped is None else h + skipped, h if memory is None else LSTMState(h, memory)

    def _sum(self, x_t: Tensor, h: Tensor) -> Tensor:
        weight, scale, _ = self.stays
        return int8_linear(h, weight, scale, x_t)

    def _lstm(self, x_t: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = self._sum(x_t, h).chunk(4, dim=-1)
        c = torch.addcmul(self.sigma(f) * c, self.sigma(i), self.phi(g))
        return self.sigma(o) * self.phi(c), c

    def _gru(self, x_t: Tensor, h: Tensor) -> Tensor:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x_t.chunk(3, dim=-1), int8_linear(h, *self.stays).chunk(3, dim=-1)
        n = self.phi(torch.addcmul(x_n, self.sigma(x_r + h_r), h_n))
        return torch.lerp(n, h, self.sigma(x_z + h_z))


class QuantizedCell(Cell):
    """One step with int8 weights; made by :func:`quantize_dynamic`.

    Buffers: ``weight_ih [G*H, D]``, ``weight_hh [G*H, H]`` in int8, ``scale_ih``, ``scale_hh [G*H]`` and, where the
    layer has them, ``bias_ih``, ``bias_hh [G*H]``, ``h0``, ``c0 [H]`` in float32.
    """

    def __init__(self, layer: RecurrentLayer, index: int, suffix: str, equation: Equation) -> None:
        super().__init__()
        self.equation, self.output_size = equation, layer.sizes[index]
        weights = collect(layer, suffix)
        self.build(weights.weight_ih.shape[1])
        with torch.no_grad():
            for side, weight in (("ih", weights.weight_ih), ("hh", weights.weight_hh)):
                rounded, scale = quantize_rows(weight.float())
                self.register_buffer(f"weight_{side}", rounded)
                self.register_buffer(f"scale_{side}", scale.squeeze(1))
            for name in ("bias_ih", "bias_hh"):
                self.register_buffer(name, _copied(getattr(weights, name)))
            for name in ("h0", "c0"):
                self.register_buffer(name, _copied(getattr(layer, f"{name}{suffix}", None)))

    weight_ih: Tensor
    weight_hh: Tensor
    scale_ih: Tensor
    scale_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    h0: Tensor | None
    c0: Tensor | None

    def bind(self, x: Nest, batch: int) -> Stepper:
        """Ready for one call: everything looked up once."""
        kind, options = self.equation.kind, self.equation.options
        enters, stays = self.bias_ih, self.bias_hh
        if kind != "gru" and enters is not None and stays is not None:
            enters, stays = enters + stays, None
        return Int8Step(
            self.equation,
            (self.weight_ih, self.scale_ih, enters),
            (self.weight_hh, self.scale_hh, stays),
            activation(options.activation),
            activation(options.recurrent_activation),
        )

    def step(self, projected: Nest, state: Nest) -> tuple[Nest, Nest]:
        return self.bind(None, 0).step(projected, state)

    def project(self, x: Nest) -> Nest:
        return self.bind(None, 0).project(x)

    def initial_state(self, batch: int) -> State:
        zeros = self.scale_hh.new_zeros(self.output_size)
        h = (zeros if self.h0 is None else self.h0).expand(batch, -1)
        if self.equation.kind != "lstm":
            return h
        return LSTMState(h, (zeros if self.c0 is None else self.c0).expand(batch, -1))

    def extra_repr(self) -> str:
        return f"{self.equation.kind}, {self.input_size}, {self.output_size}"


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().clone()
