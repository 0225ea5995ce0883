"""The adaptive softmax as an output head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.seq2seq.cross_entropy import counted
from lightning_rnn.seq2seq.losses import check_targets
from lightning_rnn.seq2seq.output import OutputHead
from lightning_rnn.seq2seq.sampled_head import refuse_smoothing


def default_cutoffs(vocab_size: int) -> list[int]:
    """Where clusters begin: at a sixteenth and at a third of the vocabulary.

    By Zipf's law the first sixteenth of 32,000 words is three quarters of a text.

    Raises:
        ConfigError: there are fewer than 2 words.

    Example:
        >>> default_cutoffs(32_000), default_cutoffs(2)
        ([2000, 10667], [1])
    """
    require(vocab_size > 1, f"an adaptive softmax needs 2 words or more, got {vocab_size}")
    return sorted({min(max(round(vocab_size / part), 1), vocab_size - 1) for part in (16, 3)})


class AdaptiveHead(OutputHead):
    """Frequent words in a first softmax, rarer ones in clusters with smaller vectors (Grave 2017).

    ``torch.nn.AdaptiveLogSoftmaxWithLoss``: ``log p(w) = log p(cluster | h) + log p(w | cluster, h)``. The loss is
    exact, in training as in evaluation. **Ids must be in order of frequency**: those of a word vocabulary are, those of
    a SentencePiece unigram model roughly. Vectors cannot be tied, as clusters have sizes of their own.

    Args:
        hidden_size: ``H``.
        vocab_size: ``V``.
        cutoffs: first ids of the clusters, ascending, between 1 and ``V − 1``; None: :func:`default_cutoffs`.
        shrink: a cluster's vectors have ``H / shrink^i`` features (``i`` = 1, 2, ...).
        embedding: None, see above.
        bias: whether the first softmax has one.
        ignore_index: the target that does not count.

    Raises:
        ConfigError: cutoffs that are not ascending in that range, a vector without features, or an embedding.

    Example:
        >>> head = AdaptiveHead(16, 100, cutoffs=[10, 50])
        >>> hidden, targets = torch.randn(3, 16), torch.tensor([5, 99, 0])
        >>> torch.allclose(head.loss(hidden, targets), -head.log_probs(hidden)[range(2), targets[:2]].mean())
        True
    """

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        *,
        cutoffs: Sequence[int] | None = None,
        shrink: float = 4.0,
        embedding: nn.Embedding | None = None,
        bias: bool = True,
        ignore_index: int = 0,
    ) -> None:
        super().__init__(hidden_size, vocab_size, ignore_index)
        if embedding is not None:
            raise ConfigError("the output head adaptive has vectors of several sizes: do not tie it, or use full")
        self.cutoffs = default_cutoffs(vocab_size) if cutoffs is None else list(cutoffs)
        _check(self.cutoffs, hidden_size, vocab_size, shrink)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden_size, vocab_size, self.cutoffs, shrink, head_bias=bias)

    def loss(self, hidden: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        refuse_smoothing("adaptive", label_smoothing)
        hidden, targets = counted(hidden, targets, self.ignore_index)
        check_targets(targets, self.vocab_size)
        if not len(targets):  # torch's takes no mean of none; all parameters stay part of the graph
            return sum((parameter.flatten()[:0].sum() for parameter in self.parameters()), hidden.sum())
        with torch.autocast(hidden.device.type, enabled=False):  # torch's mixes dtypes under it
            loss: Tensor = self.softmax(hidden.to(self.softmax.head.weight.dtype), targets).loss
        return loss

    def log_probs(self, hidden: Tensor) -> Tensor:
        rows = hidden.reshape(-1, self.hidden_size).to(self.softmax.head.weight.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.softmax.log_prob(rows).view(*hidden.shape[:-1], self.vocab_size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, cutoffs={self.cutoffs}"


def _check(cutoffs: list[int], hidden_size: int, vocab_size: int, shrink: float) -> None:
    ascending = all(a < b for a, b in zip([0, *cutoffs], [*cutoffs, vocab_size], strict=True))
    require(
        ascending and bool(cutoffs),
        f"cutoffs must ascend between 1 and {vocab_size - 1}, the last word, got {cutoffs}",
    )
    require(
        int(hidden_size // shrink ** len(cutoffs)) > 0,
        f"{len(cutoffs)} clusters leave the last no feature of {hidden_size}: give fewer cutoffs, or a smaller shrink",
    )
