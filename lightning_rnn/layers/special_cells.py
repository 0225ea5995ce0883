"""Cells with a clock (Phased LSTM), a fixed reservoir (ESN) or exponential gates (sLSTM)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.options import Activation, activation
from lightning_rnn.layers.matrix_cell import MatrixCell, known
from lightning_rnn.types import LSTMState, Nest


class PhasedLSTMCell(MatrixCell):
    r"""LSTM whose units open and close with the time (Neil et al. 2016, arXiv 1610.09513, eq. 6-11), as TF1 has it.

    A unit with period :math:`\tau`, shift s and open share r is at :math:`\varphi = ((t - s) \bmod \tau) / \tau` of its
    cycle and open by :math:`k = 2 \varphi / r` in the first half of r, :math:`2 - 2 \varphi / r` in the second,
    :math:`\alpha \varphi` after it. An LSTM step gives :math:`\tilde c, \tilde h`; then
    :math:`c' = k \tilde c + (1 - k) c` and :math:`h' = k \tilde h + (1 - k) h`. As in TF1 the leak is there in
    evaluation too, and the modulus passes no gradient to the period.

    The input is the pair ``(time [B, 1], x [B, D])``, in :class:`RNN` ``(time [B, T, 1], x [B, T, D])``.

    Args:
        input_size: features of x, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        leak: :math:`\alpha`, how far a closed unit is open.
        ratio_on: r at the start.
        trainable_ratio_on: whether r is learned.
        period_init_min: the shortest period; periods start log-uniform between this and ``period_init_max``.
        period_init_max: the longest period, in the unit of the time.

    Parameters: ``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias_ih [4H]`` in the order i, f, g, o, and ``period``,
    ``phase`` (s) and ``open_share`` (r), each ``[H]``. The state is :class:`LSTMState` ``(h, c)``.

    Example:
        >>> output, (h, c) = PhasedLSTMCell(3, 5)((torch.ones(2, 1), torch.zeros(2, 3)))
        >>> c.shape
        torch.Size([2, 5])
    """

    gates = 4
    period: nn.Parameter
    phase: nn.Parameter
    open_share: nn.Parameter

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        leak: float = 0.001,
        ratio_on: float = 0.1,
        trainable_ratio_on: bool = True,
        period_init_min: float = 1.0,
        period_init_max: float = 1000.0,
    ) -> None:
        super().__init__(hidden_size, bias)
        if not 0 < ratio_on <= 1:
            raise ValueError(f"PhasedLSTMCell: ratio_on must be above 0 and at most 1, got {ratio_on}")
        if not 0 < period_init_min <= period_init_max:
            raise ValueError(
                "PhasedLSTMCell: period_init_min must be above 0 and at most period_init_max, "
                f"got {period_init_min} and {period_init_max}"
            )
        self.leak, self.ratio_on, self.trainable_ratio_on = leak, ratio_on, trainable_ratio_on
        self.period_init_min, self.period_init_max = period_init_min, period_init_max
        self.build(input_size)

    def size_of(self, x: Nest) -> int:
        _, features = x
        return int(features.shape[-1])

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        clock = dict.fromkeys(("period", "phase", "open_share"), (self.hidden_size,))
        return super().parameter_shapes(input_size) | clock

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.uniform_(self.period, math.log(self.period_init_min), math.log(self.period_init_max)).exp_()
        nn.init.uniform_(self.phase).mul_(self.period)
        nn.init.constant_(self.open_share, self.ratio_on)
        self.open_share.requires_grad_(self.trainable_ratio_on)

    def initial_state(self, batch: int) -> LSTMState:
        return LSTMState(self.zeros(batch, self.hidden_size), self.zeros(batch, self.hidden_size))

    def openness(self, time: Tensor) -> Tensor:
        """``k [..., H]`` at the times ``[..., 1]``, computed in their dtype."""
        period, phase, share = (p.to(time.dtype) for p in (self.period, self.phase, self.open_share))
        cycle = torch.remainder(time - phase, period.detach()) / period
        rising, falling, closed = 2 * cycle / share, 2 - 2 * cycle / share, self.leak * cycle
        return torch.where(cycle < 0.5 * share, rising, torch.where(cycle < share, falling, closed))

    def project(self, x: Nest) -> Nest:
        time, features = x
        gates = F.linear(features, self.weight_ih, self.bias_ih)
        return self.openness(time).to(gates.dtype), gates

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, LSTMState]:
        k, gates = projected
        h, c = (old.to(gates.dtype) for old in state)  # times may be more precise than features
        i, f, g, o = (gates + F.linear(h, self.weight_hh)).chunk(4, dim=-1)
        full_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        full_h = torch.sigmoid(o) * torch.tanh(full_c)
        c = k * full_c + (1 - k) * c
        h = k * full_h + (1 - k) * h
        return h, LSTMState(h, c)


class ESNCell(MatrixCell):
    r"""Echo state network: a fixed random reservoir (Jaeger 2001, GMD report 148), as TF Addons has it.

    :math:`h' = (1 - \lambda) h + \lambda\,\phi(W x + U h + b)`. No parameter is trained: what reads the outputs is.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: units of the reservoir, ``H``.
        connectivity: chance that one unit sees another.
        leaky: :math:`\lambda`.
        spectral_radius: of U: its largest absolute eigenvalue.
        use_norm2: scale U by the root of its sum of squares, an upper bound of that radius which needs no eigenvalues.
        use_bias: whether there is a bias vector; it starts at 0.
        activation: :math:`\phi`.

    The state is ``h [B, H]``.

    Example:
        >>> cell = ESNCell(3, 50)
        >>> round(torch.linalg.eigvals(cell.weight_hh).abs().max().item(), 4)
        0.9
        >>> [parameter.requires_grad for parameter in cell.parameters()]
        [False, False, False]
    """

    gates = 1

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        connectivity: float = 0.1,
        leaky: float = 1.0,
        spectral_radius: float = 0.9,
        use_norm2: bool = False,
        use_bias: bool = True,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(hidden_size, use_bias)
        for name, value in (("connectivity", connectivity), ("leaky", leaky)):
            if not 0 <= value <= 1:
                raise ValueError(f"ESNCell: {name} must be between 0 and 1, got {value}")
        self.connectivity, self.leaky, self.spectral_radius = connectivity, leaky, spectral_radius
        self.use_norm2, self.use_bias, self.activation = use_norm2, use_bias, known(activation)
        self.build(input_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the reservoir anew: Glorot-uniform matrices, most recurrent weights 0, the others scaled."""
        self.requires_grad_(False)
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.xavier_uniform_(self.weight_hh)
        self.weight_hh.mul_(torch.rand_like(self.weight_hh) <= self.connectivity)
        exact = self.weight_hh.double()
        size = exact.norm() if self.use_norm2 else torch.linalg.eigvals(exact).abs().max()
        self.weight_hh.mul_(self.spectral_radius / size if size > 0 else 0.0)
        if self.bias_ih is not None:
            nn.init.zeros_(self.bias_ih)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, Tensor]:
        new = activation(self.activation)(projected + F.linear(state, self.weight_hh))
        h = (1 - self.leaky) * state + self.leaky * new
        return h, h


class SLSTMState(NamedTuple):
    """State of sLSTM, each ``[B, H]``: output ``h``, memory ``c`` and normalizer ``n`` times ``exp(-m)``, ``m``."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


class SLSTMCell(MatrixCell):
    r"""sLSTM: exponential gates, recurrence within heads (Beck et al. 2024, arXiv 2405.04517, section 2.2, eq. 8-17).

    :math:`z = \tanh(\tilde z),\ i = \exp(\tilde i),\ o = \sigma(\tilde o)`, f is :math:`\sigma(\tilde f)` or
    :math:`\exp(\tilde f)`; :math:`c' = f c + i z,\ n' = f n + i,\ h' = o\,c' / n'`. What is kept is c and n times
    :math:`e^{-m}`, with :math:`m' = \max(\log f + m, \tilde i)`: gates become :math:`\exp(\tilde i - m')` and
    :math:`\exp(\log f + m - m')`, at most 1, and the output is the same. While nothing is stored, :math:`n = 0`, the
    input alone sets :math:`m'`.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        bias: whether there is a bias vector.
        num_heads: ``N``, blocks of H/N units; a unit sees the outputs of its own block.
        forget_gate: ``sigmoid`` or ``exp``.

    ``weight_ih [4H, D]``, ``weight_hh [4H, H/N]`` (the recurrent matrix without the zeros outside its blocks),
    ``bias_ih [4H]``, in the order i, f, z, o; the state is :class:`SLSTMState` ``(h, c, n, m)``.

    Example:
        >>> output, state = SLSTMCell(3, 6, num_heads=2)(torch.zeros(2, 3))
        >>> output.shape, state.m.shape
        (torch.Size([2, 6]), torch.Size([2, 6]))
    """

    gates = 4

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        *,
        bias: bool = True,
        num_heads: int = 1,
        forget_gate: Literal["sigmoid", "exp"] = "sigmoid",
    ) -> None:
        super().__init__(hidden_size, bias)
        if num_heads < 1 or hidden_size % num_heads:
            raise ValueError(f"SLSTMCell: num_heads must divide hidden_size={hidden_size}, got {num_heads}")
        if forget_gate not in ("sigmoid", "exp"):
            raise ValueError(f"SLSTMCell: forget_gate must be sigmoid or exp, got {forget_gate!r}")
        self.num_heads, self.forget_gate = num_heads, forget_gate
        self.build(input_size)

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        rows, block = 4 * self.hidden_size, self.hidden_size // self.num_heads
        return {"weight_ih": (rows, input_size), "weight_hh": (rows, block)}

    def initial_state(self, batch: int) -> SLSTMState:
        return SLSTMState(*(self.zeros(batch, self.hidden_size) for _ in SLSTMState._fields))

    def mix(self, h: Tensor) -> Tensor:
        """The recurrent product ``[B, 4H]``, each head with its own blocks."""
        size = self.hidden_size // self.num_heads
        heads = h.reshape(-1, self.num_heads, size)
        blocks = self.weight_hh.reshape(4, self.num_heads, size, size)
        return torch.einsum("bnk,gnjk->bgnj", heads, blocks).flatten(1)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, SLSTMState]:
        h, c, n, m = state
        i, f, z, o = (projected + self.mix(h)).chunk(4, dim=-1)
        log_f = F.logsigmoid(f) if self.forget_gate == "sigmoid" else f
        new_m = torch.where(n > 0, torch.maximum(log_f + m, i), i)
        keep = torch.exp((log_f + m - new_m).clamp(max=0))
        add = torch.exp(i - new_m)
        c = keep * c + add * torch.tanh(z)
        n = keep * n + add
        h = torch.sigmoid(o) * c / n
        return h, SLSTMState(h, c, n, new_m)
