"""An attention of every kind, small."""

from __future__ import annotations

from typing import Any

import torch

from lightning_rnn.seq2seq.attention import AttentionOptions, build_attention

B, T, S, Q, M, A = 3, 4, 6, 5, 7, 8
SIZED = {"dot", "scaled_dot", "concat", "bahdanau", "normed_bahdanau", "location", "coverage", "bahdanau_monotonic"}


def made(kind: Any, seed: int = 0, options: AttentionOptions | None = None, dtype: torch.dtype = torch.float64) -> Any:
    """An attention all of whose parameters are drawn, none at a special value."""
    torch.manual_seed(seed)
    options = options or AttentionOptions(filters=3, width=3)
    attention = build_attention(kind, Q, M, A if kind in SIZED else None, options).to(dtype)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return attention.eval()
