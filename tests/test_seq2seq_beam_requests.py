"""Requests of a beam search that do not fit, each told in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from beams import Chain, Memory, Toy
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.ensemble import EnsembleStep
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.scoring import score
from lightning_rnn.seq2seq.step import StepOutput


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"beam_size": 2, "n_best": 3}, "n_best is 3 with a beam of 2"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"coverage_beta": -0.1}, "coverage_beta is -0.1"),
        ({"length_penalty": "gnmt"}, "use none, wu, average"),
        ({"stop": "early"}, "use exact, next, count"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BeamOptions(**options)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"max_length": torch.tensor([1, 2])}, r"max_length is \[2\] for 3 sentences"),
        ({"prefix": torch.zeros(2, 1, dtype=torch.int64)}, r"give \[3, P\]"),
        ({"prefix": torch.tensor([[4, 4], [4, 3], [4, 4]])}, "prefix of sentence 1 holds the end"),
        ({"prefix": torch.tensor([[99], [4], [4]])}, "word 99 of a vocabulary of 6"),
        ({"prefix": torch.zeros(3, 1, dtype=torch.int64), "prefix_lengths": torch.tensor([0, 1, 2])}, "has 2 for a"),
    ],
)
def test_requests_that_do_not_fit_are_refused(request_: dict[str, Any], said: str) -> None:
    toy = Toy()
    with pytest.raises(ValueError, match=said):
        beam_search(toy, *toy.start([1, 2, 3]), BeamOptions(), Request(**request_))


def test_steps_that_do_not_fit_are_refused() -> None:
    toy = Toy()
    state, memory = toy.start([1, 2])

    def broken(tokens: Tensor, state: Any, constants: Memory) -> StepOutput:
        out = toy(tokens, state, constants)
        out.log_probs[-1, 3] = math.nan
        return out

    with pytest.raises(ValueError, match="step 0 gave sentence 1 a"):
        beam_search(broken, state, memory)
    with pytest.raises(ValueError, match="step 0 gave sentence 1 a"):
        generate(broken, state, memory)
    with pytest.raises(ValueError, match=r"must give \[10, V\]"):
        beam_search(lambda t, s, c: StepOutput(torch.zeros(2, 6), s), torch.zeros(2, 1), ())
    with pytest.raises(ValueError, match="differ in their first axis"):
        beam_search(toy, state, Memory(memory.values[:1], None))
    with pytest.raises(ValueError, match="hold no tensor"):
        beam_search(toy, (), None)
    with pytest.raises(ValueError, match=r"needs Request.source_lengths"):
        beam_search(toy, state, memory, BeamOptions(coverage_beta=0.1))
    with pytest.raises(ValueError, match="gives alignments"):
        source = Request(source_lengths=torch.tensor([1]))
        beam_search(Chain(torch.zeros(6, 6)), torch.zeros(1, 1), (), BeamOptions(coverage_beta=0.1), source)
    with pytest.raises(ValueError, match=r"\[6, 7\] words"):
        EnsembleStep([toy, Toy(7)])(torch.tensor([0, 0]), (state, state), (memory, memory))
    with pytest.raises(ValueError, match="1 states, 2 constants for 2 steps"):
        EnsembleStep([toy, toy])(torch.tensor([0, 0]), (state,), (memory, memory))
    with pytest.raises(ConfigError, match="no step"):
        EnsembleStep([])
    with pytest.raises(ValueError, match=r"not in 0..5"):
        score(toy, state, memory, (torch.tensor([[1, 9], [1, 1]]), torch.tensor([2, 2])))
