"""The order of batches: a function of (seed, epoch) alone, in buckets of like length, shared out over processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Sampler

from lightning_rnn.errors import ConfigError

Rows = npt.NDArray[np.int64]


class BucketBatchSampler(Sampler[list[int]]):
    """Batches of rows of like length.

    Shuffled, each pool of ``pool`` batches is sorted by length before it is cut, and the batches are shuffled again;
    not shuffled, all rows are sorted by length. The last two batches share what is left, so none has a row or two.
    Rank ``r`` of ``world`` takes every ``world``-th row of each batch of ``batch_size * world``: every row once, and
    the same number of batches everywhere.

    Args:
        lengths: int64 ``[N]``.
        batch_size: rows per batch and process, at most.
        shuffle: whether the order changes from epoch to epoch.
        seed: of the order.
        rank: this process.
        world: number of processes.
        pool: batches sorted together; 1 does not sort.
        min_batches: an epoch has at least this many batches: it goes through the rows again, in another order, as often
            as that needs.

    Raises:
        ConfigError: fewer rows than processes, or none.

    Example:
        >>> import torch
        >>> list(BucketBatchSampler(torch.tensor([5, 1, 4, 2]), 2))
        [[1, 3], [2, 0]]
    """

    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        pool: int = 50,
        min_batches: int = 1,
    ) -> None:
        if len(lengths) < world:
            raise ConfigError(f"{len(lengths)} rows cannot be shared out over {world} processes: use fewer processes")
        self.lengths = lengths.numpy()
        self.batch_size, self.shuffle, self.seed, self.pool = batch_size, shuffle, seed, pool
        self.rank, self.world = rank, world
        n = len(self.lengths)
        self.batches_per_pass = min(-(-n // (batch_size * world)), n // world)
        self.passes = -(-min_batches // self.batches_per_pass)
        self.epoch, self.start = 0, 0

    @property
    def sampler(self) -> BucketBatchSampler:
        """Itself: Lightning calls ``set_epoch`` on ``batch_sampler.sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's order, from its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.passes * self.batches_per_pass

    def _cut(self, rows: Rows) -> list[Rows]:
        """Full batches, and what is left as two even ones."""
        full = max(0, self.batches_per_pass - 2)
        size = self.batch_size * self.world
        rest = rows[full * size :]
        return [rows[i * size : (i + 1) * size] for i in range(full)] + np.array_split(
            rest, self.batches_per_pass - full
        )

    def _batches(self) -> list[Rows]:
        rows = np.arange(len(self.lengths))
        if not self.shuffle:
            return self._cut(rows[np.argsort(self.lengths, kind="stable")])
        return [batch for i in range(self.passes) for batch in self._shuffled(self.epoch * self.passes + i)]

    def _shuffled(self, number: int) -> list[Rows]:
        """One pass through the rows."""
        rows, rng = np.arange(len(self.lengths)), np.random.default_rng((self.seed, number))
        rows = rng.permutation(rows)
        size = self.batch_size * self.world * self.pool
        pools = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.pool > 1:
            pools = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = self._cut(np.concatenate(pools))
        return [batches[i] for i in rng.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for batch in self._batches()[start:]:
            yield batch[self.rank :: self.world].tolist()
