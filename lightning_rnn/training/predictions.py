"""predictions.parquet and predictions.csv: the source's rows in their order, from all processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial, singledispatch
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero, write_atomically
from lightning_rnn.training.tables import Columns, encode
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
RowNumbers = npt.NDArray[np.int64]
Chunk = tuple[RowNumbers, Columns]
Layout = Callable[[pl.Trainer, RowNumbers, Columns], Columns]


def to_columns(rows: Mapping[str, Sequence[Any] | Tensor]) -> Columns:
    """Columns of a batch as lists and arrays.

    Args:
        rows: lists of B values, tensors ``[B]``, or tensors ``[B, K]``, which become columns ``name_0``, ``name_1`` ...

    Raises:
        ConfigError: a tensor with more axes.

    Example:
        >>> list(to_columns({"id": ["a", "b"], "p": torch.tensor([[0.25, 0.75], [0.5, 0.5]])}))
        ['id', 'p_0', 'p_1']
    """
    columns: Columns = {}
    for name, values in rows.items():
        if not isinstance(values, Tensor):
            columns[name] = list(values)
        elif values.ndim == 1:
            columns[name] = _to_numpy(values)
        elif values.ndim == 2:
            columns.update({f"{name}_{k}": column for k, column in enumerate(_to_numpy(values).T)})
        else:
            raise ConfigError(f"predictions: column {name} has shape {tuple(values.shape)}, not [B] or [B, K]")
    return columns


def _to_numpy(values: Tensor) -> npt.NDArray[Any]:
    values = values.detach().cpu()
    return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Columns of batches as one, in the order of their row numbers.

    Raises:
        ConfigError: the batches have different columns.

    Example:
        >>> rows, columns = join([(np.array([2, 0]), {"id": ["c", "a"]}), (np.array([1]), {"id": ["b"]})])
        >>> rows.tolist(), columns["id"]
        ([0, 1, 2], ['a', 'b', 'c'])
    """
    names = list(chunks[0][1])
    if any(list(columns) != names for _, columns in chunks):
        raise ConfigError("predictions: the batches have different columns; to_rows must give all of them the same")
    numbers = np.concatenate([rows for rows, _ in chunks])
    order = np.argsort(numbers, kind="stable")
    return numbers[order], {name: _concatenate([columns[name] for _, columns in chunks], order) for name in names}


def _concatenate(parts: Sequence[list[Any] | npt.NDArray[Any]], order: RowNumbers) -> list[Any] | npt.NDArray[Any]:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)[order]
    values = [value for part in parts for value in part]
    return [values[i] for i in order]


@singledispatch
def send_predictions(logger: Logger, columns: Columns) -> None:
    """Hand the columns of predictions.csv to a logger; one that takes no tables gets none. Others can be registered."""


class PredictionWriter(pl.Callback):
    """Writes what ``trainer.predict`` predicts to ``predictions.parquet`` and ``predictions.csv`` in the run's folder.

    Takes the columns that :meth:`SequenceModule.predict_step` returns (the first is ``id``), gathers all processes'
    rows on rank 0 (no shared file system is needed) and puts them back into the order of the source. One predict
    dataloader.

    Args:
        layout: makes the file's columns of the trainer, the row numbers int64 ``[N]`` and these columns; None: they are
            the file's.

    Raises:
        DataError: a row of the source is missing or there twice, or the folder cannot be written.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", callbacks=[PredictionWriter()])
            trainer.predict(module, datamodule, return_predictions=False)
    """

    def __init__(self, layout: Layout | None = None) -> None:
        self._layout = layout
        self._chunks: list[Chunk] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._chunks = []

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: SequenceBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch.ids is None:
            raise ConfigError("predictions cannot be joined to their rows: the batches have no ids")
        if not batch.stands_in:
            self._chunks.append((batch.ids.cpu().numpy(), to_columns(outputs)))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._chunks = self._chunks, []
        chunks = [chunk for process in gather_to_rank_zero(own) for chunk in process]
        if chunks:
            rows, columns = join(chunks)
            _check(trainer, rows)
            columns = columns if self._layout is None else self._layout(trainer, rows, columns)
            folder = Path(trainer.default_root_dir)
            for ending, content in zip(("parquet", "csv"), encode(columns), strict=True):
                write_atomically(folder / f"predictions.{ending}", partial(_write, content))
            for logger in trainer.loggers:
                send_predictions(logger, columns)
            log.info("predictions of %s rows: %s and predictions.csv", f"{len(rows):,}", folder / "predictions.parquet")


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _check(trainer: pl.Trainer, rows: RowNumbers) -> None:
    """Every row of the source once, unless ``limit_predict_batches`` left some out."""
    distinct, counts = np.unique(rows, return_counts=True)
    if len(distinct) < len(rows):
        raise DataError(f"predictions: row {distinct[counts > 1][0]} of the source came more than once")
    limit = trainer.limit_predict_batches
    complete = isinstance(limit, float) and limit == 1.0  # the integer 1 is one batch
    datamodule = datamodule_of(trainer)
    if complete and datamodule is not None:
        expected = len(datamodule.split("predict"))
        if len(distinct) != expected:
            raise DataError(f"predictions: {len(distinct)} of the source's {expected} rows came, the rest is missing")
