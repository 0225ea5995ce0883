"""Cells with a condition that they read out as they go: the semantically conditioned LSTM."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers.gated_cells import MatrixCell
from lightning_rnn.layers.gates import create
from lightning_rnn.types import Nest


class SCLSTMState(NamedTuple):
    """State of :class:`SCLSTMCell`: output ``h [B, H]``, memory ``c [B, H]``, what is still to be said ``d [B, S]``."""

    h: Tensor
    c: Tensor
    d: Tensor


class SCLSTMCell(MatrixCell):
    r"""LSTM that reads a condition out as it writes (SC-LSTM; Wen et al. 2015, arXiv 1508.01745, section 3.1).

    With :math:`i, f, o, \hat c` of an LSTM (equations 1 to 4), the reading gate (7), what is left of the condition (8)
    and the memory (9 in place of 5):

    .. math::
        r_t = \sigma(W_{wr} w_t + \alpha W_{hr} h_{t-1}), \quad d_t = r_t \odot d_{t-1}, \quad
        c_t = f_t \odot c_{t-1} + i_t \odot \hat c_t + \tanh(W_{dc} d_t), \quad h_t = o_t \odot \tanh(c_t)

    The condition is where the state starts: ``SCLSTMState(h, c, d)`` with the condition as ``d``; a state that is not
    given has none to say.

    Args:
        input_size: features of the input, ``D``; None: taken from the first input.
        hidden_size: features of the output, ``H``.
        condition_size: entries of the condition, ``S``.
        bias: whether the gates have a bias vector, the reading gate among them; the paper has none.
        alpha: :math:`\alpha`.
        reading_bias: where the reading gate's bias starts: above 0 the condition is kept longer at first.
        kept: so many first entries of the condition are never read out: their gate is 1.
        peek: whether the gates, the reading gate among them, see :math:`d_{t-1}` too, as in the authors' own program.

    Parameters: ``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias_ih [4H]`` in the order i, f, g, o; ``weight_ir [S,
    D]``, ``weight_hr [S, H]``, ``bias_ir [S]`` of the reading gate; ``weight_dc [H, S]``; with ``peek`` ``weight_dh
    [3H, S]`` in the order i, f, o, and ``weight_dr [S, S]``.

    Raises:
        ValueError: a size is below 1, or ``kept`` is not in 0..S.

    Example:
        >>> from lightning_rnn.layers import RNN
        >>> start = SCLSTMState(torch.zeros(2, 5), torch.zeros(2, 5), torch.ones(2, 4))
        >>> output = RNN(SCLSTMCell(3, 5, 4))(torch.zeros(2, 7, 3), start)
        >>> output.sequence.shape, output.state.d.shape, bool((output.state.d < 1).all())
        (torch.Size([2, 7, 5]), torch.Size([2, 4]), True)
    """

    gates = 4
    weight_ir: nn.Parameter
    weight_hr: nn.Parameter
    weight_dc: nn.Parameter
    weight_dh: nn.Parameter
    weight_dr: nn.Parameter
    bias_ir: nn.Parameter | None

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        condition_size: int,
        *,
        bias: bool = True,
        alpha: float = 0.5,
        reading_bias: float = 0.0,
        kept: int = 0,
        peek: bool = False,
    ) -> None:
        super().__init__(hidden_size, bias)
        if condition_size < 1:
            raise ValueError(f"SCLSTMCell: condition_size must be at least 1, got {condition_size}")
        if not 0 <= kept <= condition_size:
            raise ValueError(f"SCLSTMCell: kept must be from 0 to condition_size={condition_size}, got {kept}")
        self.condition_size, self.alpha, self.reading_bias = condition_size, alpha, reading_bias
        self.kept, self.peek = kept, peek
        self.build(input_size)

    def parameter_shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        s, h = self.condition_size, self.hidden_size
        reading: dict[str, tuple[int, ...]] = {"weight_ir": (s, input_size), "weight_hr": (s, h), "weight_dc": (h, s)}
        seen: dict[str, tuple[int, ...]] = {"weight_dh": (3 * h, s), "weight_dr": (s, s)} if self.peek else {}
        return super().parameter_shapes(input_size) | reading | seen

    def create(self, input_size: int) -> None:
        if self.bias:
            create(self, {"bias_ir": (self.condition_size,)})
        else:
            self.register_parameter("bias_ir", None)
        super().create(input_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.bias_ir is not None:
            nn.init.constant_(self.bias_ir, self.reading_bias)

    def initial_state(self, batch: int) -> SCLSTMState:
        return SCLSTMState(*(self.zeros(batch, n) for n in (self.hidden_size, self.hidden_size, self.condition_size)))

    def project(self, x: Nest) -> tuple[Tensor, Tensor]:
        return F.linear(x, self.weight_ih, self.bias_ih), F.linear(x, self.weight_ir, self.bias_ir)

    def step(self, projected: Nest, state: Nest) -> tuple[Tensor, SCLSTMState]:
        gates, reading = projected
        h, c, d = state
        gates = gates + F.linear(h, self.weight_hh)
        reading = reading + self.alpha * F.linear(h, self.weight_hr)
        i, f, g, o = gates.chunk(4, dim=-1)
        if self.peek:
            seen_i, seen_f, seen_o = F.linear(d, self.weight_dh).chunk(3, dim=-1)
            i, f, o, reading = i + seen_i, f + seen_f, o + seen_o, reading + F.linear(d, self.weight_dr)
        r = torch.sigmoid(reading)
        if self.kept:
            r = torch.cat([torch.ones_like(r[:, : self.kept]), r[:, self.kept :]], dim=1)
        d = r * d
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g) + torch.tanh(F.linear(d, self.weight_dc))
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, SCLSTMState(h, c, d)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, condition_size={self.condition_size}"


def reading_loss(
    start: Tensor, readings: Tensor, lengths: Tensor | None = None, eta: float = 1e-4, xi: float = 100.0
) -> Tensor:
    r"""What the condition costs that is left at the end or read out at once, of each row (Wen et al. 2015, eq. 13).

    :math:`\|d_T\| + \sum_{t=0}^{T-1} \eta\,\xi^{\|d_{t+1} - d_t\|}`, of Euclidean norms: everything is to be said, a
    little at each step.

    Args:
        start: the condition :math:`d_0`, ``[B, S]``.
        readings: d after each step, ``[B, T, S]``, as ``all_states.d`` of :class:`~lightning_rnn.layers.RNN`.
        lengths: valid steps, ``[B]``; None: all. A row of length 0 costs :math:`\|d_0\|`.
        eta: :math:`\eta`.
        xi: :math:`\xi`.

    Returns:
        ``[B]``.

    Example:
        >>> start, readings = torch.tensor([[3.0, 4.0]]), torch.tensor([[[0.0, 4.0], [0.0, 0.0]]])
        >>> [round(cost, 4) for cost in reading_loss(start, readings, eta=1e-4, xi=10.0).tolist()]
        [1.1]
    """
    every = torch.cat([start.unsqueeze(1), readings], 1)
    steps = torch.linalg.vector_norm(every[:, 1:] - every[:, :-1], dim=-1)
    costs = eta * torch.pow(xi, steps)
    lengths = torch.full((len(every),), readings.shape[1], device=every.device) if lengths is None else lengths
    last = every.gather(1, lengths.reshape(-1, 1, 1).expand(-1, 1, every.shape[-1])).squeeze(1)
    valid = sequence_mask(lengths, readings.shape[1])
    found: Tensor = torch.linalg.vector_norm(last, dim=-1) + torch.where(valid, costs, 0).sum(1)
    return found
