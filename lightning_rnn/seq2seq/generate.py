"""Greedy decoding and sampling: one row for each sentence, word by word or all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnn.seq2seq.constraints import constrain, keeps_history
from lightning_rnn.seq2seq.request import Plan, Request
from lightning_rnn.seq2seq.samplers import Sampling, choose
from lightning_rnn.seq2seq.step import NEVER, DecodeStep, StepOutput, check_numbers, checked, sentences_of, take_rows
from lightning_rnn.types import Nest


class Piece(NamedTuple):
    """The next word of every sentence that goes on.

    Attributes:
        sentences: which of the batch, int64 ``[A]``.
        tokens: their next words, int64 ``[A]``; the end is one.
        log_probs: the model's log-probabilities of these, ``[A]`` (no temperature, nothing filtered).
        alignment: weights over the source, ``[A, S]``; None where the step gives none.
        state: the decoder's after the words before these, leaves ``[A, ...]``: with ``tokens`` as ``bos``, and as many
            more ``drawn``, another call goes on from here.
    """

    sentences: Tensor
    tokens: Tensor
    log_probs: Tensor
    alignment: Tensor | None
    state: Nest


@dataclass(frozen=True, eq=False)
class Generated:
    """The output of every sentence; 0 beyond its length.

    Attributes:
        tokens: int64 ``[B, T]``, the end with them.
        lengths: int64 ``[B]``, the end counted.
        log_probs: the model's log-probability of each word, ``[B, T]``.
        finished: bool ``[B]``; False where a sentence stopped at its maximum length, or no word was allowed.
        alignment: ``[B, T, S]``; None where the step gives none.
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor
    finished: Tensor
    alignment: Tensor | None


@dataclass(frozen=True)
class _Rows:
    """The sentences that go on, ``[A]`` or ``[A, ...]`` each."""

    sentences: Tensor
    plan: Plan
    seeds: Tensor
    drawn: Tensor
    tokens: Tensor
    state: Nest
    constants: Nest
    history: Tensor | None

    def keep(self, going: Tensor) -> _Rows:
        """Those of bool ``[A]``."""
        if bool(going.all()):
            return self
        names = ("sentences", "plan", "seeds", "drawn", "tokens", "state", "constants", "history")
        index = going.nonzero().flatten()
        return replace(self, **{name: take_rows(getattr(self, name), index) for name in names})


@torch.no_grad()
def stream(
    step: DecodeStep,
    state: Nest,
    constants: Nest,
    request: Request = Request(),  # noqa: B008, it is frozen
    sampling: Sampling | None = None,
) -> Iterator[Piece]:
    """Words of every sentence as they come, until all have ended.

    A sentence goes on until its end, its ``max_length``, or until no word is allowed (all at minus infinity). Then it
    leaves the batch; the others do not notice.

    Args:
        step: one step of the decoder.
        state: of each sentence before the first word, leaves ``[B, ...]``.
        constants: leaves ``[B, ...]``.
        request: what to write; ``prefix`` is written first, as it is.
        sampling: how to draw words; None: the most probable one.

    Yields:
        The next words, step by step.

    Raises:
        ValueError: the step gave numbers of a wrong shape, or NaN; a tensor of ``request`` does not fit.

    Example:
        >>> def count(tokens, state, constants):  # after word i comes word i + 1, up to the end, 3
        ...     return StepOutput(torch.eye(4)[tokens + 1].log(), state)
        >>> [piece.tokens.tolist() for piece in stream(count, torch.zeros(2, 1), (), Request(bos=0))]
        [[1, 1], [2, 2], [3, 3]]
    """
    rows = _start(state, constants, request, sampling)
    for time in range(int(rows.plan.max_length.max()) if rows.plan.max_length.numel() else 0):
        rows = rows.keep(rows.plan.max_length > time)
        if not rows.sentences.shape[0]:
            return
        out = checked(step(rows.tokens, rows.state, rows.constants), rows.tokens.shape[0])
        allowed = constrain(out.log_probs, time, rows.history, request, rows.plan)
        highest = allowed.amax(1)
        check_numbers(highest, rows.sentences, time)
        words = choose(allowed, sampling, rows.seeds, rows.drawn + time)
        rows, out, words = _without_stuck(rows, out, highest, words)
        if not words.shape[0]:
            return
        chosen = out.log_probs.gather(1, words[:, None]).squeeze(1)
        yield Piece(rows.sentences, words, chosen, out.alignment, out.state)
        history = None if rows.history is None else torch.cat([rows.history, words[:, None]], 1)
        rows = replace(rows, tokens=words, state=out.state, history=history).keep(words != request.eos)


def _start(state: Nest, constants: Nest, request: Request, sampling: Sampling | None) -> _Rows:
    """All sentences before the first word."""
    count, device = sentences_of(state, constants)
    seeds = torch.zeros(count, dtype=torch.int64, device=device)
    return _Rows(
        sentences=torch.arange(count, device=device),
        plan=request.plan(count, device),
        seeds=seeds if sampling is None else sampling.row_seeds(count, device),
        drawn=seeds if sampling is None else sampling.row_drawn(count, device),
        tokens=request.first_words(count, device),
        state=state,
        constants=constants,
        history=seeds.new_zeros(count, 0) if keeps_history(request) else None,
    )


def _without_stuck(rows: _Rows, out: StepOutput, highest: Tensor, words: Tensor) -> tuple[_Rows, StepOutput, Tensor]:
    """The rows in which a word is allowed."""
    going = highest > NEVER
    if bool(going.all()):
        return rows, out, words
    index = going.nonzero().flatten()
    taken = StepOutput(*take_rows(tuple(out), index))
    return rows.keep(going), taken, words.index_select(0, index)


def generate(
    step: DecodeStep,
    state: Nest,
    constants: Nest,
    request: Request = Request(),  # noqa: B008, it is frozen
    sampling: Sampling | None = None,
) -> Generated:
    """The whole output of every sentence: what :func:`stream` gives, put together; same arguments, same errors.

    Example:
        >>> def count(tokens, state, constants):
        ...     return StepOutput(torch.eye(4)[tokens + 1].log(), state)
        >>> found = generate(count, torch.zeros(2, 1), (), Request(bos=0, max_length=torch.tensor([2, 9])))
        >>> found.tokens.tolist(), found.lengths.tolist(), found.finished.tolist()
        ([[1, 2, 0], [1, 2, 3]], [2, 3], [False, True])
    """
    count, device = sentences_of(state, constants)
    pieces = list(stream(step, state, constants, request, sampling))
    tokens = torch.zeros(count, len(pieces), dtype=torch.int64, device=device)
    log_probs = torch.zeros(tokens.shape, dtype=pieces[0].log_probs.dtype if pieces else None, device=device)
    lengths = torch.zeros(count, dtype=torch.int64, device=device)
    finished = torch.zeros(count, dtype=torch.bool, device=device)
    for time, piece in enumerate(pieces):
        tokens[piece.sentences, time] = piece.tokens
        log_probs[piece.sentences, time] = piece.log_probs
        lengths[piece.sentences] = time + 1
        finished[piece.sentences] = piece.tokens == request.eos
    return Generated(tokens, lengths, log_probs, finished, _aligned(pieces, count))


def _aligned(pieces: list[Piece], count: int) -> Tensor | None:
    """The alignments of all steps, ``[B, T, S]``."""
    given = [(piece.sentences, piece.alignment) for piece in pieces if piece.alignment is not None]
    if not given:
        return None
    whole = given[0][1].new_zeros(count, len(given), given[0][1].shape[1])
    for time, (sentences, alignment) in enumerate(given):
        whole[sentences, time] = alignment
    return whole
