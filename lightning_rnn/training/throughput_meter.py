"""The clock of one process' training steps, and what their batches are made of."""

from __future__ import annotations

import math
import statistics
import time
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.training.flops import TRAINING, FlopCount, counting
from lightning_rnn.training.throughput_report import Stretch
from lightning_rnn.types import SequenceBatch

COUNTED = 8  # shapes of batches whose operations are counted; others take the mean of these for each place


class Work:
    """Operations of a network's forward pass, by the shapes of batches.

    Attributes:
        places: time steps of the batch's inputs, padding included: ``B T``; ``B`` where they have no time.

    Example:
        >>> from lightning_rnn import GRU
        >>> import torch
        >>> work = Work(network := GRU(3, 5))
        >>> work.begin(SequenceBatch(x := torch.zeros(2, 7, 3)))
        >>> _ = network(x)
        >>> work.end()
        >>> work.flops, work.places
        (3360, 14)
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._known: dict[Any, tuple[int, int]] = {}  # operations, places
        self._open = ExitStack()
        self._count: FlopCount | None = None  # while a batch is counted
        self._key: Any = None  # of the batch
        self.places = 0

    def begin(self, batch: SequenceBatch) -> None:
        """Count what runs from here on, if no batch of these shapes was counted and not too many others were."""
        shape, targets = first_tensor(batch.inputs).shape, batch.targets
        self._key = shape, targets.shape if isinstance(targets, Tensor) else None
        self.places = math.prod(shape[:2])
        if self._key not in self._known and len(self._known) < COUNTED:
            self._count = self._open.enter_context(counting(self._network))

    def end(self) -> None:
        """Count no longer."""
        if self._count is not None:
            self._open.close()
            self._known[self._key], self._count = (self._count.total, self.places), None

    @property
    def flops(self) -> float:
        """Operations of the forward pass: as counted, or for as many places as the batch has."""
        if (known := self._known.get(self._key)) is not None:
            return known[0]
        operations, places = (sum(column) for column in zip(*self._known.values(), strict=True))
        return operations * self.places / max(places, 1)


class Meter:
    """Measures batches. Calls come in the order wait, at_hand, begin, forward_done, done; the first batch is left out.

    Args:
        network: whose operations are counted.
    """

    def __init__(self, network: nn.Module) -> None:
        self._work, self._warm = Work(network), False
        self._mark, self._waited = time.perf_counter(), 0.0
        self._start()

    def _start(self) -> None:
        self._stretch, self._seconds = Stretch(), list[float]()
        self._valid: int | Tensor = 0

    def wait(self) -> None:
        """From now on the next batch is waited for."""
        self._mark = time.perf_counter()

    def at_hand(self) -> None:
        """It is there."""
        self._waited = time.perf_counter() - self._mark

    def begin(self, batch: SequenceBatch) -> None:
        """Its step begins."""
        self._work.begin(batch)
        self._mark = time.perf_counter()

    def forward_done(self) -> None:
        """The backward pass comes next, or an error."""
        self._work.end()

    def done(self, batch: SequenceBatch) -> None:
        """Its step is done."""
        seconds = time.perf_counter() - self._mark
        self._work.end()
        if self._warm:
            self._seconds.append(seconds)
            self._stretch.stepping += seconds
            self._stretch.waiting += self._waited
            self._stretch.places += self._work.places
            self._stretch.flops += TRAINING * self._work.flops
            marked = batch.mask if batch.lengths is None else batch.lengths
            self._valid += self._work.places if marked is None else marked.sum()  # no device is waited for
        self._warm = True

    def take(self) -> Stretch:
        """What was measured since the last call; begins anew."""
        stretch = self._stretch
        stretch.valid = int(self._valid)
        if self._seconds:
            stretch.medians = [(len(self._seconds), statistics.median(self._seconds))]
        self._start()
        return stretch
