"""The columns of the competition's files, and hours of radar scans as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

QUANTILES = ("", "_5x5_10th", "_5x5_50th", "_5x5_90th")  # of the 25 cells around the gauge; "" is its own cell
FIELDS = ("Ref", "RefComposite", "RhoHV", "Zdr", "Kdp")  # dBZ, dBZ, no unit, dB, degrees per km
MINUTES, DISTANCE = "minutes_past", "radardist_km"
FEATURES = (MINUTES, DISTANCE, *(field + quantile for field in FIELDS for quantile in QUANTILES))
ID, EXPECTED = "Id", "Expected"
TEST_COLUMNS = (ID, *FEATURES)  # 23
TRAIN_COLUMNS = (*TEST_COLUMNS, EXPECTED)  # 24
REF = FEATURES.index("Ref")
LONGEST = 19  # scans of an hour in the competition


class Hours(NamedTuple):
    """Hours above gauges, laid end to end.

    Attributes:
        ids: int64 ``[N]``.
        lengths: int64 ``[N]``, scans of each.
        values: float32 ``[S, 22]``, :data:`FEATURES` of all scans in the order of their minutes; NaN is missing.
        expected: float32 ``[N]``, mm that the gauge measured; NaN where that is not known.
    """

    ids: Ints
    lengths: Ints
    values: Floats
    expected: Floats

    @property
    def offsets(self) -> Ints:
        """Int64 ``[N + 1]``: where each hour begins in ``values``."""
        return offsets_of(self.lengths)

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Bool ``[N]``: whether any scan has ``Ref``; the competition ignores the other hours."""
        return np.maximum.reduceat(np.isfinite(self.values[:, REF]), self.offsets[:-1])


def join(parts: Sequence[Hours]) -> Hours:
    """Hours one after the other.

    Example:
        >>> one = Hours(np.array([7]), np.array([1]), np.zeros((1, 22), np.float32), np.ones(1, np.float32))
        >>> join([one, one]).lengths
        array([1, 1])
    """
    return Hours(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def offsets_of(lengths: Ints) -> Ints:
    """Where each of the rows of these lengths begins, and the end.

    Example:
        >>> offsets_of(np.array([2, 3])).tolist()
        [0, 2, 5]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
