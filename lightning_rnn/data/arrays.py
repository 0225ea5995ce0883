"""Labelled series from numpy's ``.npz`` files."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnn.data.cells import as_name, label_name, name_fault
from lightning_rnn.data.files import opened
from lightning_rnn.data.module import Split
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.series import Values
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.errors import DataError
from lightning_rnn.paths import existing

Array = npt.NDArray[Any]


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A ``.npz`` file, opened. Numpy's own loader is not asked: of any other file it says that it is a pickle."""
    with opened(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                yield archive
        except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
            raise DataError(
                f"{path} is not a whole .npz file ({error}): write it with numpy.savez, or copy it again"
            ) from error


def _take(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    with archive.open(f"{name}.npy") as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path}, array {name!r}: {error}: save numbers or strings, without objects") from error


def read_arrays(path: Path, wanted: list[str], optional: list[str]) -> dict[str, Array]:
    """Arrays of a ``.npz`` file by name; optional ones where they are there. Pickled objects are not loaded.

    Raises:
        DataError: the file is not of that kind, broken, or lacks an array, or an array is of objects.
    """
    with opened_archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        for name in wanted:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "name one of these, or save it"
                raise DataError(f"{path}: no array {name!r}, only {', '.join(map(repr, names)) or 'none'}: {hint}")
        return {name: _take(archive, name, path) for name in (*wanted, *optional) if name in names}


def _as_series(array: Array, where: str) -> Values:
    """Float32 ``[N, T, D]``, NaN where a value is missing."""
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiub" or not array.size:
        raise DataError(
            f"{where} is {array.dtype} {list(array.shape)}: save numbers, [rows, steps] or [rows, steps, features], "
            "at least one of each"
        )
    with np.errstate(over="ignore"):
        values = array.astype(np.float32).reshape(*array.shape[:2], -1)
    if np.isinf(values).any():
        row, step, feature = (int(axis[0]) for axis in np.nonzero(np.isinf(values)))
        value = array.reshape(values.shape)[row, step, feature]
        raise DataError(
            f"{where}, row {row + 1}, step {step + 1}, feature {feature + 1}: {value} is not a finite number: mend it, "
            "or write NaN where a value is missing"
        )
    return values


def _steps(lengths: Array | None, values: Values, where: str) -> npt.NDArray[np.int64]:
    """Steps of each row, int64 ``[N]``; without ``lengths``, missing values at the end of a row are padding."""
    rows, longest = values.shape[:2]
    if lengths is None:
        present = ~np.isnan(values).all(axis=2)
        return np.asarray((present * np.arange(1, longest + 1)).max(axis=1), np.int64)
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{where} is {lengths.dtype} {list(lengths.shape)}, int64 [{rows}] wanted: one whole number a row"
        )
    if ((lengths < 0) | (lengths > longest)).any():
        row = int(np.flatnonzero((lengths < 0) | (lengths > longest))[0])
        raise DataError(f"{where}, row {row + 1}: a length of {lengths[row]} where rows have {longest} steps: mend it")
    return lengths.astype(np.int64)


def _to_ragged(values: Values, steps: npt.NDArray[np.int64]) -> Ragged:
    """The rows without padding; one without steps becomes one step of missing values."""
    values[steps == 0, 0] = np.nan
    steps = np.maximum(steps, 1)
    inside = np.arange(values.shape[1]) < steps[:, None]
    return Ragged(torch.from_numpy(values[inside]), torch.from_numpy(np.concatenate([[0], steps.cumsum()])))


def _labels(array: Array, rows: int, where: str) -> list[str]:
    if array.shape != (rows,) or array.dtype.kind not in "iubfU":
        raise DataError(
            f"{where} is {array.dtype} {list(array.shape)}, one number or string for each of {rows} rows wanted"
        )
    for row, value in enumerate(array.tolist(), 1):
        if fault := name_fault(value, "label"):
            raise DataError(f"{where}, row {row}: {fault}")
    return [label_name(as_name(value)) for value in array.tolist()]


class NpzSeries(Source):
    """Series and labels in the arrays of ``.npz`` files: numbers only, no pickled objects.

    Missing values are NaN. Without lengths, steps at the end of a row of which every feature is missing are padding.

    Args:
        train: file to train on; like the others relative to the data folder, and None where there is none.
        val: file to choose a model by.
        test: file to report on.
        predict: file to predict; None is the test file.
        x: name of the array of values, ``[N, T]`` or ``[N, T, D]``.
        y: name of the array of labels, ``[N]``, numbers or strings; None takes ``y`` where it is there.
        lengths: name of the array of the rows' steps, whole numbers ``[N]``; None takes ``lengths`` where it is there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", x=np.arange(6.0).reshape(2, 3), lengths=[3, 1], y=[1, 0])
        ...     examples = NpzSeries(train=f"{folder}/a.npz").read("train")
        >>> examples.inputs.lengths.tolist(), examples.inputs[1].tolist(), examples.labels
        ([3, 1], [[3.0]], ['1', '0'])
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        x: str = "x",
        y: str | None = None,
        lengths: str | None = None,
    ) -> None:
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test, "predict": predict or test}
        self.x, self.y, self.lengths = x, y, lengths

    def read(self, split: Split) -> Examples | None:
        """The series of a part, float32 rows ``[T, D]``; see :meth:`Source.read`."""
        given = self.paths[split]
        if given is None:
            return None
        path = existing(given)
        wanted = [name for name in (self.x, self.y, self.lengths) if name is not None]
        arrays = read_arrays(path, wanted, [name for name in ("y", "lengths") if name not in wanted])
        values = _as_series(arrays[self.x], f"{path}, array {self.x!r}")
        y, lengths = self.y or "y", self.lengths or "lengths"
        steps = _steps(arrays.get(lengths), values, f"{path}, array {lengths!r}")
        labels = _labels(arrays[y], len(values), f"{path}, array {y!r}") if y in arrays else None
        return Examples(_to_ragged(values, steps), labels, str(path))
