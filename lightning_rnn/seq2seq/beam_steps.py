"""What beam search does at every step; see :func:`lightning_rnn.seq2seq.beam.beam_search`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.functional.masks import sequence_mask
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.beam_trace import Best, Entries, Trace
from lightning_rnn.seq2seq.candidates import Candidates, candidates, continuing, ending_gap
from lightning_rnn.seq2seq.constraints import constrain, keeps_history
from lightning_rnn.seq2seq.hypotheses import Hypothesis, hypotheses
from lightning_rnn.seq2seq.penalties import coverage_penalty, length_penalty
from lightning_rnn.seq2seq.request import Plan, Request
from lightning_rnn.seq2seq.step import NEVER, DecodeStep, check_numbers, checked, repeat_rows, take_rows, wide
from lightning_rnn.types import Nest


@dataclass(frozen=True)
class Beams:
    """The sentences still searched: ``A`` of them with ``K`` rows each, ``N = A * K``.

    Attributes:
        time: words that every row has.
        sentences: which of the batch, ``[A]``.
        plan: what is asked for them.
        scores: of the rows, float64 ``[A, K]``; minus infinity where a row is no hypothesis.
        log_probs: sums of the model's log-probabilities, float64 ``[A, K]``.
        tokens: to be read next, ``[N]``.
        state: leaves ``[N, ...]``.
        constants: leaves ``[A, ...]``.
        history: the words of each row, ``[N, time]``, where a rule needs them.
        coverage: attention that each source position has had, ``[N, S]``, where there is a penalty for it.
    """

    time: int
    sentences: Tensor
    plan: Plan
    scores: Tensor
    log_probs: Tensor
    tokens: Tensor
    state: Nest
    constants: Nest
    history: Tensor | None
    coverage: Tensor | None


class Search:
    """One call of beam search over ``sentences`` sentences."""

    def __init__(
        self, step: DecodeStep, options: BeamOptions, request: Request, sentences: int, device: torch.device
    ) -> None:
        self.step, self.options, self.request = step, options, request
        self.plan = request.plan(sentences, device)
        if options.coverage_beta and self.plan.source_lengths is None:
            raise ValueError("beam search: a coverage penalty needs Request.source_lengths, [B]")
        self.trace = Trace()
        self.best = Best(sentences, options.n_best + 1, device)  # one more, to know how close it was
        self.ended = torch.zeros(sentences, dtype=torch.int64, device=device)
        self.margin = wide(torch.full((sentences,), float("inf"), device=device))

    def start(self, state: Nest, constants: Nest) -> Beams:
        """Every sentence with its first row alone; those that may write nothing are done."""
        size, longest = self.options.beam_size, self.plan.max_length
        sentences = longest.nonzero().flatten()
        self._write_nothing((longest == 0).nonzero().flatten())
        if sentences.shape[0] < longest.shape[0]:
            state, constants = take_rows((state, constants), sentences)
        rows = sentences.shape[0] * size
        scores = wide(torch.full((sentences.shape[0], size), NEVER, device=longest.device))
        scores[:, 0] = 0
        tokens = repeat_rows(self.request.first_words(len(longest), longest.device)[sentences], size)
        self.trace.read(tokens, torch.zeros_like(tokens))
        return Beams(
            time=0,
            sentences=sentences,
            plan=self.plan.take(sentences),
            scores=scores,
            log_probs=scores,
            tokens=tokens,
            state=repeat_rows(state, size),
            constants=constants,
            history=tokens.new_zeros(rows, 0) if keeps_history(self.request) else None,
            coverage=None,
        )

    def advance(self, beams: Beams) -> Beams:
        """One step further."""
        size = self.options.beam_size
        out = checked(self.step(beams.tokens, beams.state, beams.constants), beams.tokens.shape[0])
        if out.alignment is not None:
            self.trace.alignments.append(out.alignment)
        allowed = constrain(out.log_probs, beams.time, beams.history, self.request, beams.plan)
        found = candidates(beams.scores, beams.log_probs, allowed, out.log_probs)
        check_numbers(found.totals[:, 0], beams.sentences, beams.time)
        kept, gap = continuing(found, self.request.eos, size)
        covered = self._covered(beams, out.alignment)
        ended = (found.words == self.request.eos) & (found.totals > NEVER)
        self._note(beams.sentences, torch.minimum(gap, ending_gap(found, ended, size)))
        best = found.take(torch.arange(size, device=gap.device).expand_as(kept.words))
        self._insert(beams, covered, best, ended[:, :size], ended=True)
        going = self._going(beams, covered, found, kept)
        return self._next(beams, covered, kept, out.state, going)

    def results(self) -> list[list[Hypothesis]]:
        """What was found, for every sentence."""
        return hypotheses(self.best.entries, self.trace, self._margins(), self.plan.source_lengths)

    def _covered(self, beams: Beams, alignment: Tensor | None) -> Tensor | None:
        """Attention so far, this step's with it, ``[N, S]``; None without a penalty for it."""
        if not self.options.coverage_beta:
            return None
        if alignment is None:
            raise ValueError("beam search: a coverage penalty needs a step that gives alignments")
        return alignment if beams.coverage is None else beams.coverage + alignment

    def _score(self, beams: Beams, covered: Tensor | None, some: Candidates, length: int) -> Tensor:
        """Scores of hypotheses of this length, ``[A, C]``."""
        lengths = torch.tensor(length, device=some.totals.device)
        scores = some.totals / length_penalty(self.options.length_penalty, lengths, self.options.alpha)
        if covered is None or beams.plan.source_lengths is None:
            return scores
        valid = sequence_mask(beams.plan.source_lengths, covered.shape[1])[:, None]
        rows = covered.view(*beams.scores.shape, -1)
        return scores + coverage_penalty(rows, valid, self.options.coverage_beta).gather(1, some.beams)

    def _insert(self, beams: Beams, covered: Tensor | None, some: Candidates, which: Tensor, *, ended: bool) -> None:
        """Take hypotheses ``which`` (bool ``[A, C]``), one word longer than ``beams``, into the n-best."""
        if not bool(which.any()):
            return
        length = beams.time + 1
        scores = self._score(beams, covered, some, length).where(which, NEVER)
        place = (torch.full_like(some.words, length), first_rows(beams.scores) + some.beams, some.words)
        self.best.insert(beams.sentences, Entries(scores, some.log_probs, which & ended, *place))
        if ended:
            self.ended.index_add_(0, beams.sentences, which.sum(1))

    def _going(self, beams: Beams, covered: Tensor | None, found: Candidates, kept: Candidates) -> Tensor:
        """Which sentences go on, bool ``[A]``; rows that cannot are taken into the n-best, not finished."""
        stuck = found.totals[:, 0] == NEVER
        if bool(stuck.any()):
            self._write_no_more(beams, stuck)
        last = beams.plan.max_length == beams.time + 1
        self._insert(beams, covered, kept, last[:, None] & (kept.totals > NEVER), ended=False)
        return (kept.totals[:, 0] > NEVER) & ~last & ~self._stops(beams, kept.totals[:, 0])

    def _stops(self, beams: Beams, highest: Tensor) -> Tensor:
        """Which sentences :attr:`BeamOptions.stop` ends, by the sums of their best rows ``[A]``; bool ``[A]``.

        Sums only fall and no length penalty falls with the length, so the largest length gives the highest score.
        """
        options = self.options
        if options.stop == "count":
            return self.ended.index_select(0, beams.sentences) >= options.beam_size
        lengths = beams.plan.max_length
        if options.stop == "next":
            lengths = lengths.clamp(max=beams.time + 2)
        reachable = highest / length_penalty(options.length_penalty, lengths, options.alpha)
        worst = self.best.worst(beams.sentences, options.n_best)
        self._note(beams.sentences, (reachable - worst).abs().nan_to_num(nan=float("inf")))
        return reachable <= worst

    def _next(self, beams: Beams, covered: Tensor | None, kept: Candidates, state: Nest, going: Tensor) -> Beams:
        """The rows of the next step: continuations ``kept`` of the sentences that go on."""
        rows = first_rows(beams.scores) + kept.beams
        sentences, plan, constants = beams.sentences, beams.plan, beams.constants
        if not bool(going.all()):
            index = going.nonzero().flatten()
            sentences, plan, constants = take_rows((sentences, plan, constants), index)
            kept, rows = Candidates(*take_rows(tuple(kept), index)), rows.index_select(0, index)
        parents, words = rows.flatten(), kept.words.flatten()
        history = beams.history
        if history is not None:
            history = torch.cat([history.index_select(0, parents), words[:, None]], 1)
        self.trace.read(words, parents)
        return Beams(
            time=beams.time + 1,
            sentences=sentences,
            plan=plan,
            scores=kept.totals,
            log_probs=kept.log_probs,
            tokens=words,
            state=take_rows(state, parents),
            constants=constants,
            history=history,
            coverage=None if covered is None else covered.index_select(0, parents),
        )

    def _write_nothing(self, sentences: Tensor) -> None:
        """The n-best of sentences that may not have a word."""
        zero = torch.zeros(sentences.shape[0], 1, dtype=torch.int64, device=sentences.device)
        sums = wide(zero)
        self.best.insert(sentences, Entries(sums, sums, zero.bool(), zero, zero, zero))

    def _write_no_more(self, beams: Beams, stuck: Tensor) -> None:
        """Take the rows of sentences ``stuck`` (bool ``[A]``), in which no word is allowed, as they are."""
        rows = first_rows(beams.scores) + torch.arange(beams.scores.shape[1], device=stuck.device)
        parents = self.trace.parents[-1].index_select(0, rows.flatten()).view_as(rows)
        words = beams.tokens.view_as(rows)
        some = Candidates(beams.scores, beams.log_probs, words, rows - first_rows(beams.scores))
        scores = self._score(beams, beams.coverage, some, beams.time)
        scores = scores.where(stuck[:, None], NEVER)
        length = torch.full_like(words, beams.time)
        entries = Entries(scores, beams.log_probs, torch.zeros_like(words).bool(), length, parents, words)
        self.best.insert(beams.sentences, entries)

    def _note(self, sentences: Tensor, gap: Tensor) -> None:
        """Remember the smallest of the differences ``[A]`` that decided."""
        self.margin.index_copy_(0, sentences, torch.minimum(self.margin.index_select(0, sentences), gap))

    def _margins(self) -> Tensor:
        """The smallest difference that decided each sentence, that of neighbours in the n-best among them, ``[B]``."""
        scores, ended = self.best.entries.score, self.best.entries.ended
        gaps = (scores[:, :-1] - scores[:, 1:]).nan_to_num(nan=float("inf"))
        gaps = gaps.where(ended[:, :-1] == ended[:, 1:], float("inf"))
        return torch.minimum(self.margin, gaps.amin(1))


def first_rows(scores: Tensor) -> Tensor:
    """The first row of each sentence, ``[A, 1]``, where ``scores`` are ``[A, K]``."""
    return torch.arange(scores.shape[0], device=scores.device)[:, None] * scores.shape[1]
