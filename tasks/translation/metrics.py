"""sacreBLEU's scores of a corpus, added up over batches and processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from sacrebleu.metrics.base import Metric as SacreMetric
from sacrebleu.metrics.base import Score
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from .lium import LiumTokenizer

log = logging.getLogger(__name__)
ROW = 4  # tokens in a row, which BLEU counts
SCORES: dict[str, Callable[[], SacreMetric]] = {"bleu": BLEU, "chrf": CHRF, "ter": TER}


class CorpusScore(Metric):
    """A score of sacreBLEU over all sentences, equal to its ``corpus_score`` of them at once, whatever the batches.

    What is kept are the sums that the score is made of (matched and counted n-grams and lengths, or edits), so one and
    many processes give the same.

    Args:
        score: sacreBLEU's metric: ``BLEU()``, ``CHRF()``, ``TER()``.
        prepare: what hypotheses go through first, as :class:`LiumTokenizer`; references are taken as they are.

    Example:
        >>> bleu = CorpusScore(BLEU())
        >>> bleu.update(["the cat sat on the mat"], ["the cat sat on a mat"])
        >>> bleu.update(["a dog"], ["a dog"])
        >>> round(float(bleu.compute()), 2), bleu.signature
        (55.84, 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...')
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, score: SacreMetric, prepare: LiumTokenizer | None = None) -> None:
        super().__init__()
        self.score, self.prepare = score, prepare
        self.add_state("sums", torch.zeros(len(self._sums([""], [""])), dtype=torch.float64), dist_reduce_fx="sum")

    def _sums(self, hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        # sacreBLEU's own way to the numbers behind a corpus score: chrF gives them out nowhere else
        rows = self.score._extract_corpus_statistics(hypotheses, [references])
        return [float(sum(column)) for column in zip(*rows, strict=True)]

    def update(self, hypotheses: Sequence[str], references: Sequence[str]) -> None:
        """Take in sentences, one reference for each.

        Raises:
            ValueError: not as many references as hypotheses.
        """
        if len(hypotheses) != len(references):
            raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references: give one for each")
        if hypotheses:
            given = list(hypotheses) if self.prepare is None else [self.prepare(text) for text in hypotheses]
            self.sums += torch.tensor(self._sums(given, references), dtype=torch.float64, device=self.sums.device)

    def detail(self) -> Score:
        """SacreBLEU's score of what was taken in: ``.score`` from 0 to 100, and as text with its parts."""
        score: Score = self.score._compute_score_from_stats(self.sums.tolist())
        return score

    def compute(self) -> Tensor:
        """The score, float64; of no sentences 0."""
        return torch.tensor(self.detail().score, dtype=torch.float64, device=self.sums.device)

    @property
    def signature(self) -> str:
        """How it was counted, as sacreBLEU writes it, for logs and reports."""
        found = str(self.score.get_signature())
        return found if self.prepare is None else f"{found}|hyp:{self.prepare.signature}"


def corpus_scores(names: Sequence[str] = ("bleu", "chrf", "ter")) -> MetricCollection:
    """Scores of detokenized, cased text: ``bleu`` (tokens of 13a), ``chrf`` (chrF2: characters to 6, beta 2), ``ter``.

    Example:
        >>> scores = corpus_scores()
        >>> scores.update(["deux chats dorment ici"], ["deux chats dorment ici"])
        >>> {name: round(float(value), 6) for name, value in scores.compute().items()}
        {'bleu': 100.0, 'chrf': 100.0, 'ter': 0.0}
    """
    return MetricCollection({name: CorpusScore(SCORES[name]()) for name in names}, compute_groups=False)


def lium_bleu(language: str) -> CorpusScore:
    """BLEU of the LIUM protocol ("lc-tok"): hypotheses become lower-case Moses tokens, as the references are.

    The references to give it are the lines of Multi30k's ``tok`` files, untouched
    (``data.split("test").tokenized_references``).

    Raises:
        ConfigError: sacremoses is not installed.

    Example:
        >>> bleu = lium_bleu("fr")
        >>> bleu.update(["L\u2019homme regarde l\u2019eau."], ["l&apos; homme regarde l&apos; eau ."])
        >>> round(float(bleu.compute()), 6)
        100.0
    """
    return CorpusScore(BLEU(tokenize="none", force=True), LiumTokenizer(language))


def warn_of_short(references: Sequence[str]) -> None:
    """Say it where no reference has four tokens in a row, which BLEU counts: it chooses no model then."""
    tokenize = BLEU().tokenizer
    longest = max((len(tokenize(text).split()) for text in references), default=ROW)
    if longest < ROW:
        log.warning(
            "val_bleu says nothing here: it counts %d tokens in a row, and no validation reference has more than %d; "
            "choose by another score, --checkpoint.monitor val_chrf",
            ROW,
            longest,
        )
