"""Hours in the competition's schema from a model of radar and gauge: the source that needs no download.

Only the figures of the real files that were published went into it (missing shares, moments, the scores of two
baselines); its gauge noise is its own, so what a network reaches here says nothing of the competition's scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars
import torch

from lightning_rnn.data.disk import usable
from lightning_rnn.errors import require

from .baselines import marshall_palmer
from .schema import EXPECTED, FEATURES, FIELDS, ID, LONGEST, REF, Floats, Hours, Ints, join, offsets_of

Reals = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CHUNK = 10_000  # hours that are made at once
WET = 0.672  # hours with rain within the radar's sight
GAPS = (10.0, 6.0, 5.0, 4.3, 3.4)  # minutes from scan to scan: clear-air mode first, then the modes for rain
MODES = ((0.36, 0.10, 0.20, 0.20, 0.14), (0.10, 0.12, 0.27, 0.30, 0.21))  # how often, in dry and in wet hours
DROPPED = 0.04  # scans that are lost
DISTANCE = (11.07, 4.2, 21.0)  # km to the radar: mean, deviation, most
HOUR_DBZ, SCAN_DBZ, MEMORY = (15.6, 11.45), 6.6, 15.0  # an hour's mean; around it, correlated over so many minutes
THRESHOLD = (9.4, 4.2)  # dBZ that a scan detects
COLUMN_DBZ = 3.25  # the strongest of all heights has so much more: normal around half of it, cut at 0
REPORTS = (0.845, 0.92)  # hours and scans with the polarimetric fields
RAIN_RHO = 0.9  # Kdp is given from this correlation on
GRIDS = {"Ref": 0.5, "RefComposite": 0.5, "RhoHV": 1 / 600, "Zdr": 1 / 16, "Kdp": 0.35}
RANGES = {"Ref": (-31.0, 71.0), "RefComposite": (-32.0, 92.5), "RhoHV": (0.2083, 1.0517), "Zdr": (-7.875, 7.9375)}
GAUGES = ((0.86, 0.254), (0.04, 2.54), (0.10, 0.01))  # shares, and mm of a step
GAUGE_NOISE = (0.04, 0.97)  # of the logarithm
OUTLIERS = ((0.13, 6.9), (0.0202, 6.2))  # hours without and with Ref: share, mean of the logarithm of mm
OUTLIER_SPREAD, MOST = 1.2, 33017.73


class Scans(NamedTuple):
    """A grid of hours and scans, ``[N, 19]``: minutes, and which scans there are."""

    minutes: Ints
    there: Bools


def stream(hours: int, seed: int) -> Iterator[Hours]:
    """The hours of :func:`synthesize`, some thousand at a time."""
    require(hours >= 1, f"synthetic hours must be at least 1, got {hours}")
    require(seed >= 0, f"the seed of synthetic hours must not be negative, got {seed}")
    for first in range(0, hours, CHUNK):
        yield _chunk(np.random.default_rng((seed, first)), min(CHUNK, hours - first), first + 1)


def synthesize(hours: int, seed: int) -> Hours:
    """Hours with their gauges' values, ``Id`` from 1 on.

    A wet hour has a mean reflectivity and an AR(1) course around it; the quantiles of the 25 cells spread around that.
    What is under the detection threshold of a scan is missing, which nests the masks as in the real files: where the
    10th percentile is, the 50th and the 90th are. The gauge shows a power of Marshall and Palmer's amount with
    log-normal noise, snapped to its step, and now and then something absurd.

    Args:
        hours: their number.
        seed: of all of it.

    Raises:
        ConfigError: ``hours`` is below 1, or ``seed`` below 0.

    Example:
        >>> made = synthesize(100, seed=0)
        >>> made.values.shape[1], len(made.expected), bool(made.scored.any())
        (22, 100, True)
    """
    return join(list(stream(hours, seed)))


def _chunk(rng: np.random.Generator, hours: int, first_id: int) -> Hours:
    wet = rng.random(hours) < WET
    scans = _times(rng, wet)
    fields = _fields(rng, wet, scans)
    distance = np.clip(rng.normal(*DISTANCE[:2], hours), 0, DISTANCE[2]).round()
    grid = np.empty((hours, LONGEST, len(FEATURES)), np.float32)
    grid[..., 0], grid[..., 1], grid[..., 2:] = scans.minutes, distance[:, None], fields
    lengths = scans.there.sum(1)
    values = grid[scans.there]
    expected = _gauge(rng, values, offsets_of(lengths))
    return Hours(np.arange(first_id, first_id + hours), lengths, values, expected)


def _times(rng: np.random.Generator, wet: Bools) -> Scans:
    """When the radar scanned, in order, at least once an hour."""
    n = len(wet)
    modes = np.array(MODES)[wet.astype(int)].cumsum(1)
    mode = (rng.random((n, 1)) > modes[:, :-1]).sum(1)
    gap = np.array(GAPS)[mode][:, None]
    times = rng.random((n, 1)) * gap + gap * np.arange(LONGEST) + rng.normal(0, 0.25, (n, LONGEST))
    minutes = np.clip(np.floor(times), 0, None)
    there = (minutes < 60) & (rng.random((n, LONGEST)) >= DROPPED)
    there[~there.any(1), 0] = True
    return Scans(np.sort(np.minimum(minutes, 59), axis=1).astype(np.int64), there)


def _fields(rng: np.random.Generator, wet: Bools, scans: Scans) -> Floats:
    """The 20 radar columns on the grid, NaN where missing: ``[N, 19, 20]``."""
    shape = scans.there.shape
    ref = _reflectivity(rng, scans.minutes)
    composite = ref + np.maximum(rng.normal(COLUMN_DBZ / 2, COLUMN_DBZ, (*shape, 1)), 0)
    threshold = rng.normal(*THRESHOLD, (*shape, 1))
    seen = wet[:, None, None] & (ref >= threshold)
    composite_seen = wet[:, None, None] & (composite >= threshold)
    reports = (rng.random((shape[0], 1, 1)) < REPORTS[0]) & (rng.random((*shape, 1)) < REPORTS[1])
    rho = _correlation(rng, shape)
    values = {"Ref": ref, "RefComposite": composite, "RhoHV": rho}
    values |= {"Zdr": _differential(rng, shape), "Kdp": _phase(rng, shape)}
    masks = {"Ref": seen, "RefComposite": composite_seen, "RhoHV": seen & reports, "Zdr": seen & reports}
    masks["Kdp"] = seen & reports & (rho[..., :1] > RAIN_RHO)
    return np.concatenate([_printed(name, values[name], masks[name]) for name in FIELDS], axis=2)


def _printed(name: str, values: Reals, mask: Bools) -> Floats:
    """On the grid on which the files have the field, within its range."""
    snapped = np.round(values / GRIDS[name]) * GRIDS[name]
    if name in RANGES:
        snapped = np.clip(snapped, *RANGES[name])
    return np.where(mask, snapped, np.nan).astype(np.float32)


def _reflectivity(rng: np.random.Generator, minutes: Ints) -> Reals:
    """Values in dBZ of the gauge's cell and the three quantiles around it, ``[N, 19, 4]``."""
    n, steps = minutes.shape
    keep = np.exp(-np.diff(minutes, axis=1) / MEMORY)
    course = rng.normal(size=(n, steps))
    for t in range(1, steps):
        course[:, t] = keep[:, t - 1] * course[:, t - 1] + np.sqrt(1 - keep[:, t - 1] ** 2) * course[:, t]
    middle = rng.normal(*HOUR_DBZ, (n, 1)) + SCAN_DBZ * course
    spread = rng.lognormal(np.log(3.6), 0.45, (n, steps))
    own = middle + 0.35 * spread * rng.normal(size=(n, steps))
    return np.stack([own, middle - spread, middle, middle + 1.4 * spread], axis=2)


def _correlation(rng: np.random.Generator, shape: tuple[int, ...]) -> Reals:
    """RhoHV: close to 1 in rain, lower in what is no rain."""
    rain = rng.random(shape) < 0.87
    middle = np.where(rain, rng.normal(0.992, 0.018, shape), RAIN_RHO - rng.exponential(0.1, shape))
    below, above = 0.03 + rng.exponential(0.026, shape), rng.uniform(0.02, 0.05, shape)
    own = middle + rng.normal(0, 0.02, shape)
    return np.stack([own, middle - below, middle, middle + above], axis=2)


def _differential(rng: np.random.Generator, shape: tuple[int, ...]) -> Reals:
    """Zdr in dB."""
    middle, spread = rng.normal(0.32, 0.85, shape), rng.lognormal(-0.255, 0.66, shape)
    own = middle + 0.2 + 1.0 * spread * rng.normal(size=shape)
    return np.stack([own, middle - spread, middle, middle + 1.8 * spread], axis=2)


def _phase(rng: np.random.Generator, shape: tuple[int, ...]) -> Reals:
    """Kdp in degrees per km."""
    middle, spread = rng.normal(-0.46, 2.2, shape), rng.lognormal(-0.06, 0.35, shape)
    own = middle + 0.47 + 2.8 * spread * rng.normal(size=shape)
    above = 4.5 * spread * rng.lognormal(-0.15, 0.55, shape)
    return np.stack([own, middle - 3.15 * spread, middle, middle + above], axis=2)


def _gauge(rng: np.random.Generator, values: Floats, offsets: Ints) -> Floats:
    """What the gauges show, mm."""
    amount = marshall_palmer(values, offsets)
    rain = (1.12 * amount**0.85 + 0.43) * rng.lognormal(*GAUGE_NOISE, len(amount))
    shares, steps = zip(*GAUGES, strict=True)
    step = rng.choice(steps, len(amount), p=shares)
    shown = np.maximum(np.round(rain / step), 1) * step
    scored = np.maximum.reduceat(np.isfinite(values[:, REF]), offsets[:-1])
    for kind, (share, middle) in enumerate(OUTLIERS):
        rows = np.flatnonzero(scored == bool(kind))
        rows = rng.permutation(rows)[: round(share * len(rows))]
        shown[rows] = np.exp(middle + OUTLIER_SPREAD * _spread_normal(rng, len(rows)))
    return np.asarray(np.minimum(shown, MOST), np.float32)


def _spread_normal(rng: np.random.Generator, n: int) -> Reals:
    """Normal numbers, one from each of ``n`` equal shares: their sums, which decide the scores, vary little by seed."""
    share = (rng.permutation(n) + rng.random(n)) / n
    return np.asarray(torch.special.ndtri(torch.from_numpy(share)).numpy())


def write_csv(path: Path, parts: Iterable[Hours], labelled: bool = True) -> None:
    """Write a file as the competition's: ``train.csv``, or without ``Expected`` ``test.csv``.

    Args:
        path: of the file.
        parts: hours, some at a time, such as :func:`stream` gives.
        labelled: whether with ``Expected``.

    Raises:
        DataError: it cannot be written.
    """
    with usable(path.parent), path.open("wb") as file:
        file.write((",".join((ID, *FEATURES, *((EXPECTED,) if labelled else ()))) + "\n").encode())
        for hours in parts:
            frame = polars.DataFrame(hours.values, schema=list(FEATURES))
            frame.insert_column(0, polars.Series(ID, np.repeat(hours.ids, hours.lengths)))
            if labelled:
                frame = frame.with_columns(polars.Series(EXPECTED, np.repeat(hours.expected, hours.lengths)))
            frame.fill_nan(None).write_csv(file, include_header=False)
