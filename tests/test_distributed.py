"""Two processes give what one gives: the same test metrics of all rows, and the same training steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import quiet_trainer

from tasks.sequence_classification import ClassificationData, SequenceClassifier


def classifier(data: ClassificationData) -> SequenceClassifier:
    """Built here, so that it starts from the same weights whatever drew random numbers before."""
    data.setup("fit")
    module = SequenceClassifier(cell="gru", hidden_size=8, class_weights="balanced")
    module.spec = data.spec
    torch.manual_seed(3)
    module.configure_model()
    return module


def test_metrics_of_two_processes_equal_those_of_one(tmp_path: Path) -> None:
    # 359 rows and 7 a batch: the last batch divides neither by 7 nor by 2
    results = []
    for processes in (1, 2):
        data = ClassificationData(eval_batch_size=7, baselines=False)
        results.append(quiet_trainer(tmp_path, processes).test(classifier(data), data, verbose=False)[0])
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, abs=1e-5), name


def test_training_with_two_processes_equals_one_with_twice_the_batch(tmp_path: Path) -> None:
    # 1,293 rows in batches of 64: the last two are uneven, their gradients are weighted
    losses = []
    for processes, batch_size in ((1, 64), (2, 32)):
        data = ClassificationData(batch_size=batch_size, bucketing=False)
        loop = quiet_trainer(tmp_path, processes)
        loop.fit(classifier(data), data)
        losses.append({name: float(value) for name, value in loop.callback_metrics.items()})
    for name in ("train_loss", "val_loss"):
        assert losses[1][name] == pytest.approx(losses[0][name], abs=1e-4), name
