"""Output layer and cross-entropy in one, with one buffer of a few rows of logits instead of three of all of them."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.seq2seq.losses import check_smoothing, check_targets

BUFFER = 2**23  # logits at a time, 32 MiB: measured, smaller ones are no faster and on two threads slower
ROWS = 256  # and no fewer rows, as each chunk is a pass over the gradient of the weight


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    ignore_index: int = 0,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    r"""``F.cross_entropy(F.linear(hidden, weight, bias), targets)`` that never holds all logits.

    With ``q = (1 − ε) onehot(target) + ε / V`` and ``p = softmax(W h + b)`` the loss of a row is ``−Σ q log p`` and its
    gradient with respect to the logits ``p − q`` (Goodman 2001; Szegedy 2016, section 7). Both come from the same
    exponentials: rows are taken ``chunk`` at a time, their logits written into one buffer, turned into ``p − q`` in
    place, and the buffer's products added to the gradients at once. Beside the gradients themselves memory is
    ``chunk · V`` instead of ``3 N V``. Rows that are ignored cost nothing. Without gradients only the loss is computed.

    Under ``torch.autocast`` products are computed in its dtype, softmax and sums in float32. Differentiable twice: the
    second time through PyTorch's own operations, with all logits in memory.

    Args:
        hidden: ``[..., H]``.
        weight: ``[V, H]``.
        bias: ``[V]``, or None.
        targets: int64, shaped as ``hidden`` without its last axis; each in ``[0, V)`` or ``ignore_index``.
        ignore_index: rows with this target do not count (pad).
        label_smoothing: ``ε`` in ``[0, 1)``.
        chunk: rows at a time; None: as many as make a buffer of 32 MiB, at least 256.
        reduction: ``mean`` over the rows that count (0, with a gradient of zeros, where there are none), or ``sum``.

    Returns:
        a scalar, float32 at least.

    Raises:
        ValueError: shapes that do not fit, ``chunk`` below 1 or an unknown ``reduction``.
        ConfigError: ``label_smoothing`` is out of its range.
        DataError: a target is outside the vocabulary.

    Example:
        >>> hidden, weight, targets = torch.randn(6, 4), torch.randn(9, 4), torch.tensor([5, 0, 8, 1, 0, 3])
        >>> ours = linear_cross_entropy(hidden, weight, None, targets, chunk=2)
        >>> torch.allclose(ours, F.cross_entropy(F.linear(hidden, weight), targets, ignore_index=0))
        True
    """
    _check(hidden, weight, bias, targets)
    check_smoothing(label_smoothing)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"linear_cross_entropy: reduction must be mean or sum, got {reduction!r}")
    hidden, targets = counted(hidden, targets, ignore_index)
    check_targets(targets, len(weight))
    leaves = [tensor for tensor in (hidden, weight, bias) if tensor is not None]
    wanted = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
    plan = _Plan(label_smoothing, _rows(len(hidden), len(weight), chunk), product_dtype(hidden), wanted)
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, plan)  # type: ignore[no-untyped-call]
    return total / max(len(targets), 1) if reduction == "mean" else total


def counted(hidden: Tensor, targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The rows that count: ``hidden [N, H]`` and ``targets [N]`` of any leading axes.

    Example:
        >>> hidden, targets = counted(torch.zeros(2, 3, 4), torch.tensor([[5, 6, 0], [7, 0, 0]]), 0)
        >>> hidden.shape, targets.tolist()
        (torch.Size([3, 4]), [5, 6, 7])
    """
    if hidden.shape[:-1] != targets.shape:
        raise ValueError(
            f"expected hidden [..., H] and targets [...], got {list(hidden.shape)} and {list(targets.shape)}"
        )
    hidden, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    rows = (targets != ignore_index).nonzero().squeeze(1)
    if len(rows) == len(targets):
        return hidden, targets
    return hidden.index_select(0, rows), targets[rows]


def product_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype that a matrix product of ``hidden`` is computed in here and now."""
    kind = hidden.device.type
    autocast = torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if autocast else hidden.dtype


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> None:
    shapes = f"hidden {list(hidden.shape)}, weight {list(weight.shape)}, targets {list(targets.shape)}"
    if weight.ndim != 2 or hidden.shape[-1:] != weight.shape[1:] or hidden.shape[:-1] != targets.shape:
        raise ValueError(f"linear_cross_entropy: expected hidden [..., H], weight [V, H], targets [...], got {shapes}")
    if hidden.dtype != weight.dtype and not torch.is_autocast_enabled(hidden.device.type):
        raise ValueError(f"linear_cross_entropy: hidden is {hidden.dtype}, weight {weight.dtype}: use one dtype")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear_cross_entropy: expected bias [{len(weight)}], got {list(bias.shape)}")


def _rows(count: int, vocab_size: int, chunk: int | None) -> int:
    """Rows of a chunk, such that all chunks are about as large."""
    most = max(ROWS, BUFFER // vocab_size) if chunk is None else chunk
    if most < 1:
        raise ValueError(f"linear_cross_entropy: chunk must be 1 or more, got {chunk}")
    return max(math.ceil(count / max(math.ceil(count / most), 1)), 1)


class _Plan(NamedTuple):
    """How a call is computed."""

    smoothing: float
    rows: int
    dtype: torch.dtype  # of the products
    gradients: bool


class _LinearCrossEntropy(torch.autograd.Function):
    """The sum over all rows; gradients are computed forward, while the logits are there."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: _Plan) -> Tensor:
        needs = ctx.needs_input_grad[:3] if plan.gradients else (False, False, False)
        with torch.autocast(hidden.device.type, enabled=False):
            loss, gradients = _sum(hidden, weight, bias, targets, plan, needs)
        ctx.smoothing = plan.smoothing
        ctx.save_for_backward(hidden, weight, bias, targets, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *leaves, targets = ctx.saved_tensors[:4]
        if torch.is_grad_enabled():  # create_graph=True
            return *_by_parts(ctx, leaves, targets, grad), None, None
        pairs = zip(leaves, ctx.saved_tensors[4:], strict=True)
        return *(None if found is None else (found * grad).to(leaf.dtype) for leaf, found in pairs), None, None


def _by_parts(ctx: Any, leaves: list[Tensor | None], targets: Tensor, grad: Tensor) -> list[Tensor | None]:
    """The first derivatives, themselves differentiable."""
    hidden, weight, bias = leaves
    assert hidden is not None and weight is not None
    loss = F.cross_entropy(F.linear(hidden, weight, bias), targets, label_smoothing=ctx.smoothing, reduction="sum")
    wanted = [leaf for leaf, need in zip(leaves, ctx.needs_input_grad, strict=False) if need and leaf is not None]
    found = iter(torch.autograd.grad(loss, wanted, grad.to(loss.dtype), create_graph=True))
    return [next(found) if need else None for need in ctx.needs_input_grad[:3]]


def _sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: _Plan, needs: tuple[bool, ...]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The loss of all rows, and unless they are not needed the gradients of ``hidden``, ``weight`` and ``bias``."""
    wide = torch.promote_types(plan.dtype, torch.float32)
    inputs = (hidden, weight, bias)
    gradients = tuple(
        torch.zeros_like(tensor, dtype=wide) if need and tensor is not None else None
        for tensor, need in zip(inputs, needs, strict=True)
    )
    h, w, b = (None if tensor is None else tensor.to(plan.dtype) for tensor in inputs)
    assert h is not None and w is not None
    buffer = h.new_empty(min(plan.rows, len(h)), len(w))
    soft = buffer if plan.dtype == wide else torch.empty_like(buffer, dtype=wide)
    loss = torch.zeros((), dtype=wide, device=h.device)
    for start in range(0, len(h), plan.rows):
        part = slice(start, min(start + plan.rows, len(h)))
        logits, probabilities = (whole[: part.stop - start] for whole in (buffer, soft))
        _project(h[part], w, b, logits)
        if soft is not buffer:
            probabilities.copy_(logits)
        loss += _turn_into_gradient(probabilities, targets[part].unsqueeze(1), plan.smoothing)
        if any(needs):
            if soft is not buffer:
                logits.copy_(probabilities)
            _accumulate(gradients, part, logits, h, w)
    return loss, gradients


def _project(hidden: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(hidden, weight.t(), out=out)
    else:
        torch.addmm(bias, hidden, weight.t(), out=out)


def _turn_into_gradient(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """``logits [n, V]`` become ``softmax − q`` in place; the sum of the rows' losses."""
    size = logits.shape[1]
    expected = (1 - smoothing) * logits.gather(1, targets).squeeze(1)
    if smoothing:
        expected += smoothing / size * logits.sum(1)
    top = logits.amax(1)
    torch.softmax(logits, 1, out=logits)
    normalizer = top - logits.amax(1).log()  # the largest of the probabilities is exp(0) / Σ exp(logit − top)
    if smoothing:
        logits.sub_(smoothing / size)
    logits.scatter_add_(1, targets, torch.full_like(targets, smoothing - 1, dtype=logits.dtype))
    return (normalizer - expected).sum()


def _accumulate(
    gradients: tuple[Tensor | None, ...], part: slice, change: Tensor, hidden: Tensor, weight: Tensor
) -> None:
    """Add what the rows in ``part``, whose logits' gradient is ``change [n, V]``, give."""
    of_hidden, of_weight, of_bias = gradients
    if of_hidden is not None:
        of_hidden[part] = change @ weight
    if of_weight is not None and of_weight.dtype == change.dtype:
        of_weight.addmm_(change.t(), hidden[part])
    elif of_weight is not None:
        of_weight.add_(change.t() @ hidden[part])
    if of_bias is not None:
        of_bias.add_(change.sum(0, dtype=of_bias.dtype))
