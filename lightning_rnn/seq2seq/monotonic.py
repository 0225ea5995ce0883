"""Monotonic attention: it moves over the source in one direction only (Raffel et al. 2017, arXiv 1704.00784)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_rnn.functional.linear_scan import linear_scan
from lightning_rnn.seq2seq.attention_base import Attention, Memory
from lightning_rnn.seq2seq.energies import Energy
from lightning_rnn.types import Nest

MonotonicMode = Literal["parallel", "recursive", "hard"]


def monotonic_weights(chosen: Tensor, previous: Tensor, mode: MonotonicMode) -> Tensor:
    r"""Weights of a step from the chances to stop and the weights of the step before.

    From where the step before stopped, each step of the source is stopped at with chance :math:`p_j`, else passed:
    :math:`\alpha_j = p_j q_j,\ q_j = (1 - p_{j-1})\,q_{j-1} + \alpha^{\mathrm{old}}_j` (section 2.3).

    Args:
        chosen: p, ``[..., S]``; 0 at steps that are not real; in the mode ``hard`` 0 or 1.
        previous: weights of the step before, ``[..., S]``; at first all on the first step.
        mode: ``recursive`` is the recurrence in a loop; ``parallel`` all steps of it at once, by a scan in place of the
            paper's quotient of products, so no chance is too near 1; ``hard`` the process itself: the first step from
            the old one on with p = 1.

    Returns:
        ``[..., S]``; sums to 1 less the chance that no step was stopped at.

    Raises:
        ValueError: there is no such mode.

    Example:
        >>> half, first = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 0.0])
        >>> monotonic_weights(half, first, "parallel").tolist()
        [0.5, 0.25, 0.125]
        >>> monotonic_weights(torch.tensor([0.0, 1.0, 1.0]), first, "hard").tolist()
        [0.0, 1.0, 0.0]
    """
    if mode not in get_args(MonotonicMode):
        raise ValueError(f"monotonic attention: mode must be one of {', '.join(get_args(MonotonicMode))}, got {mode!r}")
    if mode == "hard":
        ahead = chosen * previous.cumsum(-1)
        return ahead * _before((1 - ahead).cumprod(-1))
    passing = _before(1 - chosen)
    if mode == "recursive":
        return chosen * _reached(passing, previous)
    size = previous.shape[-1]
    return chosen * linear_scan(passing.reshape(-1, size), previous.reshape(-1, size)).view_as(previous)


def _before(x: Tensor) -> Tensor:
    """The entry before each along the last axis; 1 before the first."""
    return torch.cat([torch.ones_like(x[..., :1]), x[..., :-1]], -1)


def _reached(passing: Tensor, previous: Tensor) -> Tensor:
    """The chances q to come to each step of the source."""
    now = torch.zeros_like(previous).sum(-1)
    steps = []
    for through, old in zip(passing.unbind(-1), previous.unbind(-1), strict=True):
        now = through * now + old
        steps.append(now)
    return torch.stack(steps, -1) if steps else previous


class MonotonicAttention(Attention):
    r"""Chances to stop :math:`p_j = \sigma(e(q, m_j) + r + \epsilon)`, then :func:`monotonic_weights`.

    Weights sum to at most 1; once the end of the source is passed they are 0. The state is the weights of the step
    before, ``[N, S]``, at first all on the first step of the source.

    Args:
        query_size: ``Q``.
        memory_size: ``M``.
        energy: e, made for these sizes.
        mode: while training; ``hard`` passes no gradient to the energies.
        eval_mode: in evaluation; ``hard`` decodes in linear time as in the paper, where it stops at the first
            :math:`p_j > 1/2`.
        noise: deviation of the normal :math:`\epsilon` while training, which drives the chances to 0 or 1
            (section 2.4).
        bias: r at the start; below 0, so that it reaches far.

    Raises:
        ValueError: there is no such mode, or ``noise`` is negative.

    Example:
        >>> from lightning_rnn.seq2seq.energies import AdditiveEnergy
        >>> attention = MonotonicAttention(2, 3, AdditiveEnergy(2, 3, normed=True, bias=True))
        >>> memory = attention.remember(torch.randn(1, 4, 3))
        >>> out = attention(torch.ones(1, 2), memory, attention.initial_state(memory, 1))
        >>> bool(out.weights.sum() <= 1)
        True
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        energy: Energy,
        mode: MonotonicMode = "parallel",
        eval_mode: MonotonicMode = "parallel",
        noise: float = 0.0,
        bias: float = -1.0,
    ) -> None:
        super().__init__(query_size, memory_size)
        for given in (mode, eval_mode):
            if given not in get_args(MonotonicMode):
                raise ValueError(
                    f"MonotonicAttention: a mode is one of {', '.join(get_args(MonotonicMode))}, not {given!r}"
                )
        if noise < 0:
            raise ValueError(f"MonotonicAttention: noise must not be negative, got {noise}")
        self.mode, self.eval_mode, self.noise, self.bias = mode, eval_mode, noise, bias
        self.energy = energy
        self.r = nn.Parameter(torch.tensor(float(bias)))

    def keys(self, values: Tensor) -> Tensor:
        return self.energy.keys(values)

    def initial_state(self, memory: Memory, rows: int) -> Nest:
        start = memory.values.new_zeros(rows, memory.values.shape[1])
        start[:, :1] = 1
        return start

    def weigh(self, query: Tensor, memory: Memory, state: Nest) -> tuple[Tensor, Nest]:
        energy = self.energy(query, memory.keys) + self.r
        if self.training and self.noise:
            energy = energy + self.noise * torch.randn_like(energy)
        mode = self.mode if self.training else self.eval_mode
        high = energy if energy.dtype == torch.float64 else energy.float()  # products of many chances
        chosen = (high > 0).to(high.dtype) if mode == "hard" else torch.sigmoid(high)
        if memory.mask is not None:
            chosen = torch.where(memory.mask.unsqueeze(1), chosen, 0)
        weights = monotonic_weights(chosen, state.to(high.dtype), mode)
        return weights.to(energy.dtype), weights.to(state.dtype)
