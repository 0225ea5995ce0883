"""Texts in two languages, one the translation of the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

from lightning_rnn.data.corpora import Empty, Paths, by_part, kept, require_part
from lightning_rnn.data.files import find_files
from lightning_rnn.data.lines import not_empty, read_lines
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Corpus
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import DataError, require

log = logging.getLogger(__name__)
Pair = tuple[str, str]


def line_pairs(paths: tuple[Path, Path], encoding: str = "utf-8") -> Iterator[Pair]:
    """Line ``i`` of one file with line ``i`` of the other.

    Raises:
        ConfigError: there is no such encoding.
        DataError: a file is broken, or one has more lines than the other (noticed at the end of the shorter one); names
            the first line without a partner.
    """
    left, right = (read_lines(path, encoding) for path in paths)
    for number, (one, other) in enumerate(zip_longest(left, right)):
        if one is None or other is None:
            counts = [
                number + 1 + sum(1 for _ in lines) if line is not None else number
                for line, lines in ((one, left), (other, right))
            ]
            raise DataError(
                f"{paths[0]} has {counts[0]:,} lines, {paths[1]} has {counts[1]:,}: line i of one must be the "
                f"translation of line i of the other, and line {number + 1:,} has no partner"
            )
        yield one, other


def _whole(pair: Pair) -> bool:
    return all(side.strip() for side in pair)


class ParallelText:
    r"""Pairs of texts: in two files, line by line, or in two columns of a table. Both of any size, compressed or not.

    A path with ``{}`` stands for two files, with the names of the sides in its place (``train.{}.gz`` is
    ``train.de.gz`` and ``train.en.gz``); one without is a table with these names as columns, where ``.txt`` and
    ``.tsv`` are tab-separated.

    Args:
        train: files to train on: a path, a pattern, or a list of these; relative to the data folder. None where there
            is no such part.
        val: files to choose a model by.
        test: files to report on.
        predict: files to predict; None is the test part.
        sides: names of the source side and of the target side.
        header: whether a table's first row holds the names of its columns; else they are 0, 1 and so on.
        empty: what becomes of pairs of which one side has no character other than space: ``keep``, or ``drop``, which
            logs how many.
        encoding: of the files.

    Attributes:
        source: the first side as a corpus of its own; with the target's, its texts are pair by pair.
        target: the second side.

    Raises:
        ConfigError: ``empty`` is neither, or the sides have one name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "fra.txt").write_text("Go.\tVa !\nRun!\tCours !\n")
        ...     text = ParallelText(train=f"{folder}/fra.txt", sides=("0", "1"), header=False)
        ...     list(text.pairs("train")), list(text.target.texts("train"))
        ([('Go.', 'Va !'), ('Run!', 'Cours !')], ['Va !', 'Cours !'])
    """

    def __init__(
        self,
        train: Paths = None,
        val: Paths = None,
        test: Paths = None,
        predict: Paths = None,
        sides: tuple[str, str] = ("source", "target"),
        header: bool = True,
        empty: Empty = "keep",
        encoding: str = "utf-8",
    ) -> None:
        require(empty in ("keep", "drop"), f"empty must be keep or drop, got {empty!r}")
        require(sides[0] != sides[1], f"the sides must have two names, got {sides[0]!r} for both")
        self.parts, self.sides = by_part(train, val, test, predict), sides
        self.header, self.empty, self.encoding = header, empty, encoding
        self.source: Corpus = _Side(self, 0)
        self.target: Corpus = _Side(self, 1)

    def prepare(self) -> None:
        """Download what is absent. Called on one process per machine, before the other methods."""
        return

    def reading(self) -> dict[str, str | bool]:
        """How pairs are taken from the files; see :meth:`Corpus.reading`."""
        sides = {"source": self.sides[0], "target": self.sides[1]}
        return {**sides, "header": self.header, "empty": self.empty, "encoding": self.encoding}

    def files(self, split: Split) -> list[Path]:
        """The files of a part, both sides of each pair; none where there is no such part.

        Raises:
            DataError: a file is missing, or the sides have different numbers of them.
        """
        return list(dict.fromkeys(chain.from_iterable(self._places(split))))

    def pairs(self, split: Split) -> Iterator[Pair]:
        """The pairs of a part, one by one.

        Raises:
            ConfigError: there is no such part.
            DataError: a file is broken, or the files of a pair have different numbers of lines (noticed at the end of
                the shorter one), or there are no pairs at all.
        """
        require_part(self.parts, split)
        places = self._places(split)
        names = ", ".join(str(path) for paths in places for path in paths)
        yield from not_empty(chain.from_iterable(map(self._kept, places)), names)

    def _places(self, split: Split) -> list[tuple[Path, ...]]:
        """One table, or two files, at a time."""
        places = list[tuple[Path, ...]]()
        for path in self.parts[split]:
            if "{}" not in path:
                places += [(table,) for table in find_files([path])]
                continue
            left, right = (find_files([path.replace("{}", side)]) for side in self.sides)
            if len(left) != len(right):
                raise DataError(
                    f"{path}: {len(left)} files of {self.sides[0]}, {len(right)} of {self.sides[1]}: add the rest"
                )
            places += zip(left, right, strict=True)
        return places

    def _kept(self, paths: tuple[Path, ...]) -> Iterator[Pair]:
        pairs = self._table_pairs(paths[0]) if len(paths) == 1 else line_pairs((paths[0], paths[1]), self.encoding)
        names = " and ".join(map(str, paths))
        return pairs if self.empty == "keep" else kept(pairs, _whole, f"{names}: %s pairs with an empty side")

    def _table_pairs(self, path: Path) -> Iterator[Pair]:
        one, other = self.sides
        for record in read_records(path, self.encoding, self.header):
            yield record.text(one, may_be_empty=True), record.text(other, may_be_empty=True)


class _Side(Corpus):
    """One side of the pairs. It reads both, so that it has the pairs' faults and leaves out what they leave out."""

    def __init__(self, pairs: ParallelText, side: int) -> None:
        self._pairs, self._side = pairs, side

    def prepare(self) -> None:
        self._pairs.prepare()

    def reading(self) -> dict[str, str | bool]:
        return {**self._pairs.reading(), "side": self._pairs.sides[self._side]}

    def files(self, split: Split) -> list[Path]:
        return self._pairs.files(split)

    def texts(self, split: Split) -> Iterator[str]:
        return (pair[self._side] for pair in self._pairs.pairs(split))
