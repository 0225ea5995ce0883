"""Running text to what a step learns from: centre words, the words around them, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged

Ints = npt.NDArray[np.signedinteger]
NONE = -1  # in the place of a context word where there is none


class Pairs(NamedTuple):
    """``N`` centre words of the text with what is around them, those of like reach together.

    Attributes:
        center: int64 ``[N]``, from 0.
        contexts: int64 ``[N, 2 W]``, the ``W`` words before, then the ``W`` after; :data:`NONE` beyond the reach, and
            where the text begins or ends.
        reach: int64 ``[N]``, rising: how far the window of each centre goes, from 1 to ``W``.
        noise: int64 ``[N, K]``, words drawn from the noise distribution, shared by all pairs of a centre.
        row: int64 ``[N]``, the row of the batch.
    """

    center: Tensor
    contexts: Tensor
    reach: Tensor
    noise: Tensor
    row: Tensor


@dataclass(frozen=True)
class PairMaker:
    """What becomes of pieces of text in an epoch: a function of (seed, epoch, row), whatever the batch.

    Attributes:
        keep: chance that a word of the running text is kept, ``[V]``, see :func:`.vocabulary.keep_chances`.
        noise: running sums of the noise distribution, ``[V]``.
        window: words on either side, at most.
        dynamic: whether the window of each word is drawn from 1 to ``window`` (Mikolov et al. 2013); else it is all.
        negatives: words drawn for each centre.
        seed: of all draws.
    """

    keep: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]
    window: int
    dynamic: bool
    negatives: int
    seed: int

    def make(self, pieces: Ragged, rows: Sequence[int], epoch: int) -> Pairs:
        """The pairs of some rows of ``pieces`` (ids from 1, 0 between texts) in an epoch.

        Example:
            >>> maker = PairMaker(np.ones(9), np.linspace(0.1, 1, 9), 2, False, 1, seed=0)
            >>> pairs = maker.make(Ragged.from_list([torch.tensor([1, 2, 3, 0, 4])]), [0], epoch=0)
            >>> pairs.center.tolist(), pairs.contexts[0].tolist(), pairs.noise.shape
            ([0, 1, 2], [-1, -1, 1, 2], torch.Size([3, 1]))
        """
        drawn = [self._draw(pieces[row].numpy(), row, epoch) for row in rows]
        ids = np.concatenate([one[0] for one in drawn])  # ids from 1; each row ends in 0
        reach = np.concatenate([one[1] for one in drawn])
        noise = np.concatenate([one[2] for one in drawn])
        row = np.repeat(np.arange(len(drawn)), [len(one[1]) for one in drawn])
        contexts = around(ids, self.window)
        places = np.arange(2 * self.window)
        distance = np.where(places < self.window, self.window - places, places - self.window + 1)
        contexts[distance > reach[:, None]] = NONE
        found = np.flatnonzero((contexts != NONE).any(1))
        order = found[np.argsort(reach[found], kind="stable")]
        center = ids[ids > 0] - 1
        columns = center[order], contexts[order], reach[order], noise[order], row[order]
        return Pairs(*(torch.from_numpy(column.astype(np.int64)) for column in columns))

    def _draw(self, ids: Ints, row: int, epoch: int) -> tuple[Ints, Ints, Ints]:
        """The words of a row that are kept, their windows and their noise."""
        random = np.random.default_rng((self.seed, epoch, row))
        kept = ids[(ids == 0) | (random.random(len(ids)) < self.keep[ids - 1])]
        words = int((kept > 0).sum())
        reach = random.integers(1, self.window + 1, words) if self.dynamic else np.full(words, self.window)
        noise = np.searchsorted(self.noise, random.random((words, self.negatives)), side="right")
        return np.append(kept, 0), reach, np.minimum(noise, len(self.noise) - 1)


def around(ids: Ints, window: int) -> Ints:
    """The words before and after each word of running text (0: the end of one), from 0; :data:`NONE` beyond an end.

    Example:
        >>> around(np.array([5, 6, 0, 7, 0]), 1).tolist()
        [[-1, 5], [4, -1], [-1, -1]]
    """
    text = np.cumsum(ids == 0)[ids > 0]
    words = ids[ids > 0] - 1
    if not len(words):
        return np.empty((0, 2 * window), np.int64)
    edge = np.full(window, -1)
    near = np.lib.stride_tricks.sliding_window_view(np.concatenate([edge, words, edge]), 2 * window + 1)
    same = np.lib.stride_tricks.sliding_window_view(np.concatenate([edge, text, edge]), 2 * window + 1)
    columns = np.delete(np.arange(2 * window + 1), window)
    return np.where(same[:, columns] == text[:, None], near[:, columns], NONE)
