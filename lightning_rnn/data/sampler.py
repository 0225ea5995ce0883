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
    not shuffled, all rows are sorted by length. Batches are as even as possible, so no last one is left with a row or
    two. Rank ``r`` of ``world`` takes every ``world``-th row of each batch of ``batch_size * world``: every row once,
    and the same number of batches everywhere.

    Args:
        lengths: int64 ``[N]``.
        batch_size: rows per batch and process, at most.
        shuffle: whether the order changes from epoch to epoch.
        seed: of the order.
        rank: this process.
        world: number of processes.
        pool: batches sorted together; 1 does not sort.

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
    ) -> None:
        if len(lengths) < world:
            raise ConfigError(f"{len(lengths)} rows cannot be shared out over {world} processes: use fewer processes")
        self.lengths = lengths.numpy()
        self.batch_size, self.shuffle, self.seed, self.pool = batch_size, shuffle, seed, pool
        self.rank, self.world = rank, world
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
        n = len(self.lengths)
        return min(-(-n // (self.batch_size * self.world)), n // self.world)

    def _batches(self) -> list[Rows]:
        rows = np.arange(len(self.lengths))
        if not self.shuffle:
            return np.array_split(rows[np.argsort(self.lengths, kind="stable")], len(self))
        rng = np.random.default_rng((self.seed, self.epoch))
        rows = rng.permutation(rows)
        size = self.batch_size * self.world * self.pool
        pools = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.pool > 1:
            pools = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        batches = np.array_split(np.concatenate(pools), len(self))
        return [batches[i] for i in rng.permutation(len(batches))]

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for batch in self._batches()[start:]:
            yield batch[self.rank :: self.world].tolist()
