"""Parts of the data: one long stream of tokens, or every line for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged, SplitData, Streams
from lightning_rnn.data.lanes import Chunk
from lightning_rnn.types import SequenceBatch

from .text import CHARACTERS, TOKEN, WORDS


@dataclass(frozen=True)
class TextStream(SplitData):
    """A whole text as one stream; its keys are chunks of it, see :class:`lightning_rnn.data.Streams`.

    A batch has ``inputs [B, T]``, and as targets ``tokens``, ``words`` and ``characters``, all ``[B, T]``: the token
    after each, and what it stands for; 0 at padding. ``lengths`` is None where no row is padded.

    Attributes:
        inputs: the whole text in one row, ``[S, 3]``, see :func:`.text.encode_lines`.
        origin: where it was read, for messages.

    Example:
        >>> from lightning_rnn.data import StreamBatchSampler
        >>> text = torch.tensor([[7, 1, 4], [8, 1, 3], [3, 1, 1]])
        >>> stream = TextStream(Ragged(text, torch.tensor([0, 3])))
        >>> batch = stream.__getitems__(next(iter(StreamBatchSampler(stream.lengths, 1, 2, split=True))))
        >>> batch.inputs.tolist(), batch.targets["tokens"].tolist(), batch.targets["characters"].tolist()
        ([[7, 8]], [[8, 3]], [[3, 1]])
    """

    inputs: Ragged
    origin: str = ""
    ids: Sequence[str | int] | None = None
    streams: Streams = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", Streams(self.inputs, "next"))

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[1]``: steps that are inputs."""
        return self.streams.lengths

    def first_key(self) -> Chunk:
        return self.streams.first_key()

    def __getitems__(self, keys: list[Chunk]) -> SequenceBatch:
        batch = self.streams.__getitems__(keys)
        assert isinstance(batch.targets, Tensor) and batch.lengths is not None
        lengths = None if bool((batch.lengths == batch.inputs.shape[1]).all()) else batch.lengths
        return SequenceBatch(
            batch.inputs[..., TOKEN].contiguous(),
            _named(batch.targets),
            lengths,
            target_lengths=lengths,
            ids=batch.ids,
            starts=batch.starts,
        )


@dataclass(frozen=True)
class TextRows(SplitData):
    """Every line for itself; its keys are row numbers, its batches those of :class:`TextStream` without ``starts``.

    Attributes:
        inputs: the lines ``[S, 3]``, each after a line end, see :func:`.text.begun`.
        texts: the lines as they were read.
        origin: where they were read, for messages.

    Example:
        >>> lines = Ragged(torch.tensor([[3, 0, 0], [7, 1, 4], [3, 1, 1]]), torch.tensor([0, 3]))
        >>> batch = TextRows(lines, ["word"]).__getitems__([0])
        >>> batch.inputs.tolist(), batch.targets["tokens"].tolist()
        ([[3, 7]], [[7, 3]])
    """

    inputs: Ragged
    texts: Sequence[str] = ()
    origin: str = ""
    ids: Sequence[str | int] | None = None

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``: steps that are inputs."""
        return self.inputs.lengths - 1

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        rows, lengths = self.inputs.pad(index)
        last = torch.arange(rows.shape[1]) == (lengths - 1).unsqueeze(1)  # each row's last token is a target only
        inputs = rows[..., TOKEN].masked_fill(last, 0)[:, :-1].contiguous()
        return SequenceBatch(inputs, _named(rows[:, 1:]), lengths - 1, target_lengths=lengths - 1, ids=index)


def _named(columns: Tensor) -> dict[str, Any]:
    """``[B, T, 3]`` → the three, each ``[B, T]``."""
    names = {"tokens": TOKEN, "words": WORDS, "characters": CHARACTERS}
    return {name: columns[..., column].contiguous() for name, column in names.items()}
