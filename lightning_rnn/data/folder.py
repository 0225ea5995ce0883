"""Labelled texts, each in a file of its own, in a folder for each class."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning_rnn.data.cells import text_fault
from lightning_rnn.data.lines import read_text
from lightning_rnn.data.module import Split
from lightning_rnn.data.source import Examples, Source
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import data_path

log = logging.getLogger(__name__)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: put it there, give another one, or set LIGHTNING_RNN_DATA to the folder that holds it"
        )
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


class FolderPerClass(Source):
    """One file for each text, in ``folder/part/label/*.txt``, as in the large movie review set (IMDB).

    The rows are in the order of their labels and files' names. A row's id is its file's path inside the folder, as in
    ``test/neg/0_2.txt``. Files beside the folders of labels are passed over, as are those that do not fit the pattern,
    and folders that begin with a dot, such as ``.ipynb_checkpoints``.

    Args:
        folder: of the parts, relative to the data folder.
        train: folder inside it to train on; None where there is none, as with the others.
        val: folder to choose a model by.
        test: folder to report on.
        predict: folder to predict; None is the test folder.
        labels: folders to take, such as neg and pos where there is a third one without labels; None takes all.
        pattern: of the files' names.
        encoding: of the files.

    Raises:
        ConfigError: ``labels`` is empty.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("pos", "neg"):
        ...         Path(root, "train", name).mkdir(parents=True)
        ...         size = Path(root, "train", name, "0.txt").write_text(f"so {name}")
        ...     examples = FolderPerClass(root).read("train")
        >>> examples.inputs, examples.labels, examples.ids
        (['so neg', 'so pos'], ['neg', 'pos'], ['train/neg/0.txt', 'train/pos/0.txt'])
    """

    def __init__(
        self,
        folder: str = "imdb",
        train: str | None = "train",
        val: str | None = None,
        test: str | None = "test",
        predict: str | None = None,
        labels: list[str] | None = None,
        pattern: str = "*.txt",
        encoding: str = "utf-8",
    ) -> None:
        require(labels is None or len(labels) > 0, "labels must name at least one folder")
        self.folder, self.labels, self.pattern, self.encoding = folder, labels, pattern, encoding
        self.parts: dict[Split, str | None] = {"train": train, "val": val, "test": test, "predict": predict or test}

    def _classes(self, part: Path) -> list[Path]:
        found = _folders(part)
        names = [path.name for path in found]
        wanted = names if self.labels is None else self.labels
        absent = [name for name in wanted if name not in names]
        if absent or not wanted:
            raise DataError(
                f"{part} has no folder {absent[0] if absent else 'inside'}, only {', '.join(names) or 'none'}: "
                "make one folder for each label"
            )
        return [path for path in found if path.name in wanted]

    def _files(self, folder: Path) -> list[Path]:
        files = sorted(path for path in folder.iterdir() if not path.is_dir())
        fitting = [path for path in files if path.match(self.pattern)]
        if not fitting:
            raise DataError(f"{folder} has no file {self.pattern}: put some in, or give another pattern")
        if len(fitting) < len(files):
            log.warning("%s: %d files do not fit %s: passed over", folder, len(files) - len(fitting), self.pattern)
        return fitting

    def _read(self, path: Path) -> str:
        text = read_text(path, self.encoding)
        if fault := text_fault(text):
            raise DataError(f"{path}: {fault.replace('row', 'file')}")
        return text

    def read(self, split: Split) -> Examples | None:
        """The texts of a part; see :meth:`Source.read`."""
        name = self.parts[split]
        if name is None:
            return None
        root = data_path(self.folder)
        files = [path for folder in self._classes(root / name) for path in self._files(folder)]
        return Examples(
            [self._read(path) for path in files],
            [path.parent.name for path in files],
            str(root / name),
            [path.relative_to(root).as_posix() for path in files],
        )
