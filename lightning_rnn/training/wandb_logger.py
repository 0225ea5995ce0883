"""Weights & Biases: offline where there is no key, one run over all restarts, never in training's way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning.loggers as pl_loggers
import wandb
import yaml
from lightning_fabric.loggers.logger import rank_zero_experiment
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.training.figures import send_figure
from lightning_rnn.training.predictions import send_predictions
from lightning_rnn.training.preemption import EXIT_CODE, Preempted
from lightning_rnn.training.tables import Columns
from lightning_rnn.training.wandb_folder import BLOCK, Folders, Mode, RunRecord, choose_mode, has_key, with_environment

log = logging.getLogger(__name__)
FLUSH = 1.0  # seconds between two flushes of the run's file: what a killed process may lose
STATUS = {"success": 0, "finished": 0}


class WandbLogger(pl_loggers.WandbLogger):
    """Lightning's W&B logger, kept in the run's folder.

    Everything is written below ``save_dir/wandb``. The id is kept there, so a run that goes on, ``test`` and
    ``predict`` belong to the run that ``fit`` began. Logged are the options of config.yaml, all metrics by step,
    figures, tables, predictions, and when training has ended ``best.ckpt`` and ``last.ckpt`` as versions of the
    artifact ``model-<id>`` with these aliases. Rank 0 only. A server that cannot be reached, refuses or dies stops
    nothing: a warning names the folder and the line that sends it later.

    Args:
        save_dir: the run's folder; the command line gives its own.
        project: in which W&B lists the run.
        name: shown for the run; None lets W&B make one up.
        entity: user or team; None is the key's owner.
        group: of runs that belong together.
        tags: of the run.
        id: of the run; None is the one kept in the folder, else a new one.
        mode: auto is online where W&B finds an API key, else offline; ``WANDB_MODE`` and ``wandb offline`` are obeyed.
        gradients_every: batches between two histograms of each parameter's gradient, of which each row of metrics
            takes the last; 0 makes none.
        prediction_rows: rows of predictions.csv in the table of predictions, from the first; 0 makes none.
        checkpoints: whether checkpoints become artifacts.
        start_timeout: seconds for the server to answer at the start.
        finish_timeout: seconds for the rest to be sent at the end.

    Raises:
        ConfigError: a value out of range; ``online`` without a key; an id or name that W&B refuses.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", logger=WandbLogger("runs/demo", mode="offline"))
    """

    def __init__(
        self,
        save_dir: str | Path = ".",
        project: str = "lightning-rnn",
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        id: str | None = None,
        mode: Mode = "auto",
        gradients_every: int = 0,
        prediction_rows: int = 1000,
        checkpoints: bool = True,
        start_timeout: float = 30.0,
        finish_timeout: float = 60.0,
    ) -> None:
        super().__init__(
            name=name, save_dir=save_dir, project=project, id=id, entity=entity, group=group, tags=tags or []
        )
        del self._wandb_init["anonymous"]  # W&B warns of it
        for key, value in (("gradients_every", gradients_every), ("prediction_rows", prediction_rows)):
            require(value >= 0, f"logger.{key} must be at least 0, got {value}")
        for key, seconds in (("start_timeout", start_timeout), ("finish_timeout", finish_timeout)):
            require(seconds > 0, f"logger.{key} must be positive, got {seconds}")
        self.folder, self.mode = Path(save_dir), mode
        self.gradients_every, self.prediction_rows, self.checkpoints = gradients_every, prediction_rows, checkpoints
        self.start_timeout, self.finish_timeout = start_timeout, finish_timeout
        self._attach_id: str | None = None  # of the run that Lightning began for a spawned process
        self._record: RunRecord | None = None  # of a run that this logger began, and ends
        self._logged = 0
        self._configured = self._fitting = False
        self._watched: nn.Module | None = None
        self._best: dict[str, Any] = {}

    # From the first use to the end.

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, begun when it is first asked for; on other processes than rank 0 an object that does nothing.

        Raises:
            ConfigError: as above.
        """
        if self._experiment is None and wandb.run is None and self._attach_id is None:
            self._begin()
        return super().experiment

    def _begin(self) -> None:
        Folders.use(self.folder)
        self.folder.joinpath("wandb").mkdir(parents=True, exist_ok=True)  # else W&B takes a folder in /tmp
        settings = wandb.setup().settings
        key = has_key(settings.base_url, settings.api_key)
        mode, why = choose_mode(with_environment(self.mode), settings.mode, key)
        record = RunRecord(self.folder, self._id)
        own = wandb.Settings(
            init_timeout=self.start_timeout,
            finish_timeout=self.finish_timeout,
            finish_timeout_raises=True,
            quiet=True,
            x_transaction_log_flush_interval=FLUSH,
        )
        self._wandb_init.update(id=record.id, mode=mode, settings=own)
        try:
            run = super().experiment
        except wandb.errors.CommError as error:
            log.warning("W&B's server does not take the run (%s): it is kept offline", " ".join(str(error).split()))
            wandb.teardown()  # W&B's service would still hold the id
            self._wandb_init["mode"], why = "offline", "no server"
            run = super().experiment
        except (wandb.errors.UsageError, ValueError) as error:
            raise ConfigError(f"W&B refuses the run: {' '.join(str(error).split())}") from error
        self._record = record
        self._number_from(max(record.rows, run.step))
        self._tell(run, why)

    def _number_from(self, row: int) -> None:
        assert self._record is not None
        if row:
            self._experiment.log({}, step=row, commit=False)  # type: ignore[union-attr]
        self._record.take(row + BLOCK)

    def _tell(self, run: Any, why: str) -> None:
        if run.settings.mode == "online":
            log.info("W&B: online (%s), run %s: %s", why, run.id, run.url)
        elif run.settings.mode == "offline":
            log.info("W&B: offline (%s), run %s; to send it later: %s", why, run.id, self.sync_line)

    @property
    def sync_line(self) -> str:
        """What sends the run later."""
        return f"wandb sync {self.folder / 'wandb'}"

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run, in bounded time; the next use goes on with it. One that somebody else began stays open."""
        run, record = self._experiment, self._record
        if run is None or record is None:
            return
        if self._watched is not None:
            run.unwatch(self._watched)
        if self._fitting and self.checkpoints and status in STATUS:
            self._send_checkpoints(run)
        preempted = isinstance(sys.exc_info()[1], Preempted)
        if preempted:
            run.mark_preempting()
        record.take(run.step)
        self._experiment = self._record = self._watched = None
        self._configured = False
        try:
            run.finish(EXIT_CODE if preempted else STATUS.get(status, 1))
        except TimeoutError:
            log.warning(
                "W&B's server did not take everything within %g s; nothing is lost: %s --include-online",
                self.finish_timeout,
                self.sync_line,
            )

    # What is logged.

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """A row; the first one brings the options of the run's config.yaml."""
        run = self.experiment
        if not self._configured:
            self._configured = True
            path = self.folder / "config.yaml"
            if path.is_file():
                run.config.update(yaml.safe_load(path.read_text()), allow_val_change=True)
        super().log_metrics(metrics, step)
        self._logged += 1
        if self._record is not None and self._logged % (BLOCK // 2) == 0:
            self._record.take(run.step + BLOCK)

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Lightning calls this before training: from here on gradients are watched, where asked for."""
        assert isinstance(model, LightningModule)
        self._fitting = model.trainer.state.fn == TrainerFn.FITTING
        if self._fitting and self.gradients_every:
            self.watch(model, "gradients", self.gradients_every, log_graph=False)
            self._watched = model

    @rank_zero_only
    def log_predictions(self, columns: Columns) -> None:
        """A table ``predictions`` of the first rows of these columns ``[N]``; the summary says how many of how many."""
        total = len(next(iter(columns.values())))
        shown = min(total, self.prediction_rows)
        if not shown:
            return
        cut = (column[:shown] if isinstance(column, list) else column[:shown].tolist() for column in columns.values())
        data = [list(row) for row in zip(*cut, strict=True)]
        table = wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
        self.log_metrics({"predictions": table})
        self.experiment.summary.update({"prediction_rows": shown, "prediction_rows_in_file": total})
        if shown < total:
            log.info("W&B: the first %s of %s predictions (logger.prediction_rows)", f"{shown:,}", f"{total:,}")

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Note what the best checkpoint's artifact says about it."""
        score = checkpoint_callback.best_model_score
        self._best = {"monitor": checkpoint_callback.monitor, "score": None if score is None else float(score)}

    def _send_checkpoints(self, run: Any) -> None:
        for alias, metadata in (("best", self._best), ("last", {})):
            path = self.folder / "checkpoints" / f"{alias}.ckpt"
            if path.exists() and run.settings.mode != "disabled":
                artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=metadata)
                if path.is_dir():  # of a strategy that shards it
                    artifact.add_dir(str(path))
                else:
                    artifact.add_file(str(path))
                run.log_artifact(artifact, aliases=[alias])


@send_figure.register
def _(logger: WandbLogger, name: str, figure: Figure, step: int) -> None:
    written = logger.folder / "figures" / f"{name}.png"  # W&B would draw it a second time
    logger.log_image(name, [str(written) if written.is_file() else figure], step)


@send_predictions.register
def _(logger: WandbLogger, columns: Columns) -> None:
    logger.log_predictions(columns)
