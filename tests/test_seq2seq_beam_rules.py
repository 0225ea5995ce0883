"""Rules of a beam search: penalties, when it stops, ties, margins, and where no word is allowed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from beams import Chain, Memory, Toy, assert_same, plain_beam, searches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.hypotheses import near_ties
from lightning_rnn.seq2seq.penalties import coverage_penalty, length_penalty
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.step import StepOutput

BOS, EOS = 2, 3


def chain(probabilities: Tensor) -> tuple[Chain, Tensor]:
    return Chain(probabilities.double().log()), torch.zeros(1, 1)


def test_length_penalties_are_their_formulas() -> None:
    n = np.arange(1, 30)
    lengths = torch.from_numpy(n)
    np.testing.assert_allclose(length_penalty("none", lengths, 0.7), np.ones(29))
    np.testing.assert_allclose(length_penalty("average", lengths, 0.7), n)
    np.testing.assert_allclose(length_penalty("wu", lengths, 0.7), (5 + n) ** 0.7 / (5 + 1) ** 0.7)


def test_coverage_penalty_is_its_formula_over_real_positions() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(6), (3, 8))  # p_ij of 8 words over 6 positions
    wanted = [0.4 * sum(math.log(min(sum(p[:, i]), 1.0)) for i in range(5)) for p in weights]
    found = coverage_penalty(torch.from_numpy(weights.sum(1)), torch.arange(6) < 5, 0.4)
    np.testing.assert_allclose(found, wanted)


def test_exact_stop_finds_what_a_search_to_the_end_finds_and_stops_earlier() -> None:
    steps = {"exact": 0, "next": 0, "count": 0}
    for seed in range(12):
        toy, request = Toy(6, seed=seed, sharp=5.0), Request(max_length=15)
        state, memory = toy.start([4])
        wanted = plain_beam(toy, state, memory, BeamOptions(4), request)
        for stop in steps:
            toy.calls.clear()
            (found,) = beam_search(toy, state, memory, BeamOptions(4, stop=stop), request)  # type: ignore[arg-type]
            steps[stop] += len(toy.calls)
            assert found[0].score <= wanted[0][2] + 1e-9
            if stop == "exact":
                assert_same(found, wanted)
    assert max(steps["next"], steps["count"]) < steps["exact"] < 12 * 15


def test_stop_rules_differ_where_a_long_output_is_surer() -> None:
    p = torch.zeros(7, 7)
    p[2, 0], p[2, 1], p[0, 3] = 0.6, 0.4, 1.0  # log(0.6) / 2 after two words
    p[[1, 4, 5, 6], [4, 5, 6, 3]] = 1.0  # log(0.4) / 5 after five; log(0.4) / 3 when the first is there
    step, state = chain(p)
    best = {}
    for stop in ("exact", "next", "count"):
        (found,) = beam_search(step, state, (), BeamOptions(2, stop=stop), Request(max_length=9))
        best[stop] = found[0].tokens.tolist()
    assert best == {"exact": [1, 4, 5, 6, 3], "next": [0, 3], "count": [1, 4, 5, 6, 3]}


def test_equals_are_ordered_by_row_and_word() -> None:
    step, state = chain(torch.full((7, 7), 1 / 7))
    options, request = BeamOptions(4, 4, "none"), Request(max_length=3, min_length=2)
    (found,) = beam_search(step, state, (), options, request)
    assert_same(found, plain_beam(step, state, (), options, request))
    assert [one.tokens.tolist() for one in found] == [[0, 0, 3], [0, 0, 0], [0, 0, 1], [0, 0, 2]]
    assert found[0].margin == 0 and near_ties([found, []]) == [0]


def test_margin_is_the_difference_that_decided() -> None:
    p = torch.zeros(5, 5)
    p[2] = torch.tensor([0.5, 0.3, 0.0, 0.0, 0.2])  # the beam of two keeps 0 and 1, drops 4
    p[[0, 1, 4], 3] = 1
    step, state = chain(p)
    (found,) = beam_search(step, state, (), BeamOptions(2, 2, "none"), Request(max_length=4))
    assert [one.tokens.tolist() for one in found] == [[0, 3], [1, 3]]
    assert found[0].margin == pytest.approx(math.log(0.3 / 0.2), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(searches(), st.sampled_from(["exact", "next", "count"]))
def test_margin_covers_every_decision(search: tuple[Toy, int, BeamOptions, Request, list[int]], stop: Any) -> None:
    """Steps that are up to ``shift`` off find something else only where the margin is at most what that adds up to."""
    (toy, length, options, request, _), shift = search, 0.003
    options, request = replace(options, stop=stop), replace(request, repetition_penalty=1.0)
    state, memory = toy.start([length])
    request = replace(request, source_lengths=torch.tensor([length]))

    def shifted(tokens: Tensor, state: Any, constants: Memory) -> StepOutput:
        out = toy(tokens, state, constants)
        return out._replace(log_probs=out.log_probs + shift * torch.cos(1e4 * out.log_probs))

    (one,), (other,) = (beam_search(step, state, memory, options, request) for step in (toy, shifted))
    if [best.tokens.tolist() for best in one] != [best.tokens.tolist() for best in other]:
        assert one[0].margin <= 2 * shift * int(request.max_length)


def test_where_no_word_is_allowed_hypotheses_stop_unfinished() -> None:
    p = torch.zeros(5, 5)
    p[2, 0], p[2, 1], p[0, 4] = 0.6, 0.4, 1.0  # after 1 or 4 there is nothing
    step, state = chain(p)
    request = Request(max_length=9)
    (found,) = beam_search(step, state, (), BeamOptions(2, 2), request)
    assert [(one.tokens.tolist(), one.finished) for one in found] == [([0, 4], False)]
    (found,) = beam_search(Chain(torch.full((5, 5), -math.inf)), state, (), BeamOptions(2, 2), request)
    assert [(one.tokens.tolist(), one.score, one.finished) for one in found] == [([], 0.0, False)]
    made = generate(step, state, (), request)
    assert made.tokens.tolist() == [[0, 4]] and not made.finished[0]
    none = generate(Chain(torch.full((5, 5), -math.inf)), state, (), request)
    assert none.tokens.shape == (1, 0) and none.lengths.tolist() == [0]


def test_sentences_without_words_leave_others_alone() -> None:
    toy, options = Toy(), BeamOptions(3, 2)
    found = beam_search(toy, *toy.start([2, 3, 2, 4]), options, Request(torch.tensor([0, 5, 0, 5])))
    others = beam_search(toy, *toy.start([2, 3, 2, 4]), options, Request(5))
    assert [len(best) for best in found] == [1, 2, 1, 2] and found[0][0].tokens.tolist() == []
    assert found[0][0].alignment is not None and found[0][0].alignment.shape[0] == 0
    for i in (1, 3):
        assert [one.tokens.tolist() for one in found[i]] == [one.tokens.tolist() for one in others[i]]


def test_empty_batch_and_no_words_at_all() -> None:
    toy = Toy()
    assert beam_search(toy, *toy.start([])) == []
    state, memory = toy.start([2, 1])
    found = beam_search(toy, state, memory, BeamOptions(), Request(max_length=0))
    assert [[(one.tokens.tolist(), one.score, one.alignment) for one in best] for best in found] == [
        [([], 0.0, None)]
    ] * 2
    assert toy.calls == []


def test_vocabulary_smaller_than_the_beam() -> None:
    step, state = chain(torch.tensor([[0.3, 0.7], [0.5, 0.5]]))
    options, request = BeamOptions(6, 6, "wu"), Request(max_length=4, bos=0, eos=1)
    (found,) = beam_search(step, state, (), options, request)
    assert_same(found, plain_beam(step, state, (), options, request))
    assert len(found) == 5  # ends after 0 to 3 words, and one that does not


def test_state_of_steps_without_alignment_or_constants() -> None:
    step, state = chain(torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).softmax(1))
    (found,) = beam_search(step, state, None, BeamOptions(3, 3), Request(max_length=6))
    assert all(one.alignment is None for one in found)
    assert_same(found, plain_beam(step, state, (), BeamOptions(3, 3), Request(max_length=6)))


def test_half_precision_is_summed_in_full() -> None:
    log_probs = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).log_softmax(1).bfloat16()
    (found,) = beam_search(Chain(log_probs), torch.zeros(1, 1), (), BeamOptions(3), Request(max_length=6))
    reads = [BOS, *found[0].tokens.tolist()]
    total = sum(float(log_probs[a, b]) for a, b in itertools.pairwise(reads))
    assert found[0].log_prob == pytest.approx(total, abs=1e-6)
