"""A cluster's signal to stop: noted at once, obeyed where nothing is lost, and told by the exit code 75."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


class Preempted(SystemExit):
    """The run was asked to stop, and stopped where it can go on. Exit code 75."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.code: int = EXIT_CODE
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopSignal:
    """Notes SIGTERM and SIGUSR1.

    Until :meth:`wait_for_batches` a signal ends the process at once: nothing was trained that could be lost. After it,
    a signal is only noted: a handler that saved there could find the weights, or another process, in mid-step. A forked
    process loses signals until Python runs in it, so the note is kept in memory that it shares.

    Example:
        >>> stop = StopSignal()
        >>> stop.install()
        >>> stop.wait_for_batches()
        >>> signal.raise_signal(signal.SIGUSR1)
        >>> stop.received
        <Signals.SIGUSR1: 10>
        >>> stop.restore()
    """

    def __init__(self) -> None:
        self._number = mmap.mmap(-1, 1)  # of the signal, 0 for none: shared with the processes that are forked later
        self.forward: Callable[[int], bool] | None = None  # to processes that this one started; False: none there yet
        self._at_once, self._process = True, os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> signal.Signals | None:
        """The signal, to this process or to one that it was forked from or forked."""
        number = self._number[0]
        return signal.Signals(number) if number else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_number"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _number=mmap.mmap(-1, 1))

    def install(self) -> None:
        """Take the signals, from whoever has them now. Outside of the main thread, where Python has none, nothing."""
        if threading.current_thread() is not threading.main_thread():
            log.warning("signals are not watched: training does not run in the main thread")
            return
        for number in SIGNALS:
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def wait_for_batches(self) -> None:
        """From now on only note a signal; also where another library took the signals meanwhile."""
        self._at_once = False
        self.install()

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._at_once = {}, True

    def _hand_on(self, forward: Callable[[int], bool], number: int) -> None:
        """Hand a signal on, as soon as there is somebody to take it."""
        until = time.monotonic() + 60
        while not forward(number) and time.monotonic() < until:
            time.sleep(0.02)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number[0] = number
        if self.forward is not None:  # the processes that train are children of this one, or this is one of them
            if self._process == os.getpid():
                threading.Thread(target=self._hand_on, args=(self.forward, number), daemon=True).start()
        elif self._at_once:
            raise Preempted(
                f"stopped by {signal.Signals(number).name} before training: run again with --ckpt_path last"
            )
