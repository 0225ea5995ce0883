"""Series → what follows them: the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import polars
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lightning_rnn.errors import ConfigError
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.training.hooks import is_validate
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.training.running_metrics import uncounted
from lightning_rnn.types import SequenceBatch

from .calibration import Calibration
from .distributions import Family, Objective
from .ensemble import ForecastNetwork, Lesson, mean_of
from .head import PointObjective
from .losses import LossName, series_loss
from .metrics import POINT, SeriesMean, forecast_metrics
from .network import Decode
from .options import check_options, network_options
from .panel import Panel
from .predictions import forecast_frame, level_name
from .prepare import last_windows
from .quantile_heads import Monotone
from .spec import ForecastSpec
from .units import from_units, to_units, truth_of

if TYPE_CHECKING:
    from .backtest import Backtest

LEVELS = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975]


class Forecaster(SequenceModule):
    """One recurrent forecaster for all series.

    Args:
        decode: ``segment`` (all segments of the horizon at once, each by a step of the recurrent layers), ``direct``
            (one linear layer from the last output) or ``recursive`` (step by step, fed its own forecasts).
        cell: of the recurrent layers, see :func:`lightning_rnn.layers.table.recurrent`.
        hidden_size: units of each layer.
        num_layers: recurrent layers.
        dilations: in their place, one layer each, whose state is that of so many segments before; not for recursive.
        residual: whether each layer's input is added to its output; not for recursive.
        initializer: ``torch``, ``keras`` or ``chrono`` start of the recurrent weights; for SimpleRNN, LSTM and GRU.
        activation: in the recurrence; for SimpleRNN, LSTM and GRU; None: tanh.
        segment: steps that become one of the recurrence; None: a season (the horizon where there is none) for
            ``segment``, 1 for ``direct``.
        skip: a linear layer from the window to the forecast, beside the network; None: with all but ``recursive``.
        lags: of ``recursive``: how many steps before the one that is forecast further values lie that it is given.
        scale: how windows are scaled: ``none``, ``mean``, ``std``, ``last``, ``season``, ``robust``, ``revin`` or
            ``smoothing`` (a level and a season with learned coefficients, as in ES-RNN), see
            :class:`tasks.forecasting.scaling.WindowScaling`; None: ``mean`` for ``negative_binomial``, else ``std``.
        log: whether the logarithm is forecast, of series that are positive.
        dropout: share dropped before the recurrent layers and before the output.
        static_size: numbers that a static name becomes.
        head: ``point``, ``quantile``, ``normal``, ``student_t``, ``negative_binomial``, ``mixture`` or ``iqn``.
        loss: ``head``: the head's own, in units of the window's scale; or, for the point forecast in units of the
            series, ``mae``, ``mse``, ``huber``, ``smape``, ``mase`` or ``owa``.
        point_objective: of the head ``point``: ``mae``, ``mse`` or ``huber``.
        objective: of ``normal`` and ``student_t``: ``nll`` or ``crps``.
        components: of ``mixture``.
        family: of ``mixture``'s components: ``normal`` or ``student_t``.
        monotone: how ``quantile`` keeps its quantiles from crossing: ``cumulative`` or ``sorted``.
        levels: of the quantiles of the predictions; None: .025, .05, .1, .25, .5, .75, .9, .95, .975.
        conformal: whether these are calibrated on the validation part (split conformal prediction), for any head; in
            units of how far each window is from repeating its season and the members from agreeing.
        samples: paths of a recursive network with a distribution.
        members: networks whose mean is the forecast, from different random starts; each learns from windows of its own
            where ``data.recent`` has several entries.
        lookbacks: steps that the members look back, in turn; None: the data's lookback.

    Raises:
        ConfigError: an option is out of range, or does not go with another.

    Example:
        >>> Forecaster(cell="lstm", head="student_t").hparams["decode"]
        'segment'
    """

    spec_class = ForecastSpec
    spec: ForecastSpec | None
    network: ForecastNetwork

    def __init__(
        self,
        decode: Decode = "segment",
        cell: CellName = "gru",
        hidden_size: int = 64,
        num_layers: int = 1,
        dilations: list[int] | None = None,
        residual: bool = False,
        initializer: Initializer | None = None,
        activation: str | None = None,
        segment: int | None = None,
        skip: bool | None = None,
        lags: list[int] | None = None,
        scale: str | None = None,
        log: bool = False,
        dropout: float = 0.0,
        static_size: int = 8,
        head: str = "point",
        loss: LossName = "head",
        point_objective: PointObjective = "mae",
        objective: Objective = "nll",
        components: int = 3,
        family: Family = "normal",
        monotone: Monotone = "cumulative",
        levels: list[float] | None = None,
        conformal: bool = False,
        samples: int = 100,
        members: int = 1,
        lookbacks: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_options(self.hparams)
        self.loss, self.conformal, self.member_count, self.lookbacks = loss, conformal, members, lookbacks
        chosen_levels = sorted(LEVELS if levels is None else levels)
        self.levels = chosen_levels if conformal or head != "point" else []  # a point alone says nothing of them
        self.options = network_options(self.hparams, chosen_levels)

    def build(self, spec: ForecastSpec) -> ForecastNetwork:  # type: ignore[override]  # its own spec
        if self.options.log and not spec.positive:
            raise ConfigError("model.log needs series that are positive: set it to false")
        lookbacks = self.lookbacks or [spec.lookback]
        if max(lookbacks) > spec.lookback:
            raise ConfigError(
                f"model.lookbacks has {max(lookbacks)}, windows have {spec.lookback} steps: raise data.lookback"
            )
        if self.conformal:
            self.calibration = Calibration(spec.horizon, self.levels)
        return ForecastNetwork(spec, self.options, [lookbacks[i % len(lookbacks)] for i in range(self.member_count)])

    def build_metrics(self, spec: ForecastSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        if stage == "train":  # nothing but the point is there, and no Naive2
            return MetricCollection({name: SeriesMean(POINT[name]) for name in ("smape", "mae")}, compute_groups=False)
        ranked = stage == "val" and self.options.head == "point"  # a point's intervals come from these very rows
        found = forecast_metrics([] if ranked else self.levels)
        if not spec.rolling:
            return found
        kept: dict[str, Metric | MetricCollection] = {name: one for name, one in found.items() if name != "owa"}
        return MetricCollection(kept, compute_groups=False)

    def run_callbacks(self) -> list[pl.Callback]:
        from lightning_rnn.training.figures import LearningCurves  # late: they need this module
        from lightning_rnn.training.predictions import PredictionWriter

        from .callbacks import Baselines, RollingBaselines, forecast_rows
        from .figures import figures

        return [PredictionWriter(forecast_rows), LearningCurves(), *figures(), Baselines(), RollingBaselines()]

    def step(self, batch: SequenceBatch) -> StepResult:
        assert batch.lengths is not None
        if batch.targets is None:
            forecasts, _ = self._forecasts(batch)
            return StepResult(forecasts.new_zeros(()), forecasts, None, len(batch))
        target, truth = batch.targets["y"], truth_of(batch.targets)
        lessons = self.network.learn(batch.inputs, batch.lengths, target, batch.targets.get("group"))
        found = [self._loss_of(lesson, batch.targets) for lesson in lessons]
        loss, weight = torch.stack([loss for loss, _ in found]).mean(), sum(weight for _, weight in found) / len(found)
        if self.training:
            forecasts = mean_of(lessons, len(batch)).unsqueeze(2)
        else:
            forecasts, scale = self._forecasts(batch)
            with uncounted([self.calibration.errors] if self.conformal and batch.stands_in else []):
                self._calibrate(forecasts, target, scale)
        return StepResult(loss, to_units(forecasts, batch.targets), truth, weight)

    def _loss_of(self, lesson: Lesson, targets: Mapping[str, Tensor]) -> tuple[Tensor, float]:
        """A member's loss, and the number of elements behind it."""
        assert self.spec is not None
        own = {name: values[lesson.rows] for name, values in targets.items()}
        truth = truth_of(own)
        if self.loss == "head":
            return lesson.member.loss(lesson.learned), float(truth.mask.sum())
        return series_loss(self.loss, to_units(lesson.learned.mean, own), truth, self.spec.reference)

    # Quantiles, calibrated.

    def _forecasts(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Point and quantiles ``[B, H, 1 + Q]`` before calibration during training, after it elsewhere; and scales."""
        assert batch.lengths is not None
        forecasts, scale = self.network(batch.inputs, batch.lengths, self.device_levels)
        if self.conformal and not self._calibrating:
            forecasts = self._calibrated(forecasts, scale)
        return forecasts, scale

    @property
    def device_levels(self) -> Tensor:
        """The levels as a tensor ``[Q]``."""
        return torch.tensor(self.levels, device=self.device)

    @property
    def _calibrating(self) -> bool:
        """Whether this is a validation within training."""
        if self._trainer is None:
            return False
        return self.trainer.sanity_checking or (self.trainer.validating and not is_validate(self.trainer))

    def _calibrate(self, forecasts: Tensor, target: Tensor, scale: Tensor) -> None:
        if self.conformal and self._calibrating:
            transform = self.network.first.scaling.transform
            self.calibration.update(transform(forecasts), transform(target), scale)

    def _calibrated(self, forecasts: Tensor, scale: Tensor) -> Tensor:
        scaling = self.network.first.scaling
        moved = self.calibration.around(scaling.transform(forecasts), scale)
        return moved.exp() if scaling.log else moved

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.conformal and self._calibrating:
            self.calibration.finish()

    # Predictions.

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``mean_1 ... mean_H`` and the same of every quantile, as ``q05_1``: one row a series."""
        forecasts = result.predictions
        if batch.targets is not None:
            forecasts = from_units(forecasts, batch.targets)
        names = ["mean", *map(level_name, self.levels)]
        return {
            f"{name}_{step + 1}": forecasts[:, step, place]
            for place, name in enumerate(names)
            for step in range(forecasts.shape[1])
        }

    @torch.no_grad()
    def forecast(self, panel: Panel, batch_size: int = 1024) -> polars.DataFrame:
        """What follows series, those of training or new ones, without datamodule or trainer.

        Args:
            panel: of the same frequency and columns as in training; see :func:`tasks.forecasting.frames.from_frame`.
            batch_size: series at once.

        Returns:
            Long format: ``unique_id, step, ds, mean``, and the quantiles ``q05`` ... where the model has any.

        Raises:
            DataError: the series are not like those of training.

        Example:
            .. code-block:: python

                model = Forecaster.load_from_checkpoint("runs/.../checkpoints/best.ckpt")
                model.forecast(from_frame(frame))
        """
        return forecast_frame(panel, self.forecast_values(panel, batch_size), self.levels)

    @torch.no_grad()
    def forecast_values(self, panel: Panel, batch_size: int = 1024) -> Tensor:
        """As :meth:`forecast`: ``[N, H, 1 + Q]``, point and quantiles."""
        if self.spec is None:
            raise ConfigError("this forecaster is not trained: load a checkpoint")
        self.eval()
        windows = last_windows(panel, self.spec)
        rows = list(range(len(windows)))
        parts = [
            self._forecasts(windows.__getitems__(rows[start : start + batch_size]).to(self.device))[0]
            for start in range(0, len(rows), batch_size)
        ]
        return torch.cat(parts).cpu()

    def backtest(
        self,
        panel: Panel,
        origins: int = 3,
        step: int | None = None,
        train: Callable[[Panel], Forecaster] | None = None,
    ) -> Backtest:
        """Forecasts of the end of series from several origins, beside the baselines: by this model, or trained anew.

        Args:
            panel: as for :meth:`forecast`; each series ends one horizon after the last origin.
            origins: how many.
            step: steps between two; None: a horizon.
            train: trains a forecaster on what is known at an origin, at each of them; None: this one forecasts from
                all, also what it has seen in training.

        Raises:
            ConfigError: an option below 1, or it is not trained.
            DataError: no series is long enough, or they are not like those of training.
        """
        from .backtest import backtest  # late: it needs this module

        if self.spec is None:
            raise ConfigError("this forecaster is not trained: load a checkpoint")
        return backtest(train or (lambda _: self), panel, self.spec.horizon, origins, step, refit=train is not None)
