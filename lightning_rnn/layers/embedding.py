"""Embeddings, where masks come from (a value that marks padding, or the id 0), and dropout of whole words."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnn.functional.masks import expand
from lightning_rnn.layers.config import Configurable


class Masking(Configurable, nn.Module):
    """Steps whose features all equal one value are padding (Keras' ``Masking``): they are set to 0.

    The mask goes to the layer after it: ``layer(masking(x), mask=masking.compute_mask(x))``.

    Args:
        mask_value: what marks padding.

    Example:
        >>> x = torch.tensor([[[1.0, -1.0], [-1.0, -1.0]]])
        >>> masking = Masking(-1.0)
        >>> masking(x).tolist(), masking.compute_mask(x).tolist()
        ([[[1.0, -1.0], [0.0, 0.0]]], [[True, False]])
    """

    def __init__(self, mask_value: float = 0.0) -> None:
        super().__init__()
        self.mask_value = mask_value

    def compute_mask(self, x: Tensor) -> Tensor:
        """Which steps of ``x [B, T, ...]`` are real: ``any(x != mask_value)`` over all but batch and time.

        Returns:
            bool ``[B, T]``.

        Raises:
            ValueError: ``x`` has no features.
        """
        if x.ndim < 3:
            raise ValueError(f"Masking: expected x of shape [B, T, D], got {list(x.shape)}")
        return (x != self.mask_value).flatten(2).any(-1)

    def forward(self, x: Tensor) -> Tensor:
        """``x [B, T, ...]`` with padding set to 0."""
        return torch.where(expand(self.compute_mask(x), x), x, 0)

    def extra_repr(self) -> str:
        return f"mask_value={self.mask_value}"


class Embedding(Configurable, nn.Embedding):
    """``torch.nn.Embedding`` that can tell which ids are padding (Keras' ``Embedding``).

    Args:
        num_embeddings: number of different ids, ``V``.
        embedding_dim: features of a vector, ``D``.
        padding_idx: this id's vector is zero and stays so.
        max_norm: vectors are scaled down to this norm when looked up.
        norm_type: which norm that is.
        scale_grad_by_freq: gradients are divided by how often an id occurs in the batch.
        sparse: the gradient is a sparse tensor.
        mask_zero: the id 0 is padding; its vector is one like the others.

    Example:
        >>> from lightning_rnn import GRU
        >>> embedding = Embedding(100, 3, mask_zero=True)
        >>> ids = torch.tensor([[7, 99, 0]])
        >>> embedding.compute_mask(ids).tolist()
        [[True, True, False]]
        >>> GRU(3, 5)(embedding(ids), mask=embedding.compute_mask(ids)).last.shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        mask_zero: bool = False,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        self.mask_zero = mask_zero

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        mask_zero: bool = False,
    ) -> Self:
        """One with these vectors ``[V, D]``; ``freeze``: they are not trained."""
        if embeddings.ndim != 2:
            raise ValueError(f"Embedding: expected vectors of shape [V, D], got {list(embeddings.shape)}")
        rows, size = embeddings.shape
        made = cls(rows, size, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, mask_zero=mask_zero)
        made.weight = nn.Parameter(embeddings, requires_grad=not freeze)
        return made

    def compute_mask(self, ids: Tensor) -> Tensor | None:
        """Which of ``ids [B, T]`` are real, bool ``[B, T]``; None without ``mask_zero``."""
        return ids != 0 if self.mask_zero else None


def small_embedding(size: int, width: int, padding_idx: int = 0) -> nn.Embedding:
    """Vectors that start small, so that as an output layer they give small logits; padding's is zero and stays so.

    Args:
        size: words, ``V``.
        width: features of a word, ``D``; the deviation is ``D ** -0.5``.
        padding_idx: the id of padding.

    Example:
        >>> small_embedding(10, 4).weight[0].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    made = nn.Embedding(size, width, padding_idx=padding_idx)
    nn.init.normal_(made.weight, std=width**-0.5)
    with torch.no_grad():
        made.weight[padding_idx].zero_()
    return made


def drop_words(vectors: Tensor, ids: Tensor, size: int, share: float) -> Tensor:
    r"""Drop a share of the words of a vocabulary, wherever they stand in the batch.

    With :math:`m_v \sim \mathrm{Bernoulli}(1 - p) / (1 - p)` for each word ``v`` of the vocabulary, the vector of
    ``ids[b, t]`` is multiplied by its word's ``m`` (Gal and Ghahramani 2016, arXiv 1512.05287, section 4.2; Merity et
    al. 2018, arXiv 1708.02182, section 4.3). The same as dropping rows of the embedding matrix, without a copy of it.

    Args:
        vectors: ``[B, T, D]``, of ``ids``.
        ids: int64 ``[B, T]``, below ``size``.
        size: words in the vocabulary.
        share: ``p``, in 0..1.

    Returns:
        ``[B, T, D]``.

    Example:
        >>> ids = torch.tensor([[5, 7, 5, 7, 5]])
        >>> kept = drop_words(torch.ones(1, 5, 3), ids, size=8, share=0.5)
        >>> bool((kept[ids == 5] == kept[0, 0]).all()), set(kept.unique().tolist()) <= {0.0, 2.0}
        (True, True)
    """
    kept = F.dropout(vectors.new_ones(size), share)
    return vectors * kept[ids].unsqueeze(-1)


class WordDropout(nn.Module):
    """:func:`drop_words` in training, nothing in evaluation.

    Args:
        p: share of the words dropped.

    Example:
        >>> dropout = WordDropout(0.5).eval()
        >>> bool((dropout(torch.ones(2, 7, 3), torch.zeros(2, 7, dtype=torch.int64), 10) == 1).all())
        True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, vectors: Tensor, ids: Tensor, size: int) -> Tensor:
        """``vectors [B, T, D]`` of ``ids [B, T]``, of a vocabulary of ``size`` → ``[B, T, D]``."""
        return drop_words(vectors, ids, size, self.p) if self.training and self.p else vectors

    def extra_repr(self) -> str:
        return f"p={self.p}"
