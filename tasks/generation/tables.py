"""Attributes and texts in a table of your own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_rnn.data.module import Split
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import ConfigError, DataError, require
from lightning_rnn.paths import existing

from .conditions import number_of
from .sources import GenerationSource, Items
from .spec import GenerationSpec, vocabulary_of


class AttributeTable(GenerationSource):
    r"""A row's attributes → its text: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.

    A column is a choice of the values that it has in the training part, one entry of the condition each; an empty cell
    chooses none. A column among ``numbers`` is one entry, less its training mean, over its deviation. Rows that have
    the same attributes are each judged by the texts of all of them.

    Args:
        train: table to train on; like the others relative to the data folder, and None where there is none.
        val: table to choose a model by.
        test: table to report on.
        text: the column to write.
        columns: those to write of; None: all others.
        numbers: those of them that are numbers.
        characters: whether texts are written letter by letter, not word by word.
        min_count: how often a word or letter must be there in the training part to be in the vocabulary.
        encoding: of the files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.csv").write_text("color,size,text\nred,big,a big red one\nblue,,a blue one\n")
        ...     source = AttributeTable(train=f"{folder}/a.csv")
        ...     items = source.read("train")
        >>> items.given[1], items.texts[1], source.describe(items).condition_names
        ({'color': 'blue', 'size': ''}, 'a blue one', ['color=blue', 'color=red', 'size=big'])
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        text: str = "text",
        columns: list[str] | None = None,
        numbers: list[str] | None = None,
        characters: bool = False,
        min_count: int = 1,
        encoding: str = "utf-8",
    ) -> None:
        require(min_count >= 1, f"min_count must be at least 1, got {min_count}")
        for option, names in (("columns", columns), ("numbers", numbers)):
            require(text not in (names or []), f"{option} has {text!r}, which is the text: leave it out")
        outside = [name for name in numbers or [] if columns is not None and name not in columns]
        require(not outside, f"numbers has {outside[:1]}, which columns has not: add it there")
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test}
        self.text, self.columns, self.numbers = text, columns, numbers or []
        self.characters, self.min_count, self.encoding = characters, min_count, encoding

    def read(self, part: Split) -> Items | None:
        """The rows of a part; see :meth:`GenerationSource.read`."""
        file = self.paths.get(part)
        if file is None:
            return None
        path = existing(file)
        records = list(read_records(path, self.encoding))
        texts = [record.text(self.text) for record in records]
        given = [self._attributes(path, record.cells) for record in records]
        alike: dict[str, list[str]] = {}
        for one, text in zip(given, texts, strict=True):
            alike.setdefault(repr(sorted(one.items())), []).append(text)
        references = [alike[repr(sorted(one.items()))] for one in given]
        places = [record.number for record in records]
        return Items(given, texts, references=references, origin=str(path), places=places)

    def _attributes(self, path: Path, cells: dict[str, Any]) -> dict[str, Any]:
        names = [name for name in cells if name != self.text] if self.columns is None else self.columns
        absent = [name for name in [*names, *self.numbers] if name not in cells]
        if absent:
            raise DataError(f"{path} has no column {absent[0]!r}: it has {', '.join(cells)}")
        return {name: cells[name] for name in names}

    def describe(self, train: Items) -> GenerationSpec:
        """An entry for each number, and for each value of the other columns."""
        assert train.texts is not None
        names, scales = [], {}
        for column in dict.fromkeys(name for one in train.given for name in one):
            values = {row: one[column] for row, one in enumerate(train.given) if one.get(column) not in (None, "")}
            if column in self.numbers:
                names.append(column)
                scales[column] = moments([number_of(value, column, train.where(row)) for row, value in values.items()])
            else:
                names += [f"{column}={value}" for value in sorted({str(value) for value in values.values()})]
        if not names:
            raise ConfigError(f"{train.origin} has no attributes beside {self.text!r}: give it columns to write of")
        joiner = "" if self.characters else " "
        vocabulary = vocabulary_of(train.texts, joiner, self.min_count)
        longest = max(len(text if self.characters else text.split()) for text in train.texts) + 1
        return GenerationSpec(
            form="columns",
            condition_size=len(names),
            condition_names=names,
            vocabulary=vocabulary,
            joiner=joiner,
            longest=longest,
            extra={"scales": scales},
        )


def moments(values: Sequence[float]) -> list[float]:
    """Mean and standard deviation, the latter 1 where it is 0.

    Example:
        >>> moments([1.0, 3.0]), moments([2.0])
        ([2.0, 1.0], [2.0, 1.0])
    """
    mean = math.fsum(values) / max(len(values), 1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(len(values), 1))
    return [mean, spread or 1.0]
