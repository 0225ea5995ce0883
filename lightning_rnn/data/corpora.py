"""Texts for language models: a text a line, or a column of a table."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

from lightning_rnn.data.files import find_files
from lightning_rnn.data.lines import not_empty, read_lines
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Corpus
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import require

log = logging.getLogger(__name__)
T = TypeVar("T")
Paths = str | list[str] | None
Empty = Literal["keep", "drop"]


def by_part(train: Paths, val: Paths, test: Paths, predict: Paths) -> dict[Split, list[str]]:
    """The paths and patterns of each part; none where there is no such part, those of test where predict has none."""
    given: dict[Split, Paths] = {"train": train, "val": val, "test": test, "predict": predict or test}
    return {split: [paths] if isinstance(paths, str) else [*(paths or ())] for split, paths in given.items()}


def require_part(parts: dict[Split, list[str]], split: Split) -> None:
    """Raise :class:`ConfigError` where there is no such part."""
    require(len(parts[split]) > 0, f"the corpus has no {split} part: give {split} a path")


def kept(items: Iterable[T], there: Callable[[T], bool], dropped: str) -> Iterator[T]:
    """Those that are there; how many were not is logged at the end, in the place of ``%s``.

    Example:
        >>> list(kept(["a", " ", "b"], lambda text: bool(text.strip()), "%s empty texts"))
        ['a', 'b']
    """
    count = 0
    for item in items:
        if there(item):
            yield item
        else:
            count += 1
    log.info("%s dropped", dropped.replace("%s", f"{count:,}"))


class _Files(Corpus):
    """A corpus whose files are read one after the other, each by :meth:`_read`."""

    def __init__(self, parts: dict[Split, list[str]], empty: Empty, encoding: str) -> None:
        require(empty in ("keep", "drop"), f"empty must be keep or drop, got {empty!r}")
        self.parts, self.empty, self.encoding = parts, empty, encoding

    @abstractmethod
    def _read(self, path: Path) -> Iterator[str]:
        """The texts of a file, empty ones included."""

    def reading(self) -> dict[str, str | bool]:
        return {"kind": type(self).__name__, "empty": self.empty, "encoding": self.encoding}

    def files(self, split: Split) -> list[Path]:
        return find_files(self.parts[split])

    def texts(self, split: Split) -> Iterator[str]:
        require_part(self.parts, split)
        files = self.files(split)
        yield from not_empty(chain.from_iterable(map(self._texts, files)), ", ".join(map(str, files)))

    def _texts(self, path: Path) -> Iterator[str]:
        texts = self._read(path)
        return (
            texts if self.empty == "keep" else kept(texts, lambda text: bool(text.strip()), f"{path}: %s empty texts")
        )


class TextLines(_Files):
    r"""One text a line (cut at ``\n`` only) in files of any size, compressed or not (``.gz``, ``.xz``, ``.zst``).

    Args:
        train: files to train on: a path, a pattern such as ``wiki/*.txt.zst``, or a list of these; relative to the data
            folder. None where there is no such part.
        val: files to choose a model by.
        test: files to report on.
        predict: files to predict; None is the test part.
        empty: what becomes of lines without a character other than space: ``keep``, or ``drop``, which logs how many.
        encoding: of the files, such as utf-8 (with or without byte order mark) or latin-1.

    Raises:
        ConfigError: ``empty`` is neither.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_text("to be\n\nor not\n")
        ...     list(TextLines(train=f"{folder}/*.txt").texts("train"))
        ['to be', '', 'or not']
    """

    def __init__(
        self,
        train: Paths = None,
        val: Paths = None,
        test: Paths = None,
        predict: Paths = None,
        empty: Empty = "keep",
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(by_part(train, val, test, predict), empty, encoding)

    def _read(self, path: Path) -> Iterator[str]:
        return read_lines(path, self.encoding)


class TextColumn(_Files):
    """A column of tables of any size, as :func:`lightning_rnn.data.tables.read_records` reads them.

    Args:
        train: tables to train on: a path, a pattern, or a list of these; relative to the data folder. None where there
            is no such part.
        val: tables to choose a model by.
        test: tables to report on.
        predict: tables to predict; None is the test part.
        column: name of the column.
        header: whether the first row holds the names of the columns; else they are 0, 1 and so on.
        empty: what becomes of texts without a character other than space: ``keep``, or ``drop``, which logs how many.
        encoding: of the files.

    Raises:
        ConfigError: ``empty`` is neither.
    """

    def __init__(
        self,
        train: Paths = None,
        val: Paths = None,
        test: Paths = None,
        predict: Paths = None,
        column: str = "text",
        header: bool = True,
        empty: Empty = "keep",
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(by_part(train, val, test, predict), empty, encoding)
        self.column, self.header = column, header

    def reading(self) -> dict[str, str | bool]:
        return {**super().reading(), "column": self.column, "header": self.header}

    def _read(self, path: Path) -> Iterator[str]:
        records = read_records(path, self.encoding, self.header)
        return (record.text(self.column, may_be_empty=True) for record in records)
