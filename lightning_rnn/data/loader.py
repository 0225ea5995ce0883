"""Loaders of a split's batches, and how many they have handed out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader

from lightning_rnn.data.dataset import SplitData
from lightning_rnn.errors import UserError
from lightning_rnn.types import SequenceBatch


class BatchOrder(Protocol):
    """What orders the batches of a split: a function of (seed, epoch), see :class:`BucketBatchSampler`."""

    epoch: int
    start: int  # batches of the epoch that are done with; the next iteration begins there

    def __iter__(self) -> Iterator[list[Any]]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Turn to another epoch's order, from its first batch."""


@dataclass(frozen=True)
class Fetched:
    """A split as torch's loaders and their workers ask for it."""

    split: SplitData

    def __getitems__(self, keys: list[Any]) -> SequenceBatch | UserError:
        try:
            return self.split.fetch(keys)
        except UserError as error:  # raised by the loader: a worker would wrap its traceback in the sentence
            return error


class SequenceLoader(DataLoader[SequenceBatch]):
    """A loader that counts the batches handed out (not those that workers fetched ahead)."""

    dataset: Fetched  # type: ignore[assignment]  # a Dataset by its method
    batch_sampler: BatchOrder
    handed_out = 0
    stands: Mapping[str, int] | None = None  # what state_dict says, whatever was handed out

    def __iter__(self) -> Iterator[SequenceBatch]:  # type: ignore[override]  # torch types its private iterator
        self.handed_out = self.batch_sampler.start
        self.dataset.split.set_epoch(self.batch_sampler.epoch)
        direct = self.num_workers == 0 and not self.pin_memory  # without what a DataLoader does around each batch
        for batch in map(self.dataset.__getitems__, self.batch_sampler) if direct else super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            self.handed_out += 1
            yield batch
        self.handed_out = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, and number of batches handed out of it."""
        return dict(self.stands or {"epoch": self.batch_sampler.epoch, "batch": self.handed_out})

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there."""
        self.batch_sampler.epoch = state["epoch"]
        self.batch_sampler.start = self.handed_out = state["batch"]


def as_it_is(batch: SequenceBatch | UserError) -> SequenceBatch | UserError:
    """The batch: ``__getitems__`` has put it together already."""
    return batch
