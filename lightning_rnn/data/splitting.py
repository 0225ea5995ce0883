"""Cutting a set in two with the same mix of classes on both sides, and rows that are on both."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples
from lightning_rnn.errors import DataError, require

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


def group_split(groups: Sequence[str], labels: Sequence[str], fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Cut rows in two such that no group is on both sides: all clips of a person, all windows of a recording.

    The groups are gone through in an order that the seed gives, and one is taken where that brings the part's number
    of rows of each class closer to the fraction of all (sum of the absolute differences).

    Args:
        groups: the group of each row.
        labels: the class of each row.
        fraction: of the rows that go to the part, about; from 0 to below 1 (0 leaves the part empty).
        seed: of the order.

    Returns:
        Row numbers of the rest and of the part, int64 ``[R]`` and ``[P]``, each rising.

    Raises:
        ConfigError: a fraction or a seed that is out of range.
        DataError: there is one group only, and a part is wanted.

    Example:
        >>> rest, part = group_split(["ann", "ann", "bob", "bob"], ["walk", "run"] * 2, 0.5)
        >>> sorted([rest.tolist(), part.tolist()])
        [[0, 1], [2, 3]]
    """
    require(0 <= fraction < 1, f"the fraction to split off must be from 0 to below 1, got {fraction}")
    require(0 <= seed < 2**32, f"the seed of a split must be from 0 to 2**32 - 1, got {seed}")
    names, rows_of = sorted(set(groups)), np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    if fraction and len(names) < 2:
        raise DataError(f"all rows are of one group, {names[0] if names else 'none'}: a part needs a group of its own")
    classes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
    counts = np.zeros((len(names), int(classes.max(initial=0)) + 1))
    np.add.at(counts, (rows_of, classes), 1)
    taken = _taken_groups(counts, fraction, np.random.RandomState(seed).permutation(len(names)))
    return torch.from_numpy(np.flatnonzero(~taken[rows_of])), torch.from_numpy(np.flatnonzero(taken[rows_of]))


def _taken_groups(
    counts: npt.NDArray[np.float64], fraction: float, order: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which groups go to the part; at least one, and not all."""
    taken, missing = np.zeros(len(counts), dtype=bool), fraction * counts.sum(0)
    for group in order if fraction else ():
        without = missing - counts[group]
        if np.abs(without).sum() < np.abs(missing).sum() and taken.sum() < len(counts) - 1:
            taken[group], missing = True, without
    if fraction and not taken.any():
        taken[order[counts[order].sum(1).argmin()]] = True
    return taken


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
