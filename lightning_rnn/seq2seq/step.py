"""One step of decoding, as every search sees it: words in, log-probabilities of the next words out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_rnn.layers.cell import map_tensors
from lightning_rnn.types import Nest

NEVER = float("-inf")  # the log-probability of what cannot be


class StepOutput(NamedTuple):
    """What one step gives.

    Attributes:
        log_probs: log-probabilities of the next word, floating ``[N, V]``.
        state: a nest whose leaves are ``[N, ...]``.
        alignment: weights over the source, ``[N, S]``; None where there are none.
    """

    log_probs: Tensor
    state: Nest
    alignment: Tensor | None = None


class DecodeStep(Protocol):
    """A step of decoding for ``N = B * K`` rows: ``B`` sentences of ``K`` rows each, those of a sentence adjacent.

    ``constants`` holds what does not change (the memory of the source): leaves ``[B, ...]``, never reordered over the
    rows of a sentence. Between steps a search reorders ``state`` (``index_select`` over axis 0 of every leaf) and drops
    sentences that have ended from both.

    Example:
        >>> def count(tokens, state, constants):  # after word i comes word i + 1
        ...     return StepOutput(torch.eye(5)[(tokens + 1) % 5].log(), state)
        >>> count(torch.tensor([2]), torch.zeros(1, 1), ()).log_probs.exp().tolist()
        [[0.0, 0.0, 0.0, 1.0, 0.0]]
    """

    def __call__(self, tokens: Tensor, state: Nest, constants: Nest) -> StepOutput:
        """The step after ``tokens``, int64 ``[N]``."""
        ...


def take_rows(nest: Nest, index: Tensor) -> Nest:
    """Rows ``index`` (int64) of every leaf, along axis 0.

    Example:
        >>> take_rows((torch.tensor([5, 6, 7]), None), torch.tensor([2, 0]))
        (tensor([7, 5]), None)
    """
    return map_tensors(lambda leaf: leaf.index_select(0, index), nest)


def repeat_rows(nest: Nest, times: int) -> Nest:
    """Every row ``times`` times, the copies adjacent: leaves ``[B, ...]`` become ``[B * times, ...]``.

    Example:
        >>> repeat_rows(torch.tensor([5, 6]), 2).tolist()
        [5, 5, 6, 6]
    """
    return nest if times == 1 else map_tensors(lambda leaf: leaf.repeat_interleave(times, 0), nest)


def sentences_of(state: Nest, constants: Nest) -> tuple[int, torch.device]:
    """How many sentences a state and constants, both with leaves ``[B, ...]``, are of, and on which device.

    Raises:
        ValueError: the leaves differ in their first axis, or there are none.

    Example:
        >>> sentences_of(torch.zeros(3, 4), (torch.zeros(3, 7, 2), None))
        (3, device(type='cpu'))
    """
    leaves: list[Tensor] = []
    map_tensors(lambda leaf: leaves.append(leaf) or leaf, (state, constants))  # type: ignore[func-returns-value]
    sizes = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in leaves})
    if len(sizes) != 1:
        found = f"differ in their first axis: {sizes}" if sizes else "hold no tensor"
        raise ValueError(f"decoding: state and constants {found}; every leaf must be [B, ...] with one B")
    return sizes[0], leaves[0].device


def wide(x: Tensor) -> Tensor:
    """In float64, in which sums of log-probabilities are taken; float32 on Apple's GPUs, which have no float64.

    Example:
        >>> wide(torch.zeros(2)).dtype
        torch.float64
    """
    return x.float() if x.device.type == "mps" else x.double()


def checked(out: StepOutput, rows: int) -> StepOutput:
    """What a step gave for ``rows`` rows, its log-probabilities in float32 or float64.

    Raises:
        ValueError: the log-probabilities are not ``[rows, V]`` with at least two words.

    Example:
        >>> checked(StepOutput(torch.zeros(2, 5, dtype=torch.bfloat16), ()), 2).log_probs.dtype
        torch.float32
    """
    shape = out.log_probs.shape
    if len(shape) != 2 or shape[0] != rows or shape[1] < 2:
        raise ValueError(f"decoding: the step gave log-probabilities {list(shape)}: it must give [{rows}, V], V >= 2")
    return out if out.log_probs.dtype == torch.float64 else out._replace(log_probs=out.log_probs.float())


def check_numbers(highest: Tensor, sentences: Tensor, time: int) -> None:
    """Refuse NaN and infinity.

    Args:
        highest: the highest log-probability of each sentence, ``[A]``.
        sentences: which those are, ``[A]``.
        time: the step.

    Raises:
        ValueError: one of them is NaN or infinite.

    Example:
        >>> check_numbers(torch.tensor([0.0, float("nan")]), torch.tensor([4, 7]), 3)
        Traceback (most recent call last):
        ValueError: decoding: step 3 gave sentence 7 a NaN or infinite log-probability: look at its weights
    """
    fine = highest < float("inf")
    if not bool(fine.all()):
        which = int(sentences[~fine][0])
        raise ValueError(
            f"decoding: step {time} gave sentence {which} a NaN or infinite log-probability: look at its weights"
        )
