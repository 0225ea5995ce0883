"""Translations of a batch's rows, and what they are judged by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from lightning_rnn.training.module import StepResult
from lightning_rnn.types import SequenceBatch

from .decoding import Translation
from .metrics import CorpusScore, corpus_scores, lium_bleu

log = logging.getLogger(__name__)
Judged = Literal["val", "test"]
JUDGES: dict[Judged, tuple[str, ...]] = {"val": ("bleu", "chrf"), "test": ("bleu", "chrf", "ter")}


class Judge(nn.Module):
    """Scores of one part, added up over batches and processes.

    Args:
        names: of sacreBLEU's scores, see :func:`~tasks.translation.metrics.corpus_scores`.

    Example:
        >>> judge = Judge(["bleu"])
        >>> judge.update(["deux chats dorment ici", "ils"], ["deux chats dorment ici", "ils"])
        >>> {name: round(float(value), 2) for name, value in judge.compute().items()}
        {'exact': 1.0, 'bleu': 100.0}
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.exact, self.scores = MeanMetric(), corpus_scores(names)
        self.lium: CorpusScore | None = None

    def add_lium(self, language: str) -> None:
        """Compute the BLEU of the LIUM protocol too (``bleu_lium``), from references that are given tokenized.

        Raises:
            ConfigError: sacremoses is not installed.
        """
        self.lium = lium_bleu(language).to(self.exact.device)

    def update(self, hypotheses: Sequence[str], references: Sequence[str], tokenized: Sequence[str] = ()) -> None:
        """Take in sentences, one reference for each, which for ``bleu_lium`` is the tokenized one."""
        self.scores.update(hypotheses, references)
        same = [float(one == other) for one, other in zip(hypotheses, references, strict=True)]
        self.exact.update(torch.tensor(same))
        if self.lium is not None:
            self.lium.update(hypotheses, tokenized)

    def compute(self) -> dict[str, Tensor]:
        """The scores of what was taken in, by name; none where :meth:`update` was never called."""
        if not self.exact.update_called:
            return {}
        lium = {} if self.lium is None else {"bleu_lium": self.lium.compute()}
        return {"exact": self.exact.compute(), **self.scores.compute(), **lium}

    def reset(self) -> None:
        """Begin anew."""
        self.exact.reset()
        self.scores.reset()
        if self.lium is not None:
            self.lium.reset()

    def log_signatures(self, stage: str) -> None:
        """Say how each score was counted, as sacreBLEU writes it."""
        for name, score in [*self.scores.items(), ("bleu_lium", self.lium)]:
            if isinstance(score, CorpusScore):
                log.info("%s_%s: %s", stage, name, score.signature)


class Judges(nn.ModuleDict):
    """A judge for each stage that is judged."""

    def __init__(self) -> None:
        super().__init__({f"{stage}_stage": Judge(names) for stage, names in JUDGES.items()})

    def of(self, stage: Judged) -> Judge:
        """What a stage's translations are judged by."""
        judge = self[f"{stage}_stage"]
        assert isinstance(judge, Judge)
        return judge


@dataclass
class TranslatedResult(StepResult):
    """A step's result with translations of some of its rows.

    Attributes:
        translations: the best ones of a row, by its number in the split.
    """

    translations: dict[int, list[Translation]] = field(default_factory=dict)


def some(batch: SequenceBatch, chosen: Tensor) -> SequenceBatch:
    """Rows ``chosen`` (int64) of a batch, without targets.

    Example:
        >>> import torch
        >>> some(SequenceBatch(torch.tensor([[4, 5], [6, 0]]), lengths=torch.tensor([2, 1])), torch.tensor([1])).inputs
        tensor([[6]])
    """
    assert batch.lengths is not None
    lengths = batch.lengths[chosen]
    longest = int(lengths.max()) if len(lengths) else 0
    return SequenceBatch(batch.inputs[chosen, :longest], lengths=lengths)
