"""The loss of every token, and what AWD-LSTM adds to the mean of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_rnn.data.tokenizer import PAD
from lightning_rnn.seq2seq.output import OutputHead

BUFFER = 2**23  # log-probabilities at a time


def token_losses(head: OutputHead, hidden: Tensor, targets: Tensor) -> Tensor:
    r"""Of each token :math:`-\log p(w_t \mid w_{<t})`, in nats, over the whole vocabulary; 0 at padding.

    The head computes in the precision of its weights, also under autocast: bfloat16 has two or three digits of a logit.

    Args:
        head: whose ``log_probs`` are asked for.
        hidden: ``[..., H]``.
        targets: int64 ``[...]``.

    Returns:
        float32 at least, ``[...]``.

    Example:
        >>> from lightning_rnn.seq2seq import build_head
        >>> head = build_head("full", 4, 10, bias=False)
        >>> losses = token_losses(head, torch.zeros(1, 3, 4), torch.tensor([[7, 2, 0]]))
        >>> [round(loss, 4) for loss in losses[0].exp().tolist()]
        [10.0, 10.0, 1.0]
    """
    rows, flat = hidden.reshape(-1, hidden.shape[-1]).to(next(head.parameters()).dtype), targets.reshape(-1)
    size = max(BUFFER // head.vocab_size, 1)
    with torch.autocast(hidden.device.type, enabled=False):
        parts = [
            -head.log_probs(part).gather(1, chosen.unsqueeze(1)).squeeze(1)
            for part, chosen in zip(torch.split(rows, size), torch.split(flat, size), strict=True)
        ]
    return torch.cat(parts).masked_fill(flat == PAD, 0).view(targets.shape)


def activation_loss(hidden: Tensor, valid: Tensor) -> Tensor:
    r"""The mean of :math:`h_t^2` over the valid steps and features: Merity et al. 2018, section 4.6, AR.

    Args:
        hidden: outputs of the last layer after dropout, ``[B, T, H]``.
        valid: bool ``[B, T]``.

    Returns:
        a scalar, 0 where no step is valid.

    Example:
        >>> activation_loss(torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.tensor([[True, False]]))
        tensor(5.)
    """
    return _mean(hidden.float().square(), valid)


def temporal_loss(raw: Tensor, valid: Tensor) -> Tensor:
    r"""The mean of :math:`(h_{t+1} - h_t)^2` over valid steps and features: Merity et al. 2018, section 4.6, TAR.

    Args:
        raw: outputs of the last layer before dropout, ``[B, T, H]``.
        valid: bool ``[B, T]``.

    Returns:
        a scalar, 0 where no two steps are valid.

    Example:
        >>> temporal_loss(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor(4.)
    """
    return _mean(raw.float().diff(dim=1).square(), valid[:, 1:])


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Of ``[B, T, H]`` over the steps that are valid, bool ``[B, T]``."""
    count = (valid.sum() * values.shape[2]).clamp(min=1)
    return torch.where(valid.unsqueeze(2), values, 0).sum() / count
