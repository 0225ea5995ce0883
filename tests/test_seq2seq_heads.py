"""Output heads: candidates and their losses against equations in numpy; what all kinds have in common."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.seq2seq.adaptive import AdaptiveHead, default_cutoffs
from lightning_rnn.seq2seq.heads import HEADS, build_head
from lightning_rnn.seq2seq.output import OutputHead

KINDS = sorted(HEADS)
TIED = [kind for kind in KINDS if kind != "adaptive"]
H, V = 16, 60


def head_of(kind: str, **options: Any) -> OutputHead:
    torch.manual_seed(4)
    return build_head(kind, H, V, **options)


def rows() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(2, 4, H), torch.tensor([[1, 59, 7, 0], [30, 2, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_over_the_whole_vocabulary(kind: str) -> None:
    head, (hidden, targets) = head_of(kind).eval(), rows()
    log_probs = head.log_probs(hidden)
    assert log_probs.shape == (2, 4, V)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 4))
    expected = -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)[targets != 0].mean()
    torch.testing.assert_close(head.loss(hidden, targets), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pads_change_nothing(kind: str) -> None:
    head, (hidden, targets) = head_of(kind), rows()
    real = targets != 0
    torch.manual_seed(6)
    padded = head.loss(torch.where(real.unsqueeze(-1), hidden, torch.nan), targets)
    torch.manual_seed(6)
    torch.testing.assert_close(padded, head.loss(hidden[real], targets[real]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_pads_is_zero_and_reaches_every_parameter(kind: str) -> None:
    head, (hidden, targets) = head_of(kind), rows()
    head.loss(hidden, torch.zeros_like(targets)).backward()
    for parameter in head.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [V, -1])
def test_ids_outside_the_vocabulary_are_refused(kind: str, training: bool, wrong: int) -> None:
    head, (hidden, targets) = head_of(kind).train(training), rows()
    targets[0, 2] = wrong
    with pytest.raises(DataError, match=f"the target {wrong} is outside the vocabulary of {V} words"):
        head.loss(hidden, targets)


@pytest.mark.parametrize("kind", KINDS)
def test_label_smoothing_is_the_full_softmaxs_alone(kind: str) -> None:
    head, (hidden, targets) = head_of(kind), rows()
    if kind == "full":
        logits = head.log_probs(hidden).flatten(0, 1)
        expected = F.cross_entropy(logits, targets.flatten(), ignore_index=0, label_smoothing=0.2)
        torch.testing.assert_close(head.loss(hidden, targets, label_smoothing=0.2), expected)
        return
    with pytest.raises(ConfigError, match=f"the output head {kind} has no label smoothing"):
        head.loss(hidden, targets, label_smoothing=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_run_in_mixed_precision(kind: str) -> None:
    head, (hidden, targets) = head_of(kind), rows()
    exact = head.eval().loss(hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        head.train().loss(hidden.bfloat16(), targets).backward()
        found, log_probs = head.eval().loss(hidden.bfloat16(), targets), head.log_probs(hidden.bfloat16())
    assert found.dtype == log_probs.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_learns_the_distribution(kind: str) -> None:
    """Three contexts with a distribution each over 20 words: all kinds must end at those, normalized."""
    torch.manual_seed(7)
    words = 20
    truth = torch.softmax(2 * torch.randn(3, words), 1)
    truth[:, 0] = 0
    truth /= truth.sum(1, keepdim=True)
    options: dict[str, Any] = {"candidates": 8} if "candidates" in HEADS[kind].options else {}
    if kind == "adaptive":
        options = {"cutoffs": [5]}  # a second cluster would have one feature, too few for three distributions
    head = build_head(kind, 16, words, **options)
    states = nn.Parameter(torch.randn(3, 16))
    optimizer = torch.optim.Adam([*head.parameters(), states], lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, 400)
    for _ in range(400):
        targets = torch.multinomial(truth, 200, replacement=True)
        optimizer.zero_grad()
        head.loss(states.repeat_interleave(200, 0), targets.flatten()).backward()
        optimizer.step()
        schedule.step()
    divergence = (torch.xlogy(truth, truth) - truth * head.log_probs(states)).sum(1)
    assert divergence.max() < 0.03


@pytest.mark.parametrize("kind", TIED)
@pytest.mark.parametrize("size", [H, 10])
def test_tied_vectors_are_one_parameter(kind: str, size: int) -> None:
    embedding = nn.Embedding(V, size)
    model = nn.ModuleDict({"embedding": embedding, "head": head_of(kind, embedding=embedding)})
    hidden, targets = rows()
    assert len([p for p in model.parameters() if p.shape == (V, size)]) == 1
    state = model.state_dict()
    assert state["embedding.weight"].data_ptr() == state["head.weight"].data_ptr()
    expected = embedding(targets).sum() + model["head"].eval().loss(hidden, targets)  # type: ignore[operator]
    expected.backward()
    alone = head_of(kind, embedding=(copy := nn.Embedding.from_pretrained(embedding.weight.detach(), freeze=False)))
    alone.load_state_dict(model["head"].state_dict())
    alone.eval().loss(hidden, targets).backward()
    both = torch.zeros(V, size).index_add_(0, targets.flatten(), torch.ones(8, size)) + copy.weight.grad
    torch.testing.assert_close(embedding.weight.grad, both)


def test_a_tied_tensor_is_saved_once_and_stays_tied_when_loaded() -> None:
    def model() -> nn.ModuleDict:
        embedding = nn.Embedding(2000, 64)
        return nn.ModuleDict({"embedding": embedding, "head": build_head("full", 64, 2000, embedding=embedding)})

    stream, saved, loaded = io.BytesIO(), model(), model()
    torch.save(saved.state_dict(), stream)
    assert stream.tell() < 1.1 * 2000 * 65 * 4
    stream.seek(0)
    loaded.load_state_dict(torch.load(stream))
    assert loaded["embedding"].weight is loaded["head"].weight
    assert torch.equal(loaded["head"].weight, saved["embedding"].weight)


def test_a_bias_can_be_left_out() -> None:
    for kind in TIED:
        assert head_of(kind, bias=False).bias is None and head_of(kind).bias is not None
    torch.testing.assert_close(head_of("nce").bias, torch.full((V,), -math.log(V)))
    assert head_of("adaptive", bias=False).softmax.head.bias is None


def test_the_adaptive_softmax_is_torchs() -> None:
    head, (hidden, targets) = AdaptiveHead(H, V, cutoffs=[10, 30]), rows()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(H, V, [10, 30], head_bias=True)
    theirs.load_state_dict(head.softmax.state_dict())
    real = targets != 0
    torch.testing.assert_close(head.loss(hidden, targets), theirs(hidden[real], targets[real]).loss)


def test_default_cutoffs_ascend_within_any_vocabulary() -> None:
    for size in range(2, 300):
        cutoffs = default_cutoffs(size)
        assert cutoffs == sorted(set(cutoffs)) and cutoffs[0] >= 1 and cutoffs[-1] < size
        hidden, targets = torch.randn(4, 16), torch.tensor([1, size - 1, 0, 0])
        assert AdaptiveHead(16, size).loss(hidden, targets).isfinite()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("linear", {}, "no output head is called 'linear': use full, sampled, nce, adaptive"),
        ("full", {"candidates": 5}, "full has no candidates: leave it out, or use sampled or nce"),
        ("adaptive", {"frequencies": torch.ones(V)}, "adaptive has no frequencies"),
        ("nce", {"cutoffs": [5]}, "nce has no cutoffs: leave it out, or use adaptive"),
        ("sampled", {"candidates": V + 1}, f"candidates must be 1 to {V}"),
        ("sampled", {"frequencies": torch.ones(3)}, f"one number for each of the {V} words, got shape \\[3\\]"),
        ("adaptive", {"cutoffs": [30, 10]}, f"cutoffs must ascend between 1 and {V - 1}"),
        ("adaptive", {"cutoffs": [V]}, "cutoffs must ascend"),
        ("adaptive", {"cutoffs": []}, "cutoffs must ascend"),
        ("adaptive", {"cutoffs": [5, 10, 20]}, "3 clusters leave the last no feature of 16"),
        ("adaptive", {"embedding": nn.Embedding(V, H)}, "adaptive has vectors of several sizes"),
        ("full", {"embedding": nn.Embedding(V + 1, H)}, "cannot share an embedding of 61"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_head(kind, H, V, **options)
