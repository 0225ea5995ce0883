"""Beam search: equal to plain loops, to exhaustive search, to rescoring; the same in any batch."""

from __future__ import annotations

import importlib
import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.ensemble import EnsembleStep
from lightning_rnn.seq2seq.generate import generate
from lightning_rnn.seq2seq.hypotheses import Hypothesis, near_ties
from lightning_rnn.seq2seq.penalties import coverage_penalty, length_penalty
from lightning_rnn.seq2seq.request import Request, length_limits
from lightning_rnn.seq2seq.scoring import score
from lightning_rnn.seq2seq.step import StepOutput

BOS, EOS = 2, 3
Found = list[list[Hypothesis]]


class Memory(NamedTuple):
    values: Tensor
    mask: Tensor | None


class Toy:
    """A recurrent decoder with dot attention and random weights; its state is a nest."""

    def __init__(self, vocab: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64, sharp: float = 3.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        size = 5

        def weights(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

        self.dtype, self.size, self.sharp = dtype, size, sharp
        self.embedding, self.u, self.c, self.out = weights(vocab, size), weights(size, size), weights(size, size), None
        self.w = weights(2 * size, vocab)
        self.calls: list[int] = []

    def start(self, lengths: list[int], pad: int = 0, seed: int = 7) -> tuple[Any, Memory]:
        """State and memory of sentences, each a function of its number and length; ``pad`` more positions."""
        longest = max(lengths, default=0) + pad
        values = torch.full((len(lengths), longest, self.size), 9.0, dtype=self.dtype)
        for i, length in enumerate(lengths):
            draw = torch.Generator().manual_seed(seed + i)
            values[i, :length] = torch.randn(50, self.size, generator=draw, dtype=torch.float64)[:length].to(self.dtype)
        mask = torch.arange(longest) < torch.tensor(lengths, dtype=torch.int64)[:, None]
        h = values[:, :1].sum(1) if longest else values.sum(1)
        return (h.clone(), {"read": torch.zeros(len(lengths), dtype=torch.int64)}), Memory(values, mask)

    def __call__(self, tokens: Tensor, state: Any, constants: Memory) -> StepOutput:
        self.calls.append(tokens.shape[0])
        h, counts = state
        values = constants.values
        h = torch.tanh(self.embedding[tokens] + h @ self.u / 2)
        query = h.view(values.shape[0], -1, self.size)
        scores = query @ values.transpose(1, 2)
        weights = scores.masked_fill(~constants.mask[:, None], float("-inf")).softmax(-1)  # type: ignore[index]
        context = (weights @ values).reshape(h.shape)
        logits = torch.cat([h, context @ self.c / 3], 1) @ self.w * (self.sharp / 3)
        state = (h, {"read": counts["read"] + 1})
        return StepOutput(logits.log_softmax(1), state, weights.reshape(h.shape[0], -1))


class Chain:
    """The next word depends on the last alone."""

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def __call__(self, tokens: Tensor, state: Any, constants: Any) -> StepOutput:
        return StepOutput(self.log_probs[tokens], state)


def chain(probabilities: Tensor) -> tuple[Chain, Tensor]:
    return Chain(probabilities.double().log()), torch.zeros(1, 1)


@dataclass
class Trail:
    """A hypothesis of the reference search."""

    tokens: list[int]
    total: float
    log_prob: float
    state: Any
    coverage: np.ndarray
    alignment: list[np.ndarray]


def one_score(path: Trail, options: BeamOptions) -> float:
    n = len(path.tokens)
    lp = {"none": 1.0, "average": float(max(n, 1)), "wu": ((5 + n) / 6) ** options.alpha}[options.length_penalty]
    cover = 0.0 if not options.coverage_beta or not n else float(np.log(np.clip(path.coverage, 1e-37, 1)).sum())
    return float(path.total / lp + options.coverage_beta * cover)


def allowed_words(path: Trail, log_probs: np.ndarray, request: Request, prefix: list[int]) -> dict[int, float]:
    """What a word adds to the total, for those that are allowed."""
    time, n = len(path.tokens), request.no_repeat_ngram
    if time < len(prefix):
        return {prefix[time]: float(log_probs[prefix[time]])}
    words = {w: float(v) * (request.repetition_penalty if w in path.tokens else 1) for w, v in enumerate(log_probs)}
    if time < int(request.min_length):
        del words[request.eos]
    if n:
        grams = {tuple(path.tokens[i : i + n]) for i in range(time - n + 1)}
        end = tuple(path.tokens[time - n + 1 :]) if n > 1 else ()
        words = {w: v for w, v in words.items() if (*end, w) not in grams}
    return words


def plain_beam(
    step: Any, state: Any, memory: Any, options: BeamOptions, request: Request, prefix: list[int] | None = None
) -> list[tuple[Trail, bool, float]]:
    """Beam search of one sentence with lists and loops, as :func:`beam_search` states it, to the maximum length."""
    source = memory.values.shape[1] if isinstance(memory, Memory) else 0
    beams = [Trail([], 0.0, 0.0, state, np.zeros(source), [])]
    ended: list[Trail] = []
    stopped: list[Trail] = beams if int(request.max_length) == 0 else []
    for time in range(int(request.max_length)):
        found = []
        for number, beam in enumerate(beams):
            out = step(torch.tensor([beam.tokens[-1] if beam.tokens else request.bos]), beam.state, memory)
            weights = np.zeros(source) if out.alignment is None else out.alignment[0].numpy()
            log_probs = out.log_probs[0].double().numpy()
            for word, added in allowed_words(beam, log_probs, request, prefix or []).items():
                if added == -math.inf:
                    continue
                longer = Trail(
                    [*beam.tokens, word],
                    beam.total + added,
                    beam.log_prob + float(log_probs[word]),
                    out.state,
                    beam.coverage + weights,
                    [*beam.alignment, weights],
                )
                found.append(((-longer.total, number, word), longer))
        found.sort(key=lambda pair: pair[0])
        paths = [path for _, path in found]
        ended += [path for path in paths[: options.beam_size] if path.tokens[-1] == request.eos]
        if not paths:
            stopped = beams
            break
        beams = [path for path in paths if path.tokens[-1] != request.eos][: options.beam_size]
        if options.stop == "count" and len(ended) >= options.beam_size:
            break
        if time + 1 == int(request.max_length):
            stopped = beams
        if not beams:
            break
    pairs = [(path, True, one_score(path, options)) for path in ended]
    pairs += [(path, False, one_score(path, options)) for path in stopped]
    return sorted(pairs, key=lambda pair: (not pair[1], -pair[2]))[: options.n_best]


def assert_same(found: list[Hypothesis], wanted: list[tuple[Trail, bool, float]], tolerance: float = 1e-9) -> None:
    assert [(one.tokens.tolist(), one.finished) for one in found] == [(p.tokens, done) for p, done, _ in wanted]
    for one, (path, _, value) in zip(found, wanted, strict=True):
        assert one.score == pytest.approx(value, abs=tolerance)
        assert one.log_prob == pytest.approx(path.log_prob, abs=tolerance)
        if one.alignment is not None:
            np.testing.assert_allclose(one.alignment, np.reshape(path.alignment, one.alignment.shape), atol=tolerance)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Toy, int, BeamOptions, Request, list[int]]:
    vocab, beam = draw(st.integers(4, 8)), draw(st.integers(1, 5))
    toy = Toy(vocab, seed=draw(st.integers(0, 10**6)), sharp=draw(st.sampled_from([0.5, 2.0, 6.0])))
    options = BeamOptions(
        beam_size=beam,
        n_best=draw(st.integers(1, beam)),
        length_penalty=draw(st.sampled_from(["none", "wu", "average"])),
        alpha=draw(st.sampled_from([0.0, 0.6, 1.5])),
        coverage_beta=draw(st.sampled_from([0.0, 0.2, 2.0])),
        stop=draw(st.sampled_from(["exact", "count"])),
    )
    words = st.integers(0, vocab - 1).filter(lambda word: word != EOS)
    request = Request(
        max_length=draw(st.integers(0, 7)),
        min_length=draw(st.integers(0, 4)),
        no_repeat_ngram=draw(st.integers(0, 3)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
    )
    return toy, draw(st.integers(1, 5)), options, request, draw(st.lists(words, max_size=3))


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


def search(toy: Toy, lengths: list[int], which: list[int], options: BeamOptions, pad: int = 0) -> Found:
    """The search of some sentences, in this order."""
    (h, counts), memory = toy.start(lengths, pad)
    index = torch.tensor(which)
    longest = max(lengths[i] for i in which) + pad  # a batch is as wide as its own longest
    part = Memory(memory.values[index, :longest], memory.mask[index, :longest])  # type: ignore[index]
    source = torch.tensor(lengths)[index]
    request = Request(length_limits(source, 1.5, 5), 2, source_lengths=source, no_repeat_ngram=4)
    return beam_search(toy, (h[index], {"read": counts["read"][index]}), part, options, request)


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
