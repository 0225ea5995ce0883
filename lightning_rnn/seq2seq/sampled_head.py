"""Output heads that are trained on the right word and a few drawn ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.seq2seq.cross_entropy import counted
from lightning_rnn.seq2seq.losses import check_targets
from lightning_rnn.seq2seq.noise import CandidateSampler, log_uniform, unigram
from lightning_rnn.seq2seq.output import LinearHead
from lightning_rnn.seq2seq.sampled import nce_loss, sampled_softmax_loss

Method = Literal["sampled", "nce"]


class _Method(NamedTuple):
    """In what the two differ."""

    loss: Callable[..., Tensor]
    unique: bool  # drawn without replacement
    normalized: bool  # scores start as log-probabilities


METHODS: dict[str, _Method] = {
    "sampled": _Method(sampled_softmax_loss, unique=True, normalized=False),
    "nce": _Method(nce_loss, unique=False, normalized=True),
}


class SampledHead(LinearHead):
    """Trained against drawn words, evaluated over the whole vocabulary.

    In training mode ``loss`` is :func:`lightning_rnn.seq2seq.sampled_softmax_loss` (candidates without replacement,
    those that are the target left out) or :func:`lightning_rnn.seq2seq.nce_loss` (with replacement); in evaluation
    mode, the full cross-entropy. The noise is Zipf's law of ids unless there are ``frequencies``: **ids must then be in
    order of frequency**, as those of a word vocabulary are; those of a SentencePiece unigram model are roughly, those
    of BPE are in the order of the merges.

    Args:
        hidden_size: ``H``.
        vocab_size: ``V``.
        method: ``sampled`` or ``nce``.
        candidates: words drawn for a batch, ``S``; shared by its rows.
        frequencies: ``[V]``, how often each word occurs, every one above 0; the noise is then proportional to them.
        embedding: tied vectors, see :class:`LinearHead`.
        bias: whether there is a bias; of ``nce`` it starts at ``−log V``.
        ignore_index: the target that does not count.

    Raises:
        ConfigError: there is no such method, ``candidates`` or ``frequencies`` do not fit the vocabulary.

    Example:
        >>> import torch
        >>> head = SampledHead(8, 1000, candidates=50)
        >>> hidden, targets = torch.randn(3, 8), torch.tensor([5, 999, 0])
        >>> head.loss(hidden, targets).item() < head.eval().loss(hidden, targets).item()
        True
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        method: Method = "sampled",
        candidates: int = 512,
        frequencies: Tensor | None = None,
        embedding: nn.Embedding | None = None,
        bias: bool = True,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(hidden_size, vocab_size, embedding=embedding, bias=bias, ignore_index=ignore_index)
        require(method in METHODS, f"no method is called {method!r}: use {', '.join(METHODS)}")
        require(
            1 <= candidates <= vocab_size,
            f"candidates must be 1 to {vocab_size}, the size of the vocabulary, got {candidates}",
        )
        self.method, self.candidates = method, candidates
        self.sampler = CandidateSampler(_noise(frequencies, vocab_size), unique=METHODS[method].unique)
        if METHODS[method].normalized and self.bias is not None:
            nn.init.constant_(self.bias, -math.log(vocab_size))

    def loss(self, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        refuse_smoothing(self.method, label_smoothing)
        if not self.training:
            return self.full_loss(hidden, targets)
        hidden, targets = counted(hidden, targets, self.ignore_index)
        check_targets(targets, self.vocab_size)
        drawn = self.sampler.draw(targets, self.candidates)
        return METHODS[self.method].loss(self.projection(hidden), self.weight, self.bias, targets, drawn)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, method={self.method}, candidates={self.candidates}"


def refuse_smoothing(head: str, label_smoothing: float) -> None:
    """Label smoothing is a property of the full softmax."""
    if label_smoothing:
        raise ConfigError(
            f"the output head {head} has no label smoothing: set label_smoothing to 0, or use the head full"
        )


def _noise(frequencies: Tensor | None, vocab_size: int) -> Tensor:
    if frequencies is None:
        return log_uniform(vocab_size)
    require(
        frequencies.shape == (vocab_size,),
        f"frequencies must have one number for each of the {vocab_size} words, got shape {list(frequencies.shape)}",
    )
    return unigram(frequencies)
