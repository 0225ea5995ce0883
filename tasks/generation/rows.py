"""The rows of a part as batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged, SplitData
from lightning_rnn.data.dataset import Drawn
from lightning_rnn.types import SequenceBatch

from .conditions import encode_conditions
from .sources import Items
from .spec import GenerationSpec


@dataclass(frozen=True)
class GenerationRows(SplitData):
    """Conditions and what is written of them; the keys are row numbers.

    Attributes:
        inputs: conditions, ``[1, C]`` each.
        targets: token ids ending in ``</s>``, or strokes ``[T, 5]``; None where nothing is known.
        items: as they were read.
        drawn: what batches' targets are made of instead where they differ from epoch to epoch.
    """

    inputs: Ragged
    targets: Ragged | None
    items: Items
    drawn: Drawn | None = None

    @property
    def ids(self) -> Sequence[str | int] | None:  # type: ignore[override]  # of the items, not a field
        """The rows' names in the source."""
        return self.items.ids

    @property
    def references(self) -> list[list[str]] | None:
        """The texts to judge a row's by, by row (``batch.ids``)."""
        items = self.items
        if items.references is not None:
            return [list(one) for one in items.references]
        return None if items.texts is None else [[text] for text in items.texts]

    @property
    def lengths(self) -> Tensor:
        """Int64 ``[N]``, steps of what is written; 1 where that is not known."""
        return self.inputs.lengths if self.targets is None else self.targets.lengths

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))  # torch itself reads a list slowly
        inputs, lengths = self.inputs.pad(index)
        if self.targets is None:
            return SequenceBatch(inputs, lengths=lengths, ids=index)
        targets, target_lengths = (self.drawn or self.targets).pad(index)
        return SequenceBatch(inputs, targets, lengths, target_lengths=target_lengths, ids=index)

    def set_epoch(self, epoch: int) -> None:
        if self.drawn is not None:
            self.drawn.set_epoch(epoch)

    def digest(self) -> str:
        both = [side.digest() for side in (self.inputs, self.targets) if side is not None]
        return hashlib.blake2b("".join(both).encode(), digest_size=16).hexdigest()


def rows_of(spec: GenerationSpec, items: Items) -> GenerationRows:
    """Items as numbers.

    Raises:
        DataError: a condition does not fit the spec, or there are none.
    """
    conditions = encode_conditions(spec, items.checked().given, items.where)
    targets = None
    if spec.kind == "tokens" and items.texts is not None:
        targets = Ragged.from_list(spec.encode(items.texts))
    elif spec.kind == "strokes" and items.strokes is not None:
        targets = Ragged.from_list([_scaled(one, spec.scale) for one in items.strokes])
    return GenerationRows(Ragged.from_dense(conditions.unsqueeze(1)), targets, items)


def _scaled(strokes: Tensor, scale: float) -> Tensor:
    moves = strokes.to(torch.float32).clone()
    moves[:, :2] /= scale
    return moves
