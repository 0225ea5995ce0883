"""Corpora beside the core's (:class:`lightning_rnn.data.TextLines`): the embedded one, and shares of one text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from lightning_rnn.data import Corpus
from lightning_rnn.data.files import find_files
from lightning_rnn.data.lines import not_empty, read_lines
from lightning_rnn.data.manual import python_manual
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError, require

EVERY = 10  # topics of the manual; of these one is validation and one test


class Manual(Corpus):
    """Python's language reference, a paragraph a line: real text that needs no download.

    Of every ten topics one is the validation part and one the test part, the others are trained on.

    Example:
        >>> lines = list(Manual().texts("train"))
        >>> len(lines) > 1000, max(map(len, lines)) > 100
        (True, True)
    """

    def files(self, split: Split) -> list[Path]:
        import pydoc_data.topics  # late: half a megabyte

        return [Path(pydoc_data.topics.__file__)]

    def texts(self, split: Split) -> Iterator[str]:
        places = {"val": (EVERY - 2,), "test": (EVERY - 1,), "train": range(EVERY - 2)}
        chosen = places["test" if split == "predict" else split]
        for number, paragraphs in enumerate(python_manual().values()):
            if number % EVERY in chosen:
                yield from paragraphs


class TextShares(Corpus):
    r"""One text, of which a share is put by for validation and one for testing.

    Args:
        file: one file, or a pattern or a list of files that are read one after the other; relative to the data folder.
        val_share: share of the characters (with ``by_line`` of the lines) that become the validation part.
        test_share: the same for the test part.
        by_line: lines are shared out at random, as is right for names and sentences; else the text is cut in three,
            training, validation, test, at line ends.
        seed: of that choice.
        predict: files to predict, a text a line; None is the test part.
        encoding: of the files.

    Raises:
        ConfigError: a share is out of range.
        DataError: when it is read, a part has no line.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.txt").write_text("to be\nor not\nto be\nthat is\n")
        ...     corpus = TextShares(f"{folder}/a.txt", val_share=0.25, test_share=0.25)
        ...     {part: list(corpus.texts(part)) for part in ("train", "val", "test")}
        {'train': ['to be', 'or not'], 'val': ['to be'], 'test': ['that is']}
    """

    def __init__(
        self,
        file: str | list[str] = "char/tinyshakespeare.txt",
        val_share: float = 0.05,
        test_share: float = 0.05,
        by_line: bool = False,
        seed: int = 0,
        predict: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        shares = min(val_share, test_share) >= 0 and val_share + test_share < 1
        require(shares, f"val_share {val_share} and test_share {test_share} must not be negative, and below 1 together")
        self.file, self.encoding = [file] if isinstance(file, str) else file, encoding
        self.shares = {"val": val_share, "test": test_share}
        self.by_line, self.seed, self.predict = by_line, seed, predict

    def files(self, split: Split) -> list[Path]:
        if split == "predict" and self.predict is not None:
            return find_files([self.predict])
        part = "test" if split == "predict" else split
        return find_files(self.file) if self.shares.get(part, 1) else []

    def texts(self, split: Split) -> Iterator[str]:
        files = self.files(split)
        require(len(files) > 0, f"the text has no {split} part: give it a {split}_share")
        where = ", ".join(map(str, files))
        lines = not_empty((line for file in files for line in read_lines(file, self.encoding)), where)
        if split == "predict" and self.predict is not None:
            return lines
        wanted = "test" if split == "predict" else split
        kept = list(lines)
        chosen = [line for line, part in zip(kept, self._parts(kept), strict=True) if part == wanted]
        if not chosen:
            shares = "val_share and test_share" if wanted == "train" else f"{wanted}_share"
            raise DataError(
                f"{where}: lines stay whole, and none of its {len(kept)} is left for the {wanted} part: give more "
                f"lines, or other values of {shares}"
            )
        return iter(chosen)

    def _parts(self, lines: Sequence[str]) -> list[Split]:
        """The part that each line belongs to."""
        order = list(range(len(lines)))
        if self.by_line:
            random.Random(self.seed).shuffle(order)
        sizes = [1 if self.by_line else len(line) + 1 for line in lines]
        whole, parts = sum(sizes), dict[int, Split]()
        for line, end in zip(order, accumulate(sizes[line] for line in order), strict=True):
            parts[line] = self._part((end - sizes[line] / 2) / whole)
        return [parts[line] for line in range(len(lines))]

    def _part(self, place: float) -> Split:
        """The part at a place from 0, the beginning, to 1."""
        if place >= 1 - self.shares["test"]:
            return "test"
        return "val" if place >= 1 - self.shares["test"] - self.shares["val"] else "train"
