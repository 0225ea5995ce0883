"""A signal to stop: everything is saved between two batches, all processes leave, the exit code says: run again."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from lightning_rnn.testing.chaos import OUTPUT, attempt, differences, kill_all
from lightning_rnn.training.preemption import Preempted, StopSignal

CONFIG = Path(__file__).parents[1] / "configs/sequence_classification/digits.yaml"
FIT = ["fit", "--config", str(CONFIG), "--trainer.max_epochs", "3", "--model.dropout", "0.2", "--ckpt_path", "last"]
RECORDED = ["--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog"]
TWO = ["--trainer.strategy", "ddp_fork", "--trainer.devices", "2"]
EMA = ["--trainer.callbacks+=pytorch_lightning.callbacks.EMAWeightAveraging", "--trainer.val_check_interval", "0.5"]


class SignalAt(pl.Callback):
    """Sends itself a signal at the n-th call of a hook, on rank 0 only."""

    hook, call, number = "", 0, signal.SIGTERM

    def __init__(self) -> None:
        self.left = self.call
        setattr(self, self.hook, self._count)

    def _count(self, trainer: pl.Trainer, *_: Any) -> None:
        self.left -= trainer.is_global_zero
        if self.left == 0 and trainer.is_global_zero:
            os.kill(os.getpid(), self.number)
            self.left = -1


def signalled(hook: str, call: int, number: signal.Signals) -> Callable[[], None]:
    """Puts SignalAt among the callbacks of the process that is about to run."""

    def prepare() -> None:
        from lightning_rnn.training.module import SequenceModule

        SignalAt.hook, SignalAt.call, SignalAt.number = hook, call, number
        known = SequenceModule.run_callbacks
        SequenceModule.run_callbacks = lambda self: [*known(self), SignalAt()]  # type: ignore[method-assign]

    return prepare


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """The folder of a run with these options that nothing disturbed."""
    known: dict[tuple[str, ...], Path] = {}

    def get(options: tuple[str, ...]) -> Path:
        if options not in known:
            root = tmp_path_factory.mktemp("peace")
            argv = [*FIT, *options, *RECORDED, "--trainer.default_root_dir", str(root)]
            assert attempt(argv, root) == 0, (root / OUTPUT).read_text()
            known[options] = root
        return known[options]

    return get


CASES = [
    ([], "on_train_batch_start", 12, signal.SIGTERM),
    ([], "on_train_batch_end", 50, signal.SIGUSR1),
    ([], "on_train_batch_end", 41, signal.SIGTERM),  # the last batch of the first epoch
    ([], "on_validation_batch_end", 1, signal.SIGUSR1),
    (EMA, "on_validation_batch_start", 2, signal.SIGTERM),  # while the averaged weights stand in
    (TWO, "on_train_batch_start", 12, signal.SIGTERM),
    (TWO, "on_validation_batch_start", 1, signal.SIGUSR1),
]


@pytest.mark.parametrize(("options", "hook", "call", "number"), CASES)
def test_a_signal_saves_and_leaves_with_75_and_the_run_goes_on_as_if_nothing_was(
    options: list[str],
    hook: str,
    call: int,
    number: signal.Signals,
    tmp_path: Path,
    peace: Callable[[tuple[str, ...]], Path],
) -> None:
    undisturbed = peace(tuple(options))
    argv = [*FIT, *options, *RECORDED, "--trainer.default_root_dir", str(tmp_path)]
    assert attempt(argv, tmp_path, sabotage=signalled(hook, call, number)) == 75, (tmp_path / OUTPUT).read_text()
    assert "run again with --ckpt_path last" in (tmp_path / OUTPUT).read_text()
    assert attempt(argv, tmp_path) == 0, (tmp_path / OUTPUT).read_text()
    assert differences(undisturbed, tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("wait", [0.05, 0.4, 1.5])
def test_a_signal_from_outside_at_any_time_gives_75_and_never_hangs(
    number: signal.Signals, wait: float, tmp_path: Path
) -> None:
    argv = [*FIT, *TWO, "--trainer.max_epochs", "1000", "--trainer.default_root_dir", str(tmp_path)]

    def strike(group: int) -> None:
        os.kill(group, number)  # the first process only
        dead_man = threading.Timer(20, kill_all, (group,))
        dead_man.daemon = True
        dead_man.start()

    code = attempt(argv, tmp_path, after=wait, strike=strike)
    if wait < 0.2:  # it may not yet have asked for signals
        assert code in (75, -number), (tmp_path / OUTPUT).read_text()
    else:
        assert code == 75, (tmp_path / OUTPUT).read_text()


def test_a_forked_process_knows_of_a_signal_to_the_one_it_comes_from() -> None:
    stop = StopSignal()
    stop.install()
    stop.wait_for_batches()
    child = os.fork()
    if not child:
        until = time.monotonic() + 20
        while stop.received is None and time.monotonic() < until:
            time.sleep(0.001)
        os._exit(0 if stop.received is None else int(stop.received))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        stop.restore()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGUSR1
    assert pickle.loads(pickle.dumps(stop)).received is None


def test_before_training_a_signal_ends_the_process_at_once() -> None:
    stop = StopSignal()
    stop.install()
    try:
        with pytest.raises(Preempted, match="before training") as stopped:
            signal.raise_signal(signal.SIGUSR1)
        assert stopped.value.code == 75
    finally:
        stop.restore()


def test_the_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    stop = StopSignal()
    stop.install()
    stop.wait_for_batches()
    stop.restore()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


def test_outside_of_the_main_thread_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    thread = threading.Thread(target=StopSignal().install)
    thread.start()
    thread.join()
    assert "not run in the main thread" in caplog.text
