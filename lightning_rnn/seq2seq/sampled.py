"""Losses that compare the right word with a few drawn ones instead of the whole vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.seq2seq.losses import check_targets
from lightning_rnn.seq2seq.noise import Candidates


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    candidates: Candidates,
    *,
    remove_hits: bool = True,
) -> Tensor:
    r"""Cross-entropy of the target among the candidates (Jean 2015, section 3; TF's ``sampled_softmax_loss``).

    ``loss = −log [exp(s_t) / (exp(s_t) + Σ_j exp(s_j))]`` with the corrected scores ``s_k = w_k · h + b_k − log E_k``,
    ``E_k`` how often ``k`` was expected to be drawn. With every word drawn it is the full softmax. A training loss: it
    says nothing about perplexity.

    Args:
        hidden: ``[N, H]``, rows that count alone (:func:`lightning_rnn.seq2seq.cross_entropy.counted`).
        weight: ``[V, H]``.
        bias: ``[V]``, or None.
        targets: int64 ``[N]``.
        candidates: shared by all rows, see :class:`lightning_rnn.seq2seq.noise.CandidateSampler`.
        remove_hits: a candidate that is a row's target is left out of that row's sum.

    Returns:
        the mean over the rows, float32 at least; 0 where there are none.

    Raises:
        DataError: a target is outside the vocabulary.

    Example:
        >>> from lightning_rnn.seq2seq.noise import CandidateSampler, log_uniform
        >>> hidden, weight, targets = torch.randn(4, 8), torch.randn(50, 8), torch.tensor([7, 1, 1, 49])
        >>> everything = CandidateSampler(log_uniform(50), unique=True).draw(targets, 50)
        >>> loss = sampled_softmax_loss(hidden, weight, None, targets, everything)
        >>> torch.allclose(loss, F.cross_entropy(hidden @ weight.t(), targets))
        True
    """
    right, drawn = _scores(hidden, weight, bias, targets, candidates)
    if remove_hits:
        drawn = drawn.masked_fill(targets.unsqueeze(1) == candidates.ids, -torch.inf)
    scores = torch.cat((right.unsqueeze(1), drawn), 1)
    return (scores.logsumexp(1) - right).sum() / max(len(targets), 1)


def nce_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    candidates: Candidates,
    *,
    remove_hits: bool = False,
) -> Tensor:
    r"""Noise-contrastive estimation (Gutmann and Hyvärinen 2012, eq. 8; Mnih and Teh 2012, eq. 10; TF's ``nce_loss``).

    Telling the right word from words of the noise distribution: ``loss = −log σ(s_t) − Σ_j log σ(−s_j)`` with
    ``s_k = w_k · h + b_k − log E_k``, ``E_k = S · p_noise(k)`` when drawn with replacement. Its optimum is a model
    whose scores are log-probabilities without being normalized.

    Args:
        hidden: ``[N, H]``, rows that count alone.
        weight: ``[V, H]``.
        bias: ``[V]``, or None. At the start ``−log V`` makes scores that are nearly normalized.
        targets: int64 ``[N]``.
        candidates: shared by all rows.
        remove_hits: a candidate that is a row's target is left out of that row's sum.

    Returns:
        the mean over the rows, float32 at least; 0 where there are none.

    Raises:
        DataError: a target is outside the vocabulary.

    Example:
        >>> from lightning_rnn.seq2seq.noise import Candidates
        >>> one = Candidates(torch.tensor([2]), torch.zeros(1), torch.zeros(1))
        >>> nce_loss(torch.zeros(1, 4), torch.zeros(5, 4), None, torch.tensor([3]), one).exp()  # two coins
        tensor(4.)
    """
    right, drawn = _scores(hidden, weight, bias, targets, candidates)
    noise = F.softplus(drawn)
    if remove_hits:
        noise = noise.masked_fill(targets.unsqueeze(1) == candidates.ids, 0)
    return (F.softplus(-right).sum() + noise.sum()) / max(len(targets), 1)


def _scores(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, candidates: Candidates
) -> tuple[Tensor, Tensor]:
    """Corrected scores of the targets ``[N]`` and of the candidates ``[N, S]``."""
    check_targets(targets, len(weight))
    ids = torch.cat((targets, candidates.ids))  # one look-up, so one gradient as large as the weight
    vectors = F.embedding(ids, weight)
    offsets = -torch.cat((candidates.targets_log_expected, candidates.log_expected))
    if bias is not None:
        offsets = offsets + F.embedding(ids, bias.unsqueeze(1)).squeeze(1)
    count = len(targets)
    right = (hidden * vectors[:count]).sum(1) + offsets[:count]
    return right, F.linear(hidden, vectors[count:]) + offsets[count:]
