"""How beam search searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.penalties import LengthPenalty

StopRule = Literal["exact", "next", "count"]


@dataclass(frozen=True)
class BeamOptions:
    """How beam search searches.

    Attributes:
        beam_size: hypotheses ``K`` of a sentence that are continued at every step.
        n_best: outputs of each sentence, at most ``beam_size``; there are fewer where fewer were found.
        length_penalty: ``none``, ``wu`` or ``average``, see :func:`~lightning_rnn.seq2seq.penalties.length_penalty`.
        alpha: of ``wu``.
        coverage_beta: of :func:`~lightning_rnn.seq2seq.penalties.coverage_penalty`; 0: none.
        stop: when a sentence's search ends before the maximum length. ``exact``: once no hypothesis that is still
            continued can enter the n-best, not even if all its words to come were certain and it ended at the length
            that suits it best (its log-probability over the penalty of the maximum length, no coverage penalty).
            ``next``: the same, if it ended with the next word; it stops sooner, where ``wu`` or ``average`` meet a
            generous ``max_length``, and may miss a longer output of a better score. ``count``: once ``beam_size`` have
            ended (fairseq's rule); a beam of one is then greedy decoding under every penalty.

    Raises:
        ConfigError: an option is out of its range.

    Example:
        >>> BeamOptions(beam_size=4, n_best=5)
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: n_best is 5 with a beam of 4: give 1 to 4, or a larger beam_size
    """

    beam_size: int = 5
    n_best: int = 1
    length_penalty: LengthPenalty = "average"
    alpha: float = 0.6
    coverage_beta: float = 0.0
    stop: StopRule = "exact"

    def __post_init__(self) -> None:
        size, best = self.beam_size, self.n_best
        require(size >= 1, f"beam_size is {size}: give 1 or more")
        require(1 <= best <= size, f"n_best is {best} with a beam of {size}: give 1 to {size}, or a larger beam_size")
        require(self.alpha >= 0, f"alpha is {self.alpha}: give 0 or more")
        require(self.coverage_beta >= 0, f"coverage_beta is {self.coverage_beta}: give 0 or more")
        for name, value, known in (
            ("length_penalty", self.length_penalty, get_args(LengthPenalty)),
            ("stop", self.stop, get_args(StopRule)),
        ):
            require(value in known, f"{name} is {value!r}: use {', '.join(known)}")
