"""What a network has to know of clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_classes
from lightning_rnn.errors import DataError
from lightning_rnn.types import SequenceBatch


@dataclass(frozen=True)
class VideoSpec(DataSpec):
    """What the classifier is built from.

    Attributes:
        kind: ``frames`` (uint8 or float ``[B, T, C, H, W]``) or ``vectors`` (float ``[B, T, D]``).
        shape: of a frame: ``[C, H, W]`` or ``[D]``.
        class_names: the classes, in the order of the outputs.
        class_counts: training clips of each class.
        joints: of vectors that are joints ``[x1, y1, x2, y2, ...]``: how many; else 0.
        pairs: of joints: the two that a mirrored clip changes.
    """

    kind: Literal["frames", "vectors"] = "frames"
    shape: list[int] = field(default_factory=lambda: [1, 8, 8])
    class_names: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    joints: int = 0
    pairs: list[list[int]] = field(default_factory=list)

    def check(self, batch: SequenceBatch) -> None:
        if self.kind == "vectors" and list(batch.inputs.shape[2:]) != self.shape:
            raise DataError(
                f"the frames are {list(batch.inputs.shape[2:])}, the model is for {self.shape}: give it such clips"
            )
        if batch.targets is not None:
            check_classes(batch, self.class_names)

    def check_clip(self, number: int, clip: Tensor) -> None:
        """Whether a clip has steps as the model is for.

        Raises:
            DataError: it has not; names its number.

        Example:
            >>> import torch
            >>> VideoSpec().check_clip(0, torch.zeros(5, 8, 8, 1))
            Traceback (most recent call last):
            lightning_rnn.errors.DataError: clip 0: [5, 8, 8, 1], the model is for [T, 1, 8, 8], T at least 1: give ...
        """
        if clip.ndim != len(self.shape) + 1 or list(clip.shape[1:]) != self.shape or not len(clip):
            wanted = ", ".join(map(str, ["T", *self.shape]))
            raise DataError(
                f"clip {number}: {list(clip.shape)}, the model is for [{wanted}], T at least 1: give it such clips"
            )
