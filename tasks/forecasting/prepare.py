"""From a panel to what batches are gathered from: numbers in float32, scaled columns, the measures of each series."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.errors import DataError

from .baselines import naive2
from .calendar import Feature, calendar_features
from .checks import Categories, check_future, check_panel, tell_of_stale
from .functional import mase, mean_over_series, mean_over_steps, seasonal_scale, smape
from .panel import Channels, Panel, span
from .spec import ForecastSpec
from .windows import Origins, PanelWindows, Series


def histories_of(panel: Panel) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The series as arrays."""
    return [panel.y[row].numpy() for row in range(len(panel))]


def padded(panel: Panel) -> Tensor:
    """The values as float64 ``[N, T]``, NaN on the right."""
    return panel.y.pad(torch.arange(len(panel)), torch.nan)[0]


def moments_of(panel: Panel) -> dict[str, list[float]]:
    """Mean and deviation of every past, future and static column."""
    columns = dict(panel.static)
    for channels in filter(None, (panel.past, panel.future)):
        columns |= {name: channels.rows.values[:, place] for place, name in enumerate(channels.names)}
    found = {}
    for name, values in columns.items():
        there = values[~values.isnan()]
        spread = float(there.std(correction=0)) if len(there) else 0.0
        found[name] = [float(there.mean()) if len(there) else 0.0, spread or 1.0]
    return found


def to_series(panel: Panel, spec: ForecastSpec, measured: Panel | None = None, beyond: int = 0) -> Series:
    """What windows are cut from.

    Args:
        panel: all there is of the series.
        spec: of the forecaster.
        measured: the part of the same series that errors are scaled by; None: ``panel``.
        beyond: steps after the end of the values of which what is known is needed.

    Raises:
        DataError: the panel lacks a column, has another frequency, an unknown name, or a future that is too short.
    """
    _check(panel, spec)
    check_future(panel, beyond)
    history = padded(measured or panel)
    center, unit = torch.zeros(len(panel)), torch.ones(len(panel))
    if spec.standardized:
        valid = ~history.isnan()
        mean = mean_over_steps(history, valid)
        deviation = mean_over_steps((history - mean.unsqueeze(1)).square(), valid).sqrt()
        center, unit = mean.float(), torch.where(deviation > 0, deviation, 1).float()
    statics = [_scaled(panel.static[name].unsqueeze(1), [name], spec) for name in spec.static]
    codes = Categories(spec.categories).encode(panel).float()
    return Series(
        panel.ids,
        Ragged(panel.y.values.float(), panel.y.offsets),
        _columns(panel.past, spec) if spec.past else None,
        _known(panel, spec, beyond) if spec.known else None,
        torch.cat([*statics, codes], 1),
        center,
        unit,
        seasonal_scale(history, spec.season).float(),
        seasonal_scale(history, 1, power=2).float(),
    )


def last_windows(panel: Panel, spec: ForecastSpec) -> PanelWindows:
    """One window at the end of each series, without targets; raises as :func:`to_series` and :func:`check_panel`."""
    check_panel(panel)
    tell_of_stale(panel, spec.lookback)
    origins = Origins(panel.lengths, torch.ones_like(panel.lengths))
    return PanelWindows(to_series(panel, spec, beyond=spec.ahead), spec, origins, targets=False)


def _check(panel: Panel, spec: ForecastSpec) -> None:
    """Whether the panel has the columns and the frequency that the forecaster was trained with."""
    have = {
        "past": panel.past.names if panel.past else [],
        "known-future": panel.future.names if panel.future else [],
        "static": list(panel.static),
    }
    for kind, names in (("past", spec.past), ("known-future", spec.future), ("static", spec.static)):
        if have[kind] != names:
            raise DataError(
                f"{panel.origin}: the {kind} columns are {have[kind]}, the forecaster was trained with {names}: give "
                "it the same"
            )
    if panel.frequency.alias != spec.frequency:
        ours, theirs = (alias or "plain numbers" for alias in (panel.frequency.alias, spec.frequency))
        raise DataError(f"{panel.origin}: the frequency is {ours}, the forecaster was trained with {theirs}")


def _scaled(values: Tensor, names: list[str], spec: ForecastSpec) -> Tensor:
    """Columns ``[R, K]`` in units of the training part's deviation, 0 (the mean) where one is missing."""
    mean, deviation = torch.tensor([spec.moments[name] for name in names], dtype=torch.float64).T
    scaled: Tensor = ((values - mean) / deviation).nan_to_num().float()
    return scaled


def _columns(channels: Channels | None, spec: ForecastSpec) -> Ragged:
    assert channels is not None
    return Ragged(_scaled(channels.rows.values, channels.names, spec), channels.rows.offsets)


def _known(panel: Panel, spec: ForecastSpec, beyond: int) -> Ragged:
    """Known-future columns, then the calendar, over the values and ``beyond`` further steps."""
    lengths = panel.lengths + beyond
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    series = torch.arange(len(panel)).repeat_interleave(lengths)
    parts = []
    if panel.future is not None:
        columns = _columns(panel.future, spec)
        parts.append(span(columns, torch.zeros_like(lengths), lengths).values)
    places = torch.arange(int(lengths.sum())) - offsets[series]
    features = cast("list[Feature]", spec.calendar)
    parts.append(calendar_features(panel.first[series], panel.frequency, places, features))
    return Ragged(torch.cat(parts, 1), offsets)


def naive2_of(panel: Panel, horizon: int, season: int) -> Tensor:
    """Naive2's forecasts of what follows every series, float32 ``[N, H]``."""
    return torch.from_numpy(naive2(histories_of(panel), horizon, season)).float()


def reference_of(panel: Panel, horizon: int, season: int) -> list[float]:
    """Naive2's mean sMAPE and MASE over the last ``horizon`` steps of the series that are longer; 1 where undefined."""
    longer = panel.select(panel.longer_than(horizon))
    if not len(longer):
        return [1.0, 1.0]
    head, tail = longer.split(horizon)
    forecast, target = naive2_of(head, horizon, season).double(), padded(tail)
    scale = seasonal_scale(padded(head), season)
    errors = (smape(forecast, target), mase(forecast, target, scale))
    return [float(mean_over_series(error)) or 1.0 for error in errors]
