"""Masks and lengths: which steps of a padded batch are real, and reductions over those alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def sequence_mask(lengths: Tensor, max_length: int) -> Tensor:
    """``mask[b, t] = t < lengths[b]``, bool ``[B, max_length]``.

    Example:
        >>> sequence_mask(torch.tensor([2, 0]), 3).tolist()
        [[True, True, False], [False, False, False]]
    """
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(1)


def expand(mask: Tensor, x: Tensor) -> Tensor:
    """``mask`` with dimensions of 1 at its end, so that it broadcasts over ``x``."""
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the valid steps of ``x [B, T, ...]``; a row without any gives 0.

    Example:
        >>> masked_mean(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])).item()
        2.0
    """
    if mask is None:
        return x.mean(1) if x.shape[1] else x.sum(1)
    valid = expand(mask, x)
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
    highest = torch.where(expand(mask, x), x, torch.finfo(x.dtype).min).amax(1)
    return torch.where(expand(mask.any(1), highest), highest, 0)


def last_valid(x: Tensor, lengths: Tensor) -> Tensor:
    """``x[b, lengths[b] - 1]`` of ``x [B, T, ...]``; a row of length 0 gives 0.

    Example:
        >>> last_valid(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([2])).item()
        3.0
    """
    if not x.shape[1]:
        return x.sum(1)
    index = expand((lengths.long() - 1).clamp(min=0).unsqueeze(1), x).expand(-1, 1, *x.shape[2:])
    picked = x.gather(1, index).squeeze(1)
    return torch.where(expand(lengths > 0, picked), picked, 0)


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
    return x.gather(1, expand(index, x).expand(x.shape))


@dataclass(frozen=True)
class Valid:
    """Which steps of a padded batch are real: a mask, and the lengths where padding is on the right.

    Attributes:
        mask: bool ``[B, T]``, True where a step is valid, any pattern.
        lengths: integers ``[B]`` that say the same; None where the mask came without them.
    """

    mask: Tensor
    lengths: Tensor | None = None

    @classmethod
    def of(cls, steps: int, lengths: Tensor | None, mask: Tensor | None) -> Valid | None:
        """From the arguments of a layer; None where every step is valid."""
        if lengths is not None:
            return cls(sequence_mask(lengths, steps), lengths.long())  # small integers overflow in differences
        return None if mask is None else cls(mask)

    def turned(self) -> Valid:
        """The same steps in the order in which the backward direction meets them (:func:`turn`)."""
        return self if self.lengths is not None else Valid(self.mask.flip(1))

    def chunk(self, start: int, stop: int) -> Valid:
        """Steps ``start`` to ``stop``."""
        lengths = None if self.lengths is None else (self.lengths - start).clamp(0, stop - start)
        return Valid(self.mask[:, start:stop], lengths)


def turn(x: Tensor, valid: Valid | None) -> Tensor:
    """Time of ``x [B, T, ...]`` reversed; within their lengths where lengths are known. Twice is the identity."""
    return reverse_sequence(x, None if valid is None else valid.lengths)


def fill_masked(x: Tensor, valid: Valid | None, *, reverse: bool = False, zero: bool = False) -> Tensor:
    """Outputs ``x [B, T, ...]`` with every masked step set to the output before it, or to zero.

    Before the first valid step there is nothing to repeat: zero. With ``reverse`` time runs backwards.

    Example:
        >>> mask = torch.tensor([[False, True, False, True]])
        >>> fill_masked(torch.tensor([[5.0, 6.0, 7.0, 8.0]]), Valid(mask)).tolist()
        [[0.0, 6.0, 6.0, 8.0]]
    """
    if valid is None or not x.shape[1]:
        return x
    mask = expand(valid.mask, x)
    if zero or (reverse and valid.lengths is not None):
        return torch.where(mask, x, 0)
    if valid.lengths is not None:
        return torch.where(mask, x, last_valid(x, valid.lengths).unsqueeze(1))
    steps = torch.arange(x.shape[1], device=x.device)
    if reverse:
        index = torch.where(valid.mask, steps, x.shape[1]).flip(1).cummin(1).values.flip(1)
    else:
        index = torch.where(valid.mask, steps, -1).cummax(1).values
    inside = (index >= 0) & (index < x.shape[1])
    picked = x.gather(1, expand(index.clamp(0, x.shape[1] - 1), x).expand(x.shape))
    return torch.where(expand(inside, x), picked, 0)
