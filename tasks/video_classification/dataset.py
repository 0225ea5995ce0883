"""Clips as a split: frames stay bytes in a batch, and what a frozen network made of them can stand in for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.data import Ragged, SplitData
from lightning_rnn.types import SequenceBatch


@dataclass
class VideoDataset(SplitData):
    """Clips, their classes and names; the keys are row numbers.

    Attributes:
        inputs: frames uint8 ``[T, C, H, W]`` or vectors float32 ``[T, D]``.
        targets: int64 ``[N]``, or None where there are no answers.
        ids: the clips' names.
        features: one vector for each frame, ``[T, F]``, that batches are made of in place of the frames.

    Example:
        >>> frames = torch.zeros(3, 2, 1, 8, 8, dtype=torch.uint8)
        >>> VideoDataset(Ragged.from_dense(frames)).__getitems__([2, 0]).inputs.dtype
        torch.uint8
    """

    inputs: Ragged
    targets: Tensor | None = None
    ids: Sequence[str | int] | None = None
    features: Ragged | None = None

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.as_tensor(keys, dtype=torch.int64)
        clips = self.inputs if self.features is None else self.features
        inputs, lengths = clips.pad(index, as_stored=True)
        return SequenceBatch(inputs, None if self.targets is None else self.targets[index], lengths=lengths, ids=index)

    def digest(self) -> str:
        targets = b"" if self.targets is None else self.targets.numpy().tobytes()
        return hashlib.blake2b(self.inputs.digest().encode() + targets, digest_size=16).hexdigest()
