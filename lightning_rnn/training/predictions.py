"""predictions.parquet and predictions.csv: the source's rows in their order, from all processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.hooks import datamodule_of, gather_to_rank_zero, write_atomically
from lightning_rnn.types import SequenceBatch

log = logging.getLogger(__name__)
RowNumbers = npt.NDArray[np.int64]
Chunk = tuple[RowNumbers, polars.DataFrame]


def to_frame(rows: Mapping[str, Sequence[Any] | Tensor]) -> polars.DataFrame:
    """Columns of a batch as a table.

    Args:
        rows: lists of B values, tensors ``[B]``, or tensors ``[B, K]``, which become columns ``name_0``, ``name_1`` ...

    Raises:
        ConfigError: a tensor with more axes.

    Example:
        >>> to_frame({"id": ["a", "b"], "p": torch.tensor([[0.25, 0.75], [0.5, 0.5]])}).columns
        ['id', 'p_0', 'p_1']
    """
    columns: dict[str, Any] = {}
    for name, values in rows.items():
        if not isinstance(values, Tensor):
            columns[name] = list(values)
        elif values.ndim == 1:
            columns[name] = _to_numpy(values)
        elif values.ndim == 2:
            columns.update({f"{name}_{k}": column for k, column in enumerate(_to_numpy(values).T)})
        else:
            raise ConfigError(f"predictions: column {name} has shape {tuple(values.shape)}, not [B] or [B, K]")
    return polars.DataFrame(columns)


def _to_numpy(values: Tensor) -> npt.NDArray[Any]:
    values = values.detach().cpu()
    return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Tables of batches as one, in the order of their row numbers.

    Example:
        >>> chunks = [(np.array([2, 0]), to_frame({"id": ["c", "a"]})), (np.array([1]), to_frame({"id": ["b"]}))]
        >>> rows, frame = join(chunks)
        >>> rows.tolist(), frame["id"].to_list()
        ([0, 1, 2], ['a', 'b', 'c'])
    """
    numbers = np.concatenate([rows for rows, _ in chunks])
    order = np.argsort(numbers, kind="stable")
    frame = polars.concat([frame for _, frame in chunks], how="vertical_relaxed")
    return numbers[order], frame[order]


class PredictionWriter(pl.Callback):
    """Writes what ``trainer.predict`` predicts to ``predictions.parquet`` and ``predictions.csv`` in the run's folder.

    Takes the columns that :meth:`SequenceModule.predict_step` returns (the first is ``id``), gathers all processes'
    rows on rank 0 (no shared file system is needed) and puts them back into the order of the source. One predict
    dataloader.

    Raises:
        DataError: a row of the source is missing or there twice, or the folder cannot be written.

    Example:
        .. code-block:: python

            trainer = pl.Trainer(default_root_dir="runs/demo", callbacks=[PredictionWriter()])
            trainer.predict(module, datamodule, return_predictions=False)
    """

    def __init__(self) -> None:
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
        self._chunks.append((batch.ids.cpu().numpy(), to_frame(outputs)))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own, self._chunks = self._chunks, []
        chunks = [chunk for process in gather_to_rank_zero(own) for chunk in process]
        if chunks:
            rows, frame = join(chunks)
            _check(trainer, rows)
            self._write(Path(trainer.default_root_dir), frame)

    def _write(self, folder: Path, frame: polars.DataFrame) -> None:
        parquet, text = folder / "predictions.parquet", folder / "predictions.csv"
        write_atomically(parquet, lambda file: frame.write_parquet(file))
        write_atomically(text, lambda file: frame.write_csv(file))
        log.info("predictions of %s rows: %s and %s", f"{len(frame):,}", parquet, text)


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
