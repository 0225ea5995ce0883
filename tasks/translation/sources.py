"""Where sentence pairs come from: files of the user's, and sets by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lightning_rnn.data.lines import not_empty, read_lines
from lightning_rnn.data.module import Split
from lightning_rnn.data.parallel import line_pairs
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import require
from lightning_rnn.paths import existing

from .multi30k import Multi30k as Multi30k
from .numbers import Numbers as Numbers
from .pairs import Pairs, PairSource

Places = str | tuple[str, str] | None


def read_parallel(paths: tuple[Path, Path], encoding: str = "utf-8") -> Pairs:
    r"""Two files, line ``i`` of one the translation of line ``i`` of the other; lines end at ``\n`` alone.

    Raises:
        ConfigError: there is no such encoding.
        DataError: a file is broken or not in that encoding, one has more lines than the other, or there are none.
    """
    files = str(paths[0]), str(paths[1])
    pairs = list(not_empty(line_pairs(paths, encoding), " and ".join(files)))
    return Pairs([one for one, _ in pairs], [other for _, other in pairs], files)


def read_sources(path: str, encoding: str = "utf-8") -> Pairs:
    """Sentences without translations, one a line; raises as :func:`read_parallel`."""
    file = existing(path)
    return Pairs(list(not_empty(read_lines(file, encoding), str(file))), None, (str(file), str(file)))


class ParallelFiles(PairSource):
    r"""Two files for each part, line by line: plain text, or compressed (``.gz``, ``.xz``, ``.zst``).

    A part is one path with ``{}`` for the language (``wmt/train.{}.gz`` is ``wmt/train.en.gz`` and
    ``wmt/train.fr.gz``), or two paths; relative to the data folder, and None where there is no such part.

    Args:
        train: files to train on.
        val: files to choose a model by.
        test: files to report on.
        languages: of the source side and of the target side.
        encoding: of the files, such as utf-8 (with or without byte order mark) or latin-1.

    Raises:
        ConfigError: one path without ``{}``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.en").write_text("Go.\nRun!\n")
        ...     size = Path(folder, "a.fr").write_text("Va !\nCours !\n")
        ...     ParallelFiles(train=f"{folder}/a.{{}}").read("train").target
        ['Va !', 'Cours !']
    """

    def __init__(
        self,
        train: Places = None,
        val: Places = None,
        test: Places = None,
        languages: tuple[str, str] = ("en", "fr"),
        encoding: str = "utf-8",
    ) -> None:
        self.languages, self.encoding = languages, encoding
        given: dict[Split, Places] = {"train": train, "val": val, "test": test}
        self.places = {split: self._both(split, place) for split, place in given.items() if place is not None}

    def _both(self, split: Split, place: str | tuple[str, str]) -> tuple[str, str]:
        if not isinstance(place, str):
            return place
        require("{}" in place, f"{split} is {place!r}: put {{}} in for the language, or give two paths")
        return place.replace("{}", self.languages[0]), place.replace("{}", self.languages[1])

    def read(self, split: Split) -> Pairs | None:
        """The pairs of a part; see :meth:`PairSource.read`."""
        if split not in self.places:
            return None
        one, other = self.places[split]
        return read_parallel((existing(one), existing(other)), self.encoding)


class TSV(PairSource):
    r"""Two columns of a table: ``.tsv`` and ``.txt`` (tabs, no quotes), ``.csv``, ``.jsonl``, ``.parquet``.

    Args:
        train: table to train on; like the others relative to the data folder, and None where there is none.
        val: table to choose a model by.
        test: table to report on.
        columns: of the sentences and of their translations.
        header: whether the first row holds the names of the columns; else they are 0, 1 and so on.
        languages: of the source side and of the target side.
        encoding: of the files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.tsv").write_text("en\tfr\nGo.\tVa !\n")
        ...     TSV(train=f"{folder}/a.tsv").read("train").target
        ['Va !']
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        columns: tuple[str | int, str | int] = ("en", "fr"),
        header: bool = True,
        languages: tuple[str, str] = ("en", "fr"),
        encoding: str = "utf-8",
    ) -> None:
        require(str(columns[0]) != str(columns[1]), f"columns must be two, got {columns[0]!r} for both")
        self.paths: dict[Split, str | None] = {"train": train, "val": val, "test": test}
        self.columns = str(columns[0]), str(columns[1])
        self.header, self.languages, self.encoding = header, languages, encoding

    def read(self, split: Split) -> Pairs | None:
        """The pairs of a part; see :meth:`PairSource.read`."""
        path = self.paths[split]
        return None if path is None else read_table(existing(path), self.columns, self.header, self.encoding)


def read_table(path: Path, columns: tuple[str, str], header: bool = True, encoding: str = "utf-8") -> Pairs:
    """Two columns of a table, see :func:`lightning_rnn.data.tables.read_records`; raises as that does."""
    one, other = columns
    rows = [
        (record.text(one, may_be_empty=True), record.text(other, may_be_empty=True), record.number)
        for record in read_records(path, encoding, header)
    ]
    source, target, lines = map(list, zip(*rows, strict=True))
    return Pairs(source, target, (str(path), str(path)), lines=lines)


class Tatoeba(PairSource):
    r"""Tatoeba's pairs as manythings.org has them: English, a tab, the translation, and perhaps a tab and who wrote it.

    An English sentence has several translations; each is a pair. A sentence is in one part alone, with all of them:
    which one, a hash of the sentence and the seed says, so it stays there when the file grows.

    Args:
        file: relative to the data folder.
        val_share: of the different English sentences that choose a model; 0: there is no such part.
        test_share: of the different English sentences that are reported on.
        seed: of the hash.
        languages: of the source side and of the target side.
        reverse: whether the second column is translated into English.

    Raises:
        ConfigError: shares that leave nothing to train on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "fra.txt").write_text("Go.\tVa !\nGo.\tVas-y !\nRun!\tCours !\n")
        ...     parts = [Tatoeba(f"{folder}/fra.txt", 0, 0.5, seed=6).read(part) for part in ("train", "test")]
        ...     [part.source for part in parts]
        [['Run!'], ['Go.', 'Go.']]
    """

    def __init__(
        self,
        file: str = "tatoeba/fra-2019-04-08.txt",
        val_share: float = 0.01,
        test_share: float = 0.02,
        seed: int = 0,
        languages: tuple[str, str] = ("en", "fr"),
        reverse: bool = False,
    ) -> None:
        shares = min(val_share, test_share) >= 0 and val_share + test_share < 1
        require(shares, f"val_share {val_share} and test_share {test_share} must not be negative, and below 1 together")
        self.file, self.val_share, self.test_share, self.seed = file, val_share, test_share, seed
        self.languages, self.reverse = languages, reverse

    def read(self, split: Split) -> Pairs | None:
        """The pairs of a part; see :meth:`PairSource.read`."""
        pairs = read_table(existing(self.file), ("0", "1"), header=False)
        assert pairs.target is not None
        mine = pairs.select([row for row, text in enumerate(pairs.source) if self._part(text) == split])
        if not len(mine):
            return None
        if not self.reverse:
            return mine
        assert mine.target is not None
        return Pairs(mine.target, mine.source, mine.files, mine.ids, mine.lines)

    def _part(self, english: str) -> Split:
        place = int.from_bytes(hashlib.blake2b(f"{self.seed} {english}".encode(), digest_size=8).digest()) / 2**64
        if place < self.val_share:
            return "val"
        return "test" if place < self.val_share + self.test_share else "train"
