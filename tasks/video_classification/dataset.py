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
        inputs, lengths = pad_frames(self.inputs if self.features is None else self.features, index)
        return SequenceBatch(inputs, None if self.targets is None else self.targets[index], lengths=lengths, ids=index)

    def digest(self) -> str:
        targets = b"" if self.targets is None else self.targets.numpy().tobytes()
        return hashlib.blake2b(self.inputs.digest().encode() + targets, digest_size=16).hexdigest()


def pad_frames(clips: Ragged, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Clips as one batch ``[B, T, ...]`` of their own type (bytes too), 0 at padding, and their lengths ``[B]``.

    Example:
        >>> clips = Ragged(torch.ones(3, dtype=torch.uint8), torch.tensor([0, 2, 3]))
        >>> pad_frames(clips, torch.tensor([0, 1]))
        (tensor([[1, 1],
                [1, 0]], dtype=torch.uint8), tensor([2, 1]))
    """
    starts, lengths = clips.offsets[rows], clips.lengths[rows]
    step = torch.arange(int(lengths.max()) if len(rows) else 0)
    there = step < lengths.unsqueeze(1)
    batch = clips.values.new_zeros(*there.shape, *clips.values.shape[1:])
    batch[there] = clips.values[(starts.unsqueeze(1) + step)[there]]
    return batch, lengths
