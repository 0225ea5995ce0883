"""How far a download is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

log = logging.getLogger(__name__)
LOG_EVERY = 10.0  # seconds
Show = Callable[[int, int | None], None]  # bytes that are there, of how many


class _Lines:
    """A log line at most every ``LOG_EVERY`` seconds."""

    def __init__(self, name: str) -> None:
        self.name, self.last = name, time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self.last >= LOG_EVERY:
            self.last = now
            of = "" if total is None else f" of {total / 1e6:,.1f}"
            log.info("%s: %s%s MB", self.name, f"{done / 1e6:,.1f}", of)


@contextmanager
def progress(name: str) -> Iterator[Show]:
    """A function to call with the number of bytes that are there and of all of them (None: not known).

    Example:
        >>> with progress("a.bin") as show:
        ...     show(1_000_000, 2_000_000)
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
