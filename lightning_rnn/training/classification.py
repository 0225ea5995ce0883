"""What classifiers of one label a row measure and write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities.data import dim_zero_cat

from lightning_rnn.training.module import Rows, Stage


class MeanAUROC(MulticlassAUROC):
    """Area under the curve of each class against the rest, mean over the classes that are there; NaN where one is all.

    torchmetrics counts a class without a row as 0, which lowers the mean however well the others are told apart.

    Example:
        >>> auroc = MeanAUROC(3)
        >>> auroc.update(torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1]]), torch.tensor([0, 1]))
        >>> auroc.compute()
        tensor(1.)
    """

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics itself
        """The mean over all batches."""
        scores, targets = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        counts = targets.bincount(minlength=scores.shape[1])
        there = ((counts > 0) & (counts < len(targets))).nonzero().flatten().tolist()
        each = [binary_auroc(scores[:, name], (targets == name).long()) for name in there]
        return torch.stack(each).mean() if each else scores.new_tensor(torch.nan)


def class_metrics(classes: int, stage: Stage) -> MetricCollection:
    """Accuracy; outside of training also F1 (macro), AUROC and calibration error. Of scores ``[B, C]`` and classes.

    Example:
        >>> list(class_metrics(3, "train")), len(class_metrics(3, "val"))
        (['accuracy'], 4)
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False)
    }
    if stage != "train":
        metrics["f1"] = MulticlassF1Score(classes, average="macro")
        metrics["auroc"] = MeanAUROC(classes)
        metrics["calibration_error"] = MulticlassCalibrationError(classes)
    return MetricCollection(metrics)


def class_rows(scores: Tensor, targets: Tensor | None, names: Sequence[str]) -> Rows:
    """``prediction``, its ``probability``, the ``label`` where it is known, and ``p_<class>`` for each class.

    Args:
        scores: before softmax, ``[B, C]``.
        targets: int64 ``[B]``, or None.
        names: of the classes, in order.

    Example:
        >>> class_rows(torch.zeros(1, 2), torch.tensor([1]), ["no", "yes"])
        {'prediction': ['no'], 'probability': tensor([0.5000]), 'label': ['yes'], 'p_no': tensor([0.5000]), 'p_yes': ...
    """
    probabilities = scores.softmax(-1)
    best = probabilities.max(-1)
    rows: Rows = {"prediction": [names[i] for i in best.indices.tolist()], "probability": best.values}
    if targets is not None:
        rows["label"] = [names[i] for i in targets.tolist()]
    return rows | {f"p_{name}": probabilities[:, i] for i, name in enumerate(names)}
