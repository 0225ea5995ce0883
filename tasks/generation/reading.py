"""Files of conditions to write of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning_rnn.data.files import plain_name
from lightning_rnn.data.lines import not_empty, read_rows
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import DataError
from lightning_rnn.paths import existing

from .sources import Items

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_conditions(file: str) -> Items:
    r"""The conditions of a file, without texts.

    A table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) has values by column in each row; any other file has a
    condition on each line: a class, a dialogue act, or JSON: a list of numbers, or an object of values by column.

    Args:
        file: relative to the data folder.

    Raises:
        DataError: there is no such file, or it is empty or broken.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "acts.txt").write_text('goodbye()\n[1, 2.5]\n{"color": "red"}\n')
        ...     read_conditions(f"{folder}/acts.txt").given
        ['goodbye()', [1, 2.5], {'color': 'red'}]
    """
    path = existing(file)
    if Path(plain_name(path)).suffix in TABLES:
        records = list(read_records(path))
        places = [record.number for record in records]
        return Items([dict(record.cells) for record in records], origin=str(path), places=places)
    rows = not_empty(read_rows(path, "utf-8"), str(path))
    return Items([_condition(path, number, line.strip()) for number, line in rows], origin=str(path))


def _condition(path: Path, number: int, line: str) -> Any:
    if not line.startswith(("[", "{")):
        return line
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, row {number}: not JSON ({error.msg}): write a list of numbers, or values by column like "
            '{"color": "red"}'
        ) from error
