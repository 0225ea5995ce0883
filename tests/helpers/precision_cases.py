"""Every task on its embedded source, and how far bf16-mixed may be from float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.forecasting import Forecaster, ForecastingData
from tasks.forecasting.embedded import Airline
from tasks.generation import GenerationData, Generator
from tasks.grammar_acceptance import GrammarData, GrammarModel
from tasks.grammar_acceptance.sources import Strings
from tasks.language_modeling import LanguageData, LanguageModel
from tasks.rainfall import RainfallData, RainfallRegressor
from tasks.rainfall.sources import SyntheticRain
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.translation import TranslationData, Translator
from tasks.translation.sources import Numbers
from tasks.video_classification import VideoClassifier, VideoData
from tasks.video_classification.moving import MovingDigits

# Tasks


@dataclass(frozen=True)
class Tiny:
    """A task on its embedded source, and how far bf16-mixed may be from float32 after 20 steps.

    Attributes:
        make: model and data.
        loss: of both losses, relative.
        metrics: absolute, of the metrics that the loss does not already bound.
    """

    make: Callable[[], tuple[Any, Any]]
    loss: float
    metrics: dict[str, float]


TASKS = {
    "sequence_classification": Tiny(
        lambda: (SequenceClassifier(cell="gru", hidden_size=32), ClassificationData()),
        2e-3,
        {"val_accuracy": 0.03},
    ),
    "grammar_acceptance": Tiny(
        lambda: (GrammarModel(cell="lstm", hidden_size=16), GrammarData(Strings(rows=300, eval_rows=100))),
        1e-3,
        {"val_accuracy": 0.03},
    ),
    "forecasting": Tiny(
        lambda: (Forecaster(hidden_size=16), ForecastingData(Airline(), lookback=24)),
        2e-3,
        {"val_smape": 0.2},
    ),
    "rainfall": Tiny(
        lambda: (
            RainfallRegressor(hidden_sizes=[16]),
            RainfallData(SyntheticRain(train_hours=500, test_hours=100), batch_size=16),
        ),
        1.5e-2,
        {"val_mae": 0.03},
    ),
    "translation": Tiny(
        lambda: (
            Translator(embedding_size=16, hidden_size=16),
            TranslationData(Numbers(train=300, val=40, test=30, highest=999), vocab_size=60, batch_size=16),
        ),
        1e-3,
        {"val_chrf": 1.0},
    ),
    "language_modeling": Tiny(
        lambda: (LanguageModel(embedding_size=16, hidden_size=16), LanguageData(min_count=3, chunk=20)),
        1e-3,
        {"val_bits_per_character": 0.01},
    ),
    "generation": Tiny(
        lambda: (Generator(hidden_size=16, embedding_size=8, val_rows=0), GenerationData()),
        5e-3,
        {},
    ),
    "video_classification": Tiny(
        lambda: (
            VideoClassifier(hidden_size=16),
            VideoData(MovingDigits(train=160, val=40, test=10), batch_size=16),
        ),
        5e-3,
        {"val_accuracy": 0.1},
    ),
}
