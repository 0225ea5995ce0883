"""Very long sequences in chunks: row ``i`` of a batch goes on where row ``i`` of the batch before stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.lanes import Chunk, Pieces, Plan, cut_stream, draw, fit, schedule, whole, whole_streams
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.sampler import EpochSampler
from lightning_rnn.data.windows import spans
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
NO_LABEL = -100  # what torch's losses ignore


@dataclass(frozen=True)
class Streams(SplitData):
    """Very long sequences as one split, fetched by the chunks of a :class:`StreamBatchSampler`.

    A batch has ``inputs [B, T, ...]`` padded on the right, ``lengths [B]``, ``starts [B]`` (the row begins a new
    stream) and ``ids [B]`` (the row's stream; -1 with length 0 where a row has nothing left in this epoch).

    Attributes:
        inputs: the streams.
        targets: ``"next"``: of each step the one after it, whatever chunk that is in (the last step of a stream is a
            target only); a ``Ragged`` of the same lengths: the targets of every step; ``[N, ...]``, int64 or floating:
            of each stream, the same in all its chunks, -100 or NaN in rows that have nothing left; None: there are
            none.
        ids: the streams' names in the source; None stands for 0, 1, 2 ...

    Raises:
        DataError: targets of another number or of other lengths than the inputs.
        ConfigError: labels that are neither int64 nor floating.

    Example:
        >>> data = Streams(Ragged.from_list([torch.arange(6), torch.arange(10, 13)]), "next")
        >>> sampler = StreamBatchSampler(data.lengths, lanes=2, chunk=3)
        >>> batches = [data.__getitems__(chunks) for chunks in sampler]
        >>> [batch.inputs.tolist() for batch in batches]
        [[[0, 1, 2], [10, 11, 0]], [[3, 4], [0, 0]]]
        >>> [batch.targets.tolist() for batch in batches]
        [[[1, 2, 3], [11, 12, 0]], [[4, 5], [0, 0]]]
        >>> [batch.lengths.tolist() for batch in batches], [batch.starts.tolist() for batch in batches]
        ([[3, 2], [2, 0]], [[True, True], [False, False]])
    """

    inputs: Ragged
    targets: Literal["next"] | Ragged | Tensor | None = None
    ids: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.targets, Ragged | Tensor) and len(self.targets) != len(self.inputs):
            raise DataError(f"{len(self.inputs)} streams but targets of {len(self.targets)}: give one for each")
        if isinstance(self.targets, Ragged):
            self._check_steps(self.targets)
        elif isinstance(self.targets, Tensor):
            known = self.targets.dtype == torch.int64 or self.targets.is_floating_point()
            require(known, f"labels of streams must be int64 or floating, got {self.targets.dtype}")
        empty = (self.lengths == 0).nonzero().flatten().tolist()
        if empty:
            named = ", ".join(str(self.row_id(row)) for row in empty[:5]) + (", ..." if len(empty) > 5 else "")
            log.warning("%d of %d streams are too short for a step and are left out: %s", len(empty), len(self), named)

    def _check_steps(self, targets: Ragged) -> None:
        wrong = (targets.lengths != self.inputs.lengths).nonzero().flatten().tolist()
        if wrong:
            row = wrong[0]
            steps, given = len(self.inputs[row]), len(targets[row])
            raise DataError(f"stream {self.row_id(row)} has {steps} steps but {given} targets: give one for each step")

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``: steps of each stream that are inputs."""
        return (self.inputs.lengths - 1).clamp(min=0) if isinstance(self.targets, str) else self.inputs.lengths

    def first_key(self) -> Chunk:
        return Chunk(int(self.lengths.argmax()), 0, 1, 1, True)

    def __getitems__(self, keys: list[Chunk]) -> SequenceBatch:
        stream, start, stop, _, begins = (torch.tensor(column) for column in zip(*keys, strict=True))
        width, lengths = keys[0].width, stop - start
        inputs = _chunks(self.inputs, stream, start, lengths, width)
        targets = self._targets(stream, start, lengths, width)
        steps = lengths if isinstance(self.targets, str | Ragged) else None
        return SequenceBatch(inputs, targets, lengths=lengths, target_lengths=steps, ids=stream, starts=begins)

    def _targets(self, stream: Tensor, start: Tensor, lengths: Tensor, width: int) -> Tensor | None:
        if isinstance(self.targets, str):
            return _chunks(self.inputs, stream, start + 1, lengths, width)
        if isinstance(self.targets, Ragged):
            return _chunks(self.targets, stream, start, lengths, width)
        if self.targets is None:
            return None
        labels = self.targets[stream]
        labels[stream < 0] = float("nan") if labels.is_floating_point() else NO_LABEL
        return labels


def _chunks(rows: Ragged, stream: Tensor, start: Tensor, lengths: Tensor, width: int) -> Tensor:
    first = rows.offsets[stream] + start
    return spans(rows.values, first, first, first + lengths, width)[0]


class StreamBatchSampler(EpochSampler[list[Chunk]]):
    """Chunks of streams, so that each row of a batch continues the same row of the batch before.

    A batch of all processes has ``lanes`` rows. A lane goes through whole streams, one after the other; a chunk ends
    where its stream ends, and the lane's next chunk begins the next stream. Streams are shared out so that the lanes
    end together as nearly as may be; one that ran dry has chunks of length 0. With ``split`` there is one stream, cut
    in ``lanes`` equal contiguous parts. Every step of every stream is in exactly one chunk of an epoch. The order is a
    function of (seed, epoch) alone, and an epoch always has the same number of batches (Lightning asks once).

    Args:
        lengths: int64 ``[N]``, steps of each stream.
        lanes: rows of a batch, of all processes together: rank ``r`` of ``world`` has lanes ``r``, ``r + world`` ...,
            so another number of processes sees the same batches.
        chunk: steps of a chunk; the mean of them where lengths are random.
        shuffle: whether the order changes from epoch to epoch: that of the streams or, with ``split``, where the parts
            are cut.
        split: cut one stream in parts.
        chunk_std: standard deviation of the chunks' lengths; AWD-LSTM has 5 with a ``chunk`` of 70.
        half_probability: how often a chunk is about half as long; AWD-LSTM has 0.05.
        seed: of the order and of the lengths.
        rank: this process.
        world: number of processes.

    Raises:
        ConfigError: an option is out of range, there are fewer lanes than processes or fewer streams than lanes, or
            ``split`` with several streams.

    Example:
        >>> import torch
        >>> sampler = StreamBatchSampler(torch.tensor([7]), lanes=2, chunk=3, split=True)
        >>> for chunks in sampler:
        ...     print([(c.start, c.stop, c.begins) for c in chunks])
        [(0, 3, True), (3, 6, True)]
        [(0, 0, False), (6, 7, False)]
    """

    def __init__(
        self,
        lengths: Tensor,
        lanes: int,
        chunk: int,
        *,
        shuffle: bool = False,
        split: bool = False,
        chunk_std: float = 0.0,
        half_probability: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        require(chunk >= 1, f"streams: chunk must be at least 1, got {chunk}")
        require(chunk_std >= 0, f"streams: chunk_std must be at least 0, got {chunk_std}")
        require(0 <= half_probability <= 1, f"streams: half_probability must be 0 to 1, got {half_probability}")
        require(lanes >= world, f"streams: {lanes} lanes cannot be shared out over {world} processes: use more lanes")
        self.lengths, self.lanes, self.chunk = lengths.numpy(), lanes, chunk
        self.shuffle, self.split, self.seed = shuffle, split, seed
        self.chunk_std, self.half_probability = chunk_std, half_probability
        self.rank, self.world = rank, world
        self._check_lanes()
        self._steps = self._count()
        super().__init__()

    def _check_lanes(self) -> None:
        number, steps = np.count_nonzero(self.lengths), int(self.lengths.sum())
        if self.split:
            require(len(self.lengths) == 1, f"streams: split cuts one stream, got {len(self.lengths)}: join them")
            require(steps >= self.lanes, f"streams: {steps} steps cannot fill {self.lanes} lanes: use fewer lanes")
        elif number < self.lanes:
            raise ConfigError(
                f"streams: {number} cannot fill {self.lanes} lanes: use fewer lanes, or split for one stream"
            )

    def _count(self) -> int:
        """Batches of every epoch: what random chunks took once, within what chunks can be made to take in any order."""
        pieces, rng = self._pieces(None), np.random.default_rng(self.seed)
        chunks = -(-(pieces.stop - pieces.start) // self.chunk)
        fullest = steps = int(np.bincount(pieces.lane, weights=chunks).max())
        while (taken := schedule(pieces, whole(self._draw(rng, steps)))[1]) > steps:
            steps *= 2
        even = -(-int(self.lengths.sum()) // self.lanes)  # some lane has as many steps, in any order
        over = int(self.split and self.shuffle)  # a part that goes over the stream's end has a chunk more
        return max(fullest, min(even, max(taken, fullest + over)))

    def __len__(self) -> int:
        return self._steps

    def _pieces(self, rng: np.random.Generator | None) -> Pieces:
        if not self.split:
            return whole_streams(self.lengths, self.lanes, self.chunk, rng)
        length = int(self.lengths[0])
        return cut_stream(length, self.lanes, 0 if rng is None else int(rng.integers(length)))

    def _draw(self, rng: np.random.Generator, steps: int) -> npt.NDArray[np.float64]:
        return draw(rng, steps, self.chunk, self.chunk_std, self.half_probability)

    def plan(self) -> Plan:
        """This epoch's chunks, those of all processes."""
        rng = np.random.default_rng((self.seed, self.epoch))
        pieces = self._pieces(rng if self.shuffle else None)
        return Plan(self.lanes, pieces, fit(pieces, self._draw(rng, self._steps)))

    def __iter__(self) -> Iterator[list[Chunk]]:
        start, self.start = self.start, 0
        plan = self.plan()
        for step in range(start, self._steps):
            yield plan.batch(step)[self.rank :: self.world]
