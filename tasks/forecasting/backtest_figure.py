"""The figure of a backtest: series with the forecasts from every origin, and the errors by origin."""

from __future__ import annotations

from collections.abc import Sequence

import polars
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from lightning_rnn.errors import ConfigError
from lightning_rnn.training.drawing import GRAY, shorten

from .backtest import MODEL, Backtest
from .metrics import central_intervals
from .predictions import level_name

MOST = 4  # series that are drawn
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's


def draw_backtest(found: Backtest, levels: Sequence[float] = (), series: Sequence[str] | None = None) -> Figure:
    """Each series with its truth and the forecasts from every origin; below, MASE by origin beside the baselines.

    Args:
        found: the backtest.
        levels: of the quantiles that the forecasts have: their widest interval is shaded.
        series: names of those to draw; None: the first four.

    Raises:
        ConfigError: there is no such series.
    """
    names = found.forecasts["unique_id"].unique(maintain_order=True).to_list()
    chosen = names[:MOST] if series is None else list(series)
    for name in chosen:
        if name not in names:
            raise ConfigError(f"the backtest has no series {name!r}: name one of {', '.join(names[:10])}")
    rows = len(chosen) + 1
    figure = Figure(figsize=(9.5, 0.8 + 2.6 * rows), layout="constrained")
    figure.suptitle("backtest: forecasts from each origin, in units of the series", fontsize=13)
    for place, name in enumerate(chosen, 1):
        _draw_series(figure.add_subplot(rows, 1, place), found, name, levels)
    figure.axes[0].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), edgecolor="none")
    _draw_errors(figure.add_subplot(rows, 1, rows), found.errors)
    return figure


def _draw_series(axes: Axes, found: Backtest, name: str, levels: Sequence[float]) -> None:
    panel, row = found.panel, found.panel.ids.index(name)
    forecasts = found.forecasts.filter(polars.col("unique_id") == name)
    length, shown = int(panel.lengths[row]), 2 * forecasts["ds"].n_unique()
    first = max(length - shown, 0)
    axes.plot(panel.stamps(row, length - first, first), panel.y[row][first:].numpy(), "k.-", ms=3, lw=0.8, label="true")
    widest = next(iter(central_intervals(levels)), None)
    for number, part in forecasts.partition_by("origin", as_dict=True).items():
        origin, stamps = int(number[0]), _plain(part["ds"]).to_numpy()
        color = COLORS[(origin - 1) % len(COLORS)]
        if widest is not None:
            low, high = (part[level_name(levels[place])].to_numpy() for place in widest[:2])
            axes.fill_between(stamps, low, high, color=color, alpha=0.15, lw=0)
        axes.plot(stamps, part["mean"].to_numpy(), color=color, lw=1.6, label=f"origin {origin}")
        axes.axvline(stamps[0], color=GRAY, ls=":", lw=0.8)
    note = "" if widest is None else f", {100 * widest[2]:.4g} % interval"
    axes.set_title(f"{shorten(name, 40)}{note}", fontsize=9.5)
    if panel.frequency.dated:
        dates = ConciseDateFormatter(axes.xaxis.get_major_locator())  # type: ignore[no-untyped-call]  # matplotlib's
        axes.xaxis.set_major_formatter(dates)
    else:
        axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)


def _plain(stamps: polars.Series) -> polars.Series:
    """Stamps as the panel has them: in UTC, without saying so."""
    return stamps.dt.replace_time_zone(None) if isinstance(stamps.dtype, polars.Datetime) else stamps


def _draw_errors(axes: Axes, errors: polars.DataFrame) -> None:
    for place, name in enumerate(errors["forecast"].unique(maintain_order=True)):
        part = errors.filter(polars.col("forecast") == name)
        own = name == MODEL
        color = "black" if own else COLORS[place % len(COLORS)]
        style, width = ("o-", 2) if own else ("s--", 1)
        axes.plot(part["origin"], part["mase"], style, color=color, ms=4, lw=width, label=name)
    axes.set_title("MASE by origin", fontsize=9.5)
    axes.set_xlabel("origin, the earliest first", fontsize=8)
    axes.set_xticks(errors["origin"].unique(maintain_order=True).to_list())
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), edgecolor="none")
