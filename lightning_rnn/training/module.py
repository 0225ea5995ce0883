"""The system around a network: one step for train, validation, test and predict."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchmetrics import MeanMetric, Metric, MetricCollection

from lightning_rnn.data.module import DataSpec, SequenceDataModule
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.training.carry import Carry, from_plain, share_out, to_plain
from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero
from lightning_rnn.training.matching import CHECKPOINT_KEY as CHECKPOINT_KEY
from lightning_rnn.training.matching import FORMAT_VERSION, check_shapes, check_spec, saved_spec
from lightning_rnn.training.optimizers import configured
from lightning_rnn.training.precision import log_engine_once
from lightning_rnn.training.running_metrics import counted, restore, uncounted
from lightning_rnn.training.step_result import StepResult as StepResult
from lightning_rnn.training.step_result import without_rows
from lightning_rnn.types import Nest, SequenceBatch

log = logging.getLogger(__name__)
Stage = Literal["train", "val", "test"]
Rows = dict[str, Sequence[Any] | Tensor]


class SequenceModule(pl.LightningModule, ABC):
    """Base of the tasks' modules.

    A subclass gives :meth:`build` (the network, an ``nn.Module`` that runs without Lightning), :meth:`step`,
    :meth:`build_metrics` and :meth:`to_rows`, and calls ``self.save_hyperparameters()`` in its constructor, whose
    arguments are plain values with defaults. The network is built once the data is known: from the datamodule's
    :class:`DataSpec` when training, from the checkpoint's when loading.
    """

    spec_class: ClassVar[type[DataSpec]]
    network: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.spec: DataSpec | None = None
        self.losses = nn.ModuleDict({f"{stage}_stage": MeanMetric() for stage in get_args(Stage)})
        self.metrics = nn.ModuleDict()
        self.carries = {True: Carry(), False: Carry()}  # in training, and elsewhere
        self._empty_batches, self._begun = 0, False  # without a valid element; training, here or before a checkpoint
        self._processes: list[dict[str, Any]] = []  # what each had counted and carried, in the checkpoint to go on from
        self._optimizer: dict[str, Any] = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}
        self._lr_scheduler: dict[str, Any] | None = None

    # What a task gives.

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """The network for data of this kind."""

    @abstractmethod
    def build_metrics(self, spec: DataSpec, stage: Stage) -> MetricCollection:
        """Torchmetrics objects, each updated with ``(predictions, targets)`` of a :class:`StepResult`."""

    @abstractmethod
    def step(self, batch: SequenceBatch) -> StepResult:
        """Loss and predictions of a batch; the same for every stage. ``batch.targets`` is None at most in predict."""

    @abstractmethod
    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """Columns of the predictions file, one entry per row of the batch (``id`` is added)."""

    def start_from_files(self) -> None:
        """Take vectors or weights that were learned elsewhere; called before the first step, in a new run alone."""
        return

    def run_callbacks(self) -> list[pl.Callback]:
        """Callbacks that the command line adds for this task: predictions and figures."""
        from lightning_rnn.training.figures import LearningCurves  # late: figures and rows need this module
        from lightning_rnn.training.predictions import PredictionWriter

        return [PredictionWriter(), LearningCurves()]

    # Build, once the data is known.

    def configure_model(self) -> None:
        """Build the network, once; from the datamodule's spec where there is none yet."""
        if self.spec is None and self._datamodule is not None:
            check_kind(self, self._datamodule)
            self.spec = self._datamodule.spec
        if self.spec is not None and "network" not in self._modules:
            self.network = self.build(self.spec)
            for stage in get_args(Stage):
                self.metrics[f"{stage}_stage"] = self.build_metrics(self.spec, stage).clone(prefix=f"{stage}_")

    def on_fit_start(self) -> None:
        """Start from files in a new run; log the network's size, and on the way what each recurrent layer runs on."""
        if not self._begun:
            self.start_from_files()
            self._begun = True
        if not self.trainer.is_global_zero:
            return
        count = sum(parameter.numel() for parameter in self.network.parameters())
        log.info("network: %s, %s parameters", type(self.network).__name__, f"{count:,}")
        for name, layer in self.network.named_modules():
            if isinstance(layer, SequenceLayer):
                log_engine_once(name, layer)

    def on_train_start(self) -> None:
        """Put back what was counted and carried when the checkpoint was written."""
        processes, self._processes = self._processes, []
        if processes:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            restore(self._running, [one["counted"] for one in processes], rank, world)
            carried = share_out([from_plain(one["carried"]) for one in processes], rank, world)
            self.carries[True].state = pytree.tree_map_only(Tensor, lambda t: t.to(self.device), carried)

    @property
    def carry(self) -> Carry:
        """The state carried from batch to batch of streams; validation does not disturb training's."""
        return self.carries[self.training]

    @property
    def _running(self) -> list[Metric]:
        """The metrics of the training epoch that runs."""
        return [self._loss("train"), *self._metrics("train").values()]

    # Steps: one way for all stages.

    def forward(self, batch: SequenceBatch) -> Nest:
        """Predictions of a batch."""
        return self.step(batch).predictions

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        result = self._update("train", batch)
        return result.loss * self._share(result.weight)

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        return self._update("val", batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        return self._update("test", batch)

    def predict_step(self, batch: SequenceBatch, batch_idx: int = 0) -> Rows:
        """Columns of the predictions, see :meth:`to_rows`."""
        rows = {"id": self._row_names(batch), **self.to_rows(batch, self.step(batch))}
        return {name: values[:0] for name, values in rows.items()} if batch.stands_in else rows

    def _update(self, stage: Stage, batch: SequenceBatch) -> StepResult:
        result = self.step(batch)
        if batch.stands_in:
            with uncounted([self._loss(stage), *self._metrics(stage).values(copy_state=False)]):
                self._loss(stage).update(0.0)
                self._metrics(stage).update(result.predictions.detach(), result.targets)
            return without_rows(result)
        if not result.weight:
            result = self._without_loss(result)
        self._loss(stage).update(result.loss.detach(), result.weight)
        if len(batch):
            self._metrics(stage).update(result.predictions.detach(), result.targets)
        return result

    def _without_loss(self, result: StepResult) -> StepResult:
        """The result of a batch without a valid element: a mean over none that is no number is 0, without gradient."""
        self._empty_batches += 1
        if self._empty_batches == 1:
            log.warning("a batch without a valid element: its loss is 0 (said once)")
        number = result.loss.requires_grad and result.loss.isfinite()
        return replace(result, loss=0 * (result.loss if number else first_tensor(result.predictions).sum()))

    def _share(self, weight: float) -> float | Tensor:
        """This process' share of the batch over the mean one: the averaged gradients are then the whole batch's."""
        if self.trainer.world_size == 1:
            return 1.0
        own = torch.tensor(float(weight), device=self.device)
        total = self.trainer.strategy.reduce(own.clone(), reduce_op="sum")
        return own * self.trainer.world_size / total.clamp(min=torch.finfo().tiny)  # nobody may have any

    def _row_names(self, batch: SequenceBatch) -> list[str | int]:
        rows = [] if batch.ids is None else batch.ids.tolist()
        data = self._datamodule
        return rows if data is None else [data.split("predict").row_id(row) for row in rows]

    def logged(self, stage: Stage) -> list[str]:
        """The names of what is logged at the end of an epoch, once the network is built."""
        return [f"{stage}_loss", *self._metrics(stage)]

    @property
    def _datamodule(self) -> SequenceDataModule | None:
        return None if self._trainer is None else datamodule_of(self.trainer)

    def _loss(self, stage: Stage) -> MeanMetric:
        metric = self.losses[f"{stage}_stage"]
        assert isinstance(metric, MeanMetric)
        return metric

    def _metrics(self, stage: Stage) -> MetricCollection:
        metrics = self.metrics[f"{stage}_stage"]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def on_train_epoch_end(self) -> None:
        self._finish("train")

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def _finish(self, stage: Stage) -> None:
        """Log the epoch's loss and metrics; over all processes, as torchmetrics sums them there."""
        values = {f"{stage}_loss": self._loss(stage).compute(), **self._metrics(stage).compute()}
        values = {name: value.float() for name, value in values.items()}
        self.log_dict(values, prog_bar=stage != "test", sync_dist=True)  # equal everywhere already
        self._loss(stage).reset()
        self._metrics(stage).reset()

    # Optimizer and scheduler.

    def use_optimizer(self, optimizer: Mapping[str, Any] | None, lr_scheduler: Mapping[str, Any] | None = None) -> None:
        """Set what :meth:`configure_optimizers` makes; None keeps Adam at 1e-3, and no schedule.

        Args:
            optimizer: ``{"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}``.
            lr_scheduler: the same for a scheduler. One that steps with every batch (OneCycleLR, CyclicLR) is stepped
                so, and OneCycleLR's ``total_steps`` are the run's where none are given.
        """
        if optimizer:
            self._optimizer = dict(optimizer)
        self._lr_scheduler = dict(lr_scheduler) if lr_scheduler else None

    def configure_optimizers(self) -> Any:  # Lightning's type is private
        return configured(
            self.parameters(),
            self._optimizer,
            self._lr_scheduler,
            lambda: int(self.trainer.estimated_stepping_batches),
        )

    # Checkpoints: plain values, named by task.

    @property
    def task(self) -> str:
        """The module path of the task, as checkpoints name it."""
        return type(self).__module__.rpartition(".")[0] or type(self).__module__

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.spec is not None
        checkpoint[CHECKPOINT_KEY] = {
            "format": FORMAT_VERSION,
            "task": self.task,
            "spec": self.spec.to_dict(),
            "processes": gather_to_rank_zero(
                {"counted": counted(self._running), "carried": to_plain(self.carries[True].state)}
            ),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare with what the checkpoint holds, and build the network where it is not yet built.

        Raises:
            CheckpointError: it is of another task, of other data (labels, features, vocabulary), or its weights have
                other shapes than this configuration's.
        """
        spec = self.read_spec(checkpoint)
        if self.spec is not None:
            check_spec(self.spec.to_dict(), spec.to_dict())
        self.spec = spec
        self.configure_model()
        if "state_dict" in checkpoint:  # of one in parts the weights were loaded already
            check_shapes(self.network.state_dict(prefix="network."), checkpoint["state_dict"])
        self._processes, self._begun = checkpoint[CHECKPOINT_KEY].get("processes", []), True

    @classmethod
    def read_spec(cls, checkpoint: Mapping[str, Any]) -> DataSpec:
        """The data spec in a checkpoint of this task.

        Raises:
            CheckpointError: it is not one of this task.
        """
        task = cls.__module__.rpartition(".")[0] or cls.__module__
        return cls.spec_class(**saved_spec(checkpoint, task))


def check_kind(model: SequenceModule, data: SequenceDataModule) -> None:
    """Raise :class:`ConfigError` for data of another task than the model's."""
    require(
        data.spec is None or isinstance(data.spec, model.spec_class),
        f"{type(model).__name__} does not take what {type(data).__name__} gives ({type(data.spec).__name__}, not "
        f"{model.spec_class.__name__}): give model and data of one task",
    )


def check_probability(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless ``value`` is in 0..1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be between 0 and 1, got {value}")
