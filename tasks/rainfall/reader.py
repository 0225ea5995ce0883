"""The competition's CSV files, compressed or not, a few megabytes at a time, every cell checked."""

from __future__ import annotations

import difflib
import io
import logging
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from lightning_rnn.data.files import opened
from lightning_rnn.errors import DataError

from .schema import EXPECTED, FEATURES, ID, MINUTES, TEST_COLUMNS, TRAIN_COLUMNS, Hours, Ints, offsets_of

log = logging.getLogger(__name__)
BLOCK = 1 << 23  # bytes of text that are parsed at once
LARGEST = float(np.finfo(np.float32).max)
Table = npt.NDArray[np.float64]


class Header(NamedTuple):
    """The first line of a file.

    Attributes:
        path: of the file.
        names: of its columns.
        wanted: those that are read.
    """

    path: Path
    names: list[str]
    wanted: tuple[str, ...]

    @property
    def places(self) -> list[int]:
        """Where the wanted columns stand."""
        return [self.names.index(name) for name in self.wanted]


@contextmanager
def opened_csv(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a CSV file: as it is, in ``.gz``, ``.xz`` or ``.zst``, or the only ``.csv`` of a ``.zip``.

    Raises:
        DataError: it cannot be read, or is not whole.
    """
    if path.suffix != ".zip":
        with opened(path) as stream:
            yield stream
        return
    with opened(path) as packed:
        try:
            with zipfile.ZipFile(packed) as archive, archive.open(_member(path, archive)) as member:
                yield cast(BinaryIO, member)
        except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{path} is not a whole .zip file ({error}): download or copy it again") from error


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.endswith(".csv") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} .csv files, not one: give an archive with one, or the file itself")
    return names[0]


def read_hours(path: Path, labelled: bool) -> Iterator[Hours]:
    r"""The hours of a file in its order, those of a few megabytes at once.

    Args:
        path: of the file; other columns than the competition's are left out, in any order.
        labelled: whether ``Expected`` is read, which must then be known for every hour.

    Raises:
        DataError: a column is missing, a cell is not a number, an ``Id`` comes again after another one, ``Expected`` is
            missing, negative, or not the same in all rows of its hour, or there are no rows; it says where.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from .schema import FEATURES
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "test.csv")
        ...     size = path.write_text(f"Id,{','.join(FEATURES)}\n7,3,10{20 * ','}\n7,9,10,20.5{19 * ','}\n")
        ...     (hours,) = read_hours(path, labelled=False)
        >>> hours.ids, hours.lengths, hours.scored, hours.values[:, 2]
        (array([7]), array([2]), array([ True]), array([ nan, 20.5], dtype=float32))
    """
    rows, kept = 2, np.empty((0, len(TRAIN_COLUMNS) if labelled else len(TEST_COLUMNS)))  # the header is row 1
    seen: list[Ints] = []
    starts: list[Ints] = []
    with opened_csv(path) as stream:
        header = read_header(path, stream, labelled)
        for text in _blocks(stream):
            fresh = parse(header, text, rows + len(kept))
            _check_cells(header, fresh, rows + len(kept))
            table = np.concatenate([kept, fresh])
            last = int(np.flatnonzero(table[:, 0] == table[-1, 0])[0])  # the last hour may go on in the next block
            last = last if (table[last:, 0] == table[-1, 0]).all() else len(table) - 1
            whole, kept = table[:last], table[last:]
            if len(whole):
                yield _take(header, whole, rows, seen, starts)
            rows += len(whole)
    if not len(kept):
        raise DataError(f"{path} has no rows under its header: give a file that has some")
    yield _take(header, kept, rows, seen, starts)
    _check_ids(path, np.concatenate(seen), np.concatenate(starts))


def read_header(path: Path, stream: BinaryIO, labelled: bool) -> Header:
    """The names of the columns, all that are wanted among them."""
    names = [name.strip() for name in stream.readline().decode("utf-8-sig", "replace").rstrip("\r\n").split(",")]
    wanted = TRAIN_COLUMNS if labelled else TEST_COLUMNS
    for name in wanted:
        if (times := names.count(name)) > 1:
            raise DataError(f"{path}, row 1: the column {name!r} is there {times} times: take all but one out")
        if name not in names:
            close = difflib.get_close_matches(name, set(names) - set(wanted), n=1)
            hint = f"is it {close[0]!r}? rename it" if close else "give the competition's file as it was downloaded"
            raise DataError(f"{path}, row 1: there is no column {name!r}: {hint}")
    if others := [name for name in names if name not in TRAIN_COLUMNS]:
        log.warning("%s: columns that are not the competition's are left out: %s", path, ", ".join(others))
    return Header(path, names, wanted)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Whole lines, some megabytes at once, without carriage returns and without empty lines at the file's end."""
    text = b""
    while piece := stream.read(BLOCK):
        text += piece.replace(b"\r", b"")
        if lines := text[: text.rfind(b"\n") + 1].rstrip(b"\n"):
            yield lines + b"\n"
            text = text[len(lines) + 1 :]
    if rest := text.rstrip(b"\n"):
        yield rest + b"\n"


def parse(header: Header, text: bytes, row: int) -> Table:
    """The wanted columns of lines of text, float64 ``[rows, columns]``, NaN where a cell is empty.

    Args:
        header: of the file.
        text: whole lines.
        row: number of the first in the file, for messages.

    Raises:
        DataError: a row has another number of fields, or a cell is not a finite number.
    """
    filled = text
    for _ in range(2):  # of two empty cells side by side one pass fills the first
        filled = filled.replace(b",,", b",nan,")
    filled = filled.replace(b",\n", b",nan\n")
    filled = (b"\n" + filled).replace(b"\n,", b"\nnan,")[1:]
    lines = filled.count(b"\n")
    if filled.count(b",") != lines * (len(header.names) - 1):
        raise _fault(header, text, row)
    try:
        table = np.loadtxt(io.BytesIO(filled), delimiter=",", comments=None, usecols=header.places, ndmin=2)
    except ValueError as error:
        raise _fault(header, text, row) from error
    if len(table) != lines or (np.abs(table) > LARGEST).any():
        raise _fault(header, text, row)
    return table


def _fault(header: Header, text: bytes, row: int) -> DataError:
    """The sentence for the first row that is wrong."""
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), row):
        cells = line.split(",")
        if len(cells) != len(header.names):
            return DataError(
                f"{header.path}, row {number}: {len(cells)} fields where the first row has {len(header.names)}: mend "
                "this row"
            )
        for name, place in zip(header.wanted, header.places, strict=True):
            if not _is_number(cells[place]):
                return DataError(
                    f"{header.path}, row {number}, column {name!r}: {cells[place]!r} is not a finite number: mend it, "
                    "or leave the cell empty where a value is missing"
                )
    return DataError(f"{header.path}, rows {row} and on: these are no rows of numbers: copy the file again")


def _is_number(cell: str) -> bool:
    if not cell or cell.lower() == "nan":
        return True
    try:
        return abs(float(cell)) <= LARGEST
    except ValueError:
        return False


def _take(header: Header, table: Table, row: int, seen: list[Ints], starts: list[Ints]) -> Hours:
    """Whole hours of a table, and their ids and rows into ``seen`` and ``starts``."""
    ids = table[:, 0]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    lengths = np.diff(first, append=len(table))
    seen.append(ids[first].astype(np.int64))
    starts.append(first + row)
    hour = np.repeat(np.arange(len(first)), lengths)
    order = np.lexsort((table[:, 1 + FEATURES.index(MINUTES)], hour))
    values = table[order, 1 : 1 + len(FEATURES)].astype(np.float32)
    return Hours(seen[-1], lengths, values, _expected(header, table, offsets_of(lengths), row))


def _check_cells(header: Header, table: Table, row: int) -> None:
    """``Id`` is a whole number, and the minute of every scan is known."""
    ids, minutes = table[:, 0], table[:, 1 + FEATURES.index(MINUTES)]
    if (wrong := ~((ids >= 0) & (ids == np.floor(ids)) & (ids < 2**53))).any():
        place = int(np.argmax(wrong))
        raise DataError(
            f"{header.path}, row {row + place}, column {ID!r}: {ids[place]:g} is not a whole number from 0 on: mend it"
        )
    if (wrong := ~((minutes >= 0) & (minutes <= 60))).any():
        place = int(np.argmax(wrong))
        raise DataError(
            f"{header.path}, row {row + place}, column {MINUTES!r}: {minutes[place]:g} is not from 0 to 60: mend it"
        )


def _expected(header: Header, table: Table, offsets: Ints, row: int) -> npt.NDArray[np.float32]:
    if EXPECTED not in header.wanted:
        return np.full(len(offsets) - 1, np.nan, np.float32)
    values = table[:, -1]
    first = np.repeat(values[offsets[:-1]], np.diff(offsets))
    for wrong, what, advice in (
        (np.isnan(values), "it is missing", "fill it in, or give this file as the one to predict"),
        (values < 0, "it is negative", "mend it"),
        (values != first, "it is another one than in the hour's first row", "give all rows of an Id the same"),
    ):
        if wrong.any():
            place = int(np.argmax(wrong))
            raise DataError(f"{header.path}, row {row + place}, column {EXPECTED!r}: {what}: {advice}")
    return values[offsets[:-1]].astype(np.float32)


def _check_ids(path: Path, ids: Ints, rows: Ints) -> None:
    order = np.argsort(ids, kind="stable")
    again = order[1:][ids[order][1:] == ids[order][:-1]]
    if len(again):
        place = int(again.min())
        raise DataError(
            f"{path}, row {rows[place]}: the Id {ids[place]} comes again, after other ones: put all rows of an hour "
            "together"
        )
