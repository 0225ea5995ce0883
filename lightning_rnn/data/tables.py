"""Tables of text, ``.csv``, ``.tsv`` or ``.jsonl``, each also as ``.gz``, read with every row checked."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lightning_rnn.data.files import read_text, split_lines
from lightning_rnn.errors import ConfigError, DataError

Line = tuple[int, list[str]]


class Record(NamedTuple):
    """One row: where it stands, for messages, and its cells by column."""

    where: str
    cells: dict[str, Any]

    def get(self, column: str) -> Any:
        """One cell.

        Raises:
            DataError: the row has no such column.
        """
        if column in self.cells:
            return self.cells[column]
        known = {name.lower(): name for name in self.cells}
        close = difflib.get_close_matches(column.lower(), known, n=1)
        hint = f": did you mean {known[close[0]]!r}?" if close else ": name one of these, or mend the file"
        raise DataError(f"{self.where}: no column {column!r}, only {', '.join(map(repr, self.cells))}{hint}")


def _csv_lines(text: str, path: Path) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True)
    number = 1
    try:
        for cells in reader:
            yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, row {number}: a quote is not closed, or not doubled inside ({error}): mend it"
        ) from error


def _tsv_lines(text: str, path: Path) -> Iterator[Line]:
    return ((number, line.split("\t")) for number, line in enumerate(split_lines(text), 1))


_LINES = {".csv": _csv_lines, ".tsv": _tsv_lines}


def _names(first: list[str], header: bool, path: Path) -> list[str]:
    if not header:
        return [str(number) for number in range(len(first))]
    double = [name for number, name in enumerate(first) if name in first[:number]]
    if double:
        raise DataError(f"{path}, row 1: the column {double[0]!r} is there {first.count(double[0])} times: rename one")
    return first


def _separated(lines: Iterator[Line], header: bool, path: Path) -> Iterator[Record]:
    top = list(itertools.islice(lines, 1))
    names = _names(top[0][1] if top else [], header, path)
    for number, cells in lines if header else itertools.chain(top, lines):
        if len(cells) != len(names):
            raise DataError(
                f"{path}, row {number}: {len(cells)} fields where the first row has {len(names)}: mend this row"
            )
        yield Record(f"{path}, row {number}", dict(zip(names, cells, strict=True)))


def _json_record(line: str, where: str) -> Record:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at character {error.colno}): write one object a line"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: JSON but no object: write one a line, such as {json.dumps({'text': 'a'})}")
    return Record(where, value)


def read_records(path: Path, encoding: str = "utf-8", header: bool = True) -> list[Record]:
    r"""The rows of a table.

    ``.csv`` is comma-separated with double quotes; ``.tsv`` is tab-separated, without quotes, one row a line;
    ``.jsonl`` has one object a line. Cells stay as they are: ``NA`` and ``null`` are text.

    Args:
        path: of the file, as it is.
        encoding: of the file.
        header: whether the first row holds the names of the columns; else they are ``0``, ``1`` and so on.

    Raises:
        ConfigError: the name ends in none of these, or there is no such encoding.
        DataError: the file is broken or has no rows; names the row, counted from 1.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.csv").write_text('text,label\n"good, very",pos\nNA,neg\n')
        ...     [record.cells for record in read_records(Path(folder, "a.csv"))]
        [{'text': 'good, very', 'label': 'pos'}, {'text': 'NA', 'label': 'neg'}]
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (*_LINES, ".jsonl"):
        raise ConfigError(f"{path} must end in .csv, .tsv or .jsonl (or one of these and .gz): rename it")
    text = read_text(path, encoding)
    if kind == ".jsonl":
        records = [_json_record(line, f"{path}, row {n}") for n, line in enumerate(split_lines(text), 1)]
    else:
        records = list(_separated(_LINES[kind](text, path), header, path))
    if not records:
        raise DataError(f"{path} has no rows{' under its header' if text.strip() else ''}: put some in")
    return records
