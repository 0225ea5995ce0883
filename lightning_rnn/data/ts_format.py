"""The ``.ts`` format of the UEA archive and sktime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightning_rnn.data.cells import label_name
from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.data.series import Values, parse_label, parse_numbers, to_ragged
from lightning_rnn.errors import DataError


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
    for number, line in read_rows(path):
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
        series.append(parse_numbers(values, place, 1))
    lengths = [len(values) for values in series]
    if len(set(lengths)) > 1:
        raise DataError(f"{where}: dimensions of different lengths {lengths}: pad the shorter ones with ?")
    return np.stack(series, axis=1)


def _ts_label(fields: list[str], header: _Header, where: str) -> str:
    label = parse_label(fields.pop(), where)
    if header.classes and label not in header.classes:
        known = ", ".join(sorted(header.classes))
        raise DataError(f"{where}: the label {label!r} is not in the line @classLabel ({known}): mend one of them")
    return label


def read_ts(path: Path) -> tuple[Ragged, list[str] | None]:
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
    return to_ragged(series, path), labels if header.labelled else None
