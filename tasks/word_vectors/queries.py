"""Questions to word vectors: what is near, what is to this as that is to the other, what does not belong."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_rnn.errors import DataError, require
from lightning_rnn.interop.word2vec import WordTable

from .vocabulary import normalized

Near = list[tuple[str, float]]
SMALL = 1e-6  # of 3CosMul's denominator
AT_ONCE = 256  # rows of the vocabulary asked at once


class WordQueries:
    """Answers from a table of vectors; the same as gensim's ``KeyedVectors`` gives.

    Args:
        table: words, most frequent first, and vectors.

    Raises:
        DataError: (of the questions) a word is not in the vocabulary.

    Example:
        >>> table = WordTable(["a", "b", "c"], torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
        >>> [(word, round(value, 3)) for word, value in WordQueries(table).most_similar(["a"], topn=1)]
        [('b', 0.707)]
    """

    def __init__(self, table: WordTable) -> None:
        self.words, self.counts = table.words, table.counts
        self.number = {word: row for row, word in reversed(list(enumerate(table.words)))}
        self.units = normalized(table.vectors)

    def __contains__(self, word: object) -> bool:
        return word in self.number

    def rows(self, words: Sequence[str]) -> Tensor:
        """Int64 ``[N]``, the rows of words.

        Raises:
            DataError: one is not in the vocabulary; names it, and one that is like it.
        """
        for word in words:
            if word not in self.number:
                near = difflib.get_close_matches(word, self.words[:50_000], n=1)
                hint = f"did you mean {near[0]!r}?" if near else "ask for another"
                raise DataError(f"the word {word!r} is not among the {len(self.words):,} words of the vectors: {hint}")
        return torch.tensor([self.number[word] for word in words], dtype=torch.int64)

    def most_similar(
        self, positive: Sequence[str], negative: Sequence[str] = (), topn: int = 10, restrict_vocab: int | None = None
    ) -> Near:
        r"""The words nearest to the mean of some vectors: 3CosAdd (Mikolov et al. 2013, "Linguistic regularities").

        :math:`\arg\max_w \cos(w, \sum_p p - \sum_n n)`, all vectors of length 1; the words asked with are left out.

        Args:
            positive: words whose vectors are added.
            negative: words whose vectors are taken off.
            topn: how many.
            restrict_vocab: among the first so many words; None is all.
        """
        asked = self.rows([*positive, *negative])
        require(len(asked) > 0, "there is no word to be near to: give one")
        signs = torch.tensor([1.0] * len(positive) + [-1.0] * len(negative))
        mean = normalized((self.units[asked] * signs[:, None]).mean(0, keepdim=True))
        return self._best(self.units[:restrict_vocab] @ mean[0], asked, topn)

    def cosmul(self, positive: Sequence[str], negative: Sequence[str] = (), topn: int = 10) -> Near:
        r"""The same by products, 3CosMul (Levy and Goldberg 2014, equation 4), cosines moved to 0 to 1.

        :math:`\arg\max_w \prod_p \cos(w, p) / (\prod_n \cos(w, n) + 10^{-6})`.
        """
        asked = self.rows([*positive, *negative])
        require(len(positive) > 0, "there is no word to be near to: give one")
        moved = (1 + self.units @ self.units[asked].T) / 2
        above, below = moved[:, : len(positive)].prod(1), moved[:, len(positive) :].prod(1)
        return self._best(above / (below + SMALL), asked, topn)

    def _best(self, values: Tensor, without: Tensor, topn: int) -> Near:
        values = values.clone()
        values[without[without < len(values)]] = -torch.inf
        best = values.topk(min(topn, len(values)))
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.words[row], value) for row, value in found if value > -torch.inf]

    def nearest(self, rows: Sequence[int], topn: int) -> list[Near]:
        """The neighbours of some rows of the vocabulary."""
        found = list[Near]()
        for start in range(0, len(rows), AT_ONCE):
            index = torch.tensor(rows[start : start + AT_ONCE])
            cosines = self.units[index] @ self.units.T
            cosines[torch.arange(len(index)), index] = -torch.inf
            best = cosines.topk(min(topn, len(self.words) - 1))
            found += [
                [(self.words[row], value) for row, value in zip(places, values, strict=True)]
                for places, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
        return found

    def similarity(self, first: str, second: str) -> float:
        """The cosine of two words."""
        a, b = self.units[self.rows([first, second])]
        return float(a @ b)

    def rank(self, first: str, second: str) -> int:
        """Which neighbour of the first word the second one is, from 1."""
        rows = self.rows([first, second])
        cosines = self.units @ self.units[rows[0]]
        nearer = cosines > cosines[rows[1]]
        nearer[rows[0]] = False
        return int(nearer.sum()) + 1

    def doesnt_match(self, words: Sequence[str]) -> str:
        """The word farthest from the mean of all.

        Example:
            >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
            >>> WordQueries(WordTable(["a", "b", "c"], vectors)).doesnt_match(["a", "b", "c"])
            'c'
        """
        require(len(words) > 0, "there are no words to compare: give some")
        units = self.units[self.rows(words)]
        mean = normalized(units.mean(0, keepdim=True))[0]
        return words[int((units @ mean).argmin())]


def predict_center(
    table: WordTable, outputs: Tensor, context: Sequence[str], topn: int = 10, mean: bool = True
) -> Near:
    r"""The words likely in the middle of some others: softmax of :math:`\bar h \cdot o` over all output vectors.

    Args:
        table: words and word vectors.
        outputs: ``[V, D]``, of the words as centres.
        context: words around; those not in the vocabulary are left out.
        topn: how many.
        mean: whether their vectors are averaged; else added.

    Raises:
        DataError: none of the words is in the vocabulary.

    Example:
        >>> table = WordTable(["a", "b"], torch.eye(2))
        >>> predict_center(table, torch.tensor([[0.0, 3.0], [0.0, 0.0]]), ["b"], topn=1)[0][0]
        'a'
    """
    number = {word: row for row, word in enumerate(table.words)}
    rows = [number[word] for word in context if word in number]
    if not rows:
        raise DataError(f"none of the words {', '.join(context)} is among the {len(table.words):,} of the vectors")
    hidden = table.vectors[rows].mean(0) if mean else table.vectors[rows].sum(0)
    best = (outputs.float() @ hidden).softmax(0).topk(min(topn, len(table.words)))
    return [(table.words[row], value) for row, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
