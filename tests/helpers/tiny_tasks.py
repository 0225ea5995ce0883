"""Every task with a tiny network and few rows, and what it gives on one process or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from processes import Gradients, quiet_trainer
from pytorch_lightning.strategies import Strategy

from lightning_rnn import plugins
from lightning_rnn.data import Digits, Examples, Source
from lightning_rnn.data.module import SequenceDataModule, Split
from lightning_rnn.training.module import SequenceModule
from lightning_rnn.training.predictions import PredictionWriter
from tasks.forecasting.callbacks import forecast_rows
from tasks.forecasting.frames import from_arrays
from tasks.forecasting.source import GivenSeries
from tasks.grammar_acceptance.sources import ContinualStreams, Strings
from tasks.rainfall.sources import SyntheticRain
from tasks.translation.numbers import Numbers

Options = dict[str, Any]


class SomeDigits(Source):
    """The first rows of a part."""

    def __init__(self, train: int, rest: int) -> None:
        self.sizes = {"train": train, "val": rest, "test": rest, "predict": rest}

    def read(self, split: Split) -> Examples:
        part = Digits().read("test" if split == "val" else split)
        assert part is not None
        return part.select(torch.arange(self.sizes[split]))


def walks(count: int) -> GivenSeries:
    """Series of unequal lengths, with missing values."""
    rng = torch.Generator().manual_seed(0)
    arrays = [50 + torch.randn(60 - 3 * i, generator=rng, dtype=torch.float64).cumsum(0).numpy() for i in range(count)]
    for array in arrays[::2]:
        array[5::7] = float("nan")
    return GivenSeries(*from_arrays(arrays, ids=[f"s{i}" for i in range(count)], season=3).split(8))


@dataclass(frozen=True)
class Row:
    """A task, a tiny network, and data of which no batch divides evenly: of ``batch`` rows, all processes together."""

    task: str
    model: Options
    source: Callable[[], Any]  # of odd numbers of rows
    few: Callable[[], Any]  # the same with fewer rows to judge than there are processes
    batch: int
    data: Options = field(default_factory=dict)
    more: int = 0  # epochs that it learns further before it is judged
    predicts: bool = True

    def module(self) -> SequenceModule:
        module = plugins.load(self.task).module(**self.model)
        module.use_optimizer({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}})
        return module

    def learned(self, module: SequenceModule, folder: Path) -> SequenceModule:
        if self.more:
            module.use_optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}})
            loop = quiet_trainer(folder, 1, self.more, precision="64-true")
            loop.fit(module, self.rows(self.source(), 1))
        return module

    def rows(self, source: Any, processes: int) -> SequenceDataModule:
        sizes = {"batch_size": self.batch // processes, "eval_batch_size": 6 // processes, "bucketing": False}
        return plugins.load(self.task).datamodule(source, **sizes, **self.data)

    def writer(self) -> PredictionWriter:
        return PredictionWriter(forecast_rows if self.task == "forecasting" else None)


TABLE = {
    "classification": Row(
        "sequence_classification",
        {"cell": "gru", "hidden_size": 6, "class_weights": "balanced"},
        lambda: SomeDigits(99, 35),
        lambda: SomeDigits(99, 2),
        batch=24,
        data={"baselines": False},
    ),
    "strings": Row(
        "grammar_acceptance",
        {"hidden_size": 6},
        lambda: Strings(rows=61, eval_rows=35),
        lambda: Strings(rows=61, eval_rows=2),
        batch=18,
    ),
    "streams": Row(
        "grammar_acceptance",
        {"objective": "predict", "hidden_size": 6},
        lambda: ContinualStreams(streams=9, steps=60, eval_streams=5, eval_steps=600, chunk=20),
        lambda: ContinualStreams(streams=9, steps=60, eval_streams=2, eval_steps=600, chunk=20),
        batch=6,
        predicts=False,
    ),
    "owa": Row(
        "forecasting",
        {"hidden_size": 6, "loss": "owa"},
        lambda: walks(7),
        lambda: walks(2),
        batch=54,
        data={"horizon": 4, "lookback": 8, "baselines": False},
    ),
    "quantiles": Row(
        "forecasting",
        {"hidden_size": 6, "head": "quantile", "conformal": True, "levels": [0.3, 0.7]},
        lambda: walks(7),
        lambda: walks(2),
        batch=60,
        data={"horizon": 4, "lookback": 8, "baselines": False},
    ),
    "rainfall": Row(
        "rainfall",
        {"hidden_sizes": [6]},
        lambda: SyntheticRain(train_hours=150, test_hours=45),
        lambda: SyntheticRain(train_hours=150, test_hours=2),
        batch=30,
        data={"baselines": False},
    ),
    "translation": Row(
        "translation",
        {
            "cell": "gru",
            "decoder": "luong",
            "decoder_layers": 1,
            "bidirectional": False,
            "embedding_size": 24,
            "hidden_size": 24,
            "beam_size": 2,
            "val_sentences": 9,
        },
        lambda: Numbers(train=401, val=13, test=13, highest=9999),
        lambda: Numbers(train=401, val=2, test=2, highest=9999),
        batch=18,
        data={"vocab_size": 60},
        more=3,
    ),
}


def trained(
    row: Row,
    source: Any,
    folder: Path,
    processes: int,
    precision: Literal["32-true", "64-true"] = "64-true",
    strategy: Strategy | None = None,
) -> tuple[SequenceModule, Options, torch.Tensor]:
    """A module after training from one start, its metrics, the gradients of all its steps."""
    folder.mkdir(exist_ok=True)
    pl.seed_everything(0, verbose=False)
    data, module = row.rows(source, processes), row.module()
    loop = quiet_trainer(folder, processes, 1, [Gradients()], precision, strategy)
    loop.fit(module, data)
    found = {name: float(value) for name, value in loop.callback_metrics.items()}
    return module, found, torch.load(folder / "gradients.pt") if loop.is_global_zero else torch.zeros(0)


def judged(row: Row, module: SequenceModule, source: Any, folder: Path, processes: int) -> tuple[Options, str]:
    """Metrics of the test part, and the predictions' file."""
    data = row.rows(source, processes)
    data.spec = module.spec
    loop = quiet_trainer(folder, processes, 1, [row.writer()], "64-true")
    found = dict(loop.test(module, data, verbose=False)[0])
    if row.predicts:
        loop.predict(module, data, return_predictions=False)
    return found, (folder / "predictions.csv").read_text() if row.predicts else ""
