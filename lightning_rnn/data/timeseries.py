"""Labelled time series in the two formats of the UCR and UEA archives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning_rnn.data.files import COMPRESSED, plain_name
from lightning_rnn.data.module import Split
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.series import read_tsv as read_tsv
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.ts_format import read_ts as read_ts
from lightning_rnn.errors import ConfigError
from lightning_rnn.paths import data_path, existing

READERS: dict[str, Callable[[Path], tuple[Ragged, list[str] | None]]] = {".tsv": read_tsv, ".ts": read_ts}


class TimeSeries(Source):
    """A set of the UCR or UEA archive, or files in their formats (``.tsv``, ``.ts``, compressed or not).

    Values stay as they are: not scaled, NaN where one is missing.

    Args:
        name: of the set: ``folder/name/name_TRAIN`` and ``_TEST``, ending in ``.tsv`` or ``.ts``.
        folder: of the archive.
        train: file to train on, in place of the set's; relative to the data folder.
        val: file to choose a model by; None is none.
        test: file to report on, in place of the set's.
        predict: file to predict; None is the test file.
    """

    def __init__(
        self,
        name: str = "GunPoint",
        folder: str = "ucr/UCR2018",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
    ) -> None:
        self.name, self.folder = name, folder
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test, "predict": predict or test}

    def _path(self, split: Split) -> Path:
        given = self.paths[split]
        if given is not None:
            return existing(given)
        part = "TRAIN" if split == "train" else "TEST"
        stem = f"{self.folder}/{self.name}/{self.name}_{part}"
        ends = [kind + packed for packed in ("", *COMPRESSED) for kind in READERS]
        there = [stem + end for end in ends if data_path(stem + end).is_file()]
        return existing(there[0] if there else stem + ".tsv")

    def read(self, split: Split) -> Examples | None:
        """The series of a part; see :meth:`Source.read`."""
        if split == "val" and self.paths["val"] is None:
            return None
        path = self._path(split)
        kind = Path(plain_name(path)).suffix
        if kind not in READERS:
            raise ConfigError(
                f"{path} must end in .tsv or .ts (or one of these and {', '.join(COMPRESSED)}): rename it"
            )
        series, labels = READERS[kind](path)
        return Examples(series, labels, str(path))
