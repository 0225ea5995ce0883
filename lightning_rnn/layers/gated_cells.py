"""Gated cells beside LSTM and GRU: CIFG, NAS, UGRNN, MGU, IndRNN; the layer-normalized ones stand beside."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.options import Activation, activation
from lightning_rnn.layers.layer_norm_cells import LayerNormGRUCell as LayerNormGRUCell
from lightning_rnn.layers.layer_norm_cells import LayerNormLSTMCell as LayerNormLSTMCell
from lightning_rnn.layers.matrix_cell import MatrixCell as MatrixCell
from lightning_rnn.layers.matrix_cell import known as known
from lightning_rnn.types import LSTMState, Nest


class ForgetBiasCell(MatrixCell):
    """What :class:`CIFGCell` and :class:`UGRNNCell` share: the arguments."""

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(hidden_size, bias)
        self.forget_bias, self.activation = forget_bias, known(activation)
        self.build(input_size)


class CIFGCell(ForgetBiasCell):
    r"""LSTM whose input gate is what the forget gate leaves (Greff et al. 2017, arXiv 1503.04069, variant CIFG).

    :math:`f = \sigma(W_f x + U_f h + b_f + \beta),\ g = \phi(\cdot),\ o = \sigma(\cdot)`, then
    :math:`c' = f c + (1 - f) g,\ h' = o\,\phi(c')`.
    This is TF1's ``CoupledInputForgetGateLSTMCell`` without peepholes.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        forget_bias: :math:`\beta`, added to the forget gate in the equation.
        activation: :math:`\phi`.

    Gates are in the order f, g, o; the state is :class:`LSTMState` ``(h, c)``, each ``[B, H]``.

    Example:
        >>> output, (h, c) = CIFGCell(3, 5)(torch.zeros(2, 3))
        >>> c.shape
        torch.Size([2, 5])
    """

    gates = 3

    def initial_state(self, batch: int) -> LSTMState:
        return LSTMState(self.zeros(batch, self.hidden_size), self.zeros(batch, self.hidden_size))

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, LSTMState]:
        h, c = state
        phi = activation(self.activation)
        f, g, o = (projected + F.linear(h, self.weight_hh)).chunk(3, dim=-1)
        f = torch.sigmoid(f + self.forget_bias)
        c = f * c + (1 - f) * phi(g)
        h = torch.sigmoid(o) * phi(c)
        return h, LSTMState(h, c)


class NASState(NamedTuple):
    """State of :class:`NASCell` in TF1's and Addons' order: memory ``c [B, H]``, output ``h [B, P or H]``."""

    c: Tensor
    h: Tensor


class NASCell(MatrixCell):
    r"""The cell that architecture search found (Zoph and Le 2017, arXiv 1611.01578, appendix A), as TF1 has it.

    With :math:`x_k, m_k` the eight blocks of :math:`W x` and :math:`U h + b`, a tree of three levels:
    :math:`\tanh(\sigma(x_0 + m_0)\,\mathrm{relu}(x_1 + m_1))` joined by the memory c,
    :math:`\tanh(\sigma(x_2 + m_2) + \mathrm{relu}(x_3 m_3))`, :math:`\tanh(\tanh(x_4 + m_4)\,\sigma(x_5 + m_5))` and
    :math:`\sigma(\tanh(x_6 + m_6) + \sigma(x_7 + m_7))`. The first two multiplied are the new
    memory; that times tanh of the sum of the last two, through tanh, is the output.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the memory, ``H``.
        bias: whether there is a bias vector, on the side of the state (block 3 is a product, so the side matters).
        proj_size: outputs are projected to this many features, ``P``; 0: not.

    ``weight_ih [8H, D]``, ``weight_hh [8H, P or H]``, ``bias_hh [8H]``, ``weight_hr [P, H]``; the state is
    :class:`NASState` ``(c, h)``.

    Example:
        >>> output, (c, h) = NASCell(3, 5, proj_size=2)(torch.zeros(4, 3))
        >>> output.shape, c.shape
        (torch.Size([4, 2]), torch.Size([4, 5]))
    """

    gates = 8
    biases = ("bias_hh",)
    weight_hr: nn.Parameter

    def __init__(self, input_size: int | None, hidden_size: int, *, bias: bool = False, proj_size: int = 0) -> None:
        super().__init__(hidden_size, bias)
        if proj_size < 0:
            raise ValueError(f"NASCell: proj_size must be at least 0, got {proj_size}")
        self.proj_size = proj_size
        self.build(input_size)

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.proj_size or self.hidden_size

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        shapes = super().parameter_shapes(input_size)
        return shapes | ({"weight_hr": (self.proj_size, self.hidden_size)} if self.proj_size else {})

    def initial_state(self, batch: int) -> NASState:
        return NASState(self.zeros(batch, self.hidden_size), self.zeros(batch, self.output_size))

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, NASState]:
        c, h = state
        x = projected.chunk(8, dim=-1)
        m = F.linear(h, self.weight_hh, self.bias_hh).chunk(8, dim=-1)
        first = torch.tanh(torch.sigmoid(x[0] + m[0]) * torch.relu(x[1] + m[1]))
        second = torch.tanh(torch.sigmoid(x[2] + m[2]) + torch.relu(x[3] * m[3]))
        third = torch.tanh(torch.tanh(x[4] + m[4]) * torch.sigmoid(x[5] + m[5]))
        fourth = torch.sigmoid(torch.tanh(x[6] + m[6]) + torch.sigmoid(x[7] + m[7]))
        c = torch.tanh(first + c) * second
        h = torch.tanh(c * torch.tanh(third + fourth))
        if self.proj_size:
            h = F.linear(h, self.weight_hr)
        return h, NASState(c, h)


class UGRNNCell(ForgetBiasCell):
    r"""Update-gate RNN (Collins, Sohl-Dickstein, Sussillo 2017, arXiv 1611.09913), as TF1 has it.

    :math:`g = \sigma(W_g x + U_g h + b_g + \beta),\ n = \phi(W_n x + U_n h + b_n),\ h' = g h + (1 - g) n`.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        forget_bias: :math:`\beta`, added to the gate in the equation.
        activation: :math:`\phi`.

    Gates are in the order g, n; the state is ``h [B, H]``.

    Example:
        >>> output, h = UGRNNCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 2

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        g, n = (projected + F.linear(state, self.weight_hh)).chunk(2, dim=-1)
        g = torch.sigmoid(g + self.forget_bias)
        h = g * state + (1 - g) * activation(self.activation)(n)
        return h, h


class MGUCell(MatrixCell):
    r"""Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420): a GRU with one gate.

    :math:`f = \sigma(W_f x + b_{if} + U_f h + b_{hf})`, then

    - ``paper``: :math:`n = \phi(W_n x + b_{in} + U_n (f h) + b_{hn}),\ h' = (1 - f) h + f n`;
    - ``flax``: :math:`n = \phi(W_n x + b_{in} + f (U_n h + b_{hn})),\ h' = f h + (1 - f) n`, the gate turned.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there are bias vectors.
        reset_gate: whether the candidate sees the state through the gate; else as it is.
        variant: ``paper``, or ``flax`` as ``flax.linen.MGUCell`` has it.
        activation: :math:`\phi`.

    Gates are in the order f, n; the state is ``h [B, H]``.

    Example:
        >>> output, h = MGUCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 2
    biases = ("bias_ih", "bias_hh")

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        reset_gate: bool = True,
        variant: Literal["paper", "flax"] = "paper",
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(hidden_size, bias)
        if variant not in ("paper", "flax"):
            raise ValueError(f"MGUCell: variant must be paper or flax, got {variant!r}")
        self.reset_gate, self.variant, self.activation = reset_gate, variant, known(activation)
        self.build(input_size)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        x_f, x_n = projected.chunk(2, dim=-1)
        w_f, w_n = self.weight_hh.chunk(2)
        b_f, b_n = (None, None) if self.bias_hh is None else self.bias_hh.chunk(2)
        f = torch.sigmoid(x_f + F.linear(state, w_f, b_f))
        seen = f if self.reset_gate else torch.ones_like(f)
        if self.variant == "paper":
            n = activation(self.activation)(x_n + F.linear(seen * state, w_n, b_n))
            h = (1 - f) * state + f * n
        else:
            n = activation(self.activation)(x_n + seen * F.linear(state, w_n, b_n))
            h = f * state + (1 - f) * n
        return h, h


class IndRNNCell(MatrixCell):
    r"""Independently recurrent unit (Li et al. 2018, arXiv 1803.04831, eq. 2): each unit sees its own past alone.

    :math:`h' = \phi(W x + b + u h)`, with a vector u.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        activation: :math:`\phi`; the paper's is relu, TF1's is tanh.

    ``weight_hh [H]`` is u, which starts uniform in 0..1; the state is ``h [B, H]``.

    Example:
        >>> output, h = IndRNNCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape
        torch.Size([2, 5])
    """

    gates = 1

    def __init__(
        self, input_size: int | None, hidden_size: int, *, bias: bool = True, activation: Activation = "relu"
    ) -> None:
        super().__init__(hidden_size, bias)
        self.activation = known(activation)
        self.build(input_size)

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes(input_size) | {"weight_hh": (self.hidden_size,)}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.uniform_(self.weight_hh, 0.0, 1.0)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        h = activation(self.activation)(projected + self.weight_hh * state)
        return h, h
