"""Many sequences of different lengths in one tensor, padded to a batch by one gather."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Sequences laid end to end: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: ``[S, ...]``, all steps of all rows, in memory or mapped from a file.
        offsets: int64 ``[N + 1]``, rising from 0 to ``S``.

    Example:
        >>> rows = Ragged.from_list([torch.tensor([1, 2, 3]), torch.tensor([4])])
        >>> rows.pad(torch.tensor([1, 0]))
        (tensor([[4, 0, 0],
                [1, 2, 3]]), tensor([1, 3]))
    """

    values: Tensor
    offsets: Tensor

    @classmethod
    def from_list(cls, rows: Sequence[Tensor]) -> Ragged:
        """From tensors ``[T_i, ...]``; at least one."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return cls(torch.cat(list(rows)), torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))

    @classmethod
    def from_dense(cls, rows: Tensor) -> Ragged:
        """From one tensor ``[N, T, ...]``, not copied."""
        n, t = rows.shape[:2]
        return cls(rows.reshape(n * t, *rows.shape[2:]), torch.arange(n + 1) * t)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``."""
        return self.offsets.diff()

    def select(self, rows: Tensor) -> Ragged:
        """The rows named (int64 ``[M]``), in that order."""
        return self._parts(self.offsets[rows], self.lengths[rows])

    def cut(self, length: int) -> Ragged:
        """Every row's first ``length`` steps."""
        return self._parts(self.offsets[:-1], self.lengths.clamp(max=length))

    def digest(self) -> str:
        """A hash of all lengths and of up to 65,536 values spread over the rows: other data, another hash."""
        found = hashlib.blake2b(self.offsets.numpy().tobytes(), digest_size=16)
        last = max(len(self.values) - 1, 0)
        places = torch.linspace(0, last, min(len(self.values), 1 << 16)).long()
        found.update(self.values[places.clamp(max=last)].numpy().tobytes())  # float32 rounds past the last of many
        return found.hexdigest()

    def _parts(self, starts: Tensor, lengths: Tensor) -> Ragged:
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        steps = torch.arange(int(offsets[-1])) + (starts - offsets[:-1]).repeat_interleave(lengths)
        return Ragged(self.values[steps], offsets)

    def pad(self, rows: Tensor, value: float = 0, *, as_stored: bool = False) -> tuple[Tensor, Tensor]:
        """Rows as one batch ``[B, T, ...]``, padded on the right to the longest of them, and their lengths ``[B]``.

        Integers come as int64, whatever they are stored as, but ``as_stored`` (bytes of images, an eighth of the size);
        other values keep their type.
        """
        values, offsets, index = self.values.numpy(), self.offsets.numpy(), rows.numpy()
        starts = offsets[index]
        lengths = offsets[index + 1] - starts
        longest = lengths.max(initial=0)
        steps = np.arange(longest)
        batch = values.take(starts[:, None] + steps, axis=0, mode="clip")  # steps past the end are padding
        if values.dtype.kind in "iu" and not as_stored:
            batch = batch.astype(np.int64, copy=False)
        if lengths.min(initial=longest) < longest:
            batch[steps >= lengths[:, None]] = value
        return torch.from_numpy(batch), torch.from_numpy(lengths)
