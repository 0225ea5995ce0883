"""Texts of a batch's rows, and what they are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from lightning_rnn.training.module import StepResult

from .metrics import BenchmarkBleu
from .slot_error import SlotCount, SlotError
from .spec import GenerationSpec


class SacreBleu(Metric):
    """sacreBLEU of a corpus whose rows have any number of references, from 0 to 100; words between spaces.

    Example:
        >>> metric = SacreBleu()
        >>> metric.update([["a b c d"]], [["a b c d", "e"]])
        >>> round(float(metric.compute()), 2)
        100.0
    """

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.score = BLEU(tokenize="none", force=True)
        self.add_state("sums", torch.zeros(10, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
        """Take in rows: the texts of each, and its references."""
        for texts, others in zip(hypotheses, references, strict=True):
            for text in texts:
                rows = self.score._extract_corpus_statistics([text], [[other] for other in others])
                self.sums += torch.tensor(rows[0], dtype=torch.float64, device=self.sums.device)

    def compute(self) -> Tensor:
        """The score, float64."""
        return torch.tensor(self.score._compute_score_from_stats(self.sums.tolist()).score, dtype=torch.float64)


class Judge(nn.Module):
    """Scores of one part, added up over batches and processes.

    ``exact``, the share of rows whose best text is one of the references; of words ``bleu``, RNNLG's own, from 0 to 1,
    over all texts that are kept of a row; ``bleu_best`` and ``sacrebleu``, over the best ones alone; of dialogue acts
    ``slot_error``, over all that are kept, and ``slot_error_best``.

    Args:
        spec: of the data.
        full: whether the scores of the best texts alone are there too.

    Example:
        >>> judge = Judge(GenerationSpec(joiner=""), full=False)
        >>> judge.update([["two"], ["tree"]], [["two"], ["three"]], [])
        >>> {name: float(value) for name, value in judge.compute().items()}
        {'exact': 0.5}
    """

    def __init__(self, spec: GenerationSpec, full: bool) -> None:
        super().__init__()
        words, acts = bool(spec.joiner), spec.form == "act"
        self.exact = MeanMetric()
        self.bleus, self.errors = nn.ModuleDict(), nn.ModuleDict()
        if words:
            self.bleus["bleu"] = BenchmarkBleu()
            if full:
                self.bleus["bleu_best"], self.bleus["sacrebleu"] = BenchmarkBleu(), SacreBleu()
        if acts:
            self.errors["slot_error"] = SlotError()
            if full:
                self.errors["slot_error_best"] = SlotError()

    def update(
        self,
        texts: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        counts: Sequence[Sequence[SlotCount]],
    ) -> None:
        """Take in rows.

        Args:
            texts: those kept of each, best first.
            references: of each.
            counts: of the slots of each text, where conditions are dialogue acts.
        """
        best = [kept[:1] for kept in texts]
        same = [float(kept[0] in others) for kept, others in zip(texts, references, strict=True) if kept]
        self.exact.update(torch.tensor(same))
        for name, metric in named(self.bleus):
            metric.update(texts if name == "bleu" else best, references)
        for name, metric in named(self.errors):
            metric.update([one for kept in counts for one in (kept if name == "slot_error" else kept[:1])])

    def compute(self) -> dict[str, Tensor]:
        """The scores of what was taken in, by name; none where :meth:`update` was never called."""
        if not self.exact.update_called:
            return {}
        scores = [*named(self.bleus), *named(self.errors)]
        return {"exact": self.exact.compute(), **{name: metric.compute() for name, metric in scores}}

    def reset(self) -> None:
        """Begin anew."""
        for _, metric in [("exact", self.exact), *named(self.bleus), *named(self.errors)]:
            metric.reset()


def named(metrics: nn.ModuleDict) -> list[tuple[str, Metric]]:
    """The metrics of a dictionary of them, and their names."""
    return [(name, metric) for name, metric in metrics.items() if isinstance(metric, Metric)]


@dataclass
class WrittenResult(StepResult):
    """A step's result with what was written of some of its rows.

    Attributes:
        texts: kept texts of a row, best first, by its number in the split.
    """

    texts: dict[int, list[str]] = field(default_factory=dict)
