"""Cross-entropy of padded target sequences, and which of their steps count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.functional.masks import masked_mean, sequence_mask

Reduction = Literal["tokens", "sentences", "per_sentence", "per_step", "sum", "none"]

# losses [B, T], zero where masked, and the mask
_REDUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tokens": lambda losses, mask: losses.sum() / mask.sum().clamp(min=1),
    "sentences": lambda losses, mask: losses.sum() / max(len(losses), 1),
    "per_sentence": masked_mean,
    "per_step": lambda losses, mask: masked_mean(losses.t(), mask.t()),
    "sum": lambda losses, mask: losses.sum(),
    "none": lambda losses, mask: losses,
}


def up_to_eos(tokens: Tensor, eos: int = 3) -> Tensor:
    """Which steps of ``tokens [B, T]`` are part of the sentence: all up to and including the first ``eos``.

    Returns:
        bool ``[B, T]``; a row without ``eos`` is all True. Its sum over time is the length, ``eos`` counted.

    Example:
        >>> up_to_eos(torch.tensor([[5, 3, 9, 3], [5, 6, 7, 8]])).tolist()
        [[True, True, False, False], [True, True, True, True]]
    """
    ends = tokens == eos
    return ends.cumsum(1) - ends.long() == 0


def shifted(targets: Tensor, first: float | Sequence[float]) -> Tensor:
    """What stands before each step of ``targets``, as a decoder reads it in training.

    Args:
        targets: ``[B, T]``, or ``[B, T, D]``.
        first: before the first step: the id of the sentence's beginning, or ``D`` numbers.

    Returns:
        like ``targets``, whose last step is left out.

    Example:
        >>> shifted(torch.tensor([[7, 8, 3]]), 2).tolist()
        [[2, 7, 8]]
    """
    return torch.cat([targets.new_tensor(first).expand_as(targets[:, :1]), targets[:, :-1]], 1)


def sequence_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "tokens",
) -> Tensor:
    r"""Cross-entropy of every valid step, averaged as asked.

    ``loss[b, t] = −Σ_v q[v] log softmax(logits[b, t])[v]`` with ``q = (1 − ε) onehot(target) + ε / V`` (Szegedy 2016,
    section 7). TensorFlow's ``sequence_loss`` and its two switches are values of ``reduction``:

    ============  =======  ========================================================================================
    reduction     shape    the losses' sum over ... divided by ...; TF's (average_across_timesteps, _batch)
    ============  =======  ========================================================================================
    tokens        []       everything; valid tokens. (True, True)
    sentences     []       everything; sentences, so a long one weighs more. tensorflow/nmt's loss
    per_sentence  [B]      the steps; valid steps of the sentence. (True, False)
    per_step      [T]      the sentences; those that have this step. (False, True)
    sum           []       everything; 1
    none          [B, T]   nothing; zero where masked. (False, False)
    ============  =======  ========================================================================================

    Args:
        logits: ``[B, T, V]``, any floating dtype; computed in float32 at least.
        targets: int64 ``[B, T]``, each in ``[0, V)`` where it counts; what stands in masked steps does not matter.
        lengths: int64 ``[B]``, how many steps count, ``eos`` among them.
        mask: bool ``[B, T]`` instead of ``lengths``, see :func:`up_to_eos`. Neither: every step counts.
        label_smoothing: ``ε`` in ``[0, 1)``.
        reduction: see above. Where nothing counts, the result is 0 and has a gradient.

    Raises:
        ValueError: shapes that do not fit, or both ``lengths`` and ``mask``.
        ConfigError: there is no such ``reduction``, or ``label_smoothing`` is out of its range.
        DataError: a target is outside the vocabulary.

    Example:
        >>> targets = torch.tensor([[4, 3, 0], [2, 1, 3]])
        >>> logits = torch.zeros(2, 3, 5)
        >>> round(sequence_cross_entropy(logits, targets, torch.tensor([2, 3])).exp().item(), 4)
        5.0
        >>> sequence_cross_entropy(logits, targets, mask=up_to_eos(targets), reduction="none").count_nonzero().item()
        5
    """
    _check_options(label_smoothing, reduction)
    valid = _valid_steps(logits, targets, lengths, mask)
    counted = targets[valid]
    check_targets(counted, logits.shape[-1])
    wide = logits[valid].to(torch.promote_types(logits.dtype, torch.float32))
    found = F.cross_entropy(wide, counted, label_smoothing=label_smoothing, reduction="none")
    losses = found.new_zeros(targets.shape).masked_scatter(valid, found)
    return _REDUCTIONS[reduction](losses, valid)


def _check_options(label_smoothing: float, reduction: str) -> None:
    check_smoothing(label_smoothing)
    if reduction not in _REDUCTIONS:
        raise ConfigError(f"no reduction is called {reduction!r}: use {', '.join(get_args(Reduction))}")


def check_smoothing(label_smoothing: float) -> None:
    """Refuse what is not in ``[0, 1)``."""
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")


def _valid_steps(logits: Tensor, targets: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor:
    if logits.ndim != 3 or targets.shape != logits.shape[:2]:
        raise ValueError(
            f"sequence_cross_entropy: expected logits [B, T, V] and targets [B, T], got {list(logits.shape)} and "
            f"{list(targets.shape)}"
        )
    if lengths is not None and mask is not None:
        raise ValueError("sequence_cross_entropy takes lengths or mask, not both")
    for name, given, expected in (("lengths", lengths, targets.shape[:1]), ("mask", mask, targets.shape)):
        if given is not None and given.shape != expected:
            raise ValueError(f"sequence_cross_entropy: {name} must be {list(expected)}, got {list(given.shape)}")
    if lengths is not None:
        return sequence_mask(lengths, targets.shape[1])
    return torch.ones_like(targets, dtype=torch.bool) if mask is None else mask.bool()


def check_targets(targets: Tensor, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary, which a kernel would read beyond its memory for.

    Args:
        targets: integers of any shape, those that count.
        vocab_size: ``V``.

    Raises:
        DataError: one is below 0, or ``V`` or more.

    Example:
        >>> check_targets(torch.tensor([4, 7]), 5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        lightning_rnn.errors.DataError: the target 7 is outside the vocabulary of 5 words (0 to 4)...
    """
    wrong = targets[(targets < 0) | (targets >= vocab_size)]
    if len(wrong):
        raise DataError(
            f"the target {wrong.flatten()[0].item()} is outside the vocabulary of {vocab_size} words (0 to "
            f"{vocab_size - 1}): encode the text with the tokenizer that this model was made for"
        )
