"""Rows of numbers as series, and the tab-separated format of the UCR archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnn.data.cells import label_name
from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.errors import DataError

Values = npt.NDArray[np.float32]


def _single_precision(fields: Sequence[str]) -> Values:
    """The fields as numbers; infinity where one is too large, and everywhere where one is no number."""
    with np.errstate(over="ignore"):
        try:
            return np.array(fields, dtype=np.float64).astype(np.float32)
        except ValueError:
            return np.full(len(fields), np.inf, np.float32)


def parse_numbers(fields: Sequence[str], where: str, first_column: int) -> Values:
    """The fields as float32 ``[n]``, NaN included.

    Raises:
        DataError: a field is no number or not a finite one; names its column.
    """
    values = _single_precision(fields)
    if np.isinf(values).any():
        wrong = next(place for place, text in enumerate(fields) if np.isinf(_single_precision([text])).any())
        hint = "write a decimal point" if "," in fields[wrong] else "mend it, or write NaN where a value is missing"
        raise DataError(f"{where}, column {wrong + first_column}: {fields[wrong]!r} is not a finite number: {hint}")
    return values


def parse_label(text: str, where: str) -> str:
    """The name of a row's class.

    Raises:
        DataError: it is empty.
    """
    if not text.strip():
        raise DataError(f"{where}: the label is empty: fill it in or take the row out")
    return label_name(text)


def to_ragged(series: list[Values], path: Path) -> Ragged:
    """Series ``[T, D]`` as one; one without steps becomes one step of missing values.

    Raises:
        DataError: there are none.
    """
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
    for number, line in read_rows(path):
        where, fields = f"{path}, row {number}", line.split("\t")
        width = width or len(fields)
        if len(fields) != width or width < 2:
            raise DataError(
                f"{where}: {len(fields)} fields between tabs, {max(width, 2)} wanted: pad a short series with NaN"
            )
        values = parse_numbers(fields[1:], where, 2)
        length = int(np.flatnonzero(~np.isnan(values)).max(initial=-1)) + 1
        series.append(values[:length, None])
        labels.append(parse_label(fields[0], where))
    return to_ragged(series, path), labels
