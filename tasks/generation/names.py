"""Names by class: a folder of text files, one a class, one name a line."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_rnn.data.lines import read_rows
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import data_path

from .sources import GenerationSource, Items
from .spec import GenerationSpec, vocabulary_of

log = logging.getLogger(__name__)
# Letters that Unicode does not write as a letter and a mark.
_PLAIN = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "æ": "ae", "Æ": "Ae",
                        "œ": "oe", "Œ": "Oe", "ı": "i"})  # fmt: skip


def normalized(name: str, accents: bool = True, lower: bool = False) -> str:
    """A name in one form: Unicode's NFC, without white space around it, single spaces inside.

    Args:
        name: as it was read.
        accents: whether letters keep their marks; without, ``ß`` becomes ``ss``, ``ł`` ``l``, ``æ`` ``ae``.
        lower: whether it is lower-cased.

    Example:
        >>> normalized(" Große "), normalized("Große", accents=False), normalized("Żak", False, True)
        ('Große', 'Grosse', 'zak')
    """
    text = " ".join(name.split())
    if not accents:
        parts = unicodedata.normalize("NFD", text.translate(_PLAIN))
        text = "".join(part for part in parts if not unicodedata.combining(part))
    text = unicodedata.normalize("NFC", text)
    return text.lower() if lower else text


class NamesByClass(GenerationSource):
    r"""A class → a name: the files ``*.txt`` of a folder, each a class called as the file is, one name a line.

    Names are drawn into parts by a hash of the name and the seed, so that no name is in two parts, under whatever class
    it stands, and a name stays in its part when files grow. A name that stands twice under a class counts once, unless
    ``repeats``: of the 2,000 lines of ``Arabic.txt`` in the well-known set 108 are different.

    Args:
        folder: relative to the data folder.
        classes: files to take, without ``.txt``; None takes all but those that ``leave_out`` names.
        leave_out: files that are no class.
        accents: whether letters keep their marks, see :func:`normalized`.
        lower: whether names are lower-cased.
        repeats: whether a name counts as often as it stands there.
        val_share: of the different names that choose a model.
        test_share: of the different names that are reported on.
        seed: of the hash.

    Raises:
        ConfigError: shares that leave nothing to train on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "Greek.txt").write_text("Adamou\nGalanis\nAdamou\n")
        ...     size = Path(folder, "Irish.txt").write_text("Daly\n")
        ...     part = NamesByClass(folder, val_share=0, test_share=0).read("train")
        >>> list(zip(part.given, part.texts))
        [('Greek', 'Adamou'), ('Greek', 'Galanis'), ('Irish', 'Daly')]
    """

    def __init__(
        self,
        folder: str = "names",
        classes: Sequence[str] | None = None,
        leave_out: Sequence[str] = ("makemore_names",),
        accents: bool = True,
        lower: bool = False,
        repeats: bool = False,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        shares = min(val_share, test_share) >= 0 and val_share + test_share < 1
        require(shares, f"val_share {val_share} and test_share {test_share} must not be negative, and below 1 together")
        self.folder, self.classes, self.leave_out = folder, classes, tuple(leave_out)
        self.accents, self.lower, self.repeats = accents, lower, repeats
        self.val_share, self.test_share, self.seed = val_share, test_share, seed

    def names(self) -> dict[str, list[str]]:
        """The names of each class, normalized, in file order.

        Raises:
            DataError: no folder or no class in it, a file is absent, empty or not UTF-8, or a name is empty.
        """
        folder = data_path(self.folder)
        if not folder.is_dir():
            raise DataError(f"no folder {folder}: put the files of names there, or give data.source.folder")
        found = {path.stem: self._read(path) for path in self._files(folder)}
        if not found:
            raise DataError(f"{folder} has no file of names, <class>.txt: put one there for each class")
        return found

    def _files(self, folder: Path) -> list[Path]:
        if self.classes is None:
            return [path for path in sorted(folder.glob("*.txt")) if path.stem not in self.leave_out]
        files = [folder / f"{name}.txt" for name in self.classes]
        for file in files:
            if not file.is_file():
                raise DataError(f"no file {file} for the class {file.stem}: put it there, or leave the class out")
        return files

    def _read(self, path: Path) -> list[str]:
        rows = [(line, normalized(name, self.accents, self.lower)) for line, name in read_rows(path)]
        if not rows:
            raise DataError(f"{path} has no names: put some in, or take the class {path.stem} out")
        for line, name in rows:
            if not name:
                raise DataError(f"{path}, line {line}: the name is empty: fill it in, or take the line out")
        names = [name for _, name in rows]
        return names if self.repeats else list(dict.fromkeys(names))

    def part_of(self, name: str) -> Split:
        """The part that a name is in, upper and lower case alike."""
        key = f"{self.seed} {name.lower()}".encode()
        place = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64
        if place < self.val_share:
            return "val"
        return "test" if place < self.val_share + self.test_share else "train"

    def read(self, part: Split) -> Items | None:
        """The names of a part; see :meth:`GenerationSource.read`. ``predict`` is each class once."""
        names = self.names()
        if part == "predict":
            return Items(list(names), origin=self.folder, ids=list(names))
        rows = [(name, one) for name, all_ in names.items() for one in all_ if self.part_of(one) == part]
        if part == "train":
            self._check(names, rows)
        if not rows:
            return None
        given, texts = zip(*rows, strict=True)
        return Items(list(given), list(texts), origin=f"{self.folder} ({part})")

    def _check(self, names: Mapping[str, list[str]], rows: Sequence[tuple[str, str]]) -> None:
        absent = set(names) - {name for name, _ in rows}
        if absent:
            raise DataError(
                f"{self.folder}: the class {min(absent)} has no names in the training part: give it more, or lower "
                "data.source.val_share and test_share"
            )

    def describe(self, train: Items) -> GenerationSpec:
        """The classes, and the letters of the training names."""
        assert train.texts is not None
        classes = list(dict.fromkeys(train.given))
        return GenerationSpec(
            form="class",
            condition_size=len(classes),
            condition_names=classes,
            vocabulary=vocabulary_of(train.texts, ""),
            joiner="",
            longest=1 + max(map(len, train.texts)),
        )
