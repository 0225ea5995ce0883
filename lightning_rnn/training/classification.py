"""What classifiers of one label a row measure and write."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from lightning_rnn.training.module import Rows, Stage


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
        metrics["auroc"] = MulticlassAUROC(classes)
        metrics["calibration_error"] = MulticlassCalibrationError(classes)
    return MetricCollection(metrics)


def class_rows(scores: Tensor, targets: Tensor | None, names: Sequence[str]) -> Rows:
    """``prediction``, its ``probability``, the ``label`` where it is known, and ``p_<class>`` for each class.

    Args:
        scores: before softmax, ``[B, C]``.
        targets: int64 ``[B]``, or None.
        names: of the classes, in order.

    Example:
        >>> import torch
        >>> class_rows(torch.zeros(1, 2), torch.tensor([1]), ["no", "yes"])
        {'prediction': ['no'], 'probability': tensor([0.5000]), 'label': ['yes'], 'p_no': tensor([0.5000]), 'p_yes': ...
    """
    probabilities = scores.softmax(-1)
    best = probabilities.max(-1)
    rows: Rows = {"prediction": [names[i] for i in best.indices.tolist()], "probability": best.values}
    if targets is not None:
        rows["label"] = [names[i] for i in targets.tolist()]
    return rows | {f"p_{name}": probabilities[:, i] for i, name in enumerate(names)}
