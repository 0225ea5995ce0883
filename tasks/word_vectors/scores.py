"""The evaluations that a run asks for, by their names in the log."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_rnn.paths import existing

from .evaluation import analogies, similarity
from .queries import WordQueries


@dataclass(frozen=True)
class Scorer:
    """Evaluates vectors on the files asked for.

    Attributes:
        similarity: of word pairs with judgments; None is not asked for.
        analogies: of analogies.
        restrict_vocab: the first so many words.
    """

    similarity: str | None
    analogies: str | None
    restrict_vocab: int

    @property
    def asked(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.similarity is not None or self.analogies is not None

    def __call__(self, queries: WordQueries) -> dict[str, float]:
        """``spearman``, ``pearson`` and ``similarity_oov``; ``analogies`` and ``analogies_oov``.

        Raises:
            DataError: a file is missing, or none of its words has a vector.
        """
        values = dict[str, float]()
        if self.similarity is not None:
            found = similarity(queries, existing(self.similarity), self.restrict_vocab)
            values |= {"spearman": found.spearman, "pearson": found.pearson, "similarity_oov": found.oov}
        if self.analogies is not None:
            solved = analogies(queries, existing(self.analogies), self.restrict_vocab)
            values |= {"analogies": solved.total.accuracy, "analogies_oov": solved.oov}
        return values
