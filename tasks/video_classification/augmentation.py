"""Training clips of vectors, changed at random: as pure functions, drawn from torch's own generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.functional import masked_mean, sequence_mask


@dataclass(frozen=True)
class Augmentation:
    """How much; see :class:`VideoClassifier` for each. 0 and False change nothing."""

    noise: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    rotate: float = 0.0
    mirror: bool = False
    warp: float = 0.0
    mask_steps: int = 0
    mask_features: int = 0

    @property
    def of_joints(self) -> list[str]:
        """Those that are in use and take vectors for joints."""
        return [name for name in ("rotate", "mirror") if getattr(self, name)]

    @property
    def used(self) -> list[str]:
        """Those that are in use."""
        return [name for name in vars(self) if getattr(self, name)]


def augment(x: Tensor, lengths: Tensor, how: Augmentation, pairs: Sequence[Sequence[int]] = ()) -> Tensor:
    """Clips of vectors ``[B, T, D]`` with ``lengths [B]``, changed; padding stays what it is or is changed too."""
    b = len(x)
    if how.warp:
        x = warp(x, lengths, how.warp)
    if how.mirror:
        turned = torch.rand(b, 1, 1, device=x.device) < 0.5
        x = torch.where(turned, mirrored(x, pairs), x)
    if how.rotate:
        x = rotated(x, _uniform(b, how.rotate, x) * math.pi / 180)
    if how.zoom:
        x = x * (1 + _uniform(b, how.zoom, x)).view(b, 1, 1)
    if how.shift:
        x = x + _uniform(b, how.shift, x).view(b, 1, 1)
    if how.noise:
        x = x + how.noise * torch.randn_like(x)
    if how.mask_steps or how.mask_features:
        x = masked(x, lengths, how.mask_steps, how.mask_features)
    return x


def _uniform(count: int, most: float, like: Tensor) -> Tensor:
    """``[count]`` numbers in -most..most."""
    return (2 * torch.rand(count, device=like.device, dtype=like.dtype) - 1) * most


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Joints ``[B, T, 2 J]`` turned around the origin by ``angle [B]`` radians, each clip by its own.

    Example:
        >>> rotated(torch.tensor([[[1.0, 0.0]]]), torch.tensor([math.pi / 2])).round().flatten().tolist()
        [-0.0, 1.0]
    """
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    right, down = x[..., 0::2], x[..., 1::2]
    return torch.stack([cos * right - sin * down, sin * right + cos * down], -1).flatten(2)


def mirrored(x: Tensor, pairs: Sequence[Sequence[int]]) -> Tensor:
    """Joints ``[B, T, 2 J]`` as in a mirror: ``x`` changes its sign, and the left joints are the right ones.

    Example:
        >>> mirrored(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), [(0, 1)]).flatten().tolist()
        [-3.0, 4.0, -1.0, 2.0]
    """
    order = list(range(x.shape[2] // 2))
    for left, right in pairs:
        order[left], order[right] = right, left
    points = x.reshape(*x.shape[:2], len(order), 2)[:, :, order]
    return torch.stack([-points[..., 0], points[..., 1]], -1).flatten(2)


def warp(x: Tensor, lengths: Tensor, most: float) -> Tensor:
    """A random stretch of each clip ``[B, T, D]``, at least ``1 - most`` of it, slowed down to the clip's length."""
    b, t, _ = x.shape
    kept = 1 - most * torch.rand(b, 1, device=x.device)
    start = torch.rand(b, 1, device=x.device) * (1 - kept)
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    step = torch.arange(t, device=x.device)
    place = torch.where(step <= last, start * last + kept * step, step)
    before = place.floor().long().clamp(max=t - 1)
    after = (before + 1).clamp(max=t - 1)
    share = (place - before).unsqueeze(2).to(x.dtype)
    rows = torch.arange(b, device=x.device).unsqueeze(1)
    return x[rows, before] * (1 - share) + x[rows, after] * share


def masked(x: Tensor, lengths: Tensor, steps: int, features: int) -> Tensor:
    """Up to so many successive steps and so many successive features of each clip become the clip's mean.

    SpecAugment's time and frequency masks (Park et al. 2019, arXiv 1904.08779, section 2), one of each.
    """
    mean = masked_mean(x, sequence_mask(lengths, x.shape[1])).unsqueeze(1)
    hidden = _span(lengths, x.shape[1], steps).unsqueeze(2)
    hidden = hidden | _span(torch.full_like(lengths, x.shape[2]), x.shape[2], features).unsqueeze(1)
    return torch.where(hidden, mean, x)


def _span(lengths: Tensor, size: int, most: int) -> Tensor:
    """``[B, size]``, True in one stretch of 0 to ``most`` places inside each length, at most half of it."""
    width = (torch.rand(len(lengths), device=lengths.device) * (lengths // 2).clamp(max=most).add(1)).long()
    start = (torch.rand(len(lengths), device=lengths.device) * (lengths - width).add(1)).long()
    place = torch.arange(size, device=lengths.device)
    return (place >= start.unsqueeze(1)) & (place < (start + width).unsqueeze(1))
