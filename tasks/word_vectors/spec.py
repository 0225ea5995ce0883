"""What word vectors are of."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_rnn.data import DataSpec
from lightning_rnn.data.checks import check_token_ids
from lightning_rnn.types import SequenceBatch


@dataclass(frozen=True)
class WordVectorSpec(DataSpec):
    """The vocabulary, and how text becomes words.

    Attributes:
        words: the vocabulary, most frequent first.
        counts: how often each word is in the training text.
        phrases: the pairs of words that were joined by ``_``, of each pass.
        cut: how text is cut into words, see :class:`.data.WordVectorData`.
        lower: whether text is lower-cased.
    """

    words: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    phrases: list[list[list[str]]] = field(default_factory=list)
    cut: str = "words"
    lower: bool = False

    def check(self, batch: SequenceBatch) -> None:
        """Whether all ids are of the vocabulary; 0 is the end of a text, word ``i`` is ``i + 1``.

        Raises:
            DataError: one is not; names the row, the step and the id.
        """
        check_token_ids(batch, len(self.words) + 1)
