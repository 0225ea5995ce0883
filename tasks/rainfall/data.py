"""Hours of radar scans as batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from lightning_rnn.data import DataSpec, Ragged, SequenceDataModule, SplitData
from lightning_rnn.data.module import Split
from lightning_rnn.data.splitting import stratified_split
from lightning_rnn.errors import DataError, require
from lightning_rnn.types import SequenceBatch

from .metrics import LIMIT
from .schema import FEATURES, MINUTES, REF
from .sources import RainSource, SyntheticRain
from .store import HourStore

log = logging.getLogger(__name__)
PARTS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("train", "val"),
    "test": ("test",),
    "predict": ("predict",),
}


@dataclass(frozen=True)
class RainfallSpec(DataSpec):
    """What the network is built from.

    Attributes:
        mean: training mean of each of the 22 features, over the values that are there.
        std: the same for the standard deviation.
        median: mm, of the training hours that are scored, absurd ones included.
        average: mm, mean of the hours that are trained on.
    """

    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    median: float = 0.0
    average: float = 0.0


class HourSplit(SplitData):
    """Some hours of a store as one split; the keys are row numbers.

    A batch has ``inputs [B, T, 22]`` with NaN where a value is missing and 0 at padding, ``lengths [B]`` and, where the
    gauge is known, ``targets [B]`` in mm.

    Args:
        store: of all hours.
        rows: int64 ``[N]``, numbers in it of the split's hours.

    Attributes:
        inputs: the scans of all hours of the store.
    """

    def __init__(self, store: HourStore, rows: Tensor) -> None:
        self.store, self.rows, self.ids = store, rows, None
        self.inputs: Ragged = store.scans
        expected = torch.from_numpy(store.expected)[rows]
        self.targets = None if expected.isnan().any() else expected

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Tensor:
        return self.inputs.lengths[self.rows]

    def row_id(self, row: int) -> int:
        """The hour's ``Id``."""
        return int(self.store.ids[self.rows[row]])

    def __getitems__(self, keys: list[int]) -> SequenceBatch:
        index = torch.from_numpy(np.asarray(keys, dtype=np.int64))
        inputs, lengths = self.inputs.pad(self.rows[index])
        targets = None if self.targets is None else self.targets[index]
        return SequenceBatch(inputs, targets, lengths=lengths, ids=index)

    def digest(self) -> str:
        return hashlib.blake2b(self.inputs.digest().encode() + self.rows.numpy().tobytes(), digest_size=16).hexdigest()


class RainfallData(SequenceDataModule):
    """Radar scans of an hour, of unequal number, and what the gauge below showed.

    Hours without any ``Ref`` are not scored, so they are in no part but the one to predict.

    Args:
        source: where they come from; None is a thousand synthetic hours.
        val_fraction: share of the scored training hours that becomes the validation part, stratified by the number of
            scans, where the source has none of its own; 0 trains on all, without validation.
        split_seed: of that share.
        max_expected: hours of which the gauge shows this many mm or more are not trained on; None trains on all. They
            stay in validation and test.
        baselines: whether `test` prints the median, the mean and Marshall and Palmer's formula beside the model.
        batch_size: hours per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether hours of like number of scans are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: scans per batch and process, padding counted, at most (four times as many in validation, test and
            predict); None is no bound. Raise ``batch_size`` with it, the lower of both holds.

    Example:
        .. code-block:: python

            data = RainfallData(SyntheticRain(train_hours=100_000, test_hours=20_000), batch_size=64)
            data.setup("fit")
            next(iter(data.train_dataloader())).inputs.shape
    """

    spec_class = RainfallSpec
    spec: RainfallSpec | None

    def __init__(
        self,
        source: RainSource | None = None,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        max_expected: float | None = LIMIT,
        baselines: bool = True,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        require(0 <= val_fraction < 1, f"data.val_fraction must be in [0, 1), got {val_fraction}")
        require(max_expected is None or max_expected > 0, f"data.max_expected must be positive, got {max_expected}")
        self.source = source or SyntheticRain()
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.max_expected, self.baselines = max_expected, baselines

    def load(self, stage: str) -> Mapping[Split, HourSplit]:
        """The parts that ``stage`` needs; a file is prepared by one process of a machine, for which the others wait.

        Raises:
            DataError: the source has no such part, or nothing to train on.
        """
        wanted = PARTS[stage] if self.spec is not None else ("train", *PARTS[stage])
        stores = {name: read for name in dict.fromkeys(wanted) if (read := self.source.read(name)) is not None}
        part = PARTS[stage][0]
        if part not in ("train", *stores):
            raise DataError(f"there is no {part} part: name its file as data.source.{part}")
        splits: dict[Split, HourSplit] = {
            name: HourSplit(store, _rows(store, name)) for name, store in stores.items() if name != "train"
        }
        if "train" not in stores:
            return splits
        return self._with_train(stores["train"], splits)

    def _with_train(self, store: HourStore, splits: dict[Split, HourSplit]) -> dict[Split, HourSplit]:
        """Hold the validation part out, leave out what is too much, describe the rest."""
        rows, expected = _rows(store, "train"), torch.from_numpy(store.expected)
        if not len(rows):
            raise DataError("the training part has no hour with Ref and Expected: give it some")
        train = rows
        if "val" not in splits and self.val_fraction:
            scans = [str(count) for count in store.scans.lengths[rows].tolist()]
            rest, part = stratified_split(scans, self.val_fraction, self.split_seed)
            train, splits["val"] = rows[rest], HourSplit(store, rows[part])
        if self.max_expected is not None:
            train = train[expected[train] < self.max_expected]
        if not len(train):
            raise DataError(f"no training hour has less than data.max_expected={self.max_expected} mm: raise it")
        if self.spec is None:
            mean, std = store.moments(train)
            self.spec = RainfallSpec(mean, std, float(expected[rows].median()), float(expected[train].mean()))
        log.info("rainfall: trained on %d of %d scored training hours", len(train), len(rows))
        return {"train": HourSplit(store, train), **splits}

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        """The reflectivity over the minutes of the hour."""
        data = self.split(split)
        assert isinstance(data, HourSplit)
        scans = data.inputs[int(data.rows[row])].numpy()
        axes.plot(scans[:, FEATURES.index(MINUTES)], scans[:, REF], marker=".", linewidth=1)


def _rows(store: HourStore, split: Split) -> Tensor:
    """The hours of a part: those that are scored, and all where they are to be predicted."""
    kept = np.ones(len(store), dtype=bool) if split == "predict" else store.scored
    return torch.from_numpy(np.flatnonzero(kept))
