"""What a source of labelled sequences is, and what a corpus of texts is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lightning_rnn.data.module import Split
from lightning_rnn.data.ragged import Ragged


@dataclass(frozen=True)
class Examples:
    """One part of a source as it was read.

    Attributes:
        inputs: texts, or series as float32 ``Ragged`` of ``[T, D]`` (NaN where a value is missing).
        labels: the rows' classes by name; None where there are none.
        origin: the file or files read, for messages.
        ids: the rows' names in the source; None stands for 0, 1, 2 ... in file order.
    """

    inputs: list[str] | Ragged
    labels: list[str] | None
    origin: str
    ids: Sequence[str | int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def select(self, rows: Tensor) -> Examples:
        """The rows named (int64 ``[M]``), keeping their names."""
        index = rows.tolist()
        inputs = self.inputs.select(rows) if isinstance(self.inputs, Ragged) else [self.inputs[i] for i in index]
        labels = None if self.labels is None else [self.labels[i] for i in index]
        return Examples(inputs, labels, self.origin, [i if self.ids is None else self.ids[i] for i in index])

    def where(self, row: int) -> str:
        """How a message names a row: by its id, which for one without a name is not its line.

        Example:
            >>> Examples(["a", "b"], None, "x.csv").where(1)
            'x.csv, row 1 (its id, counted from 0)'
        """
        if self.ids is None:
            return f"{self.origin}, row {row} (its id, counted from 0)"
        return f"{self.origin}, row {self.ids[row]}{' (its id)' if isinstance(self.ids[row], int) else ''}"


class Source(ABC):
    """Labelled sequences, one part at a time. Paths are found by :func:`lightning_rnn.paths.data_path`."""

    def prepare(self) -> None:
        """Download what is absent. Called on one process per machine, before :meth:`read`."""
        return

    @abstractmethod
    def read(self, split: Split) -> Examples | None:
        """The examples of a part, or None where the source has no such part.

        Raises:
            DataError: a file is missing, broken, or not of the right kind; it says which, where and what to do.
        """


class Corpus(ABC):
    """Texts without labels, one part at a time, read while they are used: a part may be larger than memory.

    Paths are found by :func:`lightning_rnn.paths.data_path`. What :meth:`texts` gives follows from the contents of
    :meth:`files`, in that order, and from :meth:`reading` alone: a copy prepared under all these can be used again.
    """

    def prepare(self) -> None:
        """Download what is absent. Called on one process per machine, before the other methods."""
        return

    def reading(self) -> dict[str, str | bool]:
        """How texts are taken from the files: two views of the same files differ in this."""
        return {}

    @abstractmethod
    def files(self, split: Split) -> list[Path]:
        """The files of a part, in order; none where the corpus has no such part.

        Raises:
            DataError: a file is missing.
        """

    @abstractmethod
    def texts(self, split: Split) -> Iterator[str]:
        """The texts of a part, one by one, in the order of the files.

        Raises:
            ConfigError: the corpus has no such part.
            DataError: a file is broken or not of the right kind, or there are no texts at all.
        """
