"""Test segments that stand word for word in the training part of another series: a leak that figures must name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_rnn.data import Ragged

from .panel import Panel

Words = npt.NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2**64


class Overlap(NamedTuple):
    """Where a test segment stands in a training part.

    Attributes:
        id: the series of the test segment.
        other: the series in whose training part it is.
        step: where it begins there, from 0.
    """

    id: str
    other: str
    step: int


def _hashes(values: npt.NDArray[np.float64], length: int) -> Words:
    """Of every window of ``length`` the sum of x[i + j] b**j modulo 2**64, by differences of one running sum."""
    inverse = np.uint64(pow(int(_BASE), -1, 2**64))
    bits = (values + 0.0).view(np.uint64)  # + 0.0: -0.0 is 0.0
    powers = np.cumprod(np.r_[np.uint64(1), np.full(len(bits), _BASE)])
    back = np.cumprod(np.r_[np.uint64(1), np.full(len(bits), inverse)])
    sums = np.r_[np.uint64(0), np.cumsum(bits * powers[:-1])]
    return np.asarray((sums[length:] - sums[:-length]) * back[: len(sums) - length], np.uint64)


def _inside(rows: Ragged, length: int) -> npt.NDArray[np.int64]:
    """Where windows begin that do not leave their row."""
    ends = np.repeat(rows.offsets[1:].numpy(), rows.lengths.numpy())
    places = np.arange(len(ends))
    return places[places + length <= ends]


def _of_length(train: Panel, test: Panel, length: int) -> list[Overlap]:
    values, offsets = train.y.values.double().numpy(), train.y.offsets.numpy()
    starts = _inside(train.y, length)
    if not len(starts):
        return []
    hashes = _hashes(values, length)[starts]
    rows = (test.lengths == length).nonzero()[:, 0].tolist()
    wanted = {row: int(_hashes(test.y[row].double().numpy(), length)[0]) for row in rows}
    hits = starts[np.isin(hashes, np.array([*wanted.values()], np.uint64))]
    found = list[Overlap]()
    for row in rows:
        segment = test.y[row].double().numpy()
        for start in hits:
            other = int(np.searchsorted(offsets, start, "right")) - 1
            if train.ids[other] != test.ids[row] and np.array_equal(values[start : start + length], segment):
                found.append(Overlap(test.ids[row], train.ids[other], int(start - offsets[other])))
                break
    return found


def overlaps(train: Panel, test: Panel) -> list[Overlap]:
    """The series whose test segment, as a whole, is found in another series' training part: the first place of each.

    Segments with a missing value are never found.

    Args:
        train: the training parts.
        test: what follows them; segments may be of many lengths.

    Example:
        >>> from .frames import from_arrays
        >>> train = from_arrays([[1, 2, 3, 4], [9, 8, 7]], ids=["a", "b"])
        >>> overlaps(train, from_arrays([[6, 5], [2, 3]], ids=["a", "b"]))
        [Overlap(id='b', other='a', step=1)]
    """
    found = [overlap for length in sorted(set(test.lengths.tolist())) for overlap in _of_length(train, test, length)]
    order = {name: row for row, name in enumerate(test.ids)}
    return sorted(found, key=lambda overlap: order[overlap.id])
