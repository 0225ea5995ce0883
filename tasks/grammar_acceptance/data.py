"""Strings of a grammar, or rows of a stress problem, as batches."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from matplotlib.axes import Axes

from lightning_rnn.data import SequenceDataModule, SplitData, StreamBatchSampler
from lightning_rnn.data.module import PARTS, BatchOrder, Split
from lightning_rnn.errors import DataError

from .problems.problem import GrammarSource
from .sources import Strings
from .spec import GrammarSpec
from .strings import StringRows, StringStreams


class GrammarData(SequenceDataModule):
    """Strings that a grammar accepts or rejects, or a stress problem.

    Args:
        source: where rows come from: one of :mod:`tasks.grammar_acceptance.sources`, or a problem of
            :mod:`tasks.grammar_acceptance.problems`; None: :class:`Strings` of the embedded Reber grammar.
        batch_size: rows per batch and process; the last two batches of an epoch share what is left.
        eval_batch_size: the same for validation, test and predict; None is four times ``batch_size``.
        bucketing: whether rows of like length are put together.
        min_batches: a training epoch has at least this many batches: small parts are gone through several times.
        num_workers: processes that fetch batches; 0 is the main one.
        seed: of the order of batches.
        max_tokens: steps per batch and process, padding counted, at most; None is no bound.

    Example:
        >>> data = GrammarData(batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).targets["accepted"].shape
        torch.Size([8])
    """

    spec_class = GrammarSpec
    spec: GrammarSpec | None

    def __init__(
        self,
        source: GrammarSource | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        bucketing: bool = True,
        min_batches: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, bucketing, min_batches, num_workers, seed, max_tokens)
        self.source = source or Strings()

    def load(self, stage: str) -> Mapping[Split, SplitData]:
        spec = self.source.spec()
        if self.spec is not None and spec.alphabet != self.spec.alphabet:
            raise DataError(
                f"{spec.name} has the symbols {spec.alphabet or 'of a problem'}, the model was trained on those of "
                f"{self.spec.name}, {self.spec.alphabet or 'a problem'}: give it strings of that grammar"
            )
        self.spec = self.spec or spec
        found = {name: self.source.split(name) for name in PARTS[stage]}
        return {name: split for name, split in found.items() if split is not None}

    def order(self, name: Split, split: SplitData) -> BatchOrder:
        if not isinstance(split, StringStreams):
            return super().order(name, split)
        train = name == "train"
        lanes = self.batch_size * self.shares if train else min(self.eval_batch_size * self.world, len(split))
        world = self.world if train else min(self.world, lanes)
        return StreamBatchSampler(
            split.lengths, lanes, split.chunk, shuffle=train, seed=self.seed, rank=self.rank, world=world
        )

    def draw(self, axes: Axes, split: Split, row: int) -> None:
        rows = self.split(split)
        if not isinstance(rows, StringRows):
            super().draw(axes, split, row)
            return
        string = textwrap.fill(rows.samples[row].string, 30)
        axes.text(0.5, 0.5, string, ha="center", va="center", family="monospace", parse_math=False)
        axes.set_axis_off()
