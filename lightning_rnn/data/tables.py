"""Tables of text, compressed or not, and of Parquet, read row by row with every row checked.

CSV goes through Python's strict ``csv`` module: it says in which row a fault is, where polars fills a short row with
nulls and takes a quote that is never closed for text.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_rnn.data.cells import Record
from lightning_rnn.data.files import COMPRESSED, opened, plain_name
from lightning_rnn.data.lines import not_empty, raw_lines, read_rows, without_empty_end
from lightning_rnn.data.parquet import row_batches
from lightning_rnn.errors import ConfigError, DataError

Row = tuple[int, list[str]]
KINDS = (".csv", ".tsv", ".txt", ".jsonl")  # and .parquet, which is not compressed once more


def _csv_fault(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"a field of over {csv.field_size_limit():,} characters: close its quote, or write long texts as .jsonl"
    if "new-line character" in str(error):
        return "a carriage return inside: end rows with a line feed, and quote fields that hold one"
    return f"a quote is not closed, or not doubled inside ({error}): mend it"


def _csv_rows(path: Path, encoding: str) -> Iterator[Row]:
    reader = csv.reader((f"{line}\n" for line in raw_lines(path, encoding)), strict=True)
    number = 1
    try:
        for cells in reader:
            yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, row {number}: {_csv_fault(error)}") from error


def _names(first: list[str], header: bool, path: Path) -> list[str]:
    if not header:
        return [str(number) for number in range(len(first))]
    double = [name for number, name in enumerate(first) if name in first[:number]]
    if double:
        raise DataError(f"{path}, row 1: the column {double[0]!r} is there {first.count(double[0])} times: rename one")
    return first


def _separated(rows: Iterator[Row], header: bool, path: Path) -> Iterator[Record]:
    top = list(itertools.islice(rows, 1))
    names = _names(top[0][1] if top else [], header, path)
    number, width = 0, len(names)
    for number, cells in rows if header else itertools.chain(top, rows):
        if len(cells) != width:
            raise DataError(f"{path}, row {number}: {len(cells)} fields where the first row has {width}: mend this row")
        yield Record(path, number, dict(zip(names, cells, strict=True)))
    if top and not number:
        raise DataError(f"{path} has no rows under its header: put some in")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {double!r} is there {names.count(double)} times")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _json_record(path: Path, number: int, line: str) -> Record:
    try:
        value = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, row {number}: not JSON ({error.msg} at character {error.colno}): write one object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, row {number}: {error}: mend this row") from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, row {number}: JSON but no object: write one a line, such as {json.dumps({'text': 'a'})}"
        )
    return Record(path, number, value)


def _parquet_cells(path: Path) -> Iterator[dict[str, Any]]:
    with opened(path):  # names what cannot be read at all
        batches = row_batches(str(path))
    for batch in batches:
        if isinstance(batch, str):
            raise DataError(f"{path} is not a whole Parquet file ({batch}): write or copy it again")
        yield from batch


def _records(path: Path, kind: str, encoding: str, header: bool) -> Iterator[Record]:
    if kind == ".parquet":
        return (Record(path, number, cells) for number, cells in enumerate(_parquet_cells(path), 1))
    if kind == ".jsonl":
        return (_json_record(path, number, line) for number, line in read_rows(path, encoding))
    if kind == ".csv":
        return _separated(without_empty_end(_csv_rows(path, encoding)), header, path)
    return _separated(((number, line.split("\t")) for number, line in read_rows(path, encoding)), header, path)


def read_records(path: Path, encoding: str = "utf-8", header: bool = True) -> Iterator[Record]:
    r"""The rows of a table one by one, in constant memory.

    ``.csv`` is comma-separated with double quotes; ``.tsv`` and ``.txt`` are tab-separated, without quotes, one row a
    line; ``.jsonl`` has one object a line; all of these may be compressed (``.gz``, ``.xz``, ``.zst``). ``.parquet``
    brings its own compression, names and encoding. Cells stay as they are: ``NA`` and ``null`` are text.

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
    kind = Path(plain_name(path)).suffix
    if kind not in KINDS and path.suffix != ".parquet":
        ends = f"{', '.join(KINDS)} (or one of these and {', '.join(COMPRESSED)}) or .parquet"
        raise ConfigError(f"{path} must end in {ends}: rename or convert it")
    return not_empty(_records(path, kind, encoding, header), str(path))
