"""Choosing the next word from log-probabilities: the best, or by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.errors import require
from lightning_rnn.seq2seq.step import NEVER, wide


@dataclass(frozen=True, eq=False)
class Sampling:
    """How to draw words. First the temperature, then ``top_k``, then ``top_p`` of what is left.

    Attributes:
        temperature: log-probabilities are divided by it; towards 0 the best word, 1 the model, above 1 flatter.
        top_k: only the ``k`` most probable words (Fan et al. 2018, section 5.1); 0: all.
        top_p: only the fewest words, most probable first, whose probability is at least ``p``, never fewer than one
            (nucleus sampling, Holtzman et al. 2020, section 3.1); 1: all.
        seeds: a row's draws depend on its seed and the step alone, not on other rows. int64 ``[B]``: each row's; a
            generator: seeds are drawn from it once a call; None: from torch's default generator.
        drawn: draws made before with these seeds, where an output is continued: an int, or int64 ``[B]``.

    Raises:
        ConfigError: an option is out of its range.

    Example:
        >>> Sampling(top_p=0.0)
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: top_p is 0.0: give more than 0, at most 1
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seeds: Tensor | torch.Generator | None = None
    drawn: int | Tensor = 0

    def __post_init__(self) -> None:
        finite = 0 < self.temperature < math.inf
        require(finite, f"temperature is {self.temperature}: give a finite number above 0, or decode greedily")
        require(self.top_k >= 0, f"top_k is {self.top_k}: give 0 (all) or more")
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}: give more than 0, at most 1")

    def row_drawn(self, rows: int, device: torch.device) -> Tensor:
        """How many draws each row has behind it, int64 ``[rows]``.

        Raises:
            ValueError: ``drawn`` is a tensor of another shape.
        """
        drawn = torch.as_tensor(self.drawn, dtype=torch.int64, device=device)
        if drawn.ndim and drawn.shape != (rows,):
            raise ValueError(f"Sampling: drawn is {list(drawn.shape)} for {rows} rows: give a number or [{rows}]")
        return drawn.expand(rows)

    def row_seeds(self, rows: int, device: torch.device) -> Tensor:
        """The seed of every row, int64 ``[rows]``.

        Raises:
            ValueError: ``seeds`` is a tensor of another shape.
        """
        if isinstance(self.seeds, Tensor):
            if self.seeds.shape != (rows,):
                raise ValueError(f"Sampling: seeds is {list(self.seeds.shape)} for {rows} rows: give [{rows}]")
            return self.seeds.to(device, torch.int64)
        where = torch.device("cpu") if self.seeds is None else self.seeds.device
        return torch.randint(2**62, (rows,), generator=self.seeds, device=where).to(device)


def uniforms(seeds: Tensor, time: int | Tensor) -> Tensor:
    """A number in [0, 1) for each seed and step, float64: the output of SplitMix64 (Steele et al. 2014, figure 16).

    Example:
        >>> uniforms(torch.tensor([0, 0, 1]), 5).unique().shape
        torch.Size([2])
    """
    step = _signed(0x9E3779B97F4A7C15)
    z = _mix(seeds) + (_signed((time + 1) * step) if isinstance(time, int) else (time + 1) * step)
    return wide(_mix(z) >> 12 & (1 << 52) - 1) * 2.0**-52


def _mix(z: Tensor) -> Tensor:
    """A bijection of int64 in which every bit depends on every other; products wrap around."""
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _signed(0x94D049BB133111EB)
    return z ^ (z >> 31 & (1 << 33) - 1)


def _signed(value: int) -> int:
    """The int64 with the low 64 bits of ``value``."""
    return (value + 2**63) % 2**64 - 2**63


def filtered(log_probs: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities ``[N, V]`` divided by the temperature, minus infinity where ``top_k`` or ``top_p`` drop a word.

    Of equally probable words the lower ones are kept. They are not normalised again.

    Example:
        >>> filtered(torch.tensor([[0.5, 0.3, 0.2]]).log(), Sampling(top_p=0.7)) > NEVER
        tensor([[ True,  True, False]])
    """
    scaled = log_probs / min(max(sampling.temperature, 1e-30), 1e30)  # all that float32 tells apart
    size = log_probs.shape[1]
    if sampling.top_k in range(1, size) or sampling.top_p < 1:
        ordered, order = scaled.sort(dim=1, descending=True, stable=True)
        if sampling.top_k:
            ordered[:, sampling.top_k :] = NEVER
        if sampling.top_p < 1:
            probabilities = wide(ordered).softmax(1)
            before = probabilities.cumsum(1) - probabilities
            ordered[:, 1:] = ordered[:, 1:].masked_fill(before[:, 1:] >= sampling.top_p, NEVER)
        scaled = torch.empty_like(scaled).scatter_(1, order, ordered)
    return scaled


def greedy(log_probs: Tensor) -> Tensor:
    """The most probable word of each row of ``[N, V]``, int64 ``[N]``; of equals the lowest.

    Example:
        >>> greedy(torch.tensor([[0.0, 1.0, 1.0]])).tolist()
        [1]
    """
    return log_probs.argmax(1)


def sample(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """A word of each row, drawn in proportion to ``exp(log_probs)``: the inverse of the cumulative distribution.

    Args:
        log_probs: ``[N, V]``, normalised or not; a row needs one word above minus infinity.
        uniform: a number in [0, 1) for each row, ``[N]``.

    Returns:
        int64 ``[N]``.

    Example:
        >>> sample(torch.tensor([[0.5, 0.0, 0.5]]).log().expand(2, -1), torch.tensor([0.4, 0.5])).tolist()
        [0, 2]
    """
    upto = wide(log_probs).softmax(1).cumsum(1)
    place = torch.searchsorted(upto, wide(uniform)[:, None] * upto[:, -1:], right=True).squeeze(1)
    return place.clamp(max=log_probs.shape[1] - 1)


def choose(log_probs: Tensor, sampling: Sampling | None, seeds: Tensor, time: int | Tensor) -> Tensor:
    """The next word of each row, int64 ``[N]``: greedy where ``sampling`` is None, else drawn with ``seeds [N]``.

    ``time`` is the step, or that of each row ``[N]``.

    Example:
        >>> choose(torch.tensor([[0.1, 0.9]]).log(), None, torch.tensor([0]), 0).tolist()
        [1]
    """
    if sampling is None:
        return greedy(log_probs)
    return sample(filtered(log_probs, sampling), uniforms(seeds, time))
