"""Figures of a pass over validation or test data: forecasts, their error by step, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.training.drawing import BLUE, GRAY, ORANGE, draw_panels, shorten
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.hooks import datamodule_of
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.types import SequenceBatch

from .metrics import central_intervals
from .module import Forecaster

MOST = 8  # series that are drawn
BINS = torch.linspace(-6, 6, 61)


@dataclass
class Shown:
    """A window, in the units of the errors.

    Attributes:
        row: its number in the split.
        history: ``[L]``, NaN where missing.
        target: ``[H]``.
        forecast: ``[H, 1 + Q]``.
    """

    row: int
    history: Tensor
    target: Tensor
    forecast: Tensor


def shown_intervals(levels: Sequence[float]) -> list[tuple[int, int, float]]:
    """The widest interval, and of the others the one nearest 80 %; see :func:`central_intervals`.

    Example:
        >>> [share for _, _, share in shown_intervals([0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975])]
        [0.95, 0.8]
    """
    intervals = central_intervals(levels)
    return intervals[:1] + sorted(intervals[1:], key=lambda interval: abs(interval[2] - 0.8))[:1]


def draw_forecast(axes: Axes, shown: Shown, levels: Sequence[float]) -> None:
    """The end of the history, the truth, the forecast, and two of its intervals."""
    horizon = len(shown.target)
    history = shown.history[-3 * horizon :]
    steps = range(1, horizon + 1)
    axes.plot(range(1 - len(history), 1), history.numpy(), color=GRAY, lw=1)
    for low, high, share in shown_intervals(levels):
        lower, upper = shown.forecast[:, 1 + low].numpy(), shown.forecast[:, 1 + high].numpy()
        axes.fill_between(steps, lower, upper, color=BLUE, alpha=0.15, lw=0, label=f"{100 * share:.4g} %")
    axes.plot(steps, shown.target.numpy(), color="black", lw=1, label="true")
    axes.plot(steps, shown.forecast[:, 0].numpy(), color=ORANGE, lw=1.5, label="forecast")
    axes.set_xlabel("step, the first of the horizon is 1", fontsize=8)


class Forecasts(EvaluationFigure[list[Shown]]):
    """``forecasts_<split>.png``: the first series with history, truth, forecast and intervals."""

    name = "forecasts"

    def reset(self) -> None:
        self.state = []

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        assert batch.ids is not None and batch.lengths is not None and result.targets is not None
        targets = batch.targets
        assert isinstance(targets, dict)
        for place, row in enumerate(batch.ids.tolist()):
            if row < MOST:
                y, there = batch.inputs[place, : int(batch.lengths[place]), :2].float().cpu().unbind(1)
                center, unit = targets["center"][place].cpu(), targets["unit"][place].cpu()
                steps = int(there.nonzero().max()) + 1 if bool(there.any()) else 0
                history = torch.where(there > 0, (y - center) / unit, torch.nan)[:steps]
                truth, forecast = result.targets.target[place].cpu(), result.predictions[place].detach().cpu()
                self.state.append(Shown(row, history, truth, forecast))

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[list[Shown]]) -> Figure:
        assert isinstance(module, Forecaster)
        data = datamodule_of(trainer)
        rows = sorted((one for state in states for one in state), key=lambda one: one.row)
        names = None if data is None else data.split(split)
        panels = [
            (
                str(one.row) if names is None else shorten(str(names.row_id(one.row)), 24),
                partial(draw_forecast, shown=one, levels=module.levels),
            )
            for one in rows
        ]
        assert module.spec is not None
        units = "each training series' deviation" if module.spec.standardized else "each series"
        figure = draw_panels(panels, f"{split}: forecasts, in units of {units}")
        if figure.axes:
            figure.axes[0].legend(fontsize=7)
        return figure


@dataclass
class Sums:
    """Errors over windows by step, in units of MASE's scale.

    Attributes:
        error: sums of absolute errors, ``[H]``.
        inside: windows whose target is in the widest interval, ``[H]``.
        count: windows with a target, ``[H]``.
        residuals: counts of scaled residuals in :data:`BINS`.
    """

    error: Tensor = field(default_factory=lambda: torch.zeros(0))
    inside: Tensor = field(default_factory=lambda: torch.zeros(0))
    count: Tensor = field(default_factory=lambda: torch.zeros(0))
    residuals: Tensor = field(default_factory=lambda: torch.zeros(len(BINS) - 1))

    def add(self, error: Tensor, inside: Tensor, valid: Tensor) -> None:
        """Take in a batch: scaled residuals, whether the target is in the interval, where there is one: ``[B, H]``."""
        if not len(self.error):
            self.error, self.inside, self.count = (error.new_zeros(error.shape[1]) for _ in range(3))
        self.error += torch.where(valid, error.abs(), 0).sum(0)
        self.inside += (inside & valid).sum(0)
        self.count += valid.sum(0)
        self.residuals += torch.histogram(error[valid].clamp(-6, 6).double(), BINS.double()).hist.float()


class Errors(EvaluationFigure[Sums]):
    """``errors_<split>.png``: the mean scaled error and the coverage at each step, and the residuals."""

    name = "errors"

    def __init__(self) -> None:
        super().__init__()
        self.widest: tuple[int, int, float] | None = None

    def reset(self) -> None:
        self.state = Sums()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module, Forecaster):
            self.widest = next(iter(central_intervals(pl_module.levels)), None)

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        truth, forecasts = result.targets, result.predictions.detach().float().cpu()
        assert truth is not None
        target, scale = truth.target.float().cpu(), truth.scale.float().cpu().unsqueeze(1)
        valid = truth.mask.cpu() & (scale > 0)
        inside = torch.zeros_like(valid)
        if self.widest is not None:
            low, high = forecasts[..., 1 + self.widest[0]], forecasts[..., 1 + self.widest[1]]
            inside = (low <= target) & (target <= high)
        self.state.add(torch.where(valid, target - forecasts[..., 0], 0) / scale.clamp(min=1e-30), inside, valid)

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Sums]) -> Figure:
        filled = [state for state in states if len(state.error)]
        error, inside, count, residuals = (
            torch.stack([getattr(state, name) for state in filled]).sum(0)
            for name in ("error", "inside", "count", "residuals")
        )
        steps = range(1, len(error) + 1)
        panels = [("scaled absolute error by step", partial(_line, steps=steps, values=error / count.clamp(min=1)))]
        if self.widest is not None:
            name = f"share of targets in the {100 * self.widest[2]:.4g} % interval"
            panels.append((name, partial(_line, steps=steps, values=inside / count.clamp(min=1), at=self.widest[2])))
        panels.append(("scaled residuals", partial(_bars, counts=residuals)))
        return draw_panels(panels, f"{split}: errors in units of MASE's scale")


def _line(axes: Axes, steps: range, values: Tensor, at: float | None = None) -> None:
    axes.plot(steps, values.numpy(), "o-" if len(steps) == 1 else "-", color=BLUE)
    axes.set_xlabel("step of the horizon", fontsize=8)
    if at is not None:
        axes.axhline(at, color=GRAY, ls="--", lw=1, label="wanted")
        axes.legend(fontsize=7, loc="lower right")
    axes.set_ylim(0, None if at is None else 1.02)


def _bars(axes: Axes, counts: Tensor) -> None:
    axes.stairs(counts.numpy(), BINS.numpy(), fill=True, color=BLUE)
    axes.axvline(0, color=GRAY, lw=1)
    axes.set_xlabel("truth less forecast (±6: or beyond)", fontsize=8)
    axes.set_ylabel("steps", fontsize=8)


def figures() -> list[pl.Callback]:
    """All of them."""
    return [Forecasts(), Errors()]
