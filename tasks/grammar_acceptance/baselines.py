"""Accuracy by kind of negative: the network beside tables of n-grams, and beside one that is blind to what is far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from rich import box
from rich.console import Console
from rich.table import Table

from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero
from lightning_rnn.training.module import StepResult
from lightning_rnn.types import SequenceBatch

from .data import GrammarData
from .grammars.automaton import Automaton
from .grammars.sampler import Sample
from .grammars.tables import Acceptor, accuracies, blind, ngrams
from .objectives import accuracy
from .sources import Strings
from .strings import StringRows

SIZES = (2, 3, 5)
NAMES = {2: "bigrams", 3: "trigrams"}


def by_kind(samples: Sequence[Sample], right: Sequence[bool], acceptors: dict[str, Acceptor]) -> dict[str, Any]:
    """Accuracy of a network (``network``) and of acceptors: of all strings, and of each kind.

    Example:
        >>> by_kind([Sample("a", True, "accepted")], [False], {"always": lambda string: True})
        {'network': {'all': 0.0, 'accepted': 0.0}, 'always': {'all': 1.0, 'accepted': 1.0}}
    """
    judged = {sample.string: sample.accepted == good for sample, good in zip(samples, right, strict=True)}
    own = accuracies(judged.__getitem__, samples)
    return {"network": own} | {name: accuracies(accepts, samples) for name, accepts in acceptors.items()}


class ByKind(pl.Callback):
    """After ``test``, prints accuracy by kind of negative, and logs that of all strings (``baseline_*``)."""

    def __init__(self) -> None:
        self._right: dict[int, bool] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._right = {}

    def on_test_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: SequenceBatch, *_: int
    ) -> None:
        assert isinstance(outputs, StepResult) and batch.ids is not None
        if isinstance(outputs.targets, dict) and "accepted" in outputs.targets:
            right = accuracy(outputs.predictions, outputs.targets).tolist()
            self._right.update(zip(batch.ids.tolist(), right, strict=True))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = gather_to_rank_zero(self._right)
        data = datamodule_of(trainer)
        rows = None if data is None else data.split("test")
        if not parts or not isinstance(data, GrammarData) or not isinstance(rows, StringRows):
            return
        right = {row: good for part in parts for row, good in part.items()}
        tables = acceptors(data.source) if isinstance(data.source, Strings) else {}
        samples = [rows.samples[row] for row in right]
        found = by_kind(samples, list(right.values()), tables)
        Console(highlight=False).print(table(samples, found))
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"baseline_{name.replace('-', '_')}": values["all"] for name, values in found.items()},
                trainer.global_step,
            )


def acceptors(source: Strings) -> dict[str, Acceptor]:
    """The tables that a source's grammar has; long n-grams of an automaton alone, others are too many to list."""
    language = source.language
    sizes = SIZES if isinstance(language, Automaton) else SIZES[:2]
    found = {NAMES.get(size, f"{size}-grams"): ngrams(language, size) for size in sizes}
    return found | {"blind": blind(language)}


def table(samples: Sequence[Sample], found: dict[str, dict[str, float]]) -> Table:
    """One row for all strings and for each kind, one column for each acceptor."""
    drawn = Table(title="test accuracy by kind", box=box.SIMPLE, title_justify="left")
    drawn.add_column("kind")
    drawn.add_column("strings", justify="right")
    for name in found:
        drawn.add_column(name, justify="right")
    kinds = ["all", "accepted", *sorted({sample.kind for sample in samples} - {"accepted"})]
    for kind in kinds:
        count = sum(kind in ("all", sample.kind) for sample in samples)
        drawn.add_row(kind, f"{count:,}", *(f"{values.get(kind, float('nan')):.4f}" for values in found.values()))
    return drawn
