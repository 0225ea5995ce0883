"""Beam search over a batch of sentences."""

from __future__ import annotations

import torch

from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.beam_steps import Search
from lightning_rnn.seq2seq.hypotheses import Hypothesis
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.step import DecodeStep, sentences_of
from lightning_rnn.types import Nest


@torch.no_grad()
def beam_search(
    step: DecodeStep,
    state: Nest,
    constants: Nest,
    options: BeamOptions = BeamOptions(),  # noqa: B008, it is frozen
    request: Request = Request(),  # noqa: B008
) -> list[list[Hypothesis]]:
    r"""The best outputs of every sentence of a batch.

    At every step each sentence's ``2K + 1`` best continuations are ranked by the sum of their log-probabilities (in
    float64; of equals the better row's, then the lower word). Those among the first ``K`` that end are finished, with
    the score :math:`\log P(Y|X) / lp(Y) + cp(X; Y)` (Wu et al. 2016, equation 14); the best ``K`` others go on.

    A hypothesis that reaches ``max_length`` stops there, not ``finished``; so do those of a sentence in which no word
    is allowed any more (one without words scores 0). These fill the n-best only where fewer have ended. Sentences that
    are done leave the batch. What is found for a sentence does not depend on the others, but for rounding (see
    :attr:`~lightning_rnn.seq2seq.hypotheses.Hypothesis.margin`).

    Args:
        step: one step of the decoder.
        state: of each sentence before the first word, leaves ``[B, ...]``.
        constants: leaves ``[B, ...]``.
        options: how to search.
        request: what to write.

    Returns:
        For each sentence its hypotheses: those that ended first, then by score.

    Raises:
        ValueError: the step gave numbers of a wrong shape, or NaN; a tensor of ``request`` does not fit; there is a
            coverage penalty without alignments or without ``request.source_lengths``.

    Example:
        >>> from lightning_rnn.seq2seq.step import StepOutput
        >>> chain = torch.tensor([[0.0, 0.4, 0.6], [0.9, 0.0, 0.1], [0.5, 0.5, 0.0]]).log()  # 0 ends
        >>> def step(tokens, state, constants):
        ...     return StepOutput(chain[tokens], state)
        >>> options = BeamOptions(beam_size=2, n_best=2, length_penalty="none")
        >>> found = beam_search(step, torch.zeros(1, 1), (), options, Request(bos=0, eos=0, max_length=4))
        >>> [(one.tokens.tolist(), round(one.score, 3)) for one in found[0]]
        [([1, 0], -1.022), ([2, 0], -1.204)]
    """
    sentences, device = sentences_of(state, constants)
    search = Search(step, options, request, sentences, device)
    beams = search.start(state, constants)
    while beams.sentences.shape[0]:
        beams = search.advance(beams)
    return search.results()
