"""Labelled texts from tables, or from one file of lines for each class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning_rnn.data.files import label_name, read_text, split_lines
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.splitting import stratified_split
from lightning_rnn.data.tables import Record, read_records
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import existing

RT_POLARITY = {"neg": "rt_polarity/rt-polarity.neg", "pos": "rt_polarity/rt-polarity.pos"}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: the text is {json.dumps(value)}: write a string")
    if not value.strip():
        raise DataError(f"{where}: the text is empty: fill it in or take the row out")
    if "\0" in value:
        raise DataError(f"{where}: a NUL character in the text: take it out")
    return value


def _name(value: Any, what: str, where: str) -> str:
    """A label or an id: a string or a number."""
    if value is None or isinstance(value, list | dict):
        raise DataError(f"{where}: the {what} is {json.dumps(value)}: write a string or a number")
    name = value if isinstance(value, str) else json.dumps(value)
    if not name.strip():
        raise DataError(f"{where}: the {what} is empty: fill it in or take the row out")
    return name


class LabelledText(Source):
    """Texts and labels in tables: ``.csv``, ``.tsv`` (no quotes) or ``.jsonl``, each also as ``.gz``.

    ``NA`` and ``null`` are text like any other. The label ``1.0`` is ``1``.

    Args:
        train: table to train on; like the others relative to the data folder, and None where there is none.
        val: table to choose a model by.
        test: table to report on.
        predict: table to predict, which may lack the label column; None is the test table.
        text_column: name of the column with the texts.
        label_column: name of the column with the labels.
        id_column: name of the column with the rows' names; None numbers the rows from 0.
        header: whether the first row holds the names of the columns; else they are 0, 1 and so on.
        encoding: of the files, such as utf-8 (with or without byte order mark) or latin-1.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        id_column: str | None = None,
        header: bool = True,
        encoding: str = "utf-8",
    ) -> None:
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test, "predict": predict or test}
        self.predict_is_test = predict is None
        self.text_column, self.label_column, self.id_column = text_column, label_column, id_column
        self.header, self.encoding = header, encoding

    def _labels(self, records: list[Record], optional: bool) -> list[str] | None:
        if optional and self.label_column not in records[0].cells:
            return None
        return [label_name(_name(record.get(self.label_column), "label", record.where)) for record in records]

    def read(self, split: Split) -> Examples | None:
        """The rows of a part; see :meth:`Source.read`."""
        given = self.paths[split]
        if given is None:
            return None
        path = existing(given)
        records = read_records(path, self.encoding, self.header)
        texts = [_text(record.get(self.text_column), record.where) for record in records]
        labels = self._labels(records, split == "predict" and not self.predict_is_test)
        name = self.id_column
        ids = None if name is None else [_name(record.get(name), "id", record.where) for record in records]
        return Examples(texts, labels, str(path), ids)


def _read_class(path: Path, encoding: str) -> list[str]:
    lines = split_lines(read_text(path, encoding))
    if not lines:
        raise DataError(f"{path} has no rows: put one text a line in it")
    return [_text(line, f"{path}, row {number}") for number, line in enumerate(lines, 1)]


class TextPerClass(Source):
    r"""One file for each class, one text a line (cut at ``\n`` only); a part of each is put by for testing.

    The predict part is the test part; there is no val part. A row's id is its label and line, as in ``neg:17``.

    Args:
        files: path by label; None is Pang and Lee's sentence polarity set, which needs ``encoding: latin-1``.
        encoding: of the files.
        test_fraction: of each class that goes to the test part.
        seed: of the choice of test rows.
    """

    def __init__(
        self,
        files: dict[str, str] | None = None,
        encoding: str = "utf-8",
        test_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.files = dict(RT_POLARITY) if files is None else files
        require(len(self.files) > 0, "files must name at least one label and its file")
        self.encoding, self.test_fraction, self.seed = encoding, test_fraction, seed

    def read(self, split: Split) -> Examples | None:
        """The rows of a part; see :meth:`Source.read`."""
        if split == "val":
            return None
        paths = {label: existing(path) for label, path in self.files.items()}
        texts = {label: _read_class(path, self.encoding) for label, path in paths.items()}
        rows = [(text, label, line) for label in texts for line, text in enumerate(texts[label], 1)]
        rest, part = stratified_split([label for _, label, _ in rows], self.test_fraction, self.seed)
        chosen = [rows[row] for row in (rest if split == "train" else part).tolist()]
        return Examples(
            [text for text, _, _ in chosen],
            [label for _, label, _ in chosen],
            ", ".join(map(str, paths.values())),
            [f"{label}:{line}" for _, label, line in chosen],
        )
