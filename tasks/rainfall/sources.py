"""Where hours come from: the competition's files, or the generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

from lightning_rnn.data.module import Split
from lightning_rnn.errors import require
from lightning_rnn.paths import existing

from .reader import read_hours
from .store import HourStore, prepare_hours
from .synthetic import stream

READING = 1  # goes up when the reader gives other hours of the same file
MAKING = 1  # the same for the generator


class RainSource(ABC):
    """Hours of radar scans above gauges, one part at a time."""

    @abstractmethod
    def read(self, split: Split) -> HourStore | None:
        """The hours of a part, or None where the source has no such part.

        Raises:
            DataError: a file is missing or broken; it says which, where and what to do.
        """


class KaggleRain(RainSource):
    """The files of "How Much Did It Rain? II" as downloaded: ``.csv``, or that in ``.zip``, ``.gz``, ``.xz``, ``.zst``.

    Each is read once, a few megabytes at a time, into files of the cache that are mapped from then on.

    Args:
        train: file to train on, with ``Expected``; like the others relative to the data folder.
        predict: file to predict, without ``Expected``; None is the test file.
        test: file with ``Expected`` to report on; the competition gave none away.
        val: file with ``Expected`` to choose a model by; None takes a share of the training hours.

    Example:
        .. code-block:: python

            KaggleRain(train="rain/train.csv.zip", predict="rain/test.csv.zip").read("train")
    """

    def __init__(
        self,
        train: str | None = "rain/train.csv",
        predict: str | None = "rain/test.csv",
        test: str | None = None,
        val: str | None = None,
    ) -> None:
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test, "predict": predict or test}
        self.has_labels: dict[Split, bool] = {"train": True, "val": True, "test": True, "predict": predict is None}

    def read(self, split: Split) -> HourStore | None:
        """See :meth:`RainSource.read`."""
        given = self.paths[split]
        if given is None:
            return None
        path, labelled = existing(given), self.has_labels[split]
        options = {"reading": READING, "labelled": labelled}
        return prepare_hours([path], options, partial(read_hours, path, labelled))


class SyntheticRain(RainSource):
    """Hours of :func:`tasks.rainfall.synthetic.synthesize`, in the schema of the real ones; needs no download.

    Args:
        train_hours: hours to train on, before those that no gauge value is scored for are left out.
        test_hours: hours to report on and to predict.
        seed: of the training hours; the test hours have ``seed + 1``.

    Raises:
        ConfigError: a number is below 1, or the seed negative.
    """

    def __init__(self, train_hours: int = 1000, test_hours: int = 200, seed: int = 0) -> None:
        for name, value in (("train_hours", train_hours), ("test_hours", test_hours)):
            require(value >= 1, f"data.source.{name} must be at least 1, got {value}")
        require(seed >= 0, f"data.source.seed must not be negative, got {seed}")
        self.hours: dict[Split, int] = {"train": train_hours, "test": test_hours, "predict": test_hours}
        self.seeds: dict[Split, int] = {"train": seed, "test": seed + 1, "predict": seed + 1}

    def read(self, split: Split) -> HourStore | None:
        """See :meth:`RainSource.read`."""
        if split not in self.hours:
            return None
        hours, seed = self.hours[split], self.seeds[split]
        return prepare_hours([], {"making": MAKING, "hours": hours, "seed": seed}, partial(stream, hours, seed))
