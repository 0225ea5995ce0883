"""The datamodule that every task builds on: splits, loaders, and a position that survives a restart."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from matplotlib.axes import Axes

from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.loader import BatchOrder as BatchOrder
from lightning_rnn.data.loader import Fetched, as_it_is
from lightning_rnn.data.loader import SequenceLoader as SequenceLoader
from lightning_rnn.data.sampler import BucketBatchSampler
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.runtime.processes import gathered, of_first
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
Split = Literal["train", "val", "test", "predict"]
STAGES: dict[str, Split] = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
PARTS: dict[str, tuple[Split, ...]] = {  # that a stage reads, where validation rows may come out of the training part
    "fit": ("train", "val"),
    "validate": ("train", "val"),
    "test": ("test",),
    "predict": ("predict",),
}


@dataclass(frozen=True)
class DataSpec:
    """What a network has to know of the data to be built, and travels in its checkpoint.

    A task's spec adds its fields, all plain values (str, int, float, bool, None, lists and dicts of them) or tensors.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a checkpoint."""
        return asdict(self)

    def check(self, batch: SequenceBatch) -> None:
        """Whether a batch, still on the CPU, is such data; here all are. See :mod:`lightning_rnn.data.checks`.

        Raises:
            DataError: it is not.
        """
        return


class SequenceDataModule(pl.LightningDataModule, ABC):
    """Base of the tasks' datamodules: a subclass reads its splits, this class serves them.

    A subclass implements :meth:`load` and sets :attr:`spec` in it. All its constructor arguments have defaults, and
    the default source is embedded: real data that needs no download.

    Args:
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether rows of like length are put together; padding is to the longest of the batch either way.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: tokens or steps per batch and process, padding counted, at most (four times as many in validation,
            test and predict); None is no bound. Raise ``batch_size`` with it, the lower of both holds.
    """

    spec_class: ClassVar[type[DataSpec]]
    shuffle: bool = True  # whether each epoch has another order of the training rows; a task may leave that to its user

    def __init__(
        self,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__()
        require(batch_size >= 1, f"data.batch_size must be at least 1, got {batch_size}")
        require(min_batches >= 1, f"data.min_batches must be at least 1, got {min_batches}")
        require(
            eval_batch_size is None or eval_batch_size >= 1,
            f"data.eval_batch_size must be at least 1, got {eval_batch_size}",
        )
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 4 * batch_size
        require(max_tokens is None or max_tokens >= 1, f"data.max_tokens must be at least 1, got {max_tokens}")
        require(num_workers >= 0, f"data.num_workers must not be negative, got {num_workers}")
        require(seed >= 0, f"data.seed must not be negative, got {seed}")
        self.bucketing, self.min_batches, self.num_workers, self.seed = bucketing, min_batches, num_workers, seed
        self.max_tokens = max_tokens
        self.spec: DataSpec | None = None
        self._splits: dict[Split, SplitData] = {}
        self._fingerprint: dict[str, str] = {}  # of the training part
        self._train_loader: SequenceLoader | None = None
        self._position: Mapping[str, int] | None = None
        self._shares: int | None = None  # processes that the global batches of a resumed run are made for

    @abstractmethod
    def load(self, stage: str) -> Mapping[Split, SplitData]:
        """Read the splits that ``stage`` (``fit``, ``validate``, ``test``, ``predict``) needs, and set :attr:`spec`.

        Where :attr:`spec` is set already (it came out of a checkpoint), its tokenizer and labels are used.
        """

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """Draw one row of a split, for figures."""
        inputs = self.split(split).inputs[row]
        axes.plot(inputs.reshape(len(inputs), -1).float().numpy())

    def split(self, name: Split) -> SplitData:
        """A split that was read.

        Raises:
            DataError: there is no such split, or it has no rows.
        """
        if name not in self._splits:
            there = f"only {', '.join(self._splits)}" if self._splits else "nor another"
            raise DataError(f"{type(self).__name__}: the data has no {name} part, {there}")
        if not len(self._splits[name]):
            raise DataError(f"{type(self).__name__}: the {name} part has no rows: give it some, or leave that part out")
        return self._splits[name]

    def setup(self, stage: str) -> None:
        """Read what ``stage`` needs, once, and log the sizes."""
        needed: Split = STAGES[stage]
        if needed not in self._splits:
            self.spec = of_first(self.spec)  # it may come out of a checkpoint that the first node alone has
            self._splits.update(self.load(stage))
            self.split(needed)
            sizes = ", ".join(f"{name} {len(split):,}" for name, split in self._splits.items())
            log.info("%s: rows %s", type(self).__name__, sizes)
            if needed == "train":
                self._fingerprint = {"rows": self.split("train").digest()}
            self._check_processes()

    def _check_processes(self) -> None:
        """Whether all processes have the same rows and options: with others they would wait for each other for ever."""
        rows = {f"rows of the {name} part": len(split) for name, split in self._splits.items()}
        own = {**rows, "data.eval_batch_size": self.eval_batch_size, **self._order_options()}
        for process, other in enumerate(everyone := gathered(own)):
            for name, value in everyone[0].items():
                if other.get(name) != value:
                    what = "training part" if name == "rows" else f"{name} ({other.get(name)}, not {value})"
                    raise DataError(
                        f"{type(self).__name__}: process {process} has another {what} than process 0: give all nodes "
                        "the same files and the same config"
                    )

    def order(self, name: Split, split: SplitData) -> BatchOrder:
        """The order of a split's batches for this process; shuffled for training. A task with streams has its own."""
        train = name == "train"
        return BucketBatchSampler(
            split.lengths,
            self.batch_size if train else self.eval_batch_size,
            max_tokens=self.max_tokens and self.max_tokens * (1 if train else 4),
            shuffle=train and self.shuffle,
            seed=self.seed,
            rank=self.rank,
            world=self.world if train else min(self.world, len(split)),  # of fewer rows the last processes have none
            shares=self.shares if train else None,
            pool=200 if self.bucketing else 1,
            min_batches=self.min_batches if train else 1,
        )

    @property
    def rank(self) -> int:
        """This process."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def shares(self) -> int:
        """Number of processes that a global training batch is made for: those that the run began with."""
        return self._shares or self.world

    def _loader(self, name: Split) -> SequenceLoader:
        split = self.split(name)
        return SequenceLoader(
            Fetched(split),  # type: ignore[arg-type]  # a Dataset by its method
            batch_sampler=self.order(name, split),
            collate_fn=as_it_is,  # type: ignore[arg-type]  # __getitems__ gives the batch
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every iter() draws from the global one
        )

    def train_dataloader(self) -> SequenceLoader:
        self._train_loader = self._loader("train")
        if self._position is not None:
            self._train_loader.load_state_dict(self._position)
            self._position = None
        return self._train_loader

    def val_dataloader(self) -> SequenceLoader | list[SequenceLoader]:
        if "val" not in self._splits:
            log.warning(
                "there is no validation part: no val_ metric chooses a best.ckpt or ends the run early, only last.ckpt "
                "is kept"
            )
            return []
        return self._loader("val")

    def test_dataloader(self) -> SequenceLoader:
        return self._loader("test")

    def predict_dataloader(self) -> SequenceLoader:
        return self._loader("predict")

    def on_before_batch_transfer(self, batch: SequenceBatch, dataloader_idx: int) -> SequenceBatch:
        if self.spec is not None:
            self.spec.check(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, and of what: epoch, batch, and what the order of batches depends on."""
        position = self._train_loader.state_dict() if self._train_loader else self._position
        return {"position": position, "shares": self.shares, **self._order_options()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, with the same global batches whatever the number of processes is now; for ``fit`` alone.

        Raises:
            ConfigError: the order of batches had other options.
            DataError: the training part was another.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        for name, value in self._order_options().items():
            if state_dict.get(name, value) != value:
                if name == "rows":
                    raise DataError(
                        f"{type(self).__name__}: the training part is not the one of the run to resume: bring the same "
                        "files back, or start a new run in another folder"
                    )
                raise ConfigError(f"the run to resume had data.{name}={state_dict[name]}, now it is {value}")
        self._position, self._shares = state_dict["position"], state_dict.get("shares")
        if self._shares not in (None, self.world):
            log.info("%d processes go on with the global batches of %d", self.world, self._shares)

    @contextmanager
    def standing_at(self, epoch: int, batch: int) -> Iterator[None]:
        """Within this context, say that training has done with this many batches of the epoch.

        For checkpoints that are written when more, or the next epoch's, were handed out already.
        """
        assert self._train_loader is not None
        self._train_loader.stands = {"epoch": epoch, "batch": batch}
        try:
            yield
        finally:
            self._train_loader.stands = None

    def _order_options(self) -> dict[str, Any]:
        names = ("seed", "batch_size", "max_tokens", "bucketing", "min_batches", "shuffle")
        return {name: getattr(self, name) for name in names} | self._fingerprint
