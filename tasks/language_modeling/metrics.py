"""How well text is predicted, by the words and by the characters of it, whatever the tokens are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


class Norm(NamedTuple):
    """What a total loss is divided by, and what the quotient becomes."""

    column: str  # of the targets
    finish: Callable[[Tensor], Tensor]


NORMS: dict[str, Norm] = {
    "perplexity": Norm("words", torch.exp),
    "bits_per_character": Norm("characters", lambda nats: nats / math.log(2)),
}


class TextScore(Metric):
    r"""The loss of a text over its words or characters.

    With :math:`L = -\sum_t \log p(w_t \mid w_{<t})` over all tokens, in nats: ``perplexity`` is :math:`\exp(L / W)`
    with ``W`` words, the end of each line counted as one; ``bits_per_character`` is :math:`L / (C \ln 2)` with ``C``
    characters, each line's end one of them. Models with different tokens compare by both.

    Args:
        name: a key of :data:`NORMS`.

    Example:
        >>> targets = {"words": torch.tensor([[1, 1]]), "characters": torch.tensor([[4, 1]])}
        >>> score = TextScore("perplexity")
        >>> score.update(torch.tensor([[math.log(8), math.log(2)]]), targets)
        >>> round(float(score.compute()), 6)
        4.0
    """

    full_state_update = False
    loss: Tensor
    size: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.norm = NORMS[name]
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("size", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Take a batch: each token's loss, 0 at padding, and what it stands for, all ``[B, T]``."""
        self.loss += losses.sum(dtype=torch.float64)
        self.size += targets[self.norm.column].sum()

    def compute(self) -> Tensor:
        """A scalar; NaN of no text."""
        return self.norm.finish(self.loss / self.size)


def collection() -> MetricCollection:
    """All of :data:`NORMS`."""
    return MetricCollection({name: TextScore(name) for name in NORMS}, compute_groups=False)
