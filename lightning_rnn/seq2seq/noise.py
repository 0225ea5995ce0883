"""Words drawn at random, against which a large softmax is trained instead of all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError

TICKETS = 2**53  # all words' probabilities in whole numbers, exact in float64


class Candidates(NamedTuple):
    """Words drawn for one batch.

    Attributes:
        ids: int64 ``[S]``.
        log_expected: ``[S]``, logarithm of how often each was expected among them.
        targets_log_expected: ``[N]``, the same of the targets.
    """

    ids: Tensor
    log_expected: Tensor
    targets_log_expected: Tensor


def log_uniform(vocab_size: int) -> Tensor:
    """Zipf's law for ids in order of frequency: ``p(k) = (log(k + 2) − log(k + 1)) / log(V + 1)``, float64 ``[V]``.

    TensorFlow's ``log_uniform_candidate_sampler``.

    Example:
        >>> log_uniform(3).mul(100).round().tolist()
        [50.0, 29.0, 21.0]
    """
    edges = torch.arange(1, vocab_size + 2, dtype=torch.float64).log()
    return edges.diff() / edges[-1]


def unigram(counts: Tensor, distortion: float = 1.0) -> Tensor:
    """``p(k) ∝ counts[k]^distortion``, float64 ``[V]``: TensorFlow's ``fixed_unigram_candidate_sampler``.

    Args:
        counts: ``[V]``, how often each word occurs in the training text; every one above 0 (add 1 to all).
        distortion: below 1 it flattens the distribution (0.75 in Mikolov 2013), 0 makes it uniform.

    Raises:
        ConfigError: a count is not above 0: such a word would never be drawn.

    Example:
        >>> unigram(torch.tensor([3, 1])).tolist()
        [0.75, 0.25]
    """
    if not (counts > 0).all():
        raise ConfigError(
            f"the word {int((counts <= 0).int().argmax())} has the count 0, so it would never be drawn: add 1 to all "
            "counts"
        )
    raised = counts.double() ** distortion
    return raised / raised.sum()


class CandidateSampler(nn.Module):
    """Draws words from a fixed distribution.

    Args:
        probabilities: float64 ``[V]``, see :func:`log_uniform` and :func:`unigram`.
        unique: without replacement: words are drawn until ``count`` different ones were. The expected count of a word
            is then ``1 − (1 − p)^tries`` (TensorFlow's ``unique``), with replacement it is ``p · count``.

    Example:
        >>> sampler = CandidateSampler(log_uniform(1000), unique=True)
        >>> drawn = sampler.draw(torch.tensor([5, 900]), 20, torch.Generator().manual_seed(1))
        >>> drawn.ids.unique().shape, drawn.targets_log_expected.shape
        (torch.Size([20]), torch.Size([2]))
    """

    edges: Tensor

    def __init__(self, probabilities: Tensor, *, unique: bool) -> None:
        super().__init__()
        self.unique = unique
        edges = (probabilities.cumsum(0) / probabilities.sum() * TICKETS).round().long()
        # whole numbers, as .half() or .bfloat16() of the model would round any others
        self.register_buffer("edges", edges, persistent=False)

    def draw(self, targets: Tensor, count: int, generator: torch.Generator | None = None) -> Candidates:
        """``count`` words for a batch with these ``targets [N]``.

        Raises:
            ConfigError: ``count`` is below 1, or there are not as many different words.
        """
        size = len(self.edges)
        if count < 1 or (self.unique and count > size):
            raise ConfigError(f"{count} candidates cannot be drawn out of {size} words: give 1 to {size}")
        if self.unique and count == size:
            every = torch.arange(size, device=self.edges.device)  # each of them once, however long it took
            return Candidates(every, torch.zeros(size, device=every.device), torch.zeros_like(targets).float())
        ids, tries = self._distinct(count, generator) if self.unique else (self._some(count, generator), count)
        return Candidates(ids, self._log_expected(ids, tries), self._log_expected(targets, tries))

    def _some(self, count: int, generator: torch.Generator | None) -> Tensor:
        tickets = torch.randint(TICKETS, (count,), generator=generator, device=self.edges.device)
        return torch.searchsorted(self.edges, tickets, right=True)

    def _distinct(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, int]:
        """The first ``count`` different words, and how many were drawn until there were as many."""
        drawn = self._some(2 * count, generator)
        while (fresh := _first_times(drawn)).sum() < count:
            drawn = torch.cat((drawn, self._some(len(drawn), generator)))
        tries = int(fresh.nonzero()[count - 1]) + 1
        return drawn[:tries][fresh[:tries]], tries

    def _log_expected(self, ids: Tensor, tries: int) -> Tensor:
        below = torch.where(ids > 0, self.edges[ids - 1], 0)
        p = (self.edges[ids] - below).double() / TICKETS
        expected = -torch.expm1(tries * torch.log1p(-p)) if self.unique else tries * p
        return expected.log().float()


def _first_times(drawn: Tensor) -> Tensor:
    """bool: which of ``drawn`` are not further up in it."""
    ordered, places = drawn.sort(stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return torch.zeros_like(fresh).scatter_(0, places, fresh)
