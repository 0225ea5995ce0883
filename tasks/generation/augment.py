"""Drawings that differ a little in each epoch of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.data import Ragged
from lightning_rnn.errors import require


@dataclass(frozen=True)
class Augmentation:
    """Drawings that differ a little from epoch to epoch (Ha and Eck 2017, section 4, and its published code).

    Attributes:
        stretch: each axis is stretched by a factor drawn from ``1 ± stretch``.
        drop: share of the points inside a line left out: the next move goes there instead.
    """

    stretch: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.stretch < 1, f"stretch must be from 0 to below 1, got {self.stretch}")
        require(0 <= self.drop < 1, f"drop must be from 0 to below 1, got {self.drop}")

    def __bool__(self) -> bool:
        return bool(self.stretch or self.drop)

    def apply(self, strokes: Tensor, random: np.random.Generator) -> Tensor:
        """A drawing ``[T, 5]``, changed; a new tensor."""
        factors = torch.from_numpy(random.uniform(1 - self.stretch, 1 + self.stretch, 2)).to(strokes.dtype)
        changed = torch.cat([strokes[:, :2] * factors, strokes[:, 2:]], 1)
        if not self.drop:
            return changed
        inside = (changed[:-1, 2] == 1) & (changed[1:, 4] == 0)  # a line's last point stays, so does the drawing's
        dropped = F.pad(inside & torch.from_numpy(random.random(len(inside)) < self.drop), (0, 1))
        kept = (~dropped).nonzero().flatten()
        places = changed[:, :2].cumsum(0)[kept]
        return torch.cat([places.diff(dim=0, prepend=places.new_zeros(1, 2)), changed[kept, 2:]], 1)


class DrawnStrokes:
    """Training drawings, changed anew in each epoch: a function of the seed, the epoch and the row.

    Args:
        rows: the drawings, ``[T, 5]`` each.
        augmentation: what is changed.
        seed: of the changes.
    """

    def __init__(self, rows: Ragged, augmentation: Augmentation, seed: int) -> None:
        self.rows, self.augmentation, self.seed, self.epoch = rows, augmentation, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's."""
        self.epoch = epoch

    def pad(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as one batch, and their lengths: see :meth:`Ragged.pad`."""
        changed = [
            self.augmentation.apply(self.rows[row], np.random.default_rng((self.seed, self.epoch, row)))
            for row in rows.tolist()
        ]
        return Ragged.from_list(changed).pad(torch.arange(len(changed)))
