"""Many sequences of different lengths in one tensor, padded to a batch by one gather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.types import SequenceBatch


@dataclass(frozen=True)
class Ragged:
    """Sequences laid end to end: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: ``[S, ...]``, all steps of all rows.
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
        lengths = self.lengths[rows]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        steps = torch.arange(int(offsets[-1])) + (self.offsets[rows] - offsets[:-1]).repeat_interleave(lengths)
        return Ragged(self.values[steps], offsets)

    def cut(self, length: int) -> Ragged:
        """Every row's first ``length`` steps."""
        return Ragged.from_list([self[i][:length] for i in range(len(self))]) if len(self) else self

    def pad(self, rows: Tensor, value: float = 0) -> tuple[Tensor, Tensor]:
        """Rows as one batch ``[B, T, ...]``, padded on the right to the longest of them, and their lengths ``[B]``."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        longest = int(lengths.max()) if len(rows) else 0
        index = starts.unsqueeze(1) + torch.arange(longest)
        if int(lengths.min() if len(rows) else 0) == longest:
            return self._take(index), lengths
        padding = torch.arange(longest) >= lengths.unsqueeze(1)
        batch = self._take(index.masked_fill_(padding, 0))
        batch[padding] = value
        return batch, lengths

    def _take(self, index: Tensor) -> Tensor:
        taken = self.values.index_select(0, index.flatten())
        return taken.view(*index.shape, *self.values.shape[1:])


@dataclass(frozen=True)
class SequenceDataset:
    """One split: sequences, their targets, and the names of the rows. Fetched by whole index batches.

    Attributes:
        inputs: the sequences.
        targets: ``[N, ...]``, or None where there are no answers.
        ids: the rows' names in the source, in order; None stands for 0, 1, 2 ...

    Example:
        >>> data = SequenceDataset(Ragged.from_dense(torch.zeros(5, 7, 3)), torch.arange(5))
        >>> data.__getitems__([3, 1]).targets
        tensor([3, 1])
    """

    inputs: Ragged
    targets: Tensor | None = None
    ids: Sequence[str | int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> SequenceBatch:
        index = torch.as_tensor(rows, dtype=torch.int64)
        inputs, lengths = self.inputs.pad(index)
        targets = None if self.targets is None else self.targets[index]
        return SequenceBatch(inputs, targets, lengths=lengths, ids=index)

    def row_id(self, row: int) -> str | int:
        """The row's name in the source."""
        return row if self.ids is None else self.ids[row]
