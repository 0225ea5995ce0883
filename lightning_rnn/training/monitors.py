"""What checkpoints, early stopping and schedulers watch is a metric that there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from lightning_rnn.errors import ConfigError
from lightning_rnn.training.hooks import callbacks_of
from lightning_rnn.training.module import SequenceModule


class KnownMonitors(pl.Callback):
    """Stops after the first validation (the sanity run's, where there is one) if something watches no known metric.

    Raises:
        ConfigError: names the metrics there are.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(callbacks=[KnownMonitors(), EarlyStopping("val_loss")])
    """

    def __init__(self) -> None:
        self._checked = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._checked or trainer.state.fn != "fit":
            return
        self._checked = True
        known = dict.fromkeys(trainer.callback_metrics)
        if isinstance(pl_module, SequenceModule):
            known |= dict.fromkeys(pl_module.logged("train"))  # not yet there
        for who, name in _monitors(trainer):
            if name not in known and name not in ("epoch", "step"):
                raise ConfigError(_unknown(who, name, list(known)))


def _monitors(trainer: pl.Trainer) -> Iterator[tuple[str, str]]:
    for callback in callbacks_of(trainer):
        if isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor is not None:
            yield type(callback).__name__, callback.monitor
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor is not None:
            yield type(config.scheduler).__name__, config.monitor


def _unknown(who: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "watch one of these"
    return f"{who} watches {name!r}, which is not logged, only {', '.join(known)}: {hint}"
