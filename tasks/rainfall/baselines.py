"""What a network must beat: Marshall and Palmer's formula, the median and the mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .schema import FEATURES, MINUTES, REF, Floats, Ints


def rain_rate(ref: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    r"""Rain in mm per hour from a reflectivity in dBZ; 0 where it is missing.

    :math:`R = (10^{Z/10} / 200)^{5/8}` (Marshall and Palmer 1948, Z = 200 R^1.6).

    Example:
        >>> rain_rate(np.array([23.0103, np.nan])).round(3).tolist()
        [1.0, 0.0]
    """
    return np.nan_to_num((10 ** (ref.astype(np.float64) / 10) / 200) ** 0.625)


def marshall_palmer(values: Floats, offsets: Ints) -> npt.NDArray[np.float64]:
    """Rain in each hour in mm: the rate at every scan times the time since the one before, as the competition's sample.

    The first scan stands for the time from the full hour to it, and the last one for what is left of the hour as well.

    Args:
        values: ``[S, 22]``, scans of all hours, in the order of their minutes.
        offsets: int64 ``[N + 1]``, where the hours begin; each has a scan.

    Returns:
        float64 ``[N]``.

    Example:
        >>> scans = np.full((2, 22), np.nan, np.float32)
        >>> scans[:, 0], scans[:, 2] = (20, 50), (23.0103, np.nan)
        >>> marshall_palmer(scans, np.array([0, 2])).round(3).tolist()
        [0.333]
    """
    minutes = values[:, FEATURES.index(MINUTES)].astype(np.float64)
    valid = np.diff(minutes, prepend=0)
    valid[offsets[:-1]] = minutes[offsets[:-1]]
    last = offsets[1:] - 1
    valid[last] += 60 - minutes[last]
    return np.add.reduceat(rain_rate(values[:, REF]) * valid / 60, offsets[:-1])
