"""Features of vectors over time: motion, and for joints where they are, relative to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_rnn.functional import masked_mean

Feature = Literal["value", "motion", "fast_motion", "distance"]
LAGS: dict[Feature, int] = {"motion": 1, "fast_motion": 2}
SMALLEST = 1e-6


def differences(x: Tensor, lag: int) -> Tensor:
    """``x[:, t] - x[:, t - lag]`` of ``x [B, T, D]``, 0 in the first ``lag`` steps.

    Example:
        >>> differences(torch.tensor([[[1.0], [4.0], [9.0]]]), 2).flatten().tolist()
        [0.0, 0.0, 8.0]
    """
    return torch.cat([torch.zeros_like(x[:, :lag]), x[:, lag:] - x[:, :-lag]], dim=1)[:, : x.shape[1]]


def distances(points: Tensor) -> Tensor:
    """Euclidean distances between all pairs of points: ``[..., J, 2]`` → ``[..., J (J - 1) / 2]``.

    The joint collection distances of DD-Net (Yang et al. 2019, arXiv 1907.09658, section 3.1).

    Example:
        >>> distances(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])).tolist()
        [5.0, 1.0, 4.242640495300293]
    """
    one, other = torch.triu_indices(points.shape[-2], points.shape[-2], 1, device=points.device)
    found: Tensor = torch.linalg.vector_norm(points[..., one, :] - points[..., other, :], dim=-1)
    return found


class VectorFeatures(nn.Module):
    """Vectors, and where asked for their motion and the distances between joints, side by side.

    Joints are scaled by the root mean square of their distances from their mean, over the clip, and their values (not
    their motion) are taken relative to the mean of the frame's joints.

    Args:
        size: of a vector, ``D``.
        features: any of ``value``, ``motion`` (difference to the frame before), ``fast_motion`` (to the one before
            that; DD-Net, arXiv 1907.09658, section 3.2) and, for joints, ``distance``.
        joints: how many the vectors hold, ``[x1, y1, x2, y2, ...]``; 0 where they are not joints.
        normalize: whether joints are centered and scaled.

    Example:
        >>> VectorFeatures(30, ["value", "motion", "distance"], joints=15)(torch.randn(2, 7, 30)).shape
        torch.Size([2, 7, 165])
    """

    def __init__(self, size: int, features: Sequence[Feature], joints: int = 0, normalize: bool = True) -> None:
        super().__init__()
        self.features, self.joints, self.normalize = tuple(features), joints, normalize and joints > 0
        sizes = {"distance": joints * (joints - 1) // 2}
        self.output_size = sum(sizes.get(name, size) for name in self.features)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x [B, T, D]``, ``mask [B, T]`` bool → ``[B, T, output_size]``; padding is 0."""
        x = self._scaled(x, mask) if self.normalize else x
        found = torch.cat([self._feature(name, x) for name in self.features], dim=-1)
        return found if mask is None else torch.where(mask.unsqueeze(2), found, 0)

    def _points(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.joints, 2)

    def _scaled(self, x: Tensor, mask: Tensor | None) -> Tensor:
        points = self._points(x)
        spread = (points - points.mean(2, keepdim=True)).square().sum(3).mean(2, keepdim=True)  # [B, T, 1]
        return x / masked_mean(spread, mask).sqrt().clamp(min=SMALLEST).unsqueeze(1)

    def _feature(self, name: Feature, x: Tensor) -> Tensor:
        if name in LAGS:
            return differences(x, LAGS[name])
        if name == "distance":
            return distances(self._points(x))
        if not self.normalize:
            return x
        points = self._points(x)
        return (points - points.mean(2, keepdim=True)).flatten(2)
