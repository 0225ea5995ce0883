"""A tiny task: series that fall, stay or rise, with a module and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import nn
from torch.nn.functional import cross_entropy
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_rnn import GRU
from lightning_rnn.data.dataset import SequenceDataset
from lightning_rnn.data.module import DataSpec, SequenceDataModule, Split
from lightning_rnn.data.ragged import Ragged
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.types import SequenceBatch

NAMES = ["falling", "level", "rising"]


@dataclass(frozen=True)
class WaveSpec(DataSpec):
    class_names: list[str]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = GRU(1, 8), nn.Linear(8, 3)

    def forward(self, batch: SequenceBatch) -> torch.Tensor:
        out: torch.Tensor = self.head(self.gru(batch.inputs, lengths=batch.lengths).last)
        return out


class Classifier(SequenceModule):
    spec_class = WaveSpec

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()

    def build(self, spec: DataSpec) -> nn.Module:
        return Net()

    def build_metrics(self, spec: DataSpec, stage: Stage) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(3, average="micro")})

    def step(self, batch: SequenceBatch) -> StepResult:
        logits, targets = self.network(batch), cast(torch.Tensor, batch.targets)
        return StepResult(cross_entropy(logits, targets), logits, targets, len(batch))

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        said = [NAMES[i] for i in result.predictions.argmax(-1).tolist()]
        assert batch.lengths is not None
        return {"said": said, "length": batch.lengths, "p": result.predictions.softmax(-1)}


def waves(n: int, seed: int) -> SequenceDataset:
    """Noisy series of 3 to 12 steps that fall, stay or rise; row ``i`` is called ``w<i>``."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (n,), generator=generator)
    lengths = torch.randint(3, 13, (n,), generator=generator)
    rows = [
        (torch.linspace(-1, 1, int(t)) * (y - 1) + 0.7 * torch.randn(int(t), generator=generator)).unsqueeze(1)
        for t, y in zip(lengths, targets, strict=True)
    ]
    return SequenceDataset(Ragged.from_list(rows), targets, [f"w{i}" for i in range(n)])


class Waves(SequenceDataModule):
    spec_class = WaveSpec

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__(batch_size, eval_batch_size=4)

    def load(self, stage: str) -> Mapping[Split, SequenceDataset]:
        self.spec = WaveSpec(NAMES)
        return {"train": waves(60, 0), "val": waves(31, 1), "test": waves(33, 2), "predict": waves(33, 2)}


def make_trainer(
    folder: Path, callbacks: list[pl.Callback], logger: list[Logger] | None = None, **options: Any
) -> pl.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "accelerator": "cpu",
        "devices": 1,
        "use_distributed_sampler": False,
        "log_every_n_steps": 4,
    }
    return pl.Trainer(default_root_dir=folder, callbacks=callbacks, logger=logger or False, **{**settings, **options})
