"""Several decoders as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.step import DecodeStep, StepOutput
from lightning_rnn.types import Nest

Average = Literal["probability", "log_probability"]


class EnsembleStep:
    r"""A decode step that averages several with the same vocabulary.

    ``probability``: :math:`\log \frac{1}{n} \sum_m P_m(w)`; ``log_probability``:
    :math:`\frac{1}{n} \sum_m \log P_m(w)`, the geometric mean, not normalised again. Alignments are averaged over the
    steps that give one. The state is a tuple of the steps' states, the constants a tuple of theirs.

    Args:
        steps: one or more.
        average: what is averaged.

    Raises:
        ConfigError: there is no step, or no such average.

    Example:
        >>> def sure(tokens, state, constants): return StepOutput(torch.tensor([[1.0, 0.0]]).log(), state)
        >>> def even(tokens, state, constants): return StepOutput(torch.tensor([[0.5, 0.5]]).log(), state)
        >>> both = EnsembleStep([sure, even])
        >>> both(torch.tensor([0]), ((), ()), ((), ())).log_probs.exp().tolist()
        [[0.75, 0.25]]
    """

    def __init__(self, steps: Sequence[DecodeStep], average: Average = "probability") -> None:
        require(len(steps) > 0, "EnsembleStep: there is no step to average: give one or more")
        require(average in get_args(Average), f"average is {average!r}: use {', '.join(get_args(Average))}")
        self.steps, self.average = tuple(steps), average

    def __call__(self, tokens: Tensor, state: Nest, constants: Nest) -> StepOutput:
        """One step of all.

        Raises:
            ValueError: the steps' vocabularies or sources differ, or there are not as many states as steps.
        """
        given = (len(state), len(constants))
        if given != (len(self.steps),) * 2:
            raise ValueError(f"EnsembleStep: {given[0]} states, {given[1]} constants for {len(self.steps)} steps")
        outs = [step(tokens, *own) for step, *own in zip(self.steps, state, constants, strict=True)]
        alignments = [out.alignment for out in outs if out.alignment is not None]
        log_probs = _stacked([out.log_probs for out in outs], "words")
        geometric = self.average == "log_probability"
        averaged = log_probs.mean(0) if geometric else log_probs.logsumexp(0) - math.log(len(outs))
        alignment = _stacked(alignments, "source steps").mean(0) if alignments else None
        return StepOutput(averaged, tuple(out.state for out in outs), alignment)


def _stacked(tensors: list[Tensor], what: str) -> Tensor:
    """``[n, N, ...]``."""
    sizes = [tensor.shape[1] for tensor in tensors]
    if len(set(sizes)) > 1:
        raise ValueError(f"EnsembleStep: the steps have {sizes} {what}: they must have the same")
    return torch.stack(tensors)
