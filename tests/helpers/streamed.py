"""A small language model on streams, for the command line: carried state, random chunks, streams that end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MetricCollection

from lightning_rnn import LSTM
from lightning_rnn.data import DataSpec, Ragged, SequenceDataModule, StreamBatchSampler, Streams
from lightning_rnn.data.module import Split
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.types import SequenceBatch, State

LETTERS = 12


@dataclass(frozen=True)
class StreamedSpec(DataSpec):
    letters: int = LETTERS


def walks(count: int, seed: int) -> Ragged:
    """Random walks over the letters, of 20 to 200 steps."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(20, 200, (count,), generator=random).tolist()
    return Ragged.from_list([torch.randint(1, 4, (n,), generator=random).cumsum(0) % LETTERS for n in lengths])


class StreamedData(SequenceDataModule):
    spec_class = StreamedSpec

    def __init__(self, lanes: int = 6, chunk: int = 10, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__(lanes, lanes, num_workers=num_workers, seed=seed)
        self.chunk = chunk

    def load(self, stage: str) -> Mapping[Split, Streams]:
        self.spec = StreamedSpec()
        return {name: Streams(walks(20, i), "next") for i, name in enumerate(("train", "val", "test", "predict"))}

    def order(self, name: Split, split: Streams) -> StreamBatchSampler:
        train = name == "train"
        return StreamBatchSampler(
            split.lengths,
            self.lanes,
            self.chunk,
            shuffle=train,
            chunk_std=2.0 if train else 0.0,
            seed=self.seed,
            rank=self.rank,
            world=self.world,
        )

    @property
    def lanes(self) -> int:
        return self.batch_size * self.shares


class Net(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(LETTERS, 8), nn.Dropout(dropout)
        self.rnn, self.head = LSTM(8, 16, num_layers=2), nn.Linear(16, LETTERS)

    def forward(self, batch: SequenceBatch, state: State | None) -> tuple[Tensor, State]:
        sequence, after = self.rnn(self.embedding(batch.inputs), state, lengths=batch.lengths)
        return self.head(self.dropout(sequence)), after


class StreamedModule(SequenceModule):
    spec_class = StreamedSpec
    network: Net

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.share = dropout

    def build(self, spec: DataSpec) -> nn.Module:
        return Net(self.share)

    def build_metrics(self, spec: DataSpec, stage: Stage) -> MetricCollection:
        return MetricCollection({})

    def step(self, batch: SequenceBatch) -> StepResult:
        assert batch.lengths is not None and batch.targets is not None
        scores, state = self.network(batch, self.carry.take(batch))
        self.carry.keep(state)
        there = torch.arange(scores.shape[1], device=scores.device) < batch.lengths.unsqueeze(1)
        targets, count = batch.targets.masked_fill(~there, -100), int(there.sum())
        loss = cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum") / max(count, 1)
        return StepResult(loss, scores, targets, count)

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        return {"loss": result.loss.expand(len(batch))}
