"""What texts are judged by: RNNLG's own BLEU, sacreBLEU beside it, exact matches, slot errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torchmetrics import Metric

ORDER = 4
TINY = 1e-7  # added by the benchmark to precisions and counts


def ngrams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """All runs of ``size`` words.

    Example:
        >>> list(ngrams("a b c".split(), 2))
        [('a', 'b'), ('b', 'c')]
    """
    return zip(*(words[start:] for start in range(size)), strict=False)


@lru_cache(maxsize=64)
def most_of(references: tuple[tuple[str, ...], ...]) -> list[Counter[tuple[str, ...]]]:
    """For each order the n-grams of the references, each as often as in the one that has most of it."""
    found: list[Counter[tuple[str, ...]]] = []
    for size in range(1, ORDER + 1):
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(ngrams(reference, size))
        found.append(most)
    return found


def statistics(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """What BLEU is made of for one text: for each order its n-grams and those that match, its length, the reference's.

    An n-gram matches at most as often as in the reference that has most of it; the reference's length is that of the
    nearest one, the first of equals.

    Example:
        >>> statistics("a a b".split(), ["a b".split(), "b c d".split()])
        [3.0, 2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 3.0, 3.0]
    """
    sums: list[float] = []
    wanted = most_of(tuple(tuple(reference) for reference in references))
    for size, most in enumerate(wanted, 1):
        counts = Counter(ngrams(hypothesis, size))
        sums += [float(counts.total()), float((counts & most).total())]
    lengths = [len(reference) for reference in references]
    nearest = min(lengths, key=lambda length: abs(length - len(hypothesis)))
    return [*sums, float(len(hypothesis)), float(nearest)]


def bleu(sums: Sequence[float]) -> float:
    r"""RNNLG's corpus BLEU of added-up :func:`statistics`, from 0 to 1.

    :math:`BP \exp \frac14 \sum_n \log(m_n / (c_n + 10^{-7}) + 10^{-7})` with :math:`BP = 1` where the texts are
    longer than their references, else :math:`\exp(1 - r / c)`: unsmoothed but for those small numbers.
    """
    length, reference = sums[-2:]
    if not length:
        return 0.0
    shortness = 1.0 if length > reference else math.exp(1 - reference / length)
    precisions = [sums[2 * n + 1] / (sums[2 * n] + TINY) + TINY for n in range(ORDER)]
    return shortness * math.exp(sum(map(math.log, precisions)) / ORDER)


class BenchmarkBleu(Metric):
    """RNNLG's BLEU-4 (``GentScorer``) of a corpus: every one of a row's texts counts, against all its references.

    Words are what stands between spaces; the same whatever the batches and processes.

    Example:
        >>> metric = BenchmarkBleu()
        >>> metric.update([["a b c d"]], [["a b c d", "e"]])
        >>> round(float(metric.compute()), 4)
        1.0
    """

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2 * ORDER + 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
        """Take in rows: the texts of each, and its references."""
        for texts, others in zip(hypotheses, references, strict=True):
            split = [other.split() for other in others]
            for text in texts:
                added = torch.tensor(statistics(text.split(), split), dtype=torch.float64)
                self.sums += added.to(self.sums.device)

    def compute(self) -> Tensor:
        """The score, float64."""
        return torch.tensor(bleu(self.sums.tolist()), dtype=torch.float64)
