"""One step's candidates of beam search: the best continuations of each sentence, and how close the choice was."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.seq2seq.step import NEVER, wide


class Candidates(NamedTuple):
    """Continuations of each sentence, best first, ``[A, C]`` each.

    Attributes:
        totals: what they are compared by, float64; minus infinity: there is none.
        log_probs: sums of the model's log-probabilities, float64.
        words: the new words.
        beams: which of the sentence's rows each continues.
    """

    totals: Tensor
    log_probs: Tensor
    words: Tensor
    beams: Tensor

    def take(self, order: Tensor) -> Candidates:
        """Some of them, by their places ``[A, C']``."""
        return Candidates(*(one.gather(1, order) for one in self))


def top_words(log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest of each row and their words, ``[N, count]``; of equals the lower word first.

    Example:
        >>> top_words(torch.tensor([[0.0, 2.0, 1.0, 2.0]]), 3)[1].tolist()
        [[1, 3, 2]]
    """
    values, words = log_probs.topk(min(count, log_probs.shape[1]), dim=1)
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > NEVER)).any(1)
    if bool(tied.any()):  # rare: topk promises no order among equals
        rows = tied.nonzero().flatten()
        ordered, order = log_probs.index_select(0, rows).sort(dim=1, descending=True, stable=True)
        values = values.index_copy(0, rows, ordered[:, : values.shape[1]])
        words = words.index_copy(0, rows, order[:, : values.shape[1]])
    return values, words


def candidates(scores: Tensor, sums: Tensor, allowed: Tensor, log_probs: Tensor) -> Candidates:
    """The best ``2K + 1`` continuations of each sentence: among them ``K + 1`` that do not end, as a row ends once.

    Args:
        scores: of the rows so far, float64 ``[A, K]``; minus infinity where a row is no hypothesis.
        sums: of the model's log-probabilities, float64 ``[A, K]``.
        allowed: what this step adds to ``scores``, ``[A * K, V]``.
        log_probs: what it adds to ``sums``, ``[A * K, V]``.
    """
    sentences, beams = scores.shape
    values, words = top_words(allowed, 2 * beams + 1)
    count = words.shape[1]
    added = values if allowed is log_probs else log_probs.gather(1, words)
    totals = (scores.reshape(-1, 1) + wide(values)).view(sentences, -1)
    order = totals.sort(dim=1, descending=True, stable=True).indices[:, : 2 * beams + 1]
    every = Candidates(
        totals,
        (sums.reshape(-1, 1) + wide(added)).view(sentences, -1),
        words.view(sentences, -1),
        (torch.arange(totals.shape[1], device=totals.device) // count).expand_as(totals),
    )
    return every.take(order)


def continuing(found: Candidates, eos: int, beams: int) -> tuple[Candidates, Tensor]:
    """The best ``beams`` candidates that do not end, and by how much the last of them beat the next, ``[A]``."""
    order = (found.words == eos).int().sort(dim=1, stable=True).indices[:, : beams + 1]
    first = found.take(order)
    ended = first.words == eos  # where there are too few others
    first = first._replace(totals=first.totals.masked_fill(ended, NEVER))
    kept = Candidates(*(one[:, :beams] for one in first))
    if first.totals.shape[1] <= beams:
        return kept, first.totals.new_full(first.totals.shape[:1], float("inf"))
    return kept, _gap(first.totals[:, beams - 1], first.totals[:, beams])


def ending_gap(found: Candidates, ended: Tensor, beams: int) -> Tensor:
    """The smallest distance of a candidate that ends (``ended``) from the limit of the best ``beams``, ``[A]``."""
    if found.totals.shape[1] <= beams:
        return found.totals.new_full(found.totals.shape[:1], float("inf"))
    place = torch.arange(found.totals.shape[1], device=ended.device)
    limit = torch.where(place < beams, found.totals[:, beams, None], found.totals[:, beams - 1, None])
    return _gap(found.totals, limit).masked_fill(~ended, float("inf")).amin(1)


def _gap(one: Tensor, other: Tensor) -> Tensor:
    """Distance; infinite where either is no candidate."""
    real = (one > NEVER) & (other > NEVER)
    return (one - other).abs().where(real, float("inf"))
