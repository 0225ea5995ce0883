"""Cutting a set in two with the same mix of classes on both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.errors import require


def _share(rows: int, fraction: float) -> int:
    wanted = math.floor(rows * fraction + 0.5)
    return min(max(wanted, 1), rows - 1) if rows > 1 and fraction > 0 else 0


def stratified_split(labels: Sequence[str], fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Cut rows in two, class by class.

    Of a class with two or more rows at least one row is on either side (``fraction`` 0 leaves the part empty); the
    only row of a class stays in the rest. The same labels, fraction and seed give the same cut everywhere: the stream
    of ``numpy.random.RandomState`` is frozen.

    Args:
        labels: the class of each row.
        fraction: of each class that goes to the part, rounded to whole rows; from 0 to below 1.
        seed: of the choice.

    Returns:
        Row numbers of the rest and of the part, int64 ``[R]`` and ``[P]``, each rising.

    Raises:
        ConfigError: a fraction or a seed that is out of range.

    Example:
        >>> rest, part = stratified_split(["a", "b"] * 5, 0.4)
        >>> len(rest), len(part), sorted(torch.cat([rest, part]).tolist()) == list(range(10))
        (6, 4, True)
    """
    require(0 <= fraction < 1, f"the fraction to split off must be from 0 to below 1, got {fraction}")
    require(0 <= seed < 2**32, f"the seed of a split must be from 0 to 2**32 - 1, got {seed}")
    random, names = np.random.RandomState(seed), np.asarray(labels, dtype=object)
    in_part = np.zeros(len(names), dtype=bool)
    for name in sorted(set(labels)):
        rows = random.permutation(np.flatnonzero(names == name))
        in_part[rows[: _share(len(rows), fraction)]] = True
    return torch.from_numpy(np.flatnonzero(~in_part)), torch.from_numpy(np.flatnonzero(in_part))
