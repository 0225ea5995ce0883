"""Masks and lengths: which steps of a padded batch are real, and reductions over those alone."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_mask(lengths: Tensor, max_length: int) -> Tensor:
    """``mask[b, t] = t < lengths[b]``, bool ``[B, max_length]``.

    Example:
        >>> sequence_mask(torch.tensor([2, 0]), 3).tolist()
        [[True, True, False], [False, False, False]]
    """
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(1)


def _expand(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the valid steps of ``x [B, T, ...]``; a row without any gives 0.

    Example:
        >>> masked_mean(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])).item()
        2.0
    """
    if mask is None:
        return x.mean(1) if x.shape[1] else x.sum(1)
    valid = _expand(mask, x)
    return torch.where(valid, x, 0).sum(1) / valid.sum(1).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor | None) -> Tensor:
    """Maximum over the valid steps of ``x [B, T, ...]``; a row without any gives 0.

    Example:
        >>> masked_max(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])).item()
        3.0
    """
    if not x.shape[1]:
        return x.sum(1)
    if mask is None:
        return x.amax(1)
    highest = torch.where(_expand(mask, x), x, torch.finfo(x.dtype).min).amax(1)
    return torch.where(_expand(mask.any(1), highest), highest, 0)


def last_valid(x: Tensor, lengths: Tensor) -> Tensor:
    """``x[b, lengths[b] - 1]`` of ``x [B, T, ...]``; a row of length 0 gives 0.

    Example:
        >>> last_valid(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([2])).item()
        3.0
    """
    if not x.shape[1]:
        return x.sum(1)
    index = _expand((lengths.long() - 1).clamp(min=0).unsqueeze(1), x).expand(-1, 1, *x.shape[2:])
    picked = x.gather(1, index).squeeze(1)
    return torch.where(_expand(lengths > 0, picked), picked, 0)


def reverse_sequence(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Time reversed within the valid part of each row of ``x [B, T, ...]``; padding stays where it is.

    Example:
        >>> reverse_sequence(torch.tensor([[1, 2, 3, 0]]), torch.tensor([3])).tolist()
        [[3, 2, 1, 0]]
    """
    if lengths is None:
        return x.flip(1)
    t = torch.arange(x.shape[1], device=x.device)
    n = lengths.unsqueeze(1)
    index = torch.where(t < n, n - 1 - t, t)
    return x.gather(1, _expand(index, x).expand(x.shape))
