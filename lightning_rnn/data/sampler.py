"""The order of batches: a function of (seed, epoch) alone, in buckets of like length, shared out over processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Sampler

from lightning_rnn.errors import ConfigError

B = TypeVar("B")
Rows = npt.NDArray[np.signedinteger[Any]]


def even_bounds(rows: int, size: int, least: int = 1) -> Rows:
    """Where ``rows`` in a line are cut into batches of ``size``; the last two share what is left.

    Args:
        rows: how many there are.
        size: of a batch, at most.
        least: no batch has fewer rows than this.

    Returns:
        int64 ``[batches + 1]``, from 0 to ``rows``.

    Example:
        >>> even_bounds(11, 4).tolist()
        [0, 4, 8, 11]
        >>> even_bounds(9, 4).tolist()
        [0, 4, 7, 9]
    """
    batches = min(-(-rows // size), rows // least)
    full = max(0, batches - 2)
    left = rows - full * size
    middle = [full * size + -(-left // 2)] if batches - full == 2 else []
    return np.array([*range(0, full * size + 1, size), *middle, rows], dtype=np.int64)


def token_bounds(lengths: Rows, budget: int, size: int, world: int) -> Rows:
    """Where rows in order of length are cut so that no process gets more than ``budget`` steps, padding counted.

    Args:
        lengths: rising.
        budget: rows times longest row, of one process. A longer row comes alone.
        size: rows of a process, at most.
        world: processes that share a batch; each has at least one row of it.

    Returns:
        int64 ``[batches + 1]``, from 0 to the number of rows.

    Example:
        >>> token_bounds(np.array([1, 2, 2, 3, 6]), budget=6, size=100, world=1).tolist()
        [0, 3, 4, 5]
    """
    shares = np.minimum(size, np.maximum(budget // np.maximum(lengths, 1), 1))  # of a process, with this as the longest
    bounds, start, rows = [0], 0, len(lengths)
    while start < rows:
        low, high = start + 1, rows  # the batch ends where the last row's share still covers it
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle - start <= shares[middle - 1] * world else (low, middle - 1)
        start = max(low, min(start + world, rows))
        bounds.append(start)
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < world:  # too few for all processes: the last two batches share
        middle = (bounds[-3] + bounds[-1]) // 2
        bounds[-2:-1] = [middle] if bounds[-1] - bounds[-3] >= 2 * world else []
    return np.array(bounds, dtype=np.int64)


class EpochSampler(Sampler[B]):
    """Batches in an order that every epoch has for itself.

    Attributes:
        epoch: the one whose order it is.
        start: batches of it that are done with; the next iteration begins there.
    """

    def __init__(self) -> None:
        self.epoch, self.start = 0, 0  # of the object: Lightning's wrapper in predict copies nothing else

    @property
    def sampler(self) -> Self:
        """Itself: Lightning calls ``set_epoch`` on ``batch_sampler.sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's order, from its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0


class BucketBatchSampler(EpochSampler[list[int]]):
    """Batches of rows of like length, of a number of rows or of tokens, padding counted.

    By rows: shuffled, each pool of ``pool`` batches is sorted by length before it is cut, and the batches are shuffled
    again; not shuffled, all rows are sorted by length, or with ``pool`` 1 stay as they are. The last two batches share
    what is left, so none has a row or two. By tokens (``max_tokens``): all rows are sorted by length, those of equal
    length in random order, and cut where the longest row times the rows would pass the budget; so every epoch has the
    same number of batches.

    Rank ``r`` of ``world`` takes every ``world``-th row of each global batch: every row once, and the same number of
    batches everywhere. The global batches depend on ``shares``, not on ``world``: a run that goes on with another
    number of processes keeps them.

    Args:
        lengths: int64 ``[N]``.
        batch_size: rows per batch and process, at most.
        max_tokens: tokens or steps per batch and process, padding counted, at most (a longer row comes alone); None is
            no bound.
        shuffle: whether the order changes from epoch to epoch.
        seed: of the order.
        rank: this process.
        world: number of processes.
        shares: number of processes that a global batch is made for; None is ``world``.
        pool: batches sorted together; 1 does not sort.
        min_batches: an epoch has at least this many batches: it goes through the rows again, in another order, as often
            as that needs.

    Raises:
        ConfigError: fewer rows than processes, in all or in a global batch.

    Example:
        >>> import torch
        >>> list(BucketBatchSampler(torch.tensor([5, 1, 4, 2]), 2))
        [[1, 3], [2, 0]]
        >>> list(BucketBatchSampler(torch.tensor([5, 1, 4, 2]), 100, max_tokens=6))
        [[1, 3], [2], [0]]
    """

    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        *,
        max_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        shares: int | None = None,
        pool: int = 200,
        min_batches: int = 1,
    ) -> None:
        shares = shares or world
        if len(lengths) < max(world, shares):
            raise ConfigError(f"{len(lengths)} rows cannot be shared out over {world} processes: use fewer processes")
        small = len(lengths) < 2**31 and int(lengths.max()) < 2**31  # half the memory where there are many
        self.lengths = lengths.numpy().astype(np.int32 if small else np.int64)
        self.size, self.by_tokens, self.shuffle = batch_size * shares, max_tokens is not None, shuffle
        self.seed, self.rank, self.world, self.pool = seed, rank, world, pool
        if max_tokens is None:
            self.bounds = even_bounds(len(lengths), self.size, shares)
        else:
            self.bounds = token_bounds(np.sort(self.lengths), max_tokens, batch_size, shares)
        least = int(np.diff(self.bounds).min())
        if least < world:
            raise ConfigError(
                f"a batch of {least} rows cannot be shared out over {world} processes: use fewer processes, or larger "
                "batches"
            )
        self.passes = -(-min_batches // (len(self.bounds) - 1))
        super().__init__()

    def __len__(self) -> int:
        return self.passes * (len(self.bounds) - 1)

    def _order(self, rng: np.random.Generator) -> Rows:
        """All rows in the order that :attr:`bounds` cuts."""
        rows = np.arange(len(self.lengths), dtype=self.lengths.dtype)
        if self.shuffle:
            rows = rng.permutation(rows)
        if self.by_tokens or (self.pool > 1 and not self.shuffle):
            return rows[np.argsort(self.lengths[rows], kind="stable")]
        if self.pool > 1:
            step = self.size * self.pool
            for start in range(0, len(rows), step):  # in place: a view of a pool at a time
                pool = rows[start : start + step]
                pool[:] = pool[np.argsort(self.lengths[pool], kind="stable")]
        return rows

    def _batches(self, number: int, skipped: int) -> Iterator[Rows]:
        """The global batches of one pass through the rows, without the first ones."""
        rng = np.random.default_rng((self.seed, number))
        rows = self._order(rng)
        count = len(self.bounds) - 1
        for batch in (rng.permutation(count) if self.shuffle else np.arange(count))[skipped:]:
            yield rows[self.bounds[batch] : self.bounds[batch + 1]]

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        epoch, count = self.epoch, len(self.bounds) - 1
        for number in range(start // count, self.passes):
            for batch in self._batches(epoch * self.passes + number, max(0, start - number * count)):
                yield batch[self.rank :: self.world].tolist()
