"""Cutting a set in two with the same mix of classes on both sides, and rows that are on both."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples
from lightning_rnn.errors import require

log = logging.getLogger(__name__)


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


def shared_rows(one: Examples, other: Examples) -> int:
    """How many rows of ``other`` are in ``one`` too, whatever their labels.

    Example:
        >>> shared_rows(Examples(["a", "b"], None, "x.csv"), Examples(["b", "c", "b"], None, "y.csv"))
        2
    """
    there = set(_keys(one))
    return sum(key in there for key in _keys(other))


def warn_of_shared(train: Examples, val: Examples) -> None:
    """Log how many rows of a validation part are training rows too, where there are any."""
    if shared := shared_rows(train, val):
        log.warning(
            "%s: %d of %d validation rows are training rows too (%s): metrics on them say little",
            val.origin,
            shared,
            len(val),
            train.origin,
        )


def _keys(examples: Examples) -> Iterator[str | bytes]:
    rows = examples.inputs
    if not isinstance(rows, Ragged):
        yield from rows
        return
    for row in range(len(rows)):
        yield hashlib.blake2b(rows[row].numpy().tobytes(), digest_size=16).digest()
