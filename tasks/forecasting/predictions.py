"""Forecasts in long format."""

from __future__ import annotations

from datetime import UTC

import numpy as np
import polars
from torch import Tensor

from lightning_rnn.training.tables import Columns

from .panel import Panel


def level_name(level: float) -> str:
    """The column of a quantile.

    Example:
        >>> level_name(0.05), level_name(0.975)
        ('q05', 'q97.5')
    """
    percent = f"{100 * level:.6g}"
    whole, dot, rest = percent.partition(".")
    return f"q{whole.zfill(2)}{dot}{rest}"


def forecast_columns(panel: Panel, forecasts: Tensor, levels: list[float]) -> Columns:
    """``unique_id, step, ds, mean`` and a column for each quantile, one row a step; ``ds`` in UTC if with a time zone.

    Args:
        panel: whose end the forecasts follow.
        forecasts: ``[N, H, 1 + Q]``.
        levels: of the quantiles.

    Example:
        >>> import torch
        >>> from .frames import from_arrays
        >>> forecast_columns(from_arrays([[1, 2]], ["a"]), torch.ones(1, 2, 2), [0.5])["q50"]
        array([1., 1.], dtype=float32)
    """
    n, horizon, _ = forecasts.shape
    stamps = np.concatenate([panel.stamps(row, horizon) for row in range(n)])
    columns: Columns = {
        "unique_id": [name for name in panel.ids for _ in range(horizon)],
        "step": np.tile(np.arange(1, horizon + 1), n),
        "ds": stamps if panel.zone is None else [stamp.replace(tzinfo=UTC) for stamp in stamps.tolist()],
    }
    for place, name in enumerate(["mean", *map(level_name, levels)]):
        columns[name] = forecasts[..., place].flatten().numpy()
    return columns


def forecast_frame(panel: Panel, forecasts: Tensor, levels: list[float]) -> polars.DataFrame:
    """:func:`forecast_columns` as a data frame."""
    return polars.DataFrame(forecast_columns(panel, forecasts, levels))
