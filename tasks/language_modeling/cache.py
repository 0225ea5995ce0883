"""A cache over what was read: words seen lately where the network was in a like state are likely again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnn.errors import require


@dataclass(frozen=True)
class CacheOptions:
    """Of the cache.

    Attributes:
        size: tokens that are remembered; 0: no cache.
        theta: how much the likeness of states counts; 0: the share of each word among those remembered.
        weight: of the cache in the mixture, lambda in the paper.

    Raises:
        ConfigError: one is out of range.
    """

    size: int = 0
    theta: float = 0.3
    weight: float = 0.1

    def __post_init__(self) -> None:
        require(self.size >= 0, f"cache_size is {self.size}: give 0 (no cache) or more")
        require(self.theta >= 0, f"cache_theta is {self.theta}: give 0 or more")
        require(0 <= self.weight < 1, f"cache_weight is {self.weight}: give 0 or more, below 1")


@dataclass(frozen=True)
class Memory:
    """What was read last, the newest on the right.

    Attributes:
        hidden: states, ``[B, S, H]``.
        tokens: the token after each, int64 ``[B, S]``.
        filled: bool ``[B, S]``; False where nothing was read yet.
    """

    hidden: Tensor
    tokens: Tensor
    filled: Tensor

    @classmethod
    def empty(cls, hidden: Tensor, size: int) -> Memory:
        """Of so many places, for states like ``hidden [B, T, H]``."""
        rows, _, width = hidden.shape
        tokens = torch.zeros(rows, size, dtype=torch.int64, device=hidden.device)
        return cls(hidden.new_zeros(rows, size, width), tokens, tokens.bool())

    def forget(self, rows: Tensor) -> Memory:
        """Nothing is remembered in rows of bool ``[B]``."""
        return Memory(self.hidden, self.tokens, self.filled & ~rows[:, None])


def cached(
    log_probs: Tensor, hidden: Tensor, targets: Tensor, lengths: Tensor, memory: Memory, options: CacheOptions
) -> tuple[Tensor, Memory]:
    r"""Log-probabilities of the targets with a cache (Grave et al. 2017, arXiv 1612.04426, equations 2 to 5).

    .. math::
        p(w \mid h_t) = (1 - \lambda)\, p_{model}(w) + \lambda\, p_{cache}(w),\quad
        p_{cache}(w) \propto \sum_{i = t - S}^{t - 1} [x_{i+1} = w] \exp(\theta\, h_t \cdot h_i)

    A step before which nothing was read has the model's alone.

    Args:
        log_probs: the model's, of the targets, ``[B, T]``.
        hidden: what the output layer reads, ``[B, T, H]``.
        targets: int64 ``[B, T]``.
        lengths: valid steps of each row, int64 ``[B]``; what comes after is as it was and is not remembered.
        memory: of the steps before, ``S = options.size`` of them.
        options: see there.

    Returns:
        float32 ``[B, T]``, and the memory after the batch.

    Example:
        >>> h, options = torch.zeros(1, 3, 4), CacheOptions(size=9, weight=0.5)
        >>> uniform = torch.full((1, 3), 0.25).log()
        >>> found, _ = cached(uniform, h, torch.tensor([[7, 7, 5]]), torch.tensor([3]), Memory.empty(h, 9), options)
        >>> found.exp()
        tensor([[0.2500, 0.6250, 0.1250]])
    """
    size, steps = memory.tokens.shape[1], targets.shape[1]
    time = torch.arange(steps, device=targets.device)
    states = torch.cat([memory.hidden, hidden.float()], 1)
    tokens = torch.cat([memory.tokens, targets], 1)
    filled = torch.cat([memory.filled, time < lengths[:, None]], 1)
    place = torch.arange(size + steps, device=targets.device)
    window = (place >= time[:, None]) & (place < time[:, None] + size)  # the newest S before each step
    there = window & filled[:, None]
    scores = (options.theta * hidden.float() @ states.mT).masked_fill(~there, -math.inf)
    right = scores.masked_fill(tokens[:, None] != targets[..., None], -math.inf)
    any_there = there.any(2)
    total = scores.logsumexp(2).masked_fill(~any_there, 0)
    mixed = torch.logaddexp(log_probs + math.log1p(-options.weight), right.logsumexp(2) - total + _log(options.weight))
    last = lengths[:, None] + torch.arange(size, device=targets.device)
    kept = Memory(
        states.gather(1, last[..., None].expand(-1, -1, states.shape[2])),
        tokens.gather(1, last),
        filled.gather(1, last),
    )
    return torch.where(any_there & (time < lengths[:, None]), mixed, log_probs), kept


def _log(share: float) -> float:
    return math.log(share) if share else -math.inf
