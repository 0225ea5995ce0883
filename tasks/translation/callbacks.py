"""Figures and tables of translations, drawn after validation and test, and handed to the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from lightning_rnn.data.module import Split
from lightning_rnn.errors import ConfigError
from lightning_rnn.training.figures import EvaluationFigure
from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero, write_atomically
from lightning_rnn.training.module import SequenceModule, StepResult
from lightning_rnn.training.tables import Columns, encode
from lightning_rnn.types import SequenceBatch

from .data import TranslationRows
from .decoding import DecodingOptions, Translation
from .figures import Bucket, Heat, bucket_name, bucket_of, draw_attention, draw_lengths, table_columns
from .judging import TranslatedResult
from .metrics import SCORES, CorpusScore
from .words import merged

if TYPE_CHECKING:
    from .module import Translator

SHOWN = 4  # sentences whose attention is drawn
WORDS = range(5, 15)  # words of a sentence that is drawn, where there are such
TABLE = "translations"
Best = dict[int, str]  # translations by row


def rows_of(trainer: pl.Trainer, split: Split) -> TranslationRows:
    """The rows of a split.

    Raises:
        ConfigError: the trainer has no datamodule of translations.
    """
    datamodule = datamodule_of(trainer)
    rows = None if datamodule is None else datamodule.split(split)
    if not isinstance(rows, TranslationRows):
        raise ConfigError("figures of translations need the sentences of a TranslationData, the trainer has none")
    return rows


def best_of(result: StepResult) -> Best:
    """The best translations that a step gave, by row."""
    found = result.translations if isinstance(result, TranslatedResult) else {}
    return {row: translations[0].text for row, translations in found.items()}


class LengthFigure(EvaluationFigure[Best]):
    """Draws ``bleu_by_length_val.png`` and ``bleu_by_length_test.png``."""

    name = "bleu_by_length"

    def reset(self) -> None:
        self.state = {}

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        self.state |= best_of(result)

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[Best]) -> Figure:
        rows, best = rows_of(trainer, split), {row: text for state in states for row, text in state.items()}
        references, groups = rows.references or [], dict[int, list[int]]()
        for row in best:
            groups.setdefault(bucket_of(len(rows.sources[row].split())), []).append(row)
        buckets = [
            Bucket(bucket_name(number), bleu([best[i] for i in group], [references[i] for i in group]), len(group))
            for number, group in sorted(groups.items())
        ]
        whole = bleu(list(best.values()), [references[row] for row in best])
        return draw_lengths(buckets, f"{split}: BLEU {whole:.1f} of {len(best):,} sentences")


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """SacreBLEU's BLEU of a corpus; 0 of none."""
    score = CorpusScore(SCORES["bleu"]())
    score.update(hypotheses, references)
    return float(score.detail().score)  # on this process alone, where compute would wait for the others


class AttentionFigure(EvaluationFigure[int]):
    """Draws ``attention_val.png`` and ``attention_test.png``: a few sentences, each by greedy and by beam search.

    The state is how many batches were seen: the sentences are translated when they are drawn.
    """

    name = "attention"
    asks_network = True

    def reset(self) -> None:
        self.state = 0

    def add(self, batch: SequenceBatch, result: StepResult) -> None:
        self.state += 1

    def draw(self, trainer: pl.Trainer, module: SequenceModule, split: Split, states: Sequence[int]) -> Figure:
        texts = chosen(rows_of(trainer, split).sources)
        return draw_attention(heats(cast("Translator", module), texts), f"{split}: where each word looks")


def chosen(sources: Sequence[str]) -> list[str]:
    """The first sentences of a length that is easy to read; of others as many as are lacking.

    Example:
        >>> chosen(["one", "a man in a blue shirt"] * 3)[:3]
        ['a man in a blue shirt', 'a man in a blue shirt', 'a man in a blue shirt']
    """
    distinct = list(dict.fromkeys(sources)) if len(set(sources)) >= SHOWN else list(sources)
    return sorted(distinct, key=lambda text: len(text.split()) not in WORDS)[:SHOWN]


def heats(module: Translator, texts: Sequence[str]) -> list[list[Heat]]:
    """Attention of each sentence by greedy and by beam search."""
    beam = module.decoding.beam
    ways = {"greedy": replace(beam, beam_size=1), f"beam {beam.beam_size}": beam}
    found = {name: module.translator(_with(module.decoding, way)).translate(texts) for name, way in ways.items()}
    kinds = module.codec.source.kind, module.codec.target.kind
    return [[_heat(name, found[name][row][0], kinds) for name in ways] for row in range(len(texts))]


def _with(decoding: DecodingOptions, beam: Any) -> DecodingOptions:
    return replace(decoding, beam=beam)


def _heat(name: str, one: Translation, kinds: Any) -> Heat:
    source, target, weights = merged(one, kinds)
    assert weights is not None
    return Heat(f"{name}, score {one.score:.2f}", source, target, weights.numpy())


@singledispatch
def send_table(logger: Logger, name: str, columns: Columns, step: int) -> None:
    """Hand a table to a logger; one that takes no tables gets none. Other kinds of loggers can be registered."""


@send_table.register
def _(logger: WandbLogger, name: str, columns: Columns, step: int) -> None:
    data = [list(row) for row in zip(*columns.values(), strict=True)]
    logger.log_text(name, columns=list(columns), data=data, step=step)


@send_table.register
def _(logger: TensorBoardLogger, name: str, columns: Columns, step: int) -> None:
    lines = [
        " | ".join(map(str, row))
        for row in ((*columns,), ("---",) * len(columns), *zip(*columns.values(), strict=True))
    ]
    logger.experiment.add_text(name, "\n".join(f"| {line} |" for line in lines), step)


class TranslationTable(pl.Callback):
    """Keeps the translations of a few validation sentences of every epoch: ``translations.csv`` in the run's folder.

    The loggers get the epoch's as a table. The history travels in the checkpoint, so a resumed run has it all.

    Args:
        sentences: how many, from the first.
    """

    def __init__(self, sentences: int = 8) -> None:
        self.sentences = sentences
        self.history: list[dict[str, Any]] = []
        self._best: Best = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._best = {}

    def on_validation_batch_end(  # Lightning's signature
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._best |= {row: text for row, text in best_of(outputs).items() if row < self.sentences}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        states = gather_to_rank_zero(self._best)
        best = {row: text for state in states for row, text in state.items()}
        if trainer.state.fn != "fit" or trainer.sanity_checking or not best:
            return
        rows = rows_of(trainer, "val")
        assert rows.references is not None
        epoch = [
            {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "id": str(rows.row_id(row))}
            | {"source": rows.sources[row], "reference": rows.references[row], "translation": best[row]}
            for row in sorted(best)
        ]
        self.history += epoch
        content = encode(table_columns(self.history))[1]
        write_atomically(Path(trainer.default_root_dir) / f"{TABLE}.csv", lambda file: file.write(content))
        for logger in trainer.loggers:
            send_table(logger, TABLE, table_columns(epoch), trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The history up to now."""
        return {"history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's history."""
        self.history = list(state_dict["history"])


def figures(attention: bool) -> list[pl.Callback]:
    """What a run draws and keeps beside its learning curves; ``attention``: whether there is any."""
    return [*([AttentionFigure()] if attention else []), LengthFigure(), TranslationTable()]
