"""The losses of word vectors with their gradients, and one step on a block of pairs."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["negative_sampling", "nce", "hierarchical", "sampled_softmax"]
Architecture = Literal["skip_gram", "cbow"]


class Block(NamedTuple):
    """Centre words whose gradients are computed together: ``G`` of them, ``C`` words around each, ``M`` outputs.

    Attributes:
        contexts: int64 ``[G, C]``, -1 where there is none.
        outputs: int64 ``[G, M]``, rows of the output vectors: the centre word and the noise, or nodes of the tree.
        labels: float ``[G, M]``, 1 where the answer is yes.
        valid: bool ``[G, M]``, False where an output does not count.
    """

    contexts: Tensor
    outputs: Tensor
    labels: Tensor
    valid: Tensor


def logistic(scores: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    r"""Yes or no for each output: :math:`\sum_m \log(1 + e^{s_m}) - y_m s_m`, and its gradient :math:`\sigma(s) - y`.

    With the centre word and noise it is negative sampling (Mikolov et al. 2013, equation 4), with the turns of a path
    hierarchical softmax (there, equation 3).

    Args:
        scores: ``[G, C, M]``.
        labels: ``[G, M]``, 1 or 0.
        valid: bool ``[G, M]``.

    Returns:
        The loss of each pair ``[G, C]`` and its gradient by the scores ``[G, C, M]``.

    Example:
        >>> loss, gradient = logistic(torch.zeros(1, 1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2) > 0)
        >>> round(loss.item(), 4), gradient.tolist()  # 2 log 2
        (1.3863, [[[-0.5, 0.5]]])
    """
    y, counts = labels.unsqueeze(1), valid.unsqueeze(1)
    losses = (F.softplus(scores) - y * scores).masked_fill(~counts, 0)
    return losses.sum(2), (torch.sigmoid(scores) - y).masked_fill_(~counts, 0)


def softmax(scores: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    r"""Which output is the centre word: :math:`\log \sum_m e^{s_m} - \sum_m y_m s_m`, its gradient ``softmax(s) - y``.

    Arguments and what is returned: see :func:`logistic`; one label of each row is 1.

    Example:
        >>> loss, gradient = softmax(torch.zeros(1, 1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2) > 0)
        >>> round(loss.item(), 4), gradient.tolist()  # log 2
        (0.6931, [[[-0.5, 0.5]]])
    """
    y = labels.unsqueeze(1)
    inside = scores.masked_fill(~valid.unsqueeze(1), -torch.inf)
    return inside.logsumexp(2) - (y * scores).sum(2), inside.softmax(2) - y


def pair_losses(scores: Tensor, block: Block, loss: Loss) -> tuple[Tensor, Tensor]:
    r"""The loss of each pair and its gradient by the scores.

    The score of an output is :math:`h \cdot o`. Noise-contrastive estimation (Gutmann and Hyvärinen 2012; Mnih and Teh
    2012) and sampled softmax (Jean et al. 2015) need the noise distribution ``P``: the model's score for a word has
    :math:`\log P(w)` as its fixed bias, so of :math:`s - \log (k P)` there remains :math:`h \cdot o - \log k`, and in
    a softmax over the candidates :math:`h \cdot o`.

    Args:
        scores: ``[G, C, M]``.
        block: labels and which outputs count.
        loss: ``negative_sampling``, ``nce``, ``hierarchical`` or ``sampled_softmax``.

    Returns:
        As :func:`logistic`.

    Example:
        >>> block = Block(torch.zeros(1, 1), torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]), torch.ones(1, 3) > 0)
        >>> round(pair_losses(torch.zeros(1, 1, 3), block, "sampled_softmax")[0].item(), 4)  # log 3
        1.0986
    """
    if loss == "sampled_softmax":
        return softmax(scores, block.labels, block.valid)
    if loss == "nce":
        scores = scores - math.log(max(block.outputs.shape[1] - 1, 1))
    return logistic(scores, block.labels, block.valid)


class Read(NamedTuple):
    """What a block reads: vectors, scores, and how much of each context word is in ``hidden``.

    Attributes:
        hidden: ``[G, C, D]`` (skip-gram: the vector of each context word) or ``[G, 1, D]`` (CBOW: of all of them).
        shares: ``[G, C]``, what each context word takes of the step of ``hidden``; 0 where there is none.
        there: bool ``[G, C]`` or ``[G, 1]``, which pairs there are.
        outputs: ``[G, M, D]``.
        scores: ``[G, C, M]`` or ``[G, 1, M]``.
    """

    hidden: Tensor
    shares: Tensor
    there: Tensor
    outputs: Tensor
    scores: Tensor


def read(
    inputs: Tensor, outputs: Tensor, block: Block, architecture: Architecture, mean: bool = True, exact: bool = True
) -> Read:
    r"""The scores of a block.

    CBOW's hidden vector is :math:`h = \frac{1}{C} \sum_c v_c` or the sum, so that the exact gradient by a word around
    is that by ``h``, over ``C`` or whole. Word2vec's and gensim's programs have it the other way round (İrsoy et al.
    2021, arXiv 2012.15332, section 2): of the mean every word takes the whole step, of the sum a part.

    Args:
        inputs: ``[V, D]``, the word vectors.
        outputs: ``[O, D]``, of words or of the tree's nodes.
        block: ``G`` centre words.
        architecture: ``skip_gram``: each context word for itself says the centre word; ``cbow``: all together.
        mean: whether CBOW takes the mean of the context words' vectors; else their sum.
        exact: whether CBOW's steps are the gradient's; else those of word2vec's program.
    """
    groups, around = block.contexts.shape
    there = block.contexts >= 0
    near = block.contexts.clamp(min=0)
    chosen = outputs.index_select(0, block.outputs.reshape(-1)).view(groups, block.outputs.shape[1], -1)
    whole = shares = there.to(inputs.dtype)
    if architecture == "cbow":
        part = whole / whole.sum(1, keepdim=True).clamp(min=1)
        rows = F.embedding_bag(near, inputs, mode="sum", per_sample_weights=part if mean else whole).unsqueeze(1)
        shares, there = part if mean == exact else whole, there.any(1, keepdim=True)
    else:
        rows = inputs.index_select(0, near.view(-1)).view(groups, around, -1)
    return Read(rows, shares, there, chosen, torch.bmm(rows, chosen.transpose(1, 2)))


@torch.no_grad()
def learn(inputs: Tensor, outputs: Tensor, block: Block, done: Read, gradient: Tensor, rate: float) -> None:
    """One step of gradient descent on the sum of a block's losses; touches the rows of its words alone.

    Args:
        inputs: ``[V, D]``, changed in place.
        outputs: ``[O, D]``, changed in place.
        block: what was read.
        done: what :func:`read` gave.
        gradient: by the scores, of :func:`pair_losses`.
        rate: the learning rate.
    """
    gradient = gradient * (-rate * done.there.to(gradient.dtype)).unsqueeze(2)
    by_hidden, by_output = torch.bmm(gradient, done.outputs), torch.bmm(gradient.transpose(1, 2), done.hidden)
    if done.hidden.shape[1] == 1:  # of all context words together
        by_hidden = done.shares.unsqueeze(2) * by_hidden
    size = inputs.shape[1]
    inputs.index_add_(0, block.contexts.clamp(min=0).view(-1), by_hidden.reshape(-1, size))
    outputs.index_add_(0, block.outputs.reshape(-1), by_output.reshape(-1, size))
