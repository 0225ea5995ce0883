"""Monotonic attention in parallel, by sampling and by hard choices; the coverage loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attentions import made
from torch import Tensor

from lightning_rnn.seq2seq.attention import AttentionOptions, coverage_loss
from lightning_rnn.seq2seq.monotonic import MonotonicMode, monotonic_weights

B, T, S, Q, M, A = 3, 4, 6, 5, 7, 8


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def start(*shape: int) -> Tensor:
    previous = torch.zeros(*shape, dtype=torch.float64)
    previous[..., 0] = 1
    return previous


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 65])
def test_the_parallel_form_equals_the_recurrence(steps: int) -> None:
    previous = start(4, 2, steps)
    for _ in range(3):
        chosen = torch.rand(4, 2, steps, dtype=torch.float64)
        chosen[0] = 1 - 1e-13 * chosen[0]  # products of 1 - p underflow the paper's quotients
        chosen[1, 0] = 1
        parallel = monotonic_weights(chosen, previous, "parallel")
        torch.testing.assert_close(parallel, monotonic_weights(chosen, previous, "recursive"), rtol=0, atol=1e-12)
        assert (parallel >= 0).all() and (parallel.sum(-1) <= 1 + 1e-12).all()
        previous = parallel


def test_with_chances_of_0_and_1_all_modes_are_the_hard_process() -> None:
    torch.manual_seed(0)
    chosen = torch.randint(0, 2, (50, 4, 9)).double()
    modes: tuple[MonotonicMode, ...] = ("parallel", "recursive", "hard")
    previous = start(50, 9)
    for step in chosen.unbind(1):
        parallel, recursive, hard = (monotonic_weights(step, previous, mode) for mode in modes)
        assert torch.equal(hard, recursive)
        torch.testing.assert_close(parallel, recursive, rtol=0, atol=0)
        for row in range(50):  # the process itself
            expected = np.zeros(9)
            if previous[row].any():
                at = int(previous[row].argmax())
                stops = [j for j in range(at, 9) if step[row, j]]
                if stops:
                    expected[stops[0]] = 1
            np.testing.assert_array_equal(hard[row], expected)
        previous = hard


def test_the_mean_of_the_sampled_process_is_the_soft_weights() -> None:
    torch.manual_seed(0)
    chance = torch.rand(3, 6, dtype=torch.float64)
    soft, sampled = start(6), start(40000, 6)
    for step in chance:
        soft = monotonic_weights(step, soft, "recursive")
        sampled = monotonic_weights(torch.bernoulli(step.expand(40000, 6)), sampled, "hard")
        torch.testing.assert_close(sampled.mean(0), soft, rtol=0, atol=0.012)  # 5 standard errors


def test_gradients_of_the_parallel_form_are_those_of_the_recurrence_even_at_chances_of_1() -> None:
    chosen = torch.tensor([[0.3, 1.0, 0.9, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    previous = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    modes: tuple[MonotonicMode, ...] = ("parallel", "recursive")
    found = [
        torch.autograd.grad(monotonic_weights(chosen, previous, mode).square().sum(), (chosen, previous))
        for mode in modes
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@torch.no_grad()
def test_hard_decoding_never_goes_back_and_stops_at_one_step() -> None:
    attention = made("bahdanau_monotonic", options=AttentionOptions(eval_mode="hard"))
    weights = attention.attend_all(drawn(B, 12, Q) * 3, attention.remember(drawn(B, S, M))).weights
    assert set(weights.unique().tolist()) == {0.0, 1.0} and (weights.sum(2) <= 1).all()
    for row in weights:
        places = [int(step.argmax()) for step in row if step.any()]
        assert places == sorted(places) and len(places) > 0


def test_noise_is_drawn_in_training_alone() -> None:
    attention = made("luong_monotonic", options=AttentionOptions(noise=1.0))
    queries, memory = drawn(B, T, Q), attention.remember(drawn(B, S, M))
    quiet = [attention.attend_all(queries, memory).weights for _ in range(2)]
    assert torch.equal(*quiet)
    attention.train()
    noisy = [attention.attend_all(queries, memory).weights for _ in range(2)]
    assert not torch.equal(*noisy)


def test_the_coverage_loss_is_the_overlap_with_what_was_covered() -> None:
    weights = torch.rand(B, T, S, dtype=torch.float64).softmax(-1)
    lengths, expected, count = torch.tensor([4, 2, 0]), 0.0, 0
    for row, length in enumerate(lengths.tolist()):
        covered = np.zeros(S)
        for t in range(length):
            expected += np.minimum(weights[row, t].numpy(), covered).sum()
            covered += weights[row, t].numpy()
            count += 1
    assert coverage_loss(weights, lengths=lengths).item() == pytest.approx(expected / count, abs=1e-12)
    mask = torch.arange(T) < lengths[:, None]
    assert coverage_loss(weights, mask=mask).item() == pytest.approx(expected / count, abs=1e-12)
    assert coverage_loss(weights, lengths=0 * lengths).item() == 0
    assert coverage_loss(torch.eye(S).expand(1, S, S)).item() == 0
