"""A clip in one drawing."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.cm import viridis
from torch import Tensor

MOST = 8  # frames of a strip
BONES = [[0, 2], [0, 1], [0, 3], [3, 7], [7, 11], [0, 4], [4, 8], [8, 12], [1, 5], [5, 9], [9, 13], [1, 6], [6, 10],
         [10, 14]]  # fmt: skip


def strip_of(clip: Tensor, most: int = MOST) -> Tensor:
    """Frames ``[T, C, H, W]``, at most so many, evenly spaced, as one picture of rows of four: ``[H', W', C]``.

    Example:
        >>> strip_of(torch.zeros(13, 1, 24, 24)).shape
        torch.Size([49, 99, 1])
    """
    steps = torch.linspace(0, len(clip) - 1, min(most, len(clip))).round().long()
    frames, columns = clip[steps], min(4, len(steps))
    rows = -(-len(steps) // columns)
    _, channels, height, width = frames.shape
    picture = frames.new_full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), int(frames.max()))
    for place, frame in enumerate(frames):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        picture[top : top + height, left : left + width] = frame.permute(1, 2, 0)
    return picture


def draw_clip(axes: Axes, clip: Tensor, joints: int = 0) -> None:
    """A strip of frames, skeletons side by side, or vectors as an image (time to the right)."""
    if clip.ndim == 4:
        picture = strip_of(clip)
        axes.imshow(picture.squeeze(2).numpy() if picture.shape[2] == 1 else picture.numpy(), cmap="gray")
    elif joints:
        _draw_joints(axes, clip.view(len(clip), joints, 2))
    else:
        axes.imshow(clip.T.numpy(), aspect="auto", origin="lower")
    axes.set_axis_off()


def _draw_joints(axes: Axes, points: Tensor) -> None:
    """Six skeletons ``[T, J, 2]`` from left to right, later ones lighter."""
    steps = torch.linspace(0, len(points) - 1, min(6, len(points))).round().long()
    width = float((points[..., 0].max() - points[..., 0].min()).clamp(min=1e-3))
    for place, pose in enumerate(points[steps]):
        x, y, color = (pose[:, 0] + 1.1 * width * place).tolist(), (-pose[:, 1]).tolist(), viridis(place / 7)
        axes.plot(x, y, ".", color=color, markersize=2)
        for bone in BONES if len(pose) == 15 else ():
            axes.plot([x[j] for j in bone], [y[j] for j in bone], color=color, linewidth=1)
    axes.set_aspect("equal")
