"""Losses of sequences: against loops in numpy, PyTorch's own in float64, and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.seq2seq.cross_entropy import linear_cross_entropy
from lightning_rnn.seq2seq.losses import sequence_cross_entropy, shifted, up_to_eos

LENGTHS = [4, 1, 0]
SMOOTHING = [0.0, 0.1]


def by_hand(logits: Tensor, targets: Tensor, lengths: list[int], smoothing: float) -> Any:
    """``−Σ q log p`` step by step; zero where masked."""
    x, size = logits.numpy(), logits.shape[-1]
    losses = np.zeros(targets.shape)
    for b, length in enumerate(lengths):
        for t in range(length):
            log_p = x[b, t] - np.log(np.exp(x[b, t]).sum())
            q = np.full(size, smoothing / size)
            q[targets[b, t]] += 1 - smoothing
            losses[b, t] = -(q * log_p).sum()
    return losses


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(3, 5, 7, dtype=torch.float64), torch.randint(7, (3, 5))


@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_every_reduction_is_its_equation(smoothing: float) -> None:
    logits, targets = batch()
    losses, steps = by_hand(logits, targets, LENGTHS, smoothing), np.arange(5)
    lengths, present = np.array(LENGTHS), np.array([[t < n for t in steps] for n in LENGTHS]).sum(0)
    expected = {
        "tokens": losses.sum() / 5,
        "sentences": losses.sum() / 3,
        "per_sentence": losses.sum(1) / np.maximum(lengths, 1),
        "per_step": losses.sum(0) / np.maximum(present, 1),
        "sum": losses.sum(),
        "none": losses,
    }
    for reduction, value in expected.items():
        found = sequence_cross_entropy(
            logits, targets, torch.tensor(LENGTHS), label_smoothing=smoothing, reduction=reduction
        )
        np.testing.assert_allclose(found.numpy(), value, rtol=1e-12)


def test_what_stands_in_padding_changes_nothing() -> None:
    logits, targets = batch()
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(5) < lengths[:, None]
    expected = sequence_cross_entropy(logits, targets, lengths)
    changed = torch.where(mask[..., None], logits, torch.inf).requires_grad_()
    found = sequence_cross_entropy(changed, torch.where(mask, targets, -99), mask=mask)
    found.backward()
    assert found == expected
    assert changed.grad is not None and torch.equal(changed.grad.any(-1), mask)


def test_nothing_to_count_is_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    for reduction in ("tokens", "sentences", "sum"):
        loss = sequence_cross_entropy(logits, torch.zeros(2, 3).long(), torch.zeros(2).long(), reduction=reduction)
        (grad,) = torch.autograd.grad(loss, logits)
        assert loss == 0 and not grad.any()


def test_half_precision_is_computed_in_float32() -> None:
    logits, targets = batch()
    half = logits.bfloat16()
    assert sequence_cross_entropy(half, targets).dtype == torch.float32
    assert torch.allclose(sequence_cross_entropy(half, targets), sequence_cross_entropy(half.float(), targets))


def test_a_sentence_ends_with_its_first_eos() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(3, 7, (40, 6))
    for row, mask in zip(tokens.tolist(), up_to_eos(tokens).tolist(), strict=True):
        length = row.index(3) + 1 if 3 in row else 6
        assert mask == [t < length for t in range(6)]


def test_wrong_arguments_are_refused() -> None:
    logits, targets = batch()
    with pytest.raises(DataError, match=r"the target 7 is outside the vocabulary of 7 words \(0 to 6\)"):
        sequence_cross_entropy(logits, targets + 7 * (targets == 0))
    with pytest.raises(ConfigError, match="no reduction is called 'mean': use tokens"):
        sequence_cross_entropy(logits, targets, reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="label_smoothing must be at least 0 and below 1, got 1"):
        sequence_cross_entropy(logits, targets, label_smoothing=1)
    with pytest.raises(ValueError, match="lengths or mask"):
        sequence_cross_entropy(logits, targets, torch.tensor(LENGTHS), mask=targets > 0)
    with pytest.raises(ValueError, match=r"lengths must be \[3\], got \[2\]"):
        sequence_cross_entropy(logits, targets, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"expected logits \[B, T, V\]"):
        sequence_cross_entropy(logits[0], targets[0])


def layer(rows: int = 7, size: int = 3, vocab: int = 11, bias: bool = True) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    shapes = [(rows, size), (vocab, size)] + [(vocab,)] * bias
    targets = torch.randint(1, vocab, (rows,))
    targets[rows // 2] = 0
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes], targets


def plain(leaves: list[Tensor], targets: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(F.linear(*leaves), targets, ignore_index=0, label_smoothing=smoothing)


def frugal(leaves: list[Tensor], targets: Tensor, **options: Any) -> Tensor:
    hidden, weight, bias = (*leaves, None)[:3]
    return linear_cross_entropy(hidden, weight, bias, targets, **options)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_the_frugal_loss_and_its_gradients_are_the_plain_ones(chunk: int | None, smoothing: float, bias: bool) -> None:
    leaves, targets = layer(bias=bias)
    ours, theirs = frugal(leaves, targets, chunk=chunk, label_smoothing=smoothing), plain(leaves, targets, smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for mine, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("bias", [True, False])
def test_the_frugal_loss_is_differentiated_rightly_once_and_twice(smoothing: float, bias: bool) -> None:
    leaves, targets = layer(bias=bias)

    def loss(*leaves: Tensor) -> Tensor:
        return frugal(list(leaves), targets, chunk=2, label_smoothing=smoothing)

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient_and_the_rest_is_as_before(trained: int) -> None:
    leaves, targets = layer()
    expected = torch.autograd.grad(plain(leaves, targets), leaves)[trained]
    frozen = [leaf.detach().requires_grad_(i == trained) for i, leaf in enumerate(leaves)]
    frugal(frozen, targets).backward()
    for i, leaf in enumerate(frozen):
        assert (leaf.grad is None) == (i != trained)
    torch.testing.assert_close(frozen[trained].grad, expected)


def test_backward_can_run_again_and_scales_with_what_follows() -> None:
    leaves, targets = layer()
    loss = frugal(leaves, targets)
    once = torch.autograd.grad(loss, leaves, retain_graph=True)
    again = torch.autograd.grad(-3 * loss, leaves)
    for a, b in zip(once, again, strict=True):
        torch.testing.assert_close(-3 * a, b)


class Largest(TorchDispatchMode):
    """The most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_all_logits_are_never_there_at_once() -> None:
    leaves, targets = layer(rows=300, size=4, vocab=100)
    with Largest() as ours:
        frugal(leaves, targets, chunk=16).backward()
    with Largest() as theirs:
        plain(leaves, targets).backward()
    assert theirs.elements >= 300 * 100
    assert ours.elements <= max(16 * 100, 300 * 4)


def test_without_gradients_only_the_loss_is_computed() -> None:
    leaves, targets = layer()
    with torch.no_grad(), Largest() as seen:
        loss = frugal(leaves, targets, chunk=1)
    assert seen.elements <= leaves[1].numel() and loss.grad_fn is None
    torch.testing.assert_close(loss, plain(leaves, targets))


def test_a_batch_of_padding_is_zero_with_a_gradient() -> None:
    leaves, targets = layer()
    loss = frugal(leaves, torch.zeros_like(targets))
    assert loss == 0
    assert not any(grad.any() for grad in torch.autograd.grad(loss, leaves))


def test_rows_of_any_axes_and_their_sum() -> None:
    (hidden, weight, bias), targets = layer(rows=6)
    mean = linear_cross_entropy(hidden.view(2, 3, 3), weight, bias, targets.view(2, 3))
    torch.testing.assert_close(mean, plain([hidden, weight, bias], targets))
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, bias, targets, reduction="sum"), mean * 5)


def test_mixed_precision_is_near_the_exact_loss_and_gradients_keep_their_dtype() -> None:
    leaves, targets = layer(rows=64, size=32, vocab=50)
    exact = torch.autograd.grad(plain(leaves, targets, 0.1), leaves)
    single = [leaf.detach().float().requires_grad_() for leaf in leaves]
    with torch.autocast("cpu", torch.bfloat16):
        loss = frugal(single, targets, label_smoothing=0.1, chunk=10)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), plain(leaves, targets, 0.1), rtol=1e-2, atol=0)
    for leaf, grad in zip(single, exact, strict=True):
        assert leaf.grad is not None and leaf.grad.dtype == torch.float32
        assert (leaf.grad - grad).norm() < 2e-2 * grad.norm()


def test_large_logits_do_not_overflow() -> None:
    hidden, weight = torch.full((2, 1), 100.0), torch.tensor([[1.0], [100.0], [-100.0]])
    found = linear_cross_entropy(hidden, weight, None, torch.tensor([1, 2]), reduction="sum")
    assert found == 20_000


def test_wrong_arguments_of_the_frugal_loss_are_refused() -> None:
    (hidden, weight, bias), targets = layer()
    with pytest.raises(DataError, match="the target 11 is outside the vocabulary of 11 words"):
        linear_cross_entropy(hidden, weight, bias, targets + 11 * (targets == 0))
    with pytest.raises(DataError, match="the target -1 is outside"):
        linear_cross_entropy(hidden, weight, bias, targets - 1)
    with pytest.raises(ValueError, match=r"expected hidden \[\.\.\., H\], weight \[V, H\]"):
        linear_cross_entropy(hidden, weight.t(), bias, targets)
    with pytest.raises(ValueError, match=r"expected bias \[11\], got \[3\]"):
        linear_cross_entropy(hidden, weight, bias[:3], targets)
    with pytest.raises(ValueError, match="chunk must be 1 or more, got 0"):
        linear_cross_entropy(hidden, weight, bias, targets, chunk=0)
    with pytest.raises(ValueError, match="reduction must be mean or sum, got 'none'"):
        linear_cross_entropy(hidden, weight, bias, targets, reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use one dtype"):
        linear_cross_entropy(hidden.float(), weight, bias, targets)


@pytest.mark.parametrize(
    ("shape", "first"), [((2, 4), 7.0), ((2, 4, 3), (1.0, 0.0, 2.0)), ((2, 1), 7.0), ((2, 0), 7.0)]
)
def test_targets_are_shifted_by_one_step(shape: tuple[int, ...], first: Any) -> None:
    targets = torch.randn(shape)
    found = shifted(targets, first)
    assert found.shape == targets.shape and found.dtype == targets.dtype
    assert torch.equal(found[:, 1:], targets[:, :-1])
    assert bool((found[:, :1] == torch.tensor(first)).all())
