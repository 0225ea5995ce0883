"""Candidates for large vocabularies and the losses on them, against equations in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.noise import Candidates, CandidateSampler, log_uniform, unigram
from lightning_rnn.seq2seq.sampled import nce_loss, sampled_softmax_loss

H, V = 16, 60


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_log_uniform_is_zipf() -> None:
    expected = [(math.log(k + 2) - math.log(k + 1)) / math.log(V + 1) for k in range(V)]
    np.testing.assert_allclose(log_uniform(V).numpy(), expected, rtol=1e-12)
    assert math.isclose(sum(expected), 1)


@pytest.mark.parametrize("p", [log_uniform(V), unigram(torch.arange(1, V + 1), 0.75)], ids=["zipf", "unigram"])
def test_words_are_drawn_as_often_as_expected(p: Tensor) -> None:
    count = 200_000
    drawn = CandidateSampler(p, unique=False).draw(torch.arange(V), count, seeded())
    expected = (p * count).numpy()
    np.testing.assert_allclose(drawn.targets_log_expected.double().exp().numpy(), expected, rtol=1e-5)
    found = drawn.ids.bincount(minlength=V).numpy()
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()
    np.testing.assert_allclose(drawn.log_expected.numpy(), drawn.targets_log_expected[drawn.ids].numpy())


def test_different_words_are_drawn_and_their_expected_counts_are_how_often_they_come() -> None:
    sampler, generator, turns, count = CandidateSampler(log_uniform(V), unique=True), seeded(), 2000, 20
    found, expected = np.zeros(V), np.zeros(V)
    for _ in range(turns):
        drawn = sampler.draw(torch.arange(V), count, generator)
        assert len(drawn.ids.unique()) == count
        found += drawn.ids.bincount(minlength=V).numpy()
        expected += drawn.targets_log_expected.exp().numpy()
    assert (np.abs(found - expected) < 0.02 * turns + 5 * np.sqrt(expected)).all()


def test_draws_repeat_with_their_generator_and_survive_half_precision() -> None:
    for unique in (True, False):
        sampler = CandidateSampler(log_uniform(V), unique=unique)
        first, second = sampler.draw(torch.tensor([5]), 9, seeded(1)), sampler.draw(torch.tensor([5]), 9, seeded(2))
        assert not torch.equal(first.ids, second.ids)
        half = sampler.bfloat16().draw(torch.tensor([5]), 9, seeded(1))
        assert all(torch.equal(a, b) for a, b in zip(first, half, strict=True))


def test_every_word_once_when_all_are_drawn() -> None:
    drawn = CandidateSampler(log_uniform(V), unique=True).draw(torch.tensor([3, 7]), V)
    assert torch.equal(drawn.ids, torch.arange(V))
    assert not drawn.log_expected.any() and not drawn.targets_log_expected.any()


def test_candidates_that_cannot_be_drawn_are_refused() -> None:
    sampler = CandidateSampler(log_uniform(5), unique=True)
    for count in (0, 6):
        with pytest.raises(ConfigError, match=f"{count} candidates cannot be drawn out of 5 words: give 1 to 5"):
            sampler.draw(torch.tensor([1]), count)
    with pytest.raises(ConfigError, match="the word 1 has the count 0"):
        unigram(torch.tensor([3, 0, 2]))


def problem(
    rows: int = 6, candidates: tuple[int, ...] = (0, 1, 4, 9, 9, 30)
) -> tuple[list[Tensor], Tensor, Candidates]:
    """Tensors, targets of which some are candidates, and candidates of which one came twice."""
    torch.manual_seed(2)
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((rows, 5), (V, 5), (V,))]
    targets = torch.tensor([9, 1, 30, 59, 2, 2])[:rows]
    expected = [torch.randn(n, dtype=torch.float64) for n in (len(candidates), rows)]
    return leaves, targets, Candidates(torch.tensor(candidates), *expected)


def corrected(leaves: list[Tensor], targets: Tensor, drawn: Candidates) -> tuple[Any, Any]:
    """Scores of targets and of candidates, a row at a time."""
    h, w, b = (leaf.detach().numpy() for leaf in leaves)
    ids, noise, own = (part.numpy() for part in drawn)
    t = targets.numpy()
    right = np.array([w[t[n]] @ h[n] + b[t[n]] - own[n] for n in range(len(t))])
    others = np.array([[w[j] @ h[n] + b[j] - noise[s] for s, j in enumerate(ids)] for n in range(len(t))])
    return right, others


@pytest.mark.parametrize("remove_hits", [True, False])
def test_sampled_softmax_is_its_equation(remove_hits: bool) -> None:
    leaves, targets, drawn = problem()
    right, others = corrected(leaves, targets, drawn)
    losses = []
    for n, target in enumerate(targets.tolist()):
        kept = [s for s, j in enumerate(drawn.ids.tolist()) if not (remove_hits and j == target)]
        losses.append(-right[n] + np.log(np.exp(right[n]) + np.exp(others[n, kept]).sum()))
    found = sampled_softmax_loss(*leaves, targets, drawn, remove_hits=remove_hits)
    np.testing.assert_allclose(found.item(), np.mean(losses), rtol=1e-12)


@pytest.mark.parametrize("remove_hits", [True, False])
def test_nce_is_its_equation(remove_hits: bool) -> None:
    leaves, targets, drawn = problem()
    right, others = corrected(leaves, targets, drawn)
    losses = []
    for n, target in enumerate(targets.tolist()):
        kept = [s for s, j in enumerate(drawn.ids.tolist()) if not (remove_hits and j == target)]
        p = 1 / (1 + np.exp(-right[n]))
        q = 1 / (1 + np.exp(-others[n, kept]))
        losses.append(-np.log(p) - np.log(1 - q).sum())
    found = nce_loss(*leaves, targets, drawn, remove_hits=remove_hits)
    np.testing.assert_allclose(found.item(), np.mean(losses), rtol=1e-12)


@pytest.mark.parametrize("loss", [sampled_softmax_loss, nce_loss])
def test_losses_of_candidates_are_differentiated_rightly(loss: Any) -> None:
    leaves, targets, drawn = problem()
    assert torch.autograd.gradcheck(lambda *leaves: loss(*leaves, targets, drawn), leaves)
    assert torch.autograd.gradcheck(lambda h, w: loss(h, w, None, targets, drawn), leaves[:2])


def test_with_all_words_drawn_sampled_softmax_is_the_full_one() -> None:
    leaves, targets, _ = problem()
    drawn = CandidateSampler(log_uniform(V), unique=True).draw(targets, V)
    ours, full = sampled_softmax_loss(*leaves, targets, drawn), F.cross_entropy(F.linear(*leaves), targets)
    torch.testing.assert_close(ours, full)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(full, leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_sampled_softmax_nears_the_full_one() -> None:
    leaves, targets, _ = problem()
    full = torch.autograd.grad(F.cross_entropy(F.linear(*leaves), targets), leaves[0])[0]
    sampler, generator = CandidateSampler(log_uniform(V), unique=False), seeded()

    def distance(candidates: int) -> float:
        draws = [sampler.draw(targets, candidates, generator) for _ in range(100)]
        grads = [torch.autograd.grad(sampled_softmax_loss(*leaves, targets, d), leaves[0])[0] for d in draws]
        return float((torch.stack(grads).mean(0) - full).norm() / full.norm())

    assert distance(2000) < 0.05 < distance(3)
