"""What a source of labelled sequences is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

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
        """How a message names a row."""
        return f"{self.origin}, row {row if self.ids is None else self.ids[row]}"


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
