"""The last layer of a model that writes words: what every output head is, and the plain one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.errors import ConfigError
from lightning_rnn.seq2seq.cross_entropy import linear_cross_entropy


class OutputHead(nn.Module, ABC):
    """From hidden states to words: the loss of given ones, and log-probabilities of all.

    Every kind is trained in its own way and asked in the same: ``log_probs`` are normalized over the whole vocabulary,
    and in evaluation mode ``loss`` is the mean of ``−log_probs`` of the targets, so that perplexities compare.

    Args:
        hidden_size: features of a hidden state, ``H``.
        vocab_size: number of words, ``V``.
        ignore_index: targets with this id do not count (pad).
    """

    def __init__(self, hidden_size: int, vocab_size: int, ignore_index: int = 0) -> None:
        super().__init__()
        self.hidden_size, self.vocab_size, self.ignore_index = hidden_size, vocab_size, ignore_index

    @abstractmethod
    def loss(self, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean loss of the targets that count.

        Args:
            hidden: ``[..., H]``.
            targets: int64 ``[...]``, each in ``[0, V)``.
            label_smoothing: of the full softmax alone.

        Returns:
            a scalar; 0 with a gradient of zeros where no target counts.

        Raises:
            DataError: a target is outside the vocabulary.
            ConfigError: this head has no label smoothing, or it is not in ``[0, 1)``.
        """

    @abstractmethod
    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probability of every word after ``hidden [..., H]``: ``[..., V]``, float32 at least."""

    def forward(self, hidden: Tensor) -> Tensor:
        """:meth:`log_probs`."""
        return self.log_probs(hidden)

    def extra_repr(self) -> str:
        return f"{self.hidden_size}, {self.vocab_size}"


class LinearHead(OutputHead):
    """A head with one vector per word: ``log_probs = log softmax(W P h + b)``.

    Args:
        hidden_size: ``H``.
        vocab_size: ``V``.
        embedding: its weight ``[V, E]`` is used as ``W``: one parameter, trained from both sides (Press and Wolf 2017;
            Inan 2017). Where ``E`` is not ``H``, ``P [E, H]`` is learned; else there is no ``P``. Its vectors should
            start small, with a standard deviation of about ``E^−0.5``: ``torch.nn.Embedding``'s own 1 gives logits as
            large as the vectors are long. None: ``W [V, H]`` is the head's own.
        bias: whether there is ``b [V]``, 0 at the start.
        ignore_index: the target that does not count.

    Raises:
        ConfigError: the embedding has not ``vocab_size`` vectors.
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        embedding: nn.Embedding | None = None,
        bias: bool = True,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(hidden_size, vocab_size, ignore_index)
        if embedding is not None and embedding.num_embeddings != vocab_size:
            raise ConfigError(
                f"an output head for {vocab_size} words cannot share an embedding of {embedding.num_embeddings}: use "
                "one vocabulary for both, or do not tie them"
            )
        self.weight = _vectors(hidden_size, vocab_size) if embedding is None else embedding.weight
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        size = self.weight.shape[1]
        self.projection = nn.Linear(hidden_size, size, bias=False) if size != hidden_size else nn.Identity()

    def full_loss(self, hidden: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy over the whole vocabulary, see :func:`lightning_rnn.seq2seq.linear_cross_entropy`."""
        return linear_cross_entropy(
            self.projection(hidden),
            self.weight,
            self.bias,
            targets,
            ignore_index=self.ignore_index,
            label_smoothing=label_smoothing,
        )

    def log_probs(self, hidden: Tensor) -> Tensor:
        logits = F.linear(self.projection(hidden), self.weight, self.bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _vectors(size: int, count: int) -> nn.Parameter:
    """As :class:`torch.nn.Linear` starts."""
    bound = 1 / math.sqrt(size)
    return nn.Parameter(torch.empty(count, size).uniform_(-bound, bound))


class FullHead(LinearHead):
    """The softmax over all words, in training too; the only head with label smoothing.

    The arguments are :class:`LinearHead`'s.

    Example:
        >>> embedding = nn.Embedding(100, 16)
        >>> head = FullHead(24, 100, embedding=embedding)
        >>> head.weight is embedding.weight, head.projection
        (True, Linear(in_features=24, out_features=16, bias=False))
        >>> hidden, targets = torch.randn(5, 24), torch.tensor([7, 99, 3, 0, 0])
        >>> expected = -head.log_probs(hidden)[range(3), targets[:3]].mean()
        >>> torch.allclose(head.loss(hidden, targets), expected)
        True
    """

    def loss(self, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        return self.full_loss(hidden, targets, label_smoothing)
