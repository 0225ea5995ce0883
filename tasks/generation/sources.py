"""What a source of conditions and their texts or strokes gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_rnn.data import Ragged
from lightning_rnn.data.dataset import Drawn
from lightning_rnn.data.module import Split
from lightning_rnn.errors import DataError

from .spec import GenerationSpec


@dataclass(frozen=True)
class Items:
    """One part of a source.

    Attributes:
        given: the conditions as a user gives them, see :attr:`GenerationSpec.form`; row by row.
        texts: what is to be written; None for strokes, or where nothing is known.
        strokes: the same for strokes: ``[T, 5]`` each, not yet scaled.
        references: texts that are as good as the row's own, itself among them, to judge by; None: the own text alone.
        origin: where they come from, for messages.
        ids: the rows' names; None stands for 0, 1, 2 ...
        places: the rows' numbers in their file, for messages; None stands for 1, 2, 3 ...
    """

    given: Sequence[Any]
    texts: Sequence[str] | None = None
    strokes: Sequence[Tensor] | None = None
    references: Sequence[Sequence[str]] | None = None
    origin: str = "the source"
    ids: Sequence[str | int] | None = None
    places: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.given)

    def where(self, row: int) -> str:
        """How a message names a row.

        Example:
            >>> Items(["Irish", "Martian"], origin="classes.txt").where(1)
            'classes.txt, row 2'
        """
        return f"{self.origin}, row {row + 1 if self.places is None else self.places[row]}"

    def checked(self) -> Items:
        """These rows.

        Raises:
            DataError: there are none, or not as many answers as conditions.
        """
        if not len(self):
            raise DataError(f"{self.origin}: there are no rows: give a part with some, or leave it out")
        for answers in (self.texts, self.strokes, self.references):
            if answers is not None and len(answers) != len(self):
                raise DataError(f"{self.origin}: {len(self)} conditions, {len(answers)} answers: give one for each")
        return self


class GenerationSource(ABC):
    """Conditions and what is written of them.

    A subclass reads parts and describes them; its constructor arguments have types and defaults.
    """

    def prepare(self) -> None:
        """Download what is absent; here nothing."""
        return

    @abstractmethod
    def read(self, part: Split) -> Items | None:
        """The rows of ``train``, ``val``, ``test`` or ``predict``; None where there is no such part.

        Raises:
            DataError: a file is absent or broken.
        """

    def drawn(self, targets: Ragged, seed: int) -> Drawn | None:
        """Training answers that differ from epoch to epoch, made of these; None: they do not."""
        return None

    @abstractmethod
    def describe(self, train: Items) -> GenerationSpec:
        """The spec of what is trained on these rows: see :class:`GenerationSpec` for what to fill in."""
