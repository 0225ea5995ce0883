"""Faults of one process of several, for the command line: exceptions, a kill, a hang, data that breaks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_rnn.data.dataset import SequenceDataset
from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData

Fault = Literal["data", "config", "bug", "kill", "hang"]


class Faulty(pl.Callback):
    """Goes wrong on one process at the n-th call of a hook.

    Args:
        fault: what happens.
        hook: of callbacks.
        process: where.
        call: which call of it.
    """

    def __init__(self, fault: Fault = "data", hook: str = "on_train_batch_start", process: int = 1, call: int = 3):
        self.fault, self.process, self.left = fault, process, call
        setattr(self, hook, self._count)

    def _count(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.left -= trainer.global_rank == self.process
        if self.left == 0 and trainer.global_rank == self.process:
            self.left = -1
            go_wrong(self.fault)


def go_wrong(fault: Fault) -> None:
    if fault == "data":
        raise DataError("the disk with the numbers is gone: mount it")
    if fault == "config":
        raise ConfigError("model.sieve must have holes: set it to 3")
    if fault == "bug":
        raise KeyError("nobody thought of this")
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


class BrokenRows(SequenceDataset):
    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        if min(keys) < 100:
            raise DataError("row 77 cannot be read: mend it")
        return super().__getitems__(keys)


class BrokenData(ClassificationData):
    """The digits, of which process 1 cannot read one."""

    def load(self, stage: str) -> Mapping[Split, SequenceDataset]:
        parts = dict(super().load(stage))
        for name in [name for name in parts if self.rank == 1 and name == "train"]:
            parts[name] = BrokenRows(**vars(parts[name]))
        return parts
