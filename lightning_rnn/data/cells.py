"""One row of a table, and what is wrong with a text, a label or an id that does not do."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from lightning_rnn.errors import DataError

_NUMBER_WITH_POINT = re.compile(r"[+-]?\d+\.\d*([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_MOST_DIGITS = 300  # of a number whose name is written out


def label_name(text: str) -> str:
    """A class name as it was read: without space around it, and ``1.0`` is ``1``.

    Example:
        >>> [label_name(text) for text in (" cat ", "1", "1.0", "-1.0000000e+00", "1.5", "9007199254740993.0")]
        ['cat', '1', '1', '-1', '1.5', '9007199254740993']
    """
    name = text.strip()
    if not _NUMBER_WITH_POINT.fullmatch(name):
        return name
    try:
        value = Decimal(name)  # not a float: from 2**53 on, different numbers would have one name
    except InvalidOperation:  # its exponent is too large
        return name
    whole = value.adjusted() < _MOST_DIGITS and value == value.to_integral_value()
    return str(int(value)) if whole else name


def string_fault(value: Any, what: str = "text") -> str | None:
    r"""What is wrong with a string that may be empty; None where nothing is.

    Example:
        >>> string_fault("a"), string_fault(None)
        (None, 'the text is null: write a string')
        >>> string_fault("\ud83d")
        'half of a surrogate pair (U+D83D) in the text: write the whole character'
    """
    if not isinstance(value, str):
        return f"the {what} is {json.dumps(value, default=repr)}: write a string"
    if "\0" in value:
        return f"a NUL character in the {what}: take it out"
    if not value.isascii() and (half := re.search("[\ud800-\udfff]", value)):
        return f"half of a surrogate pair (U+{ord(half[0]):04X}) in the {what}: write the whole character"
    return None


def text_fault(value: Any, what: str = "text") -> str | None:
    """What is wrong with a string that must not be empty; None where nothing is.

    Example:
        >>> text_fault(" ")
        'the text is empty: fill it in or take the row out'
    """
    fault = string_fault(value, what)
    return fault if fault or value.strip() else f"the {what} is empty: fill it in or take the row out"


def name_fault(value: Any, what: str) -> str | None:
    """What is wrong with a label or an id, a string or a finite number; None where nothing is.

    Example:
        >>> name_fault(1.0, "label"), name_fault(float("nan"), "label")
        (None, 'the label is NaN: write a string or a number')
    """
    if isinstance(value, str):
        return text_fault(value, what)
    if isinstance(value, int | float) and math.isfinite(value):
        return None
    return f"the {what} is {json.dumps(value, default=repr)}: write a string or a number"


def as_name(value: str | float) -> str:
    """A label or an id as a string: what :func:`name_fault` finds nothing wrong with.

    Example:
        >>> as_name("a"), as_name(1), as_name(True)
        ('a', '1', 'true')
    """
    return value if isinstance(value, str) else json.dumps(value)


def mixed_labels(rows: Mapping[str, int], column: str) -> str | None:
    """What is wrong with classes of which some are numbers and some words, as 1 and ``one``; single letters may be.

    Args:
        rows: the first row of each class by its name.
        column: of the labels, for the message.

    Example:
        >>> mixed_labels({"1": 2, "one": 4}, "label")
        "row 4, column 'label': the label is the word 'one', in row 2 it is the number '1': write all labels in one way"
        >>> mixed_labels({"1": 2, "A": 4}, "label")
    """
    number = next((name for name in rows if _NUMBER.fullmatch(name)), None)
    word = next((name for name in rows if len(name) > 1 and not _NUMBER.fullmatch(name)), None)
    if number is None or word is None:
        return None
    first = f"row {rows[word]}, column {column!r}: the label is the word {word!r}"
    return f"{first}, in row {rows[number]} it is the number {number!r}: write all labels in one way"


class Record(NamedTuple):
    """One row of a table.

    Attributes:
        path: of the file.
        number: of the row, from 1; the header of a table of text is a row, a row over several lines counts them all.
        cells: by column.
    """

    path: Path
    number: int
    cells: dict[str, Any]

    @property
    def where(self) -> str:
        """How a message names the row."""
        return f"{self.path}, row {self.number}"

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

    def _wrong(self, column: str, fault: str) -> DataError:
        return DataError(f"{self.where}, column {column!r}: {fault}")

    def text(self, column: str, may_be_empty: bool = False) -> str:
        """A cell that must be a text.

        Raises:
            DataError: it is none, or empty; or the row has no such column.
        """
        value = self.get(column)
        if fault := string_fault(value) if may_be_empty else text_fault(value):
            raise self._wrong(column, fault)
        return str(value)

    def name(self, column: str, what: str) -> str:
        """A cell that must be a name: a string or a number; ``what`` it is, for messages.

        Raises:
            DataError: it is none, or empty; or the row has no such column.
        """
        value = self.get(column)
        if fault := name_fault(value, what):
            raise self._wrong(column, fault)
        return as_name(value)

    def label(self, column: str) -> str:
        """A cell that must be a label, as :func:`label_name` gives it; raises as :meth:`name`."""
        return label_name(self.name(column, "label"))
