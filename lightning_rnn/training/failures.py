"""One process of a run fails: all of them end within seconds, with its sentence and its exit code."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from torch.distributed.distributed_c10d import Store, _get_default_store

from lightning_rnn.errors import UserError

log = logging.getLogger(__name__)
KEY, SEEN = "lightning_rnn/failure", "lightning_rnn/failure/seen"
PATIENCE = 10.0  # seconds for the other processes to learn of a failure, and for each to end by itself
GONE = ("Connection closed", "Connection reset", "Broken pipe", "Connection refused", "closed by peer", "Socket")
NEVER_MET = (
    "the processes did not meet within the strategy's timeout: one did not start, see what it says, or the address of "
    "the first is wrong (MASTER_ADDR, MASTER_PORT)"
)
SLOW = ("Timed out", "timed out", "timeout", "Timeout")


@dataclass(frozen=True)
class Failure:
    r"""What a process that fails lets the others know.

    Attributes:
        process: its number.
        node: that of its machine.
        code: exit code of all.
        sentence: what is wrong.

    Example:
        >>> Failure.of(ValueError("no such\nthing"), 1, 0).sentence
        'ValueError: no such thing'
    """

    process: int
    node: int
    code: int
    sentence: str

    @classmethod
    def of(cls, error: BaseException, process: int, node: int) -> Failure:
        """The failure that an exception is."""
        if isinstance(error, UserError):
            return cls(process, node, error.exit_code, str(error))
        if is_of_others(error):
            return cls(process, node, 1, _of_others(str(error)))
        return cls(process, node, 1, " ".join(f"{type(error).__name__}: {error}".split()))

    def __str__(self) -> str:
        return f"process {self.process} ({socket.gethostname()}, node {self.node}) failed: {self.sentence}"


def is_of_others(error: BaseException) -> bool:
    """Whether an exception is of a call in which processes meet: another process did not come to it.

    Example:
        >>> is_of_others(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1930"))
        True
    """
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _of_others(message: str) -> str:
    if any(word in message for word in SLOW):
        return (
            "another process did not answer within the strategy's timeout: it hangs, or waits for something; see what "
            "it printed last, or raise --trainer.strategy.timeout"
        )
    if any(word in message for word in GONE):
        return "another process has ended without a word: it was killed, for want of memory perhaps, or its machine was"
    return f"the processes no longer agree: {' '.join(message.split())[:300]}"


class OneForAll(pl.Callback):
    """When one process fails, in training or evaluation, a loader or a callback, the others end too.

    The process that fails leaves its sentence in the store in which the processes had met. A thread of each looks
    there twice a second; a process that does not end by itself within ten seconds, as it waits for a collective call
    that never comes, is ended. Where a process cannot leave a word (SIGKILL, a machine that is lost), what its silence
    looks like is the sentence: at once with gloo, else at the strategy's ``timeout``. For the command line, whose
    exit codes it keeps; in one process it does nothing.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(strategy="ddp", devices=2, callbacks=[OneForAll()])
    """

    def __init__(self) -> None:
        self.failure: Failure | None = None  # of this process or another: the first there was
        self._trainer: pl.Trainer | None = None
        self._watching: tuple[int, threading.Event, threading.Thread] | None = None

    def guard(self, launcher: _MultiProcessingLauncher) -> None:
        """Let the processes that a launcher starts by fork or spawn fail so too: Lightning asks no callback in them."""
        launcher._wrapping_function = partial(_guarded, launcher._wrapping_function, self)  # type: ignore[method-assign]

    # Watch.

    def watch(self, trainer: pl.Trainer) -> None:
        """Begin to look for failures of others, once in each process; they may not have met yet."""
        self._trainer = trainer
        if self._watching is None or self._watching[0] != os.getpid():
            ended = threading.Event()
            self._watching = os.getpid(), ended, threading.Thread(target=self._watch, args=(ended,), daemon=True)
            self._watching[2].start()

    def rest(self) -> None:
        """Look no more. Before Python ends: a thread that is in a call of the store then aborts the process."""
        if self._watching is not None and self._watching[0] == os.getpid():
            self._watching[1].set()
            self._watching[2].join(PATIENCE)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            self.watch(trainer)
            if stage != "fit" and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler waits for the other processes

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """No process ends well before all have come here."""
        if trainer.world_size > 1 and self._watching is not None:
            self._watching[1].set()
            trainer.strategy.barrier("the end")

    def _watch(self, ended: threading.Event) -> None:
        store: Store | None = None
        while not ended.wait(0.5):
            try:
                if store is None and dist.is_initialized():
                    store = _get_default_store().clone()  # type: ignore[attr-defined]  # its own: the other may wait
                if store is None or not store.check([KEY]):
                    continue
                self.failure = self.failure or Failure(**json.loads(store.get(KEY)))
                if self.failure.process != dist.get_rank():  # that one has counted itself
                    store.add(SEEN, 1)
            except (RuntimeError, ValueError):  # its process has gone, or this one is about to
                self.failure = self.failure or Failure(0, 0, 1, _of_others(GONE[0]))
            break
        if not ended.wait(PATIENCE) and self.failure is not None:
            self._say(self.failure)
            watched = self._trainer is not None and is_watched(self._trainer)
            _end(0 if watched else self.failure.code)

    # Fail.

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if trainer.world_size == 1 or not dist.is_initialized() or not isinstance(exception, Exception):
            return
        self._trainer = trainer
        own = Failure.of(exception, trainer.global_rank, trainer.node_rank)
        self.failure = self._first(own)
        if self.failure == own and is_of_others(exception):
            print(f"error: {own.sentence}", file=sys.stderr, flush=True)

    def _first(self, own: Failure) -> Failure:
        """The first failure of all; where it is this one, the others have learned of it."""
        if self.failure is not None:
            return self.failure
        try:
            store = _get_default_store()
            first = Failure(**json.loads(store.compare_set(KEY, "", json.dumps(asdict(own)))))
            store.add(SEEN, 1)
            until = time.monotonic() + (1.0 if "another process" in own.sentence else PATIENCE)
            while first == own and store.add(SEEN, 0) < dist.get_world_size() and time.monotonic() < until:
                time.sleep(0.05)
        except RuntimeError:  # the process that kept the store has gone
            return self.failure or own
        return first

    def leave(self, error: Exception) -> NoReturn:
        """End this process as the first failure says, at once: to take Python down by the book can take long.

        Its exit code is the failure's; 0 where a process that has learned of it would be killed for any other.

        Raises:
            Exception: the given one, where this is the only process.
        """
        trainer, failure = self._trainer, self.failure
        if trainer is not None and failure is None and isinstance(error, dist.DistError):
            print(f"error: {NEVER_MET}", file=sys.stderr)
            _end(1)
        if trainer is None or failure is None:
            raise error
        if failure != Failure.of(error, trainer.global_rank, trainer.node_rank):
            self._say(failure)
        elif isinstance(error, UserError) and "--debug" not in sys.argv:
            print(f"error: {error}", file=sys.stderr)
        elif not is_of_others(error):
            traceback.print_exception(error)
        _end(0 if is_watched(trainer) else failure.code)

    def _say(self, failure: Failure) -> None:
        """On machines other than its own, where nobody else says it."""
        trainer = self._trainer
        if trainer is not None and trainer.node_rank != failure.node and trainer.local_rank == 0:
            print(f"error: {failure}", file=sys.stderr, flush=True)


def _guarded(run: Callable[..., None], one_for_all: OneForAll, number: int, trainer: pl.Trainer, *rest: Any) -> None:
    """What a forked or spawned process runs."""
    try:
        run(number, trainer, *rest)
    except Exception as error:
        one_for_all.on_exception(trainer, trainer.lightning_module, error)
        for logger in trainer.loggers:
            logger.finalize("failed")
        one_for_all.leave(error)


def is_watched(trainer: pl.Trainer) -> bool:
    """Whether Lightning started this process from another of the run, and kills that for any exit code but 0."""
    strategy = trainer.strategy
    own = isinstance(strategy, ParallelStrategy) and isinstance(strategy.cluster_environment, LightningEnvironment)
    return own and isinstance(strategy.launcher, _SubprocessScriptLauncher) and trainer.local_rank > 0


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended_by_another(error: Any) -> NoReturn:
    """Say how a process that only started others ends: as they did.

    Args:
        error: torch's ``ProcessExitedException`` of the first that ended badly.

    Raises:
        SystemExit: with its exit code; 1 for one that a signal ended.
    """
    if error.exit_code < 0:
        print(
            f"error: process {error.error_index} was ended by {error.signal_name}: for want of memory, perhaps",
            file=sys.stderr,
            flush=True,
        )
    raise SystemExit(max(error.exit_code, 1)) from None
