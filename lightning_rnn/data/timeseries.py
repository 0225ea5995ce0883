"""Labelled time series in the two formats of the UCR and UEA archives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnn.data.files import label_name, read_text, split_lines
from lightning_rnn.data.module import Split
from lightning_rnn.data.paths import data_path, existing
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.errors import ConfigError, DataError

Labelled = tuple[Ragged, list[str] | None]
Values = npt.NDArray[np.float32]


def _single_precision(fields: Sequence[str]) -> Values:
    """The fields as numbers; infinity where one is too large, and everywhere where one is no number."""
    with np.errstate(over="ignore"):
        try:
            return np.array(fields, dtype=np.float64).astype(np.float32)
        except ValueError:
            return np.full(len(fields), np.inf, np.float32)


def _numbers(fields: Sequence[str], where: str, first_column: int) -> Values:
    values = _single_precision(fields)
    if np.isinf(values).any():
        wrong = next(place for place, text in enumerate(fields) if np.isinf(_single_precision([text])).any())
        hint = "mend it, or write NaN where a value is missing"
        raise DataError(f"{where}, column {wrong + first_column}: {fields[wrong]!r} is not a finite number: {hint}")
    return values


def _label(text: str, where: str) -> str:
    if not text.strip():
        raise DataError(f"{where}: the label is empty: fill it in or take the row out")
    return label_name(text)


def _ragged(series: list[Values], path: Path) -> Ragged:
    """Series ``[T, D]``; one without steps becomes one step of missing values."""
    if not series:
        raise DataError(f"{path} has no rows: put some in, or download it again")
    return Ragged.from_list(
        [torch.from_numpy(row if len(row) else np.full((1, row.shape[1]), np.nan, "f4")) for row in series]
    )


def read_tsv(path: Path) -> tuple[Ragged, list[str]]:
    r"""Series of one value a step, tab-separated, one a row, the label first (UCR archive).

    NaN at the end of a row means that the series is shorter; elsewhere, that a value is missing.

    Args:
        path: of the file, as it is.

    Returns:
        The series, float32 rows ``[T, 1]``, and their labels (``1.0`` is ``1``).

    Raises:
        DataError: the file has no rows, rows of different width, or a field that is no finite number.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.tsv").write_text("1.0\t0.5\t2\n2\t7\tNaN\n")
        ...     series, labels = read_tsv(Path(folder, "a.tsv"))
        >>> series.lengths.tolist(), labels
        ([2, 1], ['1', '2'])
    """
    series, labels, width = list[Values](), list[str](), 0
    for number, line in enumerate(split_lines(read_text(path)), 1):
        where, fields = f"{path}, row {number}", line.split("\t")
        width = width or len(fields)
        if len(fields) != width or width < 2:
            raise DataError(
                f"{where}: {len(fields)} fields between tabs, {max(width, 2)} wanted: pad a short series with NaN"
            )
        values = _numbers(fields[1:], where, 2)
        length = int(np.flatnonzero(~np.isnan(values)).max(initial=-1)) + 1
        series.append(values[:length, None])
        labels.append(_label(fields[0], where))
    return _ragged(series, path), labels


@dataclass
class _Header:
    """The tags of a ``.ts`` file that say how to read its rows."""

    dimensions: int | None = None
    labelled: bool = False
    classes: set[str] = field(default_factory=set)

    def take(self, line: str, where: str) -> None:
        tag, *values = line.lower().split()
        if tag == "@timestamps" and values[:1] == ["true"]:
            raise DataError(
                f"{where}: series with time stamps are not supported: write plain values, @timeStamps false"
            )
        if tag == "@classlabel":
            self.labelled = values[:1] == ["true"]
            self.classes = {label_name(name) for name in line.split()[2:]}
        if tag in ("@dimensions", "@dimension"):
            if len(values) != 1 or not values[0].isdecimal():
                raise DataError(f"{where}: {line!r} is not a number of dimensions: mend it")
            self.dimensions = int(values[0])


def _ts_rows(path: Path, header: _Header) -> Iterator[tuple[str, str]]:
    """The rows under ``@data`` with their places; reads the header first."""
    in_data = False
    for number, line in enumerate(split_lines(read_text(path)), 1):
        where, text = f"{path}, row {number}", line.strip()
        if not text or text.startswith("#"):
            continue
        if in_data:
            yield where, text
        elif text.lower() == "@data":
            in_data = True
        elif text.startswith("@"):
            header.take(text, where)
        else:
            raise DataError(f"{where}: a row above the line @data: is this a .ts file?")
    if not in_data:
        raise DataError(f"{path} has no line @data: is this a .ts file?")


def _ts_series(fields: list[str], where: str) -> Values:
    """One row's dimensions as ``[T, D]``."""
    series = []
    for number, text in enumerate(fields, 1):
        place = f"{where}, dimension {number}"
        values = ["nan" if value.strip() == "?" else value for value in text.split(",")] if text.strip() else []
        series.append(_numbers(values, place, 1))
    lengths = [len(values) for values in series]
    if len(set(lengths)) > 1:
        raise DataError(f"{where}: dimensions of different lengths {lengths}: pad the shorter ones with ?")
    return np.stack(series, axis=1)


def _ts_label(fields: list[str], header: _Header, where: str) -> str:
    label = _label(fields.pop(), where)
    if header.classes and label not in header.classes:
        known = ", ".join(sorted(header.classes))
        raise DataError(f"{where}: the label {label!r} is not in the line @classLabel ({known}): mend one of them")
    return label


def read_ts(path: Path) -> Labelled:
    r"""Series in the ``.ts`` format of the UEA archive: unequal lengths, several values a step.

    Args:
        path: of the file, as it is.

    Returns:
        The series, float32 rows ``[T, D]`` with NaN for ``?``, and their labels; None with ``@classLabel false``.

    Raises:
        DataError: the file is not of that kind, has time stamps or no rows, a row has another number of dimensions, or
            dimensions of different lengths, or a field that is no finite number.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.ts").write_text("@classLabel true a b\n@data\n1,?,3:4,5,6:b\n")
        ...     series, labels = read_ts(Path(folder, "a.ts"))
        >>> series[0].tolist(), labels
        ([[1.0, 4.0], [nan, 5.0], [3.0, 6.0]], ['b'])
    """
    header, series, labels = _Header(), list[Values](), list[str]()
    for where, line in _ts_rows(path, header):
        fields = line.split(":")
        if header.labelled:
            labels.append(_ts_label(fields, header, where))
        header.dimensions = header.dimensions or len(fields)
        if len(fields) != header.dimensions or not fields:
            raise DataError(f"{where}: {len(fields)} dimensions, {header.dimensions or 1} wanted: mend this row")
        series.append(_ts_series(fields, where))
    return _ragged(series, path), labels if header.labelled else None


class TimeSeries(Source):
    """A set of the UCR or UEA archive, or files in their formats (``.tsv``, ``.ts``, each also as ``.gz``).

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
        there = [stem + end for end in (".tsv", ".ts", ".tsv.gz", ".ts.gz") if data_path(stem + end).is_file()]
        return existing(there[0] if there else stem + ".tsv")

    def read(self, split: Split) -> Examples | None:
        """The series of a part; see :meth:`Source.read`."""
        if split == "val" and self.paths["val"] is None:
            return None
        path = self._path(split)
        readers = {".tsv": read_tsv, ".ts": read_ts}
        kind = Path(path.name.removesuffix(".gz")).suffix
        if kind not in readers:
            raise ConfigError(f"{path} must end in .tsv or .ts (or one of these and .gz): rename it")
        series, labels = readers[kind](path)
        return Examples(series, labels, str(path))
