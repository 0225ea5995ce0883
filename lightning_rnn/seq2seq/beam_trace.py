"""Bookkeeping of beam search by tensors: where every row came from, and the best outputs of each sentence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.seq2seq.step import NEVER, wide


class Place(NamedTuple):
    """Where an output stands in a :class:`Trace`, int64 each: its length, the row of its last step, its last word."""

    length: Tensor
    row: Tensor
    last: Tensor


class Entries(NamedTuple):
    """Outputs, ``[A, C]`` each; ``score`` (float64) is minus infinity where there is none. See :class:`Place`."""

    score: Tensor
    log_prob: Tensor
    ended: Tensor
    length: Tensor
    row: Tensor
    last: Tensor


class Trace:
    """Every step's rows: the word each read, the row before it that it came from, its alignment."""

    def __init__(self) -> None:
        self.words: list[Tensor] = []
        self.parents: list[Tensor] = []
        self.alignments: list[Tensor] = []

    def read(self, words: Tensor, parents: Tensor) -> None:
        """Rows of the next step: ``words [N]``, and ``parents [N]`` among the rows of this one."""
        self.words.append(words)
        self.parents.append(parents)

    def paths(self, place: Place, steps: int) -> tuple[Tensor, Tensor]:
        """Words and rows of outputs, ``[M, steps]`` each; 0 beyond their lengths."""
        words, rows = place.last.new_zeros(2, place.last.shape[0], steps)
        row, word = place.row, place.last
        for time in range(steps - 1, -1, -1):
            if time + 1 < steps:
                after = row.where(place.length > time + 1, 0)
                row = self.parents[time + 1].index_select(0, after)
                word = self.words[time + 1].index_select(0, after)
            last = place.length == time + 1
            row, word = place.row.where(last, row), place.last.where(last, word)
            words[:, time], rows[:, time] = word, row
        inside = torch.arange(steps, device=words.device) < place.length[:, None]
        return words.where(inside, 0), rows.where(inside, 0)

    def aligned(self, rows: Tensor) -> Tensor | None:
        """Alignments ``[M, T, S]`` along ``rows [M, T]``; None where the steps gave none."""
        steps = rows.shape[1]
        if len(self.alignments) < max(1, steps):
            return None
        taken = [self.alignments[time].index_select(0, rows[:, time]) for time in range(steps)]
        return torch.stack(taken, 1) if taken else self.alignments[0].new_zeros(rows.shape[0], 0, 0)


class Best:
    """The best ``size`` outputs of each of ``sentences``: those that ended first, then by score, then the earlier."""

    def __init__(self, sentences: int, size: int, device: torch.device) -> None:
        none = wide(torch.full((sentences, size), NEVER, device=device))
        zeros = torch.zeros(sentences, size, dtype=torch.int64, device=device)
        self.entries = Entries(none, none.clone(), zeros.bool(), zeros, zeros.clone(), zeros.clone())

    def insert(self, sentences: Tensor, new: Entries) -> None:
        """Take in outputs ``[A, C]`` of ``sentences [A]``."""
        size = self.entries.score.shape[1]
        both = Entries(*(torch.cat([old[sentences], one], 1) for old, one in zip(self.entries, new, strict=True)))
        order = both.score.sort(dim=1, descending=True, stable=True).indices
        ended = both.ended.gather(1, order).int()
        order = order.gather(1, ended.sort(dim=1, descending=True, stable=True).indices)[:, :size]
        for old, one in zip(self.entries, both, strict=True):
            old.index_copy_(0, sentences, one.gather(1, order))

    def worst(self, sentences: Tensor, count: int) -> Tensor:
        """Score of the ``count``-th that ended, ``[A]``; minus infinity where there are fewer."""
        score, ended = self.entries.score[sentences, count - 1], self.entries.ended[sentences, count - 1]
        return score.where(ended, NEVER)
