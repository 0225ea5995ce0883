"""Streams laid out in lanes: which one runs in which row of the batches, and in which chunks."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
NEVER = 2**62


class Chunk(NamedTuple):
    """One row of a batch: steps ``start`` up to ``stop`` of a stream.

    Attributes:
        stream: its number; -1 in a lane that ran dry, where ``start`` and ``stop`` are 0.
        start: first step.
        stop: the step after the last.
        width: steps that the batch is padded to, the same on all processes.
        begins: whether the state carried over in this row belongs to something else.

    Example:
        >>> chunk = Chunk(stream=3, start=70, stop=140, width=70, begins=False)
        >>> chunk.stop - chunk.start
        70
    """

    stream: int
    start: int
    stop: int
    width: int
    begins: bool


class Pieces(NamedTuple):
    """Contiguous parts of streams, lane by lane, in the order in which a lane goes through them; all ``[P]``."""

    lane: Ints
    stream: Ints
    start: Ints
    stop: Ints


def share(weights: Ints, lanes: int) -> Ints:
    """The lane of each piece: the heaviest first, each into the lane with the least weight so far.

    The weight of the fullest lane depends on the multiset of weights alone, not on their order; it is at most 4/3 of
    the best possible one (Graham 1969).

    Example:
        >>> share(np.array([1, 5, 2, 2]), lanes=2).tolist()
        [1, 0, 1, 1]
    """
    lane, filled = np.empty(len(weights), np.int64), list(range(lanes))  # weight * lanes + lane
    for piece in np.argsort(-weights, kind="stable").tolist():
        lane[piece] = filled[0] % lanes
        heapq.heapreplace(filled, filled[0] + int(weights[piece]) * lanes)
    return lane


def whole_streams(lengths: Ints, lanes: int, chunk: int, rng: np.random.Generator | None) -> Pieces:
    """Every stream that has a step, in one piece; shuffled, or in each lane in the order of their numbers."""
    streams = np.flatnonzero(lengths)
    if rng is not None:
        streams = rng.permutation(streams)
    lane = share(-(-lengths[streams] // chunk), lanes)
    order = np.argsort(lane, kind="stable")
    streams = streams[order]
    return Pieces(lane[order], streams, np.zeros_like(streams), lengths[streams])


def cut_stream(length: int, lanes: int, offset: int) -> Pieces:
    """One stream in equal parts, a lane each, the first from step ``offset`` on; one part goes over the end.

    Example:
        >>> pieces = cut_stream(10, lanes=2, offset=3)
        >>> list(zip(pieces.lane.tolist(), pieces.start.tolist(), pieces.stop.tolist()))
        [(0, 3, 8), (1, 8, 10), (1, 0, 3)]
    """
    edges = offset + np.arange(lanes + 1) * length // lanes
    cuts = np.unique(np.append(edges, length))
    start = cuts[:-1] % length
    lane = np.searchsorted(edges, cuts[:-1], side="right") - 1
    return Pieces(lane, np.zeros_like(start), start, start + np.diff(cuts))


def schedule(pieces: Pieces, chunks: Ints) -> tuple[Ints, int]:
    """The step of the epoch at which each piece begins, and the number of steps until all lanes are through.

    A piece takes chunks until it ends, the next begins with the chunk after. Where the chunks do not suffice, the
    number is ``len(chunks) + 1``.

    Example:
        >>> first, steps = schedule(cut_stream(10, lanes=2, offset=3), np.array([3, 3, 3]))
        >>> first.tolist(), steps
        ([0, 0, 1], 2)
    """
    bounds = np.concatenate([[0], np.cumsum(chunks), [NEVER]])
    size, first = pieces.stop - pieces.start, np.empty_like(pieces.start)
    row = np.flatnonzero(np.diff(pieces.lane, prepend=-1))
    last = np.append(row[1:], len(size)) - 1
    step, finish = np.zeros_like(row), 0
    while len(row):
        first[row] = step
        step = np.minimum(np.searchsorted(bounds, bounds[step] + size[row]), len(chunks) + 1)
        finish = max(finish, int(step.max()))
        going = row < last
        row, last, step = row[going] + 1, last[going], step[going]
    return first, finish


def draw(rng: np.random.Generator, steps: int, chunk: int, std: float, half: float) -> npt.NDArray[np.float64]:
    """Chunk lengths of mean ``chunk`` (Merity et al. 2018, §5: normal around ``chunk``, or half of it at times)."""
    mean = np.where(rng.random(steps) < half, chunk / 2, chunk)
    lengths = rng.normal(mean, std).clip(min(5, chunk), chunk + 2 * std)
    return np.asarray(lengths * (chunk / lengths.mean()))


def whole(lengths: npt.NDArray[np.float64]) -> Ints:
    """Chunk lengths as whole numbers, at least 1."""
    return np.rint(lengths).clip(1).astype(np.int64)


def fit(pieces: Pieces, lengths: npt.NDArray[np.float64]) -> Ints:
    """Whole chunk lengths near ``lengths`` with which the epoch takes exactly ``len(lengths)`` steps.

    Longer chunks never take more steps, and a chunk cut in two adds at most one; so the chunks are lengthened until
    the epoch is short enough, then the longest are halved, as many as steps are missing, until none is.
    """
    steps = len(lengths)
    while (finish := schedule(pieces, chunks := whole(lengths))[1]) > steps:
        lengths = lengths * 1.01
    while finish < steps:
        chunks = chunks[:finish]
        cut = np.argsort(-chunks, kind="stable")[: steps - finish]
        cut = cut[chunks[cut] > 1]
        half = chunks[cut] // 2
        chunks[cut] -= half
        chunks = np.insert(chunks, cut, half)
        finish = schedule(pieces, chunks)[1]
    return chunks


@dataclass(frozen=True)
class Plan:
    """An epoch: ``pieces`` in ``lanes`` lanes, ``chunks[k]`` steps in batch ``k``. Any batch is found at once.

    Example:
        >>> plan = Plan(2, cut_stream(10, lanes=2, offset=3), np.array([3, 3]))
        >>> [(chunk.start, chunk.stop) for chunk in plan.batch(1)]
        [(6, 8), (0, 3)]
    """

    lanes: int
    pieces: Pieces
    chunks: Ints

    @cached_property
    def _bounds(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.chunks)])

    @cached_property
    def _first(self) -> Ints:
        return schedule(self.pieces, self.chunks)[0]

    @cached_property
    def _keys(self) -> Ints:
        """Rising: lane, then the step at which a piece begins."""
        return self.pieces.lane * len(self._bounds) + self._first

    def batch(self, step: int) -> list[Chunk]:
        """The rows of one global batch, a lane each."""
        _, stream, start, stop = self.pieces
        now = np.searchsorted(self._keys, np.arange(self.lanes) * len(self._bounds) + step, side="right") - 1
        begin = start[now] + self._bounds[step] - self._bounds[self._first[now]]
        end = np.minimum(begin + self.chunks[step], stop[now])
        dry = begin >= end
        width = int((end - begin).max())
        rows = np.where(dry, -1, stream[now]), np.where(dry, 0, begin), np.where(dry, 0, end)
        begins = ~dry & (begin == start[now])
        numbers = zip(*(column.tolist() for column in rows), begins.tolist(), strict=True)
        return [Chunk(stream, start, stop, width, begins) for stream, start, stop, begins in numbers]
