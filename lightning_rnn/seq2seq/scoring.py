"""Log-probabilities of given outputs, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.functional.masks import sequence_mask
from lightning_rnn.seq2seq.step import DecodeStep, checked, sentences_of, wide
from lightning_rnn.types import Nest


@dataclass(frozen=True, eq=False)
class Scored:
    """What a decoder says of given outputs.

    Attributes:
        log_probs: of each word, ``[B, T]``; 0 beyond the lengths.
        alignment: weights over the source when it reads the word before each, ``[B, T, S]``, 0 beyond the lengths;
            None where the step gives none.
    """

    log_probs: Tensor
    alignment: Tensor | None

    @property
    def totals(self) -> Tensor:
        """Log-probabilities of the outputs, summed in float64, ``[B]``."""
        return wide(self.log_probs).sum(1)


def score(step: DecodeStep, state: Nest, constants: Nest, targets: tuple[Tensor, Tensor], bos: int = 2) -> Scored:
    """Log-probabilities of given outputs under a decode step.

    Args:
        step: one step of the decoder.
        state: of each sentence before the first word, leaves ``[B, ...]``.
        constants: leaves ``[B, ...]``.
        targets: words, int64 ``[B, T]``, the end with them if it is to count, and how many of each row, ``[B]``;
            beyond, a row may hold anything.
        bos: the word before the first.

    Raises:
        ValueError: the targets do not fit the state, hold ids beyond the vocabulary, or the step gave numbers of a
            wrong shape.

    Example:
        >>> chain = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.8, 0.0]]).log()
        >>> from lightning_rnn.seq2seq.step import StepOutput
        >>> def step(tokens, state, constants): return StepOutput(chain[tokens], state)
        >>> targets = torch.tensor([[2, 1, 0], [1, 0, 9]]), torch.tensor([3, 2])
        >>> score(step, torch.zeros(2, 1), (), targets, bos=0).totals.exp().float().tolist()
        [0.4000000059604645, 0.5]
    """
    words, lengths = targets
    count, device = sentences_of(state, constants)
    if words.ndim != 2 or words.shape[0] != count or lengths.shape != (count,):
        shapes = f"{list(words.shape)} with lengths {list(lengths.shape)}"
        raise ValueError(f"score: targets {shapes} for {count} sentences: give [{count}, T] and [{count}]")
    mask = sequence_mask(lengths.to(device), words.shape[1])
    words = words.to(device).where(mask, 0)
    reads = torch.cat([words.new_full((count, 1), bos), words], 1)
    log_probs, alignments = [], []
    for time in range(words.shape[1]):
        out = checked(step(reads[:, time], state, constants), count)
        state, size = out.state, out.log_probs.shape[1]
        if bool(((words[:, time] < 0) | (words[:, time] >= size)).any()):
            raise ValueError(f"score: word {time} of a target is not in 0..{size - 1}, the vocabulary")
        log_probs.append(out.log_probs.gather(1, words[:, time, None]).squeeze(1))
        alignments.append(out.alignment)
    if not log_probs:
        return Scored(torch.zeros(count, 0, device=device), None)
    given = [one for one in alignments if one is not None]
    alignment = torch.stack(given, 1).where(mask[..., None], 0) if given else None
    return Scored(torch.stack(log_probs, 1).where(mask, 0), alignment)
