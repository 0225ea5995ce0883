"""What a classifier must beat: the majority, a bag of n-grams, the nearest neighbor."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from torch.nn import functional as F

from lightning_rnn.data import Examples, Ragged
from lightning_rnn.data.labels import CUT, Labels
from lightning_rnn.layers.series import SeriesFeatures

if TYPE_CHECKING:
    from .data import ClassificationData, ClassificationSpec

log = logging.getLogger(__name__)


def majority(train: Examples, test: Examples, per: Labels = "row") -> float:
    """Accuracy of always saying the most frequent training label."""
    most = Counter(_each(train, per)).most_common(1)[0][0]
    return float(np.mean([label == most for label in _each(test, per)]))


def label_of_word(train: Examples, test: Examples) -> float:
    """Accuracy, where each word has a label, of the most frequent one of the word, whatever stands around it."""
    assert isinstance(train.inputs, list) and isinstance(test.inputs, list)
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, label in zip(_words(train.inputs), _each(train, "step"), strict=True):
        seen[word][label] += 1
    best = {word: labels.most_common(1)[0][0] for word, labels in seen.items()}
    most = Counter(_each(train, "step")).most_common(1)[0][0]
    pairs = zip(_words(test.inputs), _each(test, "step"), strict=True)
    return float(np.mean([best.get(word, most) == label for word, label in pairs]))


def _each(part: Examples, per: Labels) -> list[str]:
    return [label for labels in part.labels or [] for label in CUT[per](labels)]


def _words(texts: list[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def bag_of_ngrams(train: Examples, test: Examples) -> float:
    """Accuracy of a logistic regression on counts of words and word pairs (scikit-learn's defaults)."""
    from sklearn.feature_extraction.text import CountVectorizer  # late: scikit-learn is slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    assert isinstance(train.inputs, list) and isinstance(test.inputs, list)
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    model = make_pipeline(vectorizer, LogisticRegression(max_iter=1000))
    return float(model.fit(train.inputs, train.labels).score(test.inputs, test.labels))


def nearest_neighbor(train: Examples, test: Examples) -> float:
    """Accuracy of the label of the closest training series, Euclidean; unequal lengths are stretched to the longest."""
    from sklearn.neighbors import KNeighborsClassifier  # late: scikit-learn is slow to import

    assert isinstance(train.inputs, Ragged) and isinstance(test.inputs, Ragged)
    length = int(max(train.inputs.lengths.max(), test.inputs.lengths.max()))
    model = KNeighborsClassifier(1, algorithm="brute")
    model.fit(_stretched(train.inputs, length), train.labels)
    return float(model.score(_stretched(test.inputs, length), test.labels))


def _stretched(series: Ragged, length: int) -> npt.NDArray[np.float32]:
    """Rows interpolated to one length, scaled one by one, flat: ``[N, length * D]``."""
    features = series.values.shape[1]
    scaling = SeriesFeatures("series", ["value"], mean=[0.0] * features, std=[1.0] * features)
    rows = []
    for i in range(len(series)):
        row = scaling(series[i].unsqueeze(0)).transpose(1, 2)
        row = row if row.shape[2] == length else F.interpolate(row, length, mode="linear", align_corners=True)
        rows.append(row.flatten().numpy())
    return np.stack(rows)


def measure(train: Examples, test: Examples, spec: ClassificationSpec) -> dict[str, float]:
    """Test accuracy of each baseline that fits the data."""
    text = isinstance(train.inputs, list)
    if spec.labels == "step":
        of_word = {"label of the word": label_of_word(train, test)} if _by_words(spec) else {}
        return {"majority": majority(train, test, "step"), **of_word}
    name, baseline = ("bag of n-grams", bag_of_ngrams) if text else ("1 nearest neighbor", nearest_neighbor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"majority": majority(train, test), name: baseline(train, test)}


def _by_words(spec: ClassificationSpec) -> bool:
    return spec.tokenizer is not None and spec.tokenizer["kind"] == "words"


class Baselines(pl.Callback):
    """Prints the baselines' test accuracy beside the model's, and logs it (``baseline_*``)."""

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: ClassificationData = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        if not data.baselines or not trainer.is_global_zero:
            return
        train, test = data.source.read("train"), data.source.read("test")
        if train is None or test is None or train.labels is None or test.labels is None:
            return
        assert data.spec is not None
        accuracies = measure(train, test, data.spec)
        own = float(trainer.callback_metrics["test_accuracy"])
        for name, accuracy in (*accuracies.items(), ("this model", own)):
            print(f"  test accuracy  {accuracy:.4f}  {name}", flush=True)
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"baseline_{k.replace(' ', '_')}": v for k, v in accuracies.items()}, trainer.global_step
            )
