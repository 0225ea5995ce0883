"""Texts that are cut into tokens anew in every epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.sentencepiece import SentencePieceTokenizer, check_sampling

_STEP = np.uint64(0x9E3779B97F4A7C15)


def row_seeds(seed: int, epoch: int, rows: Tensor) -> list[int]:
    """A number from 0 to 2**32 - 1 for each row (int64 ``[B]``), hashed from seed, epoch and row (splitmix64).

    Example:
        >>> row_seeds(0, 0, torch.tensor([0, 1]))
        [595752380, 791848836]
    """
    number = np.uint64(seed), np.uint64(epoch), rows.numpy().astype(np.uint64)
    seeds: list[int] = (hashed(*number) >> np.uint64(32)).tolist()
    return seeds


def hashed(*parts: np.uint64 | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One number from 0 to 2**64 - 1 for each place of the parts, broadcast: all of them hashed, in order (splitmix64).

    At least one of the parts is an array: numbers would warn that they overflow.

    Example:
        >>> hashed(np.uint64(0), np.arange(3, dtype=np.uint64)).shape
        (3,)
    """
    state = np.zeros([1] * max(np.ndim(part) for part in parts), dtype=np.uint64)
    for part in parts:
        state = (state ^ part) + _STEP
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


class SampledText:
    """Texts whose segmentation is a function of (seed, epoch, row): the same after a resume and on more processes.

    Args:
        texts: one for each row.
        tokenizer: of kind ``unigram`` or ``bpe``.
        alpha: see :meth:`SentencePieceTokenizer.sample`.
        seed: of all segmentations.
        max_length: rows are cut to this many tokens; None keeps all.

    Raises:
        ConfigError: the tokenizer has only one way to cut a text, or ``alpha`` is out of range.

    Example:
        >>> tokenizer = SentencePieceTokenizer.train(["banana bandana cabana"], 14, "bpe")
        >>> text = SampledText(["banana", "cabana"], tokenizer, 0.5)
        >>> batches = []
        >>> for epoch in (0, 1, 0):
        ...     text.set_epoch(epoch)
        ...     batches.append(text.pad(torch.tensor([1, 0]))[0].tolist())
        >>> batches[0] == batches[2] != batches[1]
        True
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: SentencePieceTokenizer,
        alpha: float,
        seed: int = 0,
        max_length: int | None = None,
    ) -> None:
        check_sampling(tokenizer.kind, alpha)
        self.texts, self.tokenizer, self.alpha = texts, tokenizer, alpha
        self.seed, self.max_length, self.epoch = seed, max_length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def draw(self, rows: Tensor) -> Ragged:
        """The tokens of these rows (int64 ``[B]``) in this epoch."""
        texts = [self.texts[row] for row in rows.tolist()]
        tokens = self.tokenizer.sample(texts, row_seeds(self.seed, self.epoch, rows), self.alpha)
        return tokens if self.max_length is None else tokens.cut(self.max_length)

    def pad(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.draw(rows)
        return tokens.pad(torch.arange(len(tokens)))
