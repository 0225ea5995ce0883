"""Beam search: equal to plain loops, to exhaustive search, to rescoring; the same in any batch."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from beams import Memory, Toy, assert_same, plain_beam, search, searches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.ensemble import EnsembleStep
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.hypotheses import near_ties
from lightning_rnn.seq2seq.penalties import coverage_penalty, length_penalty
from lightning_rnn.seq2seq.request import Request
from lightning_rnn.seq2seq.scoring import score
from lightning_rnn.seq2seq.step import StepOutput

BOS, EOS = 2, 3


@settings(max_examples=150, deadline=None)
@given(searches())
def test_equals_plain_loops(search: tuple[Toy, int, BeamOptions, Request, list[int]]) -> None:
    toy, length, options, request, prefix = search
    state, memory = toy.start([length])
    asked = replace(
        request, prefix=torch.tensor([prefix], dtype=torch.int64).view(1, -1), source_lengths=torch.tensor([length])
    )
    (found,) = beam_search(toy, state, memory, options, asked)
    assert_same(found, plain_beam(toy, state, memory, options, request, prefix))


@settings(max_examples=40, deadline=None)
@given(searches(), st.integers(0, 10**6))
def test_rules_of_a_request_hold(search: tuple[Toy, int, BeamOptions, Request, list[int]], seed: int) -> None:
    toy, _, options, request, prefix = search
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 6, 6).tolist()
    state, memory = toy.start(lengths)
    each: dict[str, Any] = {
        "max_length": torch.from_numpy(draw.integers(1, 9, 6)),
        "min_length": torch.from_numpy(draw.integers(0, 5, 6)),
    }
    asked = replace(
        request,
        **each,
        prefix=torch.tensor([prefix] * 6, dtype=torch.int64).view(6, -1),
        prefix_lengths=torch.from_numpy(draw.integers(0, len(prefix) + 1, 6)),
        source_lengths=torch.tensor(lengths),
    )
    for i, best in enumerate(beam_search(toy, state, memory, options, asked)):
        assert [one.finished for one in best] == sorted((one.finished for one in best), reverse=True)
        assert 1 <= len(best) <= options.n_best
        for one in best:
            tokens, forced = one.tokens.tolist(), prefix[: int(asked.prefix_lengths[i])]  # type: ignore[index]
            assert tokens[: len(forced)] == forced[: len(tokens)]
            assert one.words.tolist() == (tokens[:-1] if one.finished else tokens)
            assert EOS not in one.words.tolist() and len(tokens) <= each["max_length"][i]
            assert not one.finished or len(one.words) >= each["min_length"][i]
            n, free = asked.no_repeat_ngram, range(max(len(forced) - asked.no_repeat_ngram + 1, 0), len(tokens))
            grams = [tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1)]
            assert not n or all(grams[k] not in grams[:k] for k in free if k < len(grams))
            assert one.alignment is not None and one.alignment.shape == (len(tokens), lengths[i])


@pytest.mark.parametrize("kind", ["none", "wu", "average"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_the_tree_finds_the_optimum(kind: Any, beta: float, seed: int) -> None:
    """Every output of a vocabulary of three words up to length 4, scored one by one."""
    toy = Toy(3, seed=seed, sharp=1.0)
    (state, memory), end, longest = toy.start([4]), 1, 4
    options = BeamOptions(3**longest, 9, kind, 0.8, beta)
    every = []
    for words in itertools.chain(*(itertools.product([0, 2], repeat=n) for n in range(longest))):
        path, total, h, coverage = (*words, end), 0.0, state, np.zeros(4)
        for read, word in zip((2, *words), path, strict=True):
            out = toy(torch.tensor([read]), h, memory)
            total, h, coverage = total + float(out.log_probs[0, word]), out.state, coverage + out.alignment[0].numpy()  # type: ignore[index]
        n = len(path)
        lp = {"none": 1, "average": n, "wu": ((5 + n) / 6) ** 0.8}[kind]
        every.append((total / lp + beta * np.log(np.minimum(coverage, 1)).sum(), list(path)))
    every.sort(reverse=True)
    request = Request(longest, eos=end, source_lengths=torch.tensor([4]))
    (found,) = beam_search(toy, state, memory, options, request)
    assert [one.tokens.tolist() for one in found] == [path for _, path in every[:9]]
    assert [one.score for one in found] == pytest.approx([value for value, _ in every[:9]], abs=1e-9)


@pytest.mark.parametrize("options", [BeamOptions(1, 1, kind, stop="count") for kind in ("none", "wu", "average")])
def test_beam_of_one_is_greedy(options: BeamOptions) -> None:
    toy = Toy(9, seed=3, dtype=torch.float32, sharp=4.0)
    lengths = [3, 1, 5, 2, 4, 4, 1, 5]
    request = Request(max_length=12, source_lengths=torch.tensor(lengths))
    found = [best[0] for best in beam_search(toy, *toy.start(lengths), options, request)]
    best = generate(toy, *toy.start(lengths), request)
    assert len(set(best.lengths.tolist())) > 2 and 0 < best.finished.sum() < 8
    for i, one in enumerate(found):
        length = int(best.lengths[i])
        assert one.tokens.tolist() == best.tokens[i, :length].tolist() and one.finished == bool(best.finished[i])
        assert one.log_prob == pytest.approx(float(best.log_probs[i].double().sum()), abs=1e-5)
        assert best.alignment is not None and one.alignment is not None
        torch.testing.assert_close(best.alignment[i, :length, : lengths[i]], one.alignment)


def test_beam_of_one_without_length_penalty_stops_at_the_greedy_end() -> None:
    toy = Toy(9, seed=3)
    options, request = BeamOptions(1, 1, "none", stop="exact"), Request(max_length=12)
    found = beam_search(toy, *toy.start([3, 1, 5, 2]), options, request)
    best = generate(toy, *toy.start([3, 1, 5, 2]), request)
    for i, (one,) in enumerate(found):
        assert one.tokens.tolist() == best.tokens[i, : best.lengths[i]].tolist()


def many(count: int = 60) -> tuple[Toy, list[int], BeamOptions]:
    lengths = np.random.default_rng(0).integers(1, 12, count).tolist()
    return Toy(30, seed=1, dtype=torch.float32, sharp=4.0), lengths, BeamOptions(5, 3, coverage_beta=0.2)


@pytest.mark.parametrize(
    ("size", "order", "pad"),
    [(1, "given", 0), (1, "given", 5), (7, "shuffled", 0), (60, "shuffled", 0), (60, "given", 5)],
)
def test_batch_order_and_padding_change_nothing(size: int, order: str, pad: int) -> None:
    toy, lengths, options = many()
    whole = search(toy, lengths, list(range(60)), options)
    rows = list(range(60)) if order == "given" else np.random.default_rng(1).permutation(60).tolist()
    parts = [search(toy, lengths, rows[i : i + size], options, pad) for i in range(0, 60, size)]
    close = near_ties(whole, 1e-5)
    assert len(close) <= 2
    for i, again in zip(rows, itertools.chain(*parts), strict=True):
        if i in close:
            continue
        for one, other in zip(whole[i], again, strict=True):
            assert one.tokens.tolist() == other.tokens.tolist() and one.finished == other.finished
            assert one.score == pytest.approx(other.score, abs=1e-5)
            torch.testing.assert_close(one.alignment, other.alignment, atol=1e-5, rtol=0)


def test_sentences_that_are_done_leave_the_batch() -> None:
    toy, lengths, options = many()
    search(toy, lengths, list(range(60)), options)
    assert toy.calls[0] == 300 and toy.calls == sorted(toy.calls, reverse=True) and toy.calls[-1] < 50


@pytest.mark.parametrize("kind", ["none", "wu", "average"])
def test_scores_equal_rescoring_and_alignments_those_of_feeding_the_hypothesis(kind: Any) -> None:
    toy, lengths, options = many()
    options = replace(options, length_penalty=kind)
    found = search(toy, lengths, list(range(60)), options)
    (h, counts), memory = toy.start(lengths)
    for n in range(3):
        some = [i for i, best in enumerate(found) if len(best) > n]
        ones, index = [found[i][n] for i in some], torch.tensor(some)
        sizes = torch.tensor([len(one.tokens) for one in ones])
        words = torch.nn.utils.rnn.pad_sequence([one.tokens for one in ones], batch_first=True, padding_value=99)
        part = Memory(memory.values[index], memory.mask[index])  # type: ignore[index]
        scored = score(toy, (h[index], {"read": counts["read"][index]}), part, (words, sizes))
        for row, (i, one) in enumerate(zip(some, ones, strict=True)):
            assert scored.alignment is not None and one.alignment is not None
            fed = scored.alignment[row, : sizes[row]]
            torch.testing.assert_close(one.alignment, fed[:, : lengths[i]], atol=1e-5, rtol=0)
            lp = length_penalty(kind, sizes[row], options.alpha)
            cp = coverage_penalty(fed.sum(0), torch.arange(fed.shape[1]) < lengths[i], 0.2)
            assert one.log_prob == pytest.approx(float(scored.totals[row]), abs=1e-5)
            assert one.score == pytest.approx(float(scored.totals[row] / lp + cp), abs=1e-5)


@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_ensemble_is_its_formula(average: Any) -> None:
    toys = [Toy(8, seed=seed) for seed in (1, 2, 3)]
    starts = [toy.start([3, 2], seed=seed) for seed, toy in enumerate(toys)]
    tokens = torch.tensor([2, 5])
    out = EnsembleStep(toys, average)(tokens, tuple(s for s, _ in starts), tuple(m for _, m in starts))
    outs = [toy(tokens, *start) for toy, start in zip(toys, starts, strict=True)]
    logs = np.stack([one.log_probs.numpy() for one in outs])
    wanted = np.log(np.exp(logs).mean(0)) if average == "probability" else logs.mean(0)
    np.testing.assert_allclose(out.log_probs, wanted, atol=1e-12)
    np.testing.assert_allclose(out.alignment, np.mean([one.alignment for one in outs], 0), atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_ensemble_of_one_is_itself_also_in_a_search(average: Any) -> None:
    toy = Toy(8, seed=1)
    state, memory = toy.start([3, 2, 5, 1])
    options, request = BeamOptions(4, 4), Request(max_length=9)
    one = beam_search(toy, state, memory, options, request)
    other = beam_search(EnsembleStep([toy], average), (state,), (memory,), options, request)
    for a, b in zip(itertools.chain(*one), itertools.chain(*other), strict=True):
        assert (a.tokens.tolist(), a.score, a.margin) == (b.tokens.tolist(), b.score, b.margin)


def test_search_with_an_ensemble_equals_plain_loops() -> None:
    toys = [Toy(8, seed=seed) for seed in (1, 2)]
    (first, memory), (second, _) = toys[0].start([4]), toys[1].start([4], seed=8)
    both = EnsembleStep(toys)

    def step(tokens: Tensor, state: Any, constants: Memory) -> StepOutput:
        return both(tokens, state, (constants, constants))

    request = Request(max_length=8)
    (found,) = beam_search(both, (first, second), (memory, memory), BeamOptions(4, 4), request)
    assert_same(found, plain_beam(step, (first, second), memory, BeamOptions(4, 4), request))


def test_batches_of_the_benchmark_give_what_single_sentences_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    bench = importlib.import_module("beam")
    decoder, sources = bench.Decoder(50, 4, 8).eval(), [torch.randn(n, 8) for n in (3, 9, 4, 6, 1)]
    turns = [bench.Turn(1), bench.Turn(3)]
    for turn in turns:
        turn.take(decoder, sources, BeamOptions(3, 2))
    assert bench.compare(*turns)[:2] == (0, 0) and bench.compare(*turns)[2] < 1e-5
    assert len(bench.report(turns, 9)) == 6
    decoder.output.bias.data[7] += 9
    turns[1].take(decoder, sources, BeamOptions(3, 2))
    assert bench.compare(*turns)[0] == 5
