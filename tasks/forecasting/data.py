"""Series from any source, as windows for the forecaster."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, cast

import torch
from matplotlib.axes import Axes
from torch import Tensor

from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.module import SequenceDataModule, Split
from lightning_rnn.errors import ConfigError, DataError, require

from .calendar import Feature, calendar_features, features_for
from .checks import Categories
from .embedded import Embedded
from .panel import Panel, longer_ones
from .prepare import last_windows, moments_of, naive2_of, reference_of, to_series
from .source import SeriesSource
from .spec import ForecastSpec
from .windows import Origins, PanelWindows

log = logging.getLogger(__name__)


class ForecastingData(SequenceDataModule):
    """Windows over series.

    Validation is the last horizon of each training series (or what the source says), test the source's test part;
    `predict` forecasts what follows the training part, or other series that the source names.

    Args:
        source: where the series come from; None is :class:`Embedded`, yearly sunspot numbers.
        horizon: steps to forecast; None: as many as the longest series of the test part has.
        lookback: steps of history that a window has, at most; None: four times the longer of season and horizon.
        hold_out: in place of the source's test part, the last so many steps of each series, test part included; None:
            the source's. Series that are no longer are left out, and counted in a warning.
        refit: train on all of the training part, without validation: for the final model, once all is chosen.
        recent: train on windows at the last so many origins of each series alone; None: on all. Several of these, as
            ``[240, null]``: an epoch has windows of each, and the forecaster's members learn from one each, in turn.
        min_history: windows to train on have at least so many steps of history, where the series is long enough; None:
            the horizon, or the lookback where that is shorter.
        epoch_windows: windows of an epoch, at random origins, from every series equally often; None: all windows.
        eval_stride: steps between the origins of the windows to validate and test on; None: one window a series.
        standardize: whether errors are in units of each training series' standard deviation.
        calendar: features of the stamps (:mod:`tasks.forecasting.calendar`), or ``auto``: those that go with the
            frequency; None: none.
        baselines: whether `test` measures the baselines as well.
        batch_size: windows per batch and process.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether windows with like lengths of history are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches and of the random origins.
        max_tokens: steps per batch and process, padding counted, at most; None is no bound.

    Example:
        >>> data = ForecastingData(batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).inputs.shape
        torch.Size([8, 88, 2])
    """

    spec_class = ForecastSpec
    spec: ForecastSpec | None

    def __init__(
        self,
        source: SeriesSource | None = None,
        horizon: int | None = None,
        lookback: int | None = None,
        hold_out: int | None = None,
        refit: bool = False,
        recent: int | list[int | None] | None = None,
        min_history: int | None = None,
        epoch_windows: int | None = None,
        eval_stride: int | None = None,
        standardize: bool = False,
        calendar: list[Feature] | Literal["auto"] | None = None,
        baselines: bool = True,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        for name, value in (
            ("horizon", horizon),
            ("lookback", lookback),
            ("hold_out", hold_out),
            *(("recent", one) for one in (recent if isinstance(recent, list) else [recent])),
            ("min_history", min_history),
            ("epoch_windows", epoch_windows),
            ("eval_stride", eval_stride),
        ):
            require(value is None or value >= 1, f"data.{name} must be at least 1, got {value}")
        self.source = source or Embedded()
        self.horizon, self.lookback, self.hold_out = horizon, lookback, hold_out
        self.refit, self.recents = refit, recent if isinstance(recent, list) else [recent]
        require(len(self.recents) >= 1, "data.recent is an empty list: leave it out, or give [240, null], say")
        if len(self.recents) > 1 and epoch_windows is None:
            raise ConfigError(
                "data.recent has several entries: set data.epoch_windows, the windows of each in an epoch"
            )
        self.min_history, self.epoch_windows, self.eval_stride = min_history, epoch_windows, eval_stride
        self.standardize, self.calendar, self.baselines = standardize, calendar, baselines

    def prepare_data(self) -> None:
        """Download what is absent."""
        self.source.prepare()

    def series(self) -> tuple[Panel, Panel | None]:
        """The series and their test part, as the source or ``hold_out`` says.

        Raises:
            DataError: no series is longer than ``hold_out``; and as the source does.
        """
        panel, test = self.source.load()
        if self.hold_out is None:
            return panel, test
        return longer_ones(panel if test is None else panel.append(test), self.hold_out).split(self.hold_out)

    def to_forecast(self) -> Panel:
        """The series that `predict` forecasts."""
        new = self.source.new()
        return self.series()[0] if new is None else new

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        if stage == "predict" and self.spec is not None:
            self._check_options(self.spec)
            return {"predict": last_windows(self.to_forecast(), self.spec)}
        panel, test = self.series()
        if self.spec is None:
            self.spec = self.describe(panel, test)
        self._check_options(self.spec)
        if stage == "predict":
            return {"predict": last_windows(self.to_forecast(), self.spec)}
        if stage == "test":
            if test is None:
                raise DataError(f"{panel.origin}: there is no test part: name one, or set test_steps of the source")
            trained = panel.head(panel.lengths - (self.source.val_steps or 0))
            return {"test": self._following(panel, test, trained)}
        return self._training(panel)

    def describe(self, panel: Panel, test: Panel | None) -> ForecastSpec:
        """The spec of a forecaster for these series.

        Raises:
            ConfigError: the horizon is not given, and there is no test part to take it from.
            DataError: the horizon is longer than every series.
        """
        horizon = self.horizon or (int(test.lengths.max()) if test is not None else 0)
        require(horizon >= 1, "data.horizon must be given: the source has no test part to take it from")
        longest = int(panel.lengths.max())
        if longest <= horizon:
            raise DataError(
                f"{panel.origin}: the longest series has {longest} steps, a horizon of {horizon} needs at least "
                f"{horizon + 1}: take a shorter horizon"
            )
        lookback = self.lookback or 4 * max(panel.season, horizon)
        calendar = features_for(panel.frequency) if self.calendar == "auto" else self.calendar or []
        size = calendar_features(panel.first[:1], panel.frequency, panel.first.new_zeros(1), calendar).shape[-1]
        return ForecastSpec(
            horizon=horizon,
            lookback=min(lookback, longest - 1) if self.lookback is None else lookback,
            season=panel.season,
            frequency=panel.frequency.alias,
            past=panel.past.names if panel.past else [],
            future=panel.future.names if panel.future else [],
            calendar=list(calendar),
            calendar_size=size,
            static=list(panel.static),
            categories=Categories.of(panel).known,
            moments=moments_of(panel),
            positive=bool((panel.y.values.nan_to_num(1) > 0).all()),
            reference=reference_of(panel, horizon, panel.season),
            rolling=self.eval_stride is not None,
            standardized=self.standardize,
        )

    def _check_options(self, spec: ForecastSpec) -> None:
        for name, asked, trained in (
            ("horizon", self.horizon, spec.horizon),
            ("lookback", self.lookback, spec.lookback),
        ):
            if asked is not None and asked != trained:
                raise ConfigError(f"data.{name} is {asked}, the model was trained with {trained}: leave it out")

    def _following(self, head: Panel, tail: Panel, measured: Panel | None = None) -> PanelWindows:
        """Windows whose targets lie in what follows ``head``: one of each series, or at every origin.

        Errors are in units of ``measured``, the training part where an official validation part is in ``head`` too.
        """
        assert self.spec is not None
        spec, first = self.spec, head.lengths
        counts = torch.ones_like(first)
        if self.eval_stride is not None:
            counts = ((tail.lengths - spec.horizon) // self.eval_stride + 1).clamp(min=0)
        reference = naive2_of(head, spec.horizon, spec.season) if self.eval_stride is None else None
        origins = Origins(first, counts, self.eval_stride or 1)
        return PanelWindows(to_series(head.append(tail), spec, measured or head), spec, origins, naive2=reference)

    def _training(self, panel: Panel) -> dict[Split, SplitData]:
        assert self.spec is not None
        official = self.source.val_steps
        steps = official or self.spec.horizon
        if self.refit:
            return {"train": self._train(panel)}
        longer = panel.longer_than(steps)
        if not len(longer):
            raise DataError(
                f"{panel.origin}: no series is longer than the {steps} steps to validate on: take a shorter horizon, "
                "or set data.refit to train on all"
            )
        if len(longer) < len(panel):
            log.warning(
                "%s: %d of %d series are not longer than the %d steps to validate on: not validated",
                panel.origin, len(panel) - len(longer), len(panel), steps,
            )  # fmt: skip
        cut = torch.where(panel.lengths > steps, panel.lengths - steps, panel.lengths)
        return {
            "train": self._train(panel.head(cut)),
            "val": self._following(*panel.select(longer).split(steps)),
        }

    def _train(self, panel: Panel) -> PanelWindows:
        assert self.spec is not None
        spec, lengths = self.spec, panel.lengths
        last = (lengths - spec.horizon).maximum((lengths - 1).clamp(max=1))
        least = self.min_history or min(spec.horizon, spec.lookback)
        earliest = last.minimum(torch.full_like(last, least))
        if bool((last == 0).any()):
            log.warning("%s: %d series have one step: not trained on", panel.origin, int((last == 0).sum()))
        origins = []
        for place, recent in enumerate(self.recents):
            first = earliest if recent is None else earliest.maximum(last - recent + 1)
            counts = torch.where(last > 0, last - first + 1, 0)
            seed = self.seed + 7919 * place  # each with draws of its own, unlike those of the next seeds
            origins.append(Origins(first, counts, drawn=self.epoch_windows, seed=seed))
        return PanelWindows(to_series(panel, spec), spec, origins[0], others=origins[1:])

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        windows = cast("PanelWindows", self.split(split))
        batch = windows.__getitems__([row])
        steps = int(batch.lengths[0]) - windows.spec.ahead  # type: ignore[index]  # these batches have lengths
        y: Tensor = batch.inputs[0, :steps]
        axes.plot(range(-steps, 0), torch.where(y[:, 1] > 0, y[:, 0], torch.nan).numpy())
