"""The loader, bucketed training and Lightning's own cost, each beside what it is compared with: interleaved, medians.

    python benchmarks/data.py [--part loader tokens waiting lightning] [--rounds 7] [--write]

``loader``: the loader alone, MNIST's shape against a per-item ``DataLoader`` with the default collate, Multi30k's
English lengths against one with ``pad_sequence``. ``tokens``: valid tokens a second of training a bidirectional LSTM at
Multi30k's and IMDB's lengths, bucketed against random batches of the same size. ``waiting``: share of a training epoch
on MNIST's rows that is spent waiting for data. ``lightning``: a step under the trainer as the command line sets it up,
against the same steps in a bare PyTorch loop. One thread.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", JSONARGPARSE_DEPRECATION_WARNINGS="off")

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_rnn import LSTM
from lightning_rnn.data import Ragged, SequenceDataModule, SequenceDataset
from lightning_rnn.data.lines import read_lines
from lightning_rnn.data.module import DataSpec, Split
from lightning_rnn.paths import data_path
from lightning_rnn.runtime import tune_cpu
from lightning_rnn.training.checkpoints import AtomicCheckpointIO
from lightning_rnn.training.console import EpochLines
from lightning_rnn.training.loggers import CSVLogger
from lightning_rnn.training.non_finite import NonFinite
from lightning_rnn.training.resume import LastCheckpoint, StepSeed
from tasks.sequence_classification import SequenceClassifier
from tasks.sequence_classification.data import ClassificationSpec

RESULTS = Path(__file__).resolve().parent / "results/data.md"
Lengths = Any  # int64 array [N]


class Prepared(SequenceDataModule):
    """Data that is there already."""

    spec_class = DataSpec

    def __init__(self, data: SequenceDataset, spec: DataSpec, **options: Any) -> None:
        super().__init__(**options)
        self.data, self.prepared = data, spec

    def load(self, stage: str) -> dict[Split, Any]:
        self.spec = self.prepared
        return {"train": self.data}


def medians(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each measure, taken in turns; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            value = call()
            if number:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def per_batch(loader: Iterable[Any], limit: int = 300) -> float:
    """Microseconds a batch."""
    count, start = 0, time.perf_counter()
    for _ in loader:
        count += 1
        if count == limit:
            break
    return (time.perf_counter() - start) / count * 1e6


def loader_of(data: SequenceDataset, **options: Any) -> Iterable[Any]:
    """The training loader that a datamodule gives."""
    module = Prepared(data, DataSpec(), **options)
    module.setup("fit")
    return module.train_dataloader()


class Items(Dataset[tuple[Tensor, Tensor]]):
    """One row at a time, as most datasets are written."""

    def __init__(self, rows: list[Tensor], targets: Tensor) -> None:
        self.rows, self.targets = rows, targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.rows[row], self.targets[row]


def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """The usual collate function."""
    rows, targets = zip(*items, strict=True)
    return pad_sequence(list(rows), batch_first=True), torch.tensor([len(row) for row in rows]), torch.stack(targets)


def multi30k() -> Lengths:
    """Words of the English training sentences."""
    return np.array([len(line.split()) for line in read_lines(data_path("multi30k/raw/train.en.gz"))])


def imdb() -> Lengths:
    """Log-normal, mean 234, 95th percentile 598, cut at 2,470."""
    sigma = 0.74
    drawn = np.random.default_rng(0).lognormal(math.log(234) - sigma**2 / 2, sigma, 25_000)
    return drawn.clip(1, 2470).astype(np.int64)


def tokens_of(lengths: Lengths) -> SequenceDataset:
    """Token ids of these lengths, with a label each."""
    random = torch.Generator().manual_seed(0)
    values = torch.randint(4, 1000, (int(lengths.sum()),), generator=random)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    return SequenceDataset(Ragged(values, offsets), torch.randint(0, 2, (len(lengths),), generator=random))


def loader(rounds: int) -> list[str]:
    """Microseconds a batch, and how many times faster."""
    images, digits = torch.rand(60_000, 28, 28), torch.randint(0, 10, (60_000,))
    ours = SequenceDataset(Ragged.from_dense(images), digits)
    text = tokens_of(multi30k())
    items = Items(
        [text.inputs[i] for i in range(len(text))], text.targets if text.targets is not None else torch.zeros(0)
    )
    found = []
    for name, size, theirs, data in (
        ("60,000 × 28 × 28, default collate", 150, DataLoader(TensorDataset(images, digits), 150, shuffle=True), ours),
        ("Multi30k's lengths, pad_sequence", 128, DataLoader(items, 128, shuffle=True, collate_fn=padded), text),
    ):
        mine = loader_of(data, batch_size=size)
        times = medians({"theirs": partial(per_batch, theirs), "ours": partial(per_batch, mine)}, rounds)
        found.append(
            f"| {name}, batch {size} | {times['theirs']:.0f} µs | {times['ours']:.0f} µs | "
            f"{times['theirs'] / times['ours']:.1f} × |"
        )
    return ["| loader alone | per item | ours | ratio |", "|---|---|---|---|", *found]


class Net(nn.Module):
    """Embedding, bidirectional LSTM, linear; ours or torch's."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer, self.embedding, self.head = layer, nn.Embedding(1000, 64), nn.Linear(256, 2)
        self.rnn: nn.Module = (
            LSTM(64, 128, bidirectional=True)
            if layer == "ours"
            else nn.LSTM(64, 128, bidirectional=True, batch_first=True)
        )

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(inputs)
        if self.layer == "ours":
            return self.head(self.rnn(x, lengths=lengths).last)  # type: ignore[no-any-return]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0].transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


def tokens_a_second(net: Net, batches: list[Any]) -> float:
    """Valid tokens a second of training on these batches."""
    optimizer, count, start = torch.optim.Adam(net.parameters()), 0, time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        cross_entropy(net(batch.inputs, batch.lengths), batch.targets).backward()
        optimizer.step()
        count += int(batch.lengths.sum())
    return count / (time.perf_counter() - start)


def tokens(rounds: int) -> list[str]:
    """Valid tokens a second."""
    lines = ["| lengths, batch 32 | layer | random | bucketed | ratio |", "|---|---|---|---|---|"]
    for name, lengths, count, layers in (
        ("Multi30k", multi30k(), 40, ("ours", "torch.nn, packed")),
        ("IMDB", imdb(), 6, ("ours",)),
    ):
        data = tokens_of(lengths)
        kinds = ("random", "bucketed")
        loaders = {kind: loader_of(data, batch_size=32, bucketing=kind == "bucketed") for kind in kinds}
        batches = {kind: list(itertools.islice(loader, count)) for kind, loader in loaders.items()}
        for layer in layers:
            net = Net(layer)
            calls = {kind: partial(tokens_a_second, net, rows) for kind, rows in batches.items()}
            speed = medians(calls, rounds)
            ratio = speed["bucketed"] / speed["random"]
            lines.append(f"| {name} | {layer} | {speed['random']:,.0f} | {speed['bucketed']:,.0f} | {ratio:.2f} × |")
    return lines


def mnist() -> tuple[SequenceDataset, ClassificationSpec]:
    """Random images of MNIST's shape and number."""
    random = torch.Generator().manual_seed(0)
    images, digits = torch.rand(60_000, 28, 28, generator=random), torch.randint(0, 10, (60_000,), generator=random)
    spec = ClassificationSpec("series", 28, [str(i) for i in range(10)], [6000] * 10, 28, [0.5] * 28, [0.3] * 28)
    return SequenceDataset(Ragged.from_dense(images), digits), spec


def fit(steps: int, folder: Path, units: int = 150, batch: int = 150, **options: Any) -> tuple[float, pl.Trainer]:
    """Seconds a step of a training as the command line sets it up, without its first steps."""
    data, spec = mnist()
    marks: list[float] = []

    class Clock(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx in (20, steps - 1):
                marks.append(time.perf_counter())

    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        callbacks=[EpochLines(), StepSeed(0), LastCheckpoint(), NonFinite(), Clock()],
        plugins=[AtomicCheckpointIO()],
        logger=CSVLogger(folder),
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **options,
    )
    module = SequenceClassifier(cell="lstm", hidden_size=units)
    trainer.fit(module, Prepared(data, spec, batch_size=batch))
    return (marks[1] - marks[0]) / (steps - 21), trainer


def bare(steps: int, units: int, batch_size: int) -> float:
    """Seconds a step of the same network, loss, optimizer and batches in a loop."""
    data, spec = mnist()
    module = SequenceClassifier(cell="lstm", hidden_size=units)
    network = module.build(spec)
    optimizer, start = torch.optim.Adam(network.parameters(), lr=1e-3), 0.0
    for number, batch in enumerate(loader_of(data, batch_size=batch_size)):
        if number == 20:
            start = time.perf_counter()
        if number == steps - 1:
            break
        optimizer.zero_grad()
        cross_entropy(network(batch.inputs, batch.lengths), batch.targets).backward()
        optimizer.step()
    return (time.perf_counter() - start) / (steps - 21)


def lightning(rounds: int) -> list[str]:
    """Milliseconds a step, at the shape of the book's exercise and at that of mnist_rows_lstm.yaml."""
    lines = ["| LSTM on MNIST's rows | bare loop, ms a step | trainer | more |", "|---|---|---|---|"]
    for units, batch in ((150, 150), (64, 128)):
        with tempfile.TemporaryDirectory() as folder:
            calls = {
                "bare": partial(bare, 220, units, batch),
                "trainer": lambda u=units, b=batch, f=folder: fit(220, Path(f), u, b)[0],  # type: ignore[misc]
            }
            times = medians(calls, rounds)
        more = times["trainer"] / times["bare"] - 1
        line = f"{times['bare'] * 1e3:.2f} | {times['trainer'] * 1e3:.2f} | {more:.1%} |"
        lines.append(f"| {units} units, batch {batch} | {line}")
    return lines


def waiting(rounds: int) -> list[str]:
    """Share of an epoch that is spent in the loader."""
    shares = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            _, trainer = fit(220, Path(folder), profiler="simple")
            spent = trainer.profiler.recorded_durations  # type: ignore[attr-defined]  # the simple one's
            shares.append(sum(spent["[_TrainingEpochLoop].train_dataloader_next"]) / sum(spent["run_training_epoch"]))
    share = statistics.median(shares)
    return [f"Waiting for data on MNIST's rows, LSTM of 150 units, batch 150: {share:.2%} of the training loop."]


PARTS: dict[str, Callable[[int], list[str]]] = {
    "loader": loader,
    "tokens": tokens,
    "waiting": waiting,
    "lightning": lightning,
}


def main() -> None:
    """Print, and keep where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    tune_cpu()
    torch.set_num_threads(1)
    sections = [PARTS[name](options.rounds) for name in options.part]
    text = "\n\n".join("\n".join(lines) for lines in sections)
    print(text)
    if options.write:
        about = f"{platform.machine()}, {os.cpu_count()} cores, one thread, torch {torch.__version__}"
        RESULTS.write_text(
            f"# Data\n\n    {' '.join(['python', 'benchmarks/data.py', *sys.argv[1:]])}\n\n{about}\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
