"""What beam search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_rnn.seq2seq.beam_trace import Entries, Place, Trace
from lightning_rnn.seq2seq.step import NEVER


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One output of beam search.

    Attributes:
        tokens: int64 ``[T]``; the end is the last of them if it is ``finished``.
        score: what hypotheses are ranked by: ``log_prob / length penalty + coverage penalty``.
        log_prob: sum of the model's log-probabilities of ``tokens``.
        finished: False where it stopped at the maximum length, or because no word was allowed.
        alignment: weights over the source for each of ``tokens``, ``[T, S]``; None where the step gives none.
        margin: the smallest difference between two candidates that decided this sentence's search, one kept and one
            dropped. Where it is not above rounding (:func:`near_ties`), another batch may find other words.
    """

    tokens: Tensor
    score: float
    log_prob: float
    finished: bool
    alignment: Tensor | None
    margin: float

    @property
    def words(self) -> Tensor:
        """``tokens`` without the end; their rows of the alignment are ``alignment[:len(words)]``."""
        return self.tokens[:-1] if self.finished else self.tokens


def near_ties(found: Sequence[Sequence[Hypothesis]], tolerance: float = 1e-5) -> list[int]:
    """Sentences in which a difference of at most ``tolerance`` decided what was kept.

    Example:
        >>> near_ties([[], []])
        []
    """
    return [index for index, best in enumerate(found) if best and best[0].margin <= tolerance]


def hypotheses(
    entries: Entries, trace: Trace, margins: Tensor, source_lengths: Tensor | None
) -> list[list[Hypothesis]]:
    """The n-best of every sentence, from bookkeeping of one more than that (``[B, n + 1]``)."""
    size = entries.score.shape[1] - 1
    place = Place(*(one[:, :size].flatten() for one in entries[3:]))
    steps = int(place.length.max()) if place.length.numel() else 0
    words, rows = trace.paths(place, steps)
    aligned, lengths = trace.aligned(rows), place.length.tolist()
    scores, sums, ended = (one[:, :size].flatten().tolist() for one in entries[:3])
    sources = [None] * len(margins) if source_lengths is None else source_lengths.tolist()
    found: list[list[Hypothesis]] = [[] for _ in margins]
    for i, length in enumerate(lengths):
        if scores[i] > NEVER:
            weights = None if aligned is None else aligned[i, :length, : sources[i // size]]
            margin = float(margins[i // size])
            one = Hypothesis(words[i, :length], scores[i], sums[i], bool(ended[i]), weights, margin)
            found[i // size].append(one)
    return found
