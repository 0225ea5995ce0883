"""Labelled texts from tables, or from one file of lines for each class."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import chain
from pathlib import Path

from lightning_rnn.data.cells import mixed_labels, text_fault
from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.data.splitting import stratified_split
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import existing

log = logging.getLogger(__name__)
RT_POLARITY = {"neg": "rt_polarity/rt-polarity.neg", "pos": "rt_polarity/rt-polarity.pos"}


class LabelledText(Source):
    """Texts and labels in tables: ``.csv``, ``.tsv`` (no quotes), ``.jsonl``, compressed or not, or ``.parquet``.

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

    def read(self, split: Split) -> Examples | None:
        """The rows of a part; see :meth:`Source.read`."""
        given = self.paths[split]
        if given is None:
            return None
        path = existing(given)
        records = read_records(path, self.encoding, self.header)
        first = next(records)  # there is one, or it says so
        optional = split == "predict" and not self.predict_is_test
        labelled = not optional or self.label_column in first.cells
        texts, labels, ids, seen = list[str](), list[str](), list[str](), dict[str, int]()
        for record in chain([first], records):
            texts.append(record.text(self.text_column))
            if labelled:
                labels.append(record.label(self.label_column))
                seen.setdefault(labels[-1], record.number)
            if self.id_column is not None:
                ids.append(record.name(self.id_column, "id"))
        if self.id_column is not None:
            _warn_of_shared_ids(ids, f"{path}, column {self.id_column!r}")
        if fault := mixed_labels(seen, self.label_column):
            raise DataError(f"{path}, {fault}")
        return Examples(texts, labels if labelled else None, str(path), ids if self.id_column is not None else None)


def _warn_of_shared_ids(ids: list[str], where: str) -> None:
    shared = [name for name, times in Counter(ids).items() if times > 1]
    if shared:
        log.warning(
            "%s: %d ids stand for several rows, such as %r: predictions cannot be joined by them",
            where,
            len(shared),
            shared[0],
        )


def _read_class(path: Path, encoding: str) -> list[str]:
    lines = list[str]()
    for number, line in read_rows(path, encoding):
        if fault := text_fault(line):
            raise DataError(f"{path}, row {number}: {fault}")
        lines.append(line)
    if not lines:
        raise DataError(f"{path} has no rows: put one text a line in it")
    return lines


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
