"""Choosing words by chance, decoding word by word, scoring given words, scheduled sampling."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.beam import beam_search
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.generate import Generated, generate, stream
from lightning_rnn.seq2seq.request import Request, length_limits
from lightning_rnn.seq2seq.samplers import Sampling
from lightning_rnn.seq2seq.schedules import Schedule, exponential, inverse_sigmoid, linear, mix
from lightning_rnn.seq2seq.scoring import score
from lightning_rnn.seq2seq.step import StepOutput, repeat_rows

BOS, EOS = 2, 3


class Toy:
    """A recurrent decoder with random weights that reads a vector of each sentence at every step."""

    def __init__(self, vocab: int = 8, seed: int = 0, sharp: float = 2.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(vocab, 4, generator=draw)
        self.w = torch.randn(8, vocab, generator=draw) * sharp
        self.u = torch.randn(4, 4, generator=draw)
        self.rows: list[int] = []

    def start(self, sentences: int) -> tuple[Tensor, tuple[Tensor, None]]:
        draw = torch.Generator().manual_seed(9)
        h = torch.randn(100, 4, generator=draw)[:sentences]
        return h, (torch.randn(100, 4, generator=draw)[:sentences], None)

    def __call__(self, tokens: Tensor, state: Tensor, constants: tuple[Tensor, None]) -> StepOutput:
        self.rows.append(tokens.shape[0])
        h = torch.tanh(self.embedding[tokens] + state @ self.u)
        logits = torch.cat([h, constants[0]], 1) @ self.w
        return StepOutput(logits.log_softmax(1), h, (h * constants[0]).softmax(1))


def whole(found: Generated) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)]


def test_greedy_equals_a_plain_loop() -> None:
    toy = Toy(sharp=3.0)
    h, (vectors, _) = toy.start(12)
    found = generate(toy, h, (vectors, None), Request(max_length=9))
    assert 0 < found.finished.sum() < 12
    for i in range(12):
        state, word = h[i : i + 1], BOS
        words: list[int] = []
        logs: list[float] = []
        weights: list[Tensor] = []
        while len(words) < 9 and word != EOS:
            out = toy(torch.tensor([word]), state, (vectors[i : i + 1], None))
            word, state = int(out.log_probs[0].argmax()), out.state
            words.append(word)
            logs.append(float(out.log_probs[0, word]))
            weights.append(out.alignment[0])  # type: ignore[index]
        assert whole(found)[i] == words and bool(found.finished[i]) == (word == EOS)
        assert found.log_probs[i, : len(words)].tolist() == pytest.approx(logs, abs=1e-5)
        assert found.alignment is not None
        torch.testing.assert_close(found.alignment[i, : len(words)], torch.stack(weights), atol=1e-5, rtol=0)
        assert not found.tokens[i, len(words) :].any() and not found.alignment[i, len(words) :].any()


@pytest.mark.parametrize("sampling", [None, Sampling(1.5, 5, 0.9, torch.arange(40) * 77)])
def test_other_rows_order_and_batch_size_change_nothing(sampling: Sampling | None) -> None:
    toy = Toy()
    h, (vectors, _) = toy.start(40)
    limits = length_limits(torch.arange(40) % 7, 1.5, 2)
    together = whole(generate(toy, h, (vectors, None), Request(limits), sampling))
    for size in (1, 7):
        rows = np.random.default_rng(size).permutation(40)
        for part in (torch.from_numpy(rows[i : i + size]) for i in range(0, 40, size)):
            own = None if sampling is None else Sampling(1.5, 5, 0.9, sampling.seeds[part])  # type: ignore[index]
            found = generate(toy, h[part], (vectors[part], None), Request(limits[part]), own)
            assert whole(found) == [together[int(i)] for i in part]


def test_rows_that_are_done_leave_the_work() -> None:
    toy = Toy()
    generate(toy, *toy.start(30), Request(max_length=torch.arange(30) % 10))
    assert toy.rows[0] == 27 and toy.rows == sorted(toy.rows, reverse=True) and toy.rows[-1] <= 3


def test_a_generator_or_torchs_seed_repeats_the_draws() -> None:
    toy = Toy(sharp=0.5)

    def draw(seeds: torch.Generator | None) -> list[list[int]]:
        return whole(generate(toy, *toy.start(9), Request(max_length=9), Sampling(seeds=seeds)))

    one, other = (draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert one == other != draw(torch.Generator().manual_seed(4))
    torch.manual_seed(5)
    first = draw(None)
    assert first != draw(None)
    torch.manual_seed(5)
    assert first == draw(None)


def test_outputs_are_as_frequent_as_the_model_says() -> None:
    """Two words and the end, up to three words: the probability of an output is the product of its steps'."""
    p = torch.tensor([[0.2, 0.5, 0.0, 0.3], [0.6, 0.1, 0.0, 0.3], [0.5, 0.5, 0.0, 0.0], [0.25] * 4]).double()
    p /= p.sum(1, keepdim=True)
    count = 20000
    sampling = Sampling(seeds=torch.arange(count))
    found = generate(
        lambda tokens, state, _: StepOutput(p.log()[tokens], state), torch.zeros(count, 1), (), Request(3), sampling
    )
    counts = Counter(tuple(row) for row in whole(found))
    wanted = {}
    for n in range(4):
        for words in itertools.product((0, 1), repeat=n):
            path = words if n == 3 else (*words, EOS)
            likely = math.prod(float(p[a, b]) for a, b in itertools.pairwise((BOS, *path)))
            if likely:
                wanted[path] = likely * count
    assert set(counts) == set(wanted)
    assert stats.chisquare([counts[path] for path in wanted], list(wanted.values())).pvalue > 0.001


def test_log_probabilities_are_the_models_whatever_was_drawn_from() -> None:
    toy = Toy()
    start = toy.start(6)
    request = Request(max_length=7, no_repeat_ngram=2, repetition_penalty=1.4, min_length=2)
    sampling = Sampling(0.7, 4, 0.8, torch.arange(6))
    found = generate(toy, *start, request, sampling)
    torch.testing.assert_close(score(toy, *start, (found.tokens, found.lengths)).log_probs, found.log_probs)


def test_stream_gives_what_generate_puts_together() -> None:
    toy = Toy()
    request, sampling = Request(max_length=8), Sampling(seeds=torch.arange(5))
    found = generate(toy, *toy.start(5), request, sampling)
    rows: list[list[int]] = [[] for _ in range(5)]
    for time, piece in enumerate(stream(toy, *toy.start(5), request, sampling)):
        for i, word in zip(piece.sentences.tolist(), piece.tokens.tolist(), strict=True):
            assert len(rows[i]) == time
            rows[i].append(word)
    assert rows == whole(found)


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=0.8, seeds=torch.arange(5))])
def test_a_piece_is_where_another_call_goes_on(sampling: Sampling | None) -> None:
    toy = Toy()
    state, constants = toy.start(5)
    pieces = list(stream(toy, state, constants, Request(bos=BOS, eos=0, max_length=9), sampling))
    for cut in (1, 4, 8):
        piece = pieces[cut - 1]
        going = (piece.tokens != 0).nonzero().flatten()
        here = piece.sentences[going]
        rest = sampling and replace(sampling, seeds=here, drawn=torch.full_like(here, cut))
        request = Request(bos=piece.tokens[going], eos=0, max_length=9 - cut)
        again = list(stream(toy, piece.state[going], (constants[0][here], None), request, rest))
        assert [here[one.sentences].tolist() for one in again] == [one.sentences.tolist() for one in pieces[cut:]]
        assert [one.tokens.tolist() for one in again] == [one.tokens.tolist() for one in pieces[cut:]]


def test_each_sentence_has_its_own_word_before_the_first() -> None:
    def wide_toy(tokens: Tensor, state: Tensor, constants: tuple[Tensor, None]) -> StepOutput:
        return toy(tokens, state, repeat_rows(constants, 2))

    toy = Toy()
    state, constants = toy.start(3)
    before = torch.tensor([4, 2, 7])
    together = generate(toy, state, constants, Request(bos=before, max_length=6))
    beams = beam_search(wide_toy, state, constants, BeamOptions(beam_size=2), Request(bos=before, max_length=6))
    for row, bos in enumerate(before.tolist()):
        one = state[row : row + 1], (constants[0][row : row + 1], None), Request(bos=bos, max_length=6)
        assert whole(generate(toy, *one)) == whole(together)[row : row + 1]
        alone = beam_search(wide_toy, *one[:2], BeamOptions(beam_size=2), one[2])
        assert alone[0][0].words.tolist() == beams[row][0].words.tolist()
    with pytest.raises(ValueError, match=r"bos is \[2\] for 3 sentences"):
        generate(toy, state, constants, Request(bos=before[:2]))


def test_stream_computes_a_step_when_it_is_asked_for() -> None:
    toy = Toy()
    words = stream(toy, *toy.start(2), Request(max_length=50, min_length=50))
    next(words), next(words)
    assert len(toy.rows) == 2 and torch.is_grad_enabled()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.booleans())
def test_rules_of_a_request_hold(seed: int, n: int, draws: bool) -> None:
    rng = np.random.default_rng(seed)
    toy = Toy(int(rng.integers(4, 9)), seed=seed)
    prefix = torch.from_numpy(rng.choice([0, 1, 2], (6, 3)))
    sizes, low, high = (torch.from_numpy(rng.integers(0, top, 6)) for top in (4, 5, 9))
    request = Request(high, low, prefix, sizes, no_repeat_ngram=n)
    found = generate(toy, *toy.start(6), request, Sampling(seeds=torch.arange(6)) if draws else None)
    for i, words in enumerate(whole(found)):
        forced = prefix[i, : sizes[i]].tolist()
        assert words[: len(forced)] == forced[: len(words)] and len(words) <= high[i]
        ended = bool(words) and words[-1] == EOS
        assert ended == bool(found.finished[i]) and EOS not in words[:-1]
        assert not ended or len(words) > low[i]
        grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
        assert not n or all(gram not in grams[:k] for k, gram in enumerate(grams) if k + n > len(forced))


def test_repetition_penalty_divides_between_words_that_are_there_and_others() -> None:
    p = torch.tensor([0.5, 0.3, 0.1, 0.1]).log()
    step = lambda tokens, state, _: StepOutput(p.expand(1, -1), state)  # noqa: E731
    start = (torch.zeros(1, 1), ())
    assert whole(generate(step, *start, Request(3))) == [[0, 0, 0]]
    # log(0.5) * 2 is below log(0.3), log(0.3) * 2 below log(0.25) = log(0.5) * 2
    assert whole(generate(step, *start, Request(3, repetition_penalty=2.0))) == [[0, 1, 0]]


def test_nothing_to_write() -> None:
    toy = Toy()
    for start in (toy.start(0), toy.start(3)):
        found = generate(toy, *start, Request(max_length=0))
        count = start[0].shape[0]
        assert found.tokens.shape == (count, 0) and found.lengths.tolist() == [0] * count
        assert not found.finished.any() and found.alignment is None
    assert toy.rows == [] and generate(toy, *toy.start(0)).tokens.shape == (0, 0)


def test_score_is_the_sum_of_the_steps() -> None:
    toy = Toy()
    h, (vectors, _) = toy.start(3)
    targets, lengths = torch.tensor([[4, 5, 3, 99], [3, -7, 0, 0], [1, 1, 1, 1]]), torch.tensor([3, 1, 4])
    found = score(toy, h, (vectors, None), (targets, lengths))
    for i in range(3):
        state, total, read = h[i : i + 1], 0.0, BOS
        for word in targets[i, : lengths[i]].tolist():
            out = toy(torch.tensor([read]), state, (vectors[i : i + 1], None))
            total, state, read = total + float(out.log_probs[0, word]), out.state, word
        assert float(found.totals[i]) == pytest.approx(total, abs=1e-5)
    assert found.alignment is not None and found.alignment.shape == (3, 4, 4) and not found.alignment[1, 1:].any()
    assert score(toy, h, (vectors, None), (targets[:, :0], lengths * 0)).totals.tolist() == [0, 0, 0]


def test_score_has_gradients() -> None:
    toy = Toy()
    toy.w.requires_grad_()
    score(toy, *toy.start(1), (torch.tensor([[4, 3]]), torch.tensor([2]))).totals.sum().backward()
    assert toy.w.grad is not None and bool(toy.w.grad.any())


def test_schedules_are_their_formulas() -> None:
    for i in (0, 1, 7, 40, 5000):
        assert linear(i, 0.9, 0.01, 0.2) == pytest.approx(max(0.2, 0.9 - 0.01 * i))
        assert exponential(i, 0.99) == pytest.approx(0.99**i)
        assert inverse_sigmoid(i, 30.0) == pytest.approx(30 / (30 + np.exp(i / 30)))
        for schedule, wanted in (
            (Schedule("linear", 0.9, 0.01, 0.2), linear(i, 0.9, 0.01, 0.2)),
            (Schedule("exponential", 0.99), exponential(i, 0.99)),
            (Schedule("inverse_sigmoid", 30.0), inverse_sigmoid(i, 30.0)),
        ):
            assert schedule(i) == wanted and 0 <= wanted <= 1


def test_mix_takes_gold_as_often_as_it_should() -> None:
    gold, predicted = torch.zeros(100, 200, dtype=torch.int64), torch.ones(100, 200, dtype=torch.int64)
    coins = [mix(gold, predicted, 0.3, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*coins)
    counts = coins[0].flatten().bincount().tolist()
    assert stats.binomtest(counts[0], 20000, 0.3).pvalue > 0.001
    assert torch.equal(mix(gold, predicted, 1.0), gold) and torch.equal(mix(gold, predicted, 0.0), predicted)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sampling(temperature=0.0), "temperature is 0.0"),
        (lambda: Sampling(top_k=-1), "top_k is -1"),
        (lambda: Sampling(top_p=1.2), "top_p is 1.2"),
        (lambda: Request(max_length=-1), "max_length is -1"),
        (lambda: Request(min_length=torch.tensor([1, -3])), "min_length is -3"),
        (lambda: Request(no_repeat_ngram=-1), "no_repeat_ngram is -1"),
        (lambda: Request(repetition_penalty=0.0), "repetition_penalty is 0.0"),
        (lambda: Request(eos=-1), "eos is -1"),
        (lambda: Schedule("cosine"), "use linear, exponential, inverse_sigmoid"),  # type: ignore[arg-type]
        (lambda: Schedule("exponential", 1.0), "more than 0, less than 1"),
        (lambda: Schedule("inverse_sigmoid", 0.5), "1 or more"),
        (lambda: Schedule("linear", 2.0), "0 to 1"),
        (lambda: Schedule(c=-1.0), "c is -1.0"),
        (lambda: Schedule(floor=2.0), "floor is 2.0"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_tensors_that_do_not_fit_are_refused() -> None:
    toy = Toy()
    with pytest.raises(ValueError, match=r"seeds is \[2\] for 3 rows"):
        generate(toy, *toy.start(3), Request(), Sampling(seeds=torch.tensor([1, 2])))
    with pytest.raises(ValueError, match="give the same shape"):
        mix(torch.zeros(2), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        mix(torch.zeros(2), torch.zeros(2), 1.5)
    with pytest.raises(ValueError, match=r"give \[3, T\] and \[3\]"):
        score(toy, *toy.start(3), (torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, dtype=torch.int64)))
