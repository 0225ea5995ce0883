"""Scores of finished hypotheses: length and coverage (Wu et al. 2016, Google's Neural Machine Translation System)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_rnn.seq2seq.step import wide

LengthPenalty = Literal["none", "wu", "average"]


def length_penalty(kind: LengthPenalty, lengths: Tensor, alpha: float) -> Tensor:
    r"""What a log-probability is divided by.

    ``none``: 1; ``average``: :math:`|Y|`; ``wu``: :math:`\left((5 + |Y|) / 6\right)^\alpha` (Wu et al. 2016,
    equation 14). :math:`|Y|` counts the end; ``average`` of nothing is 1.

    Args:
        kind: which.
        lengths: :math:`|Y|`, integers of any shape.
        alpha: of ``wu``; at least 0, so that no penalty falls with the length.

    Returns:
        float64, the shape of ``lengths``.

    Example:
        >>> length_penalty("wu", torch.tensor([1, 7]), 1.0).tolist()
        [1.0, 2.0]
    """
    n = wide(lengths)
    if kind == "none":
        return torch.ones_like(n)
    return n.clamp(min=1) if kind == "average" else ((5 + n) / 6) ** alpha


def coverage_penalty(coverage: Tensor, valid: Tensor, beta: float) -> Tensor:
    r""":math:`\beta \sum_i \log \min(\sum_j p_{ij}, 1)` (Wu et al. 2016, equation 14); never above 0.

    Args:
        coverage: attention that each source position has had so far, :math:`\sum_j p_{ij}`, ``[..., S]``.
        valid: bool, broadcasts to ``coverage``: which positions are real; the others do not count.
        beta: how strong.

    Returns:
        float64 ``[...]``. Attention below the smallest normal float32 counts as that, so the penalty is finite.

    Example:
        >>> coverage_penalty(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([True, True, False]), 0.2).tolist()
        [0.0]
    """
    seen = wide(coverage).clamp(torch.finfo(torch.float32).tiny, 1).log()
    return beta * seen.where(valid, 0).sum(-1)
