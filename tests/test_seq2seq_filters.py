"""Filters of a distribution over words, and draws from it."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_rnn.seq2seq.samplers import Sampling, filtered, greedy, sample, uniforms


def numpy_filtered(log_probs: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Probabilities after each filter of one row, one word at a time."""
    p = np.exp(log_probs / temperature)
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda w: (-p[w], w))
    kept = order[:top_k] if top_k else order
    total = p[kept].sum()
    nucleus: list[int] = []
    for word in kept:
        if nucleus and p[nucleus].sum() / total >= top_p:
            break
        nucleus.append(word)
    out = np.zeros_like(p)
    out[nucleus] = p[nucleus] / p[nucleus].sum()
    return out


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.integers(0, 13),
    st.floats(0.01, 1.0),
)
def test_filters_equal_numpy(seed: int, vocab: int, temperature: float, top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (5, vocab))
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = filtered(torch.from_numpy(log_probs), Sampling(temperature, top_k, top_p)).softmax(1)
    wanted = [numpy_filtered(row, temperature, top_k, top_p if top_p < 1 else 2) for row in log_probs]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_of_equals_the_lower_words_are_kept() -> None:
    even = torch.full((1, 40), 1 / 40).log()
    for options in (Sampling(top_k=3), Sampling(top_p=2.5 / 40)):
        assert (filtered(even, options) > -math.inf).nonzero()[:, 1].tolist() == [0, 1, 2]
    assert greedy(even).tolist() == [0]


def test_one_word_is_kept_however_small_top_p() -> None:
    log_probs = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.3, 0.3]]).log()
    kept = filtered(log_probs, Sampling(top_p=1e-9)) > -math.inf
    assert kept.tolist() == [[False, True, False], [True, False, False]]


def test_sampling_frequencies_are_the_probabilities() -> None:
    p = np.array([0.4, 0.0, 0.25, 0.2, 0.1, 0.05])
    words = sample(torch.from_numpy(p).log().expand(20000, -1), uniforms(torch.arange(20000), 0))
    counts = np.bincount(words, minlength=6)
    assert counts[1] == 0
    assert stats.chisquare(counts[p > 0], 20000 * p[p > 0]).pvalue > 0.001


def test_words_of_no_probability_are_never_drawn() -> None:
    log_probs = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    assert sample(log_probs, torch.tensor([0.0, 0.5, 1 - 2**-52], dtype=torch.float64)).tolist() == [1, 3, 3]


def splitmix(seed: int, time: int) -> float:
    """SplitMix64 in Python's integers: the state is the mixed seed, the output that of the step after ``time``."""
    full = 2**64 - 1

    def mixed(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & full
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & full
        return z ^ (z >> 31)

    state = mixed(seed & full) + (time + 1) * 0x9E3779B97F4A7C15 & full
    return (mixed(state) >> 12) / 2**52


def test_uniforms_are_splitmix64_and_uniform() -> None:
    seeds = [0, 1, -1, 2**62, -(2**63), 12345678901234567]
    for time in (0, 1, 99):
        assert uniforms(torch.tensor(seeds), time).tolist() == [splitmix(seed, time) for seed in seeds]
    grid = np.stack([uniforms(torch.arange(2000), time).numpy() for time in range(20)])
    assert stats.kstest(grid.flatten(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(grid[:-1].flatten(), grid[1:].flatten())[0, 1]) < 0.02
    assert abs(np.corrcoef(grid[:, :-1].flatten(), grid[:, 1:].flatten())[0, 1]) < 0.02
