"""What a clock and a calendar say about a step: features known for any future."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError

from .frequency import DAY, LENGTHS, Frequency, Ints

Feature = Literal["second", "minute", "hour", "weekday", "day", "day_of_year", "week", "month", "quarter"]
Encoding = Literal["cyclic", "centred"]
SIZES: dict[str, int] = {
    "second": 60, "minute": 60, "hour": 24, "weekday": 7, "day": 31, "day_of_year": 366, "week": 53, "month": 12,
    "quarter": 4,
}  # fmt: skip
_OF_UNIT: dict[str, list[Feature]] = {
    "us": ["second", "minute", "hour", "weekday", "day", "day_of_year"],
    "s": ["second", "minute", "hour", "weekday", "day", "day_of_year"],
    "min": ["minute", "hour", "weekday", "day", "day_of_year"],
    "h": ["hour", "weekday", "day", "day_of_year"],
    "d": ["weekday", "day", "day_of_year"],
    "b": ["weekday", "day", "day_of_year"],
    "w": ["day", "week"],
    "m": ["month"],
    "q": ["month"],
}


def features_for(frequency: Frequency) -> list[Feature]:
    """The features that change from step to step at a frequency (GluonTS' choice); none for years and plain numbers.

    Example:
        >>> features_for(Frequency.parse("h")), features_for(Frequency.parse("qe"))
        (['hour', 'weekday', 'day', 'day_of_year'], ['month'])
    """
    unit = frequency.unit
    return list(_OF_UNIT.get(unit.removesuffix("e"), []))


def _weeks(days: Ints) -> Ints:
    """ISO 8601 weeks from 0: a week belongs to the year of its Thursday."""
    thursday = days - (days + 3) % 7 + 3
    year = thursday.astype("datetime64[D]").astype("datetime64[Y]")
    return (thursday - year.astype("datetime64[D]").astype(np.int64)) // 7


def _values(stamps: Ints, feature: str) -> Ints:
    """From 0."""
    days = stamps // DAY
    if feature in ("second", "minute", "hour"):
        unit = {"second": "s", "minute": "min", "hour": "h"}[feature]
        return stamps // LENGTHS[unit] % SIZES[feature]
    if feature == "weekday":
        return (days + 3) % 7
    if feature == "week":
        return _weeks(days)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    if feature in ("month", "quarter"):
        return months % 12 // (12 // SIZES[feature])
    start = dates.astype("datetime64[Y]" if feature == "day_of_year" else "datetime64[M]")
    return days - start.astype("datetime64[D]").astype(np.int64)


def calendar_features(
    first: Tensor, frequency: Frequency, positions: Tensor, features: list[Feature], encoding: Encoding = "cyclic"
) -> Tensor:
    """Features of the steps ``positions`` after ``first``.

    A value v of n possible ones (weekdays from Monday 0, months from January 0, ISO weeks) becomes, ``centred``,
    v / (n - 1) - 1/2 (GluonTS), or, ``cyclic``, sin(2 pi v / n) and cos(2 pi v / n).

    Args:
        first: stamps of the first steps, int64 ``[...]``, as in :class:`Panel`.
        frequency: of the steps.
        positions: int64 ``[...]``; the two are broadcast.
        features: which; see :func:`features_for`.
        encoding: of each.

    Returns:
        Float32 ``[..., F]``, or ``[..., 2 F]`` for ``cyclic``: sin and cos of the first feature, then the second's.

    Raises:
        ConfigError: steps are plain numbers, or there is no such feature.

    Example:
        >>> hours = calendar_features(torch.tensor(0), Frequency.parse("h"), torch.tensor([0, 23]), ["hour"], "centred")
        >>> hours.tolist()
        [[-0.5], [0.5]]
    """
    for feature in features:
        if feature not in get_args(Feature):
            raise ConfigError(
                f"no calendar feature {feature!r}, only {', '.join(get_args(Feature))}: name one of these"
            )
    if features and not frequency.dated:
        raise ConfigError("series whose steps are plain numbers have no calendar: give dates, or no calendar features")
    stamps = frequency.shift(first.numpy(), positions.numpy())
    found = [torch.zeros(*stamps.shape, 0)]
    for feature in features:
        values = torch.from_numpy(_values(stamps, feature)).double().unsqueeze(-1)
        if encoding == "centred":
            found.append((values / (SIZES[feature] - 1) - 0.5).float())
            continue
        angle = values * (2 * math.pi / SIZES[feature])
        found.append(torch.cat([angle.sin(), angle.cos()], -1).float())
    return torch.cat(found, -1)
