"""Texts of dialogue acts, ranked anew by their slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .slot_error import slot_count
from .spec import GenerationSpec

if TYPE_CHECKING:
    from .decoding import Written


def entries_of(spec: GenerationSpec, vector: Tensor) -> list[str]:
    """The names of a condition's entries that are not 0.

    Example:
        >>> import torch
        >>> entries_of(GenerationSpec(condition_names=["a.bye", "sv.name._1"]), torch.tensor([1.0, 0.0]))
        ['a.bye']
    """
    return [spec.condition_names[index] for index in vector.nonzero().flatten().tolist()]


def reranked(
    spec: GenerationSpec,
    conditions: Tensor,
    found: Sequence[Sequence[Written]],
    slot_weight: float,
    binary_weight: float = 0.0,
) -> list[list[Written]]:
    """Texts by their score less ``slot_weight`` for each slot with a value that is named too often or too seldom.

    In RNNLG slots of yes and no do not count here: ``binary_weight`` is 0. Of other conditions nothing changes.

    Args:
        spec: of the data.
        conditions: float ``[B, C]``.
        found: texts of each, delexicalised.
        slot_weight: what an error costs.
        binary_weight: what one of a slot of yes and no costs.
    """
    if spec.form != "act" or not (slot_weight or binary_weight):
        return [list(texts) for texts in found]
    return [
        ranked(entries_of(spec, vector), texts, spec, (slot_weight, binary_weight))
        for vector, texts in zip(conditions.cpu(), found, strict=True)
    ]


def ranked(
    names: Sequence[str], texts: Sequence[Written], spec: GenerationSpec, weights: tuple[float, float]
) -> list[Written]:
    """The texts of one act, best first; ``weights`` are of slots with a value and of those of yes and no."""
    costed = []
    for one in texts:
        count = slot_count(names, one.text, spec.extra["detection"])
        cost = weights[0] * count.categorical + weights[1] * (count.errors - count.categorical)
        costed.append(one._replace(score=one.score - cost))
    return sorted(costed, key=lambda one: -one.score)
