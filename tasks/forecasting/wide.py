"""Series one a row: the files of the M3 and M4 competitions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lightning_rnn.data import Ragged
from lightning_rnn.data.lines import read_rows
from lightning_rnn.errors import DataError

from .columns import Column, numbers

Rows = list[tuple[int, list[str]]]


def read_cells(path: Path) -> tuple[list[str], Rows]:
    """The first row, and the others with their numbers, as fields between commas; quotes around a field fall away.

    Raises:
        DataError: there is no row under the first, or a field has a quote inside.
    """
    rows = [(number, line.split(",")) for number, line in read_rows(path)]
    if len(rows) < 2:
        raise DataError(f"{path} has no rows under its header: put some in, or download it again")
    plain = [(number, [_plain(field, f"{path}, row {number}") for field in fields]) for number, fields in rows]
    return plain[0][1], plain[1:]


def _plain(field: str, where: str) -> str:
    text = field.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if '"' in text:
        raise DataError(f"{where}: the field {field!r} has a quote or a comma inside: write names without")
    return text


def parse_values(fields: Sequence[str], path: Path, number: int) -> torch.Tensor:
    """One series, float64 ``[T]``: empty fields at the end are cut off, others are missing values.

    Raises:
        DataError: a field is not a finite number, or there is no value.
    """
    end = len(fields)
    while end and not fields[end - 1]:
        end -= 1
    if not end:
        raise DataError(f"{path}, row {number}: a series without values: take the row out")
    return torch.from_numpy(numbers(Column("of values", fields[:end], str(path), [number] * end)))


def read_wide(path: Path) -> tuple[list[str], Ragged]:
    r"""A file of the M4 competition: a header, then a series a row, its name first; shorter ones end in empty fields.

    Args:
        path: of the file, as it is.

    Returns:
        Names, and values as float64 rows ``[T]``.

    Raises:
        DataError: the file has no rows, a row has no name or no value, or a field is no number.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.csv").write_text('"V1","V2","V3"\n"H1","605","586"\n"H2","3",""\n')
        ...     names, series = read_wide(Path(folder, "a.csv"))
        >>> names, series.values.tolist(), series.lengths.tolist()
        (['H1', 'H2'], [605.0, 586.0, 3.0], [2, 1])
    """
    _, rows = read_cells(path)
    names = [fields[0] for _, fields in rows]
    for number, fields in rows:
        if not fields[0]:
            raise DataError(f"{path}, row {number}: a series without a name: give it one")
    return names, Ragged.from_list([parse_values(fields[1:], path, number) for number, fields in rows])
