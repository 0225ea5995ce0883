"""SentencePiece's random segmentations, drawn from seeds: its own generator cannot be repeated in another process.

SentencePiece 0.2.3 salts its generator in each process, whatever the seed. A piece never goes over a space, so the
words of a text are cut one by one, and what is known of a word is kept.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable
from typing import NamedTuple

from lightning_rnn.data.tokenizer_base import UNK

SPACE = "▁"
MOST_WORDS = 200_000  # kept
_UNKNOWN_PENALTY = 10.0  # below the least score, as SentencePiece has it

Draw = Callable[[], float]


class Piece(NamedTuple):
    """A piece of the vocabulary: its id, and its log probability (unigram) or minus its rank (bpe)."""

    id: int
    score: float


class Segmenter(ABC):
    """Cuts normalized text (``▁`` for a space) at random.

    Args:
        pieces: the vocabulary without control and unknown pieces.
        alpha: see :meth:`SentencePieceTokenizer.sample`.
    """

    def __init__(self, pieces: dict[str, Piece], alpha: float) -> None:
        self.pieces, self.alpha = pieces, alpha
        self._by_word = all(SPACE not in text[1:] for text in pieces)

    def __call__(self, text: str, seed: int) -> list[int]:
        """Ids, a function of (text, seed); unknown characters next to each other are one unknown."""
        draw = random.Random(seed).random
        ids = [one for word in self._words(text) for one in self.cut(word, draw)]
        if UNK not in ids:
            return ids
        return [one for i, one in enumerate(ids) if one != UNK or i == 0 or ids[i - 1] != UNK]

    def _words(self, text: str) -> list[str]:
        if not self._by_word:
            return [text]
        first, *rest = text.split(SPACE)
        return [word for word in (first, *(SPACE + word for word in rest)) if word]

    @abstractmethod
    def cut(self, word: str, draw: Draw) -> list[int]:
        """Ids of a word; ``draw`` gives numbers from 0 to below 1."""


class UnigramSegmenter(Segmenter):
    r"""Draws a segmentation with probability proportional to :math:`\\exp(\\alpha \\sum_i s_i)` (Kudo 2018, §3.2).

    Forward filtering, backward sampling: the forward sums of a word are computed once.

    Example:
        >>> pieces = {"a": Piece(4, -1.0), "b": Piece(5, -1.0), "ab": Piece(6, -0.5)}
        >>> [UnigramSegmenter(pieces, 1.0)("ab", seed) for seed in (0, 1)]
        [[4, 5], [6]]
    """

    def __init__(self, pieces: dict[str, Piece], alpha: float) -> None:
        super().__init__(pieces, alpha)
        self._longest = max(map(len, pieces))
        least = min(piece.score for piece in pieces.values())
        self._unknown = Piece(UNK, least - _UNKNOWN_PENALTY)
        self._known: dict[str, list[Ends]] = {}

    def cut(self, word: str, draw: Draw) -> list[int]:
        if len(self._known) > MOST_WORDS:
            self._known.clear()
        lattice = self._known.get(word)
        if lattice is None:
            lattice = self._known[word] = self._lattice(word)
        ids, end = [], len(word)
        while end:
            ends = lattice[end]
            chosen = bisect(ends.sums, draw() * ends.sums[-1])
            ids.append(ends.ids[chosen])
            end = ends.starts[chosen]
        return ids[::-1]

    def _lattice(self, word: str) -> list[Ends]:
        """For each place in the word, the pieces that end there, with running sums of their shares."""
        forward, lattice = [0.0], [Ends([], [], [])]
        for end in range(1, len(word) + 1):
            found = [
                (start, self.pieces.get(word[start:end]) or (self._unknown if start == end - 1 else None))
                for start in range(max(0, end - self._longest), end)
            ]
            there = [(start, piece) for start, piece in found if piece is not None]
            scores = [forward[start] + self.alpha * piece.score for start, piece in there]
            best = max(scores)
            shares = [math.exp(score - best) for score in scores]
            lattice.append(
                Ends([s for s, _ in there], [piece.id for _, piece in there], [*itertools.accumulate(shares)])
            )
            forward.append(best + math.log(sum(shares)))
        return lattice


class Ends(NamedTuple):
    """The pieces that end at one place."""

    starts: list[int]
    ids: list[int]
    sums: list[float]


class BPESegmenter(Segmenter):
    """Leaves each merge out with probability ``alpha`` (Provilkov et al. 2020, §3.1).

    Merges are tried in the order of their rank, from the left, as in SentencePiece; one that was left out may come back
    only where a neighbour has merged.

    Example:
        >>> pieces = {"a": Piece(4, -2.0), "b": Piece(5, -3.0), "ab": Piece(6, -1.0)}
        >>> [BPESegmenter(pieces, 0.5)("ab", seed) for seed in (0, 1)]
        [[6], [4, 5]]
    """

    def cut(self, word: str, draw: Draw) -> list[int]:
        parts: list[str] = list(word)  # "" where a part was merged into one on its left
        before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
        agenda: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts):
                piece = self.pieces.get(merged := parts[left] + parts[right])
                if piece is not None:
                    heapq.heappush(agenda, (-piece.score, left, right, merged))

        for left in range(len(parts) - 1):
            offer(left, left + 1)
        while agenda:
            _, left, right, merged = heapq.heappop(agenda)
            stale = not parts[left] or not parts[right] or len(parts[left]) + len(parts[right]) != len(merged)
            if stale or draw() < self.alpha:
                continue
            parts[left], parts[right] = merged, ""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [self.pieces[part].id if part in self.pieces else UNK for part in parts if part]


SEGMENTERS: dict[str, type[Segmenter]] = {"unigram": UnigramSegmenter, "bpe": BPESegmenter}
