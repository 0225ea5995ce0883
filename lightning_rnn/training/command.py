"""``fit``, ``validate``, ``test`` and ``predict`` on LightningCLI: where a run lives and which checkpoint it takes."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from jsonargparse import Namespace
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch.multiprocessing.spawn import ProcessExitedException

from lightning_rnn import __version__
from lightning_rnn.data.module import SequenceDataModule
from lightning_rnn.distributed.slurm import slurm_environment
from lightning_rnn.errors import CheckpointError, ConfigError, UserError, require
from lightning_rnn.runtime import may_tune, tune_cpu
from lightning_rnn.training.checkpoints import BEST, LAST, AtomicCheckpointIO, read_checkpoint
from lightning_rnn.training.config_files import MODE, undecodable
from lightning_rnn.training.console import progress_bar
from lightning_rnn.training.failures import OneForAll, ended_by_another
from lightning_rnn.training.hooks import callbacks_of
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.messages import mistake_behind, one_sentence, raised_by_lightning, suggestion
from lightning_rnn.training.module import SequenceModule
from lightning_rnn.training.monitors import KnownMonitors
from lightning_rnn.training.nodes import is_first_process, use_first_checkpoint
from lightning_rnn.training.non_finite import NonFinite
from lightning_rnn.training.precision import PrecisionPolicy, check_precision
from lightning_rnn.training.preemption import EXIT_CODE, Preempted, StopSignal
from lightning_rnn.training.resume import LastCheckpoint, StepSeed
from lightning_rnn.training.run_folder import check_writable, checkpoint_of, default_root, lock_run, refuse_stray
from lightning_rnn.training.throughput import Throughput

log = logging.getLogger(__name__)
WEIGHTS_ALONE = "has weights alone, from which no training goes on: take another, such as last.ckpt, or train anew"
ABOUT = "Recurrent networks on sequences. A task is chosen by its YAML; `lightning-rnn tasks` lists what is installed."
TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # ours shares rows out; Lightning's repeats some
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,  # the module logs its size and its engines
}
TUNE_HELP = (
    "Keep freed memory, flush denormals and give torch a thread for each core there is for this process "
    "(LIGHTNING_RNN_TUNE=0 is the same as false)."
)
SHARDING = ("fsdp", "modelparallel", "model_parallel", "deepspeed")  # checkpoints are folders, a part of each process
CHECKPOINT_DEFAULTS: dict[str, Any] = {
    "checkpoint.filename": "best",
    "checkpoint.monitor": "val_loss",
    "checkpoint.save_last": False,  # LastCheckpoint does
    "checkpoint.enable_version_counter": False,
    "checkpoint.auto_insert_metric_name": False,
}


class Parser(LightningArgumentParser):
    """Says what is wrong in one sentence, without the usage of 200 options, and names the nearest key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        self.exit(2, f"error: {one_sentence(message)}{suggestion(message, self)}\n")


class SaveRunConfig(SaveConfigCallback):
    """Writes config.yaml when training begins: not when a run is tested, nor when the one to resume is another's."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        return

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")


class RunCommand(LightningCLI):
    """One of Lightning's four verbs on a task.

    Args:
        args: the command line after the program's name.
        stop: notes signals, for ``fit``.

    Raises:
        UserError: a mistake that one sentence names.
    """

    def __init__(self, args: list[str], stop: StopSignal) -> None:
        self.root, self.stop, self.one_for_all = Path(), stop, OneForAll()
        self.lock: BinaryIO | None = None
        try:
            super().__init__(
                SequenceModule,
                SequenceDataModule,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"overwrite": True},
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=0,
                parser_kwargs={
                    "allow_abbrev": False,
                    "description": ABOUT,
                    "parser_mode": MODE,
                    "version": __version__,
                },
                parser_class=Parser,
                subclass_mode_model=True,
                subclass_mode_data=True,
                args=args,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        except MisconfigurationException as error:
            raise ConfigError(" ".join(str(error).split())) from error
        except UnicodeDecodeError as error:
            if (fault := undecodable(args)) is None:
                raise
            raise ConfigError(fault) from error
        except ValueError as error:
            if isinstance(error, UserError) or not raised_by_lightning(error):
                self.one_for_all.leave(error)
            raise ConfigError(" ".join(str(error).split())) from error
        except ProcessExitedException as error:  # of a strategy that starts processes itself
            if error.exit_code != EXIT_CODE:
                ended_by_another(error)
            raise Preempted("stopped by a signal: run again with --ckpt_path last") from None
        except Exception as error:  # in one of several processes
            self.one_for_all.leave(error)
        finally:
            self.one_for_all.rest()
            if self.lock is not None:
                self.lock.close()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--tune_cpu", type=bool, default=True, help=TUNE_HELP)
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(NonFinite, "non_finite")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(PrecisionPolicy, "precision")
        parser.set_defaults(CHECKPOINT_DEFAULTS)

    def _set_seed(self) -> None:
        """Lightning's, which knows no sentence for a seed that is out of range."""
        seed = self.options.seed_everything
        require(
            isinstance(seed, bool) or seed is None or 0 <= seed < 2**32,
            f"seed_everything must be from 0 to 2**32 - 1, got {seed}",
        )
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's: it lets a checkpoint's options silently beat the command line's."""

    @property
    def options(self) -> Namespace:
        """What was parsed for this verb."""
        options: Namespace = self.config[str(self.subcommand)]
        return options

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises
            if (mistake := mistake_behind(error)) is not None:
                raise mistake from None
            raise

    def before_instantiate_classes(self) -> None:
        if self.options.tune_cpu and may_tune():
            log.info("%s", tune_cpu())
        trainer = self.options.trainer
        check_precision(trainer.precision, trainer.accelerator)
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
            require(
                trainer[name] is None or trainer[name] >= 1, f"trainer.{name} must be at least 1, got {trainer[name]}"
            )
        trainer.default_root_dir = str(trainer.default_root_dir or default_root(self.options))
        self.root = Path(trainer.default_root_dir)
        self.options.checkpoint.dirpath = str(self.root / "checkpoints")
        check_writable(self.root)
        if self.subcommand == "fit":
            self.lock = lock_run(self.root)
        self.options.ckpt_path = self._checkpoint(self.options.ckpt_path)
        if self.subcommand == "fit" and self.options.ckpt_path is None and is_first_process():
            refuse_stray(self.root)
        if self.subcommand in ("validate", "test"):  # a progress bar that draws leaves the table to Lightning
            self.options.verbose = self.options.verbose and sys.stdout.isatty()
        if self.subcommand == "predict":  # the writer has them
            self.options.return_predictions = False
        for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
            if isinstance(logger, Namespace) and logger.init_args.get("save_dir") in (None, "."):
                logger.init_args.save_dir = str(self.root)

    def _checkpoint(self, asked: str | None) -> str | None:
        return checkpoint_of(self.root, str(self.subcommand), asked, self.lock is not None)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        own = [self.one_for_all, progress_bar(), *self.model.run_callbacks(), StepSeed(), KnownMonitors()]
        self.trainer_defaults["callbacks"] = own
        configured = self._get(self.config_init, "trainer")["logger"]
        loggers = configured if isinstance(configured, list) else [configured]
        extra = [logger for logger in loggers if logger not in (None, True, False)]
        self.csv = CSVLogger(self.root)
        try:
            trainer = super().instantiate_trainer(**kwargs, logger=[self.csv, *extra], plugins=self._plugins())
        except (RuntimeError, TypeError) as error:  # of options that do not go with this cluster, or of wrong types
            raise ConfigError(" ".join(str(error).split())) from error
        callbacks = callbacks_of(trainer)
        last = next(one for one in callbacks if isinstance(one, LastCheckpoint))
        first = [*own, last]  # before the user's: one that averages weights changes them when training ends
        callbacks[:] = first + [one for one in callbacks if one not in first]
        last.stop = self.stop
        use_first_checkpoint(trainer)
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _MultiProcessingLauncher):
            self.stop.forward = partial(_hand_on, launcher)
            self.one_for_all.guard(launcher)
        elif trainer.world_size > 1:
            self.one_for_all.watch(trainer)
        return trainer

    def _plugins(self) -> list[Any]:
        """The configured plugins, and one that writes checkpoints whole; sharding strategies write their own."""
        configured = self._get(self.config_init, "trainer")
        plugins, strategy = configured["plugins"] or [], configured["strategy"]
        plugins = plugins if isinstance(plugins, list) else [plugins]
        plugins = [*plugins, *slurm_environment(plugins)]
        name = (strategy if isinstance(strategy, str) else type(strategy).__name__).lower()
        own_io = any(isinstance(one, CheckpointIO) for one in plugins) or name.startswith(SHARDING)
        return plugins if own_io else [*plugins, AtomicCheckpointIO()]

    def after_instantiate_classes(self) -> None:
        chosen = (self._get(self.config, key) for key in ("optimizer", "lr_scheduler"))
        self.model.use_optimizer(*(value and value.as_dict() for value in chosen))
        if not is_first_process():
            return
        if self.options.ckpt_path is not None:
            checkpoint = read_checkpoint(self.options.ckpt_path)
            spec = type(self.model).read_spec(checkpoint)
            if self.subcommand == "fit":  # compares its labels and tokenizer with the data's
                if "lr_schedulers" not in checkpoint:  # as in shards, where optimizers have files of their own
                    raise CheckpointError(f"{self.options.ckpt_path} {WEIGHTS_ALONE}")
                self.csv.truncate_after(checkpoint["global_step"] - 1)
            else:
                self.datamodule.spec = spec
        elif self.subcommand == "fit":
            self.csv.truncate_after(-1)

    def after_fit(self) -> None:
        if self.trainer.is_global_zero:
            print(f"run      {self.root}\nfigures  {self.root / 'figures'}")
            kept = [name for name in (BEST, LAST) if (self.root / "checkpoints" / name).exists()]
            print("\n".join(f"{Path(name).stem:9}{self.root / 'checkpoints' / name}" for name in kept[:1]))


def _hand_on(launcher: _MultiProcessingLauncher, number: int) -> bool:
    """Send a signal to the processes that a launcher started; False where it has not yet started any."""
    launcher.kill(number)
    return bool(launcher.procs)
