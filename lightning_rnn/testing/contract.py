"""The contract that every task keeps, as a test: ``check_task("name")``."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn import plugins
from lightning_rnn.data.dataset import SplitData
from lightning_rnn.data.lanes import Chunk
from lightning_rnn.data.module import SequenceDataModule
from lightning_rnn.training.checkpoints import LAST, AtomicCheckpointIO, read_checkpoint
from lightning_rnn.training.module import Rows, SequenceModule
from lightning_rnn.training.predictions import PredictionWriter
from lightning_rnn.training.resume import LastCheckpoint, StepSeed
from lightning_rnn.types import SequenceBatch

ROWS = 6  # rows of the validation part that the properties are checked on


def check_task(name: str) -> None:
    """Train an installed task on its embedded source for a few steps and hold it to the contract.

    Every constructor argument has a type and a default; it trains; padding, the order of a batch and its size change
    no prediction and no loss; chunks of a stream with the state carried give what the whole gives; a checkpoint loads
    as plain values and predicts the same; predictions are joined by id; the order of batches is a function of (seed,
    epoch) and goes on where it stopped; a run that is stopped and resumed has the weights of the run that was not.

    Args:
        name: as in the entry point.

    Raises:
        AssertionError: with what does not hold.
        ConfigError: the task cannot be loaded.

    Example:
        .. code-block:: python

            def test_contract():
                check_task("rain")
    """
    task = plugins.load(name)
    check_constructor(task.module)
    check_constructor(task.datamodule)
    with tempfile.TemporaryDirectory() as folder, _seeded():
        data, module = task.datamodule(), task.module()
        trainer = _trainer(Path(folder), max_steps=3)
        trainer.fit(module, data)
        assert torch.isfinite(trainer.callback_metrics["train_loss"]), f"{name}: the training loss is not finite"
        check_invariances(module, data)
        check_carried(module, data)
        check_checkpoint(trainer, module, data, Path(folder))
        check_predictions(trainer, module, data, Path(folder))
        check_order(task.datamodule)
        check_resume(task, Path(folder))


def check_constructor(cls: type) -> None:
    """Every argument has a type and a default."""
    for parameter in inspect.signature(cls).parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD, f"{cls.__name__} passes **{parameter.name} through"
        assert parameter.annotation is not parameter.empty, f"{cls.__name__}({parameter.name}) has no type"
        assert parameter.default is not parameter.empty, f"{cls.__name__}({parameter.name}) has no default"


def check_invariances(module: SequenceModule, data: SequenceDataModule) -> None:
    """Padding, order and size of a batch change nothing."""
    module.eval()
    split = data.split("val")
    rows = first_keys(split)
    whole = split.__getitems__(rows)
    expected, loss = _run(module, whole)
    padded, padded_loss = _run(module, _padded(whole, 5))
    _same(expected, padded, "extra padding changes predictions")
    torch.testing.assert_close(loss, padded_loss, msg="extra padding changes the loss")
    turned, turned_loss = _run(module, split.__getitems__(rows[::-1]))
    _same(expected, {key: column[::-1] for key, column in turned.items()}, "the order of a batch changes predictions")
    torch.testing.assert_close(loss, turned_loss, msg="the order of a batch changes the loss")
    alone = [_run(module, split.__getitems__([row]))[0] for row in rows]
    single = {key: [value for rows in alone for value in rows[key]] for key in expected}
    _same(expected, single, "the size of a batch changes predictions")


def first_keys(split: SplitData) -> list[Any]:
    """Keys of a few rows: the first ones, or chunks of a stream, each as if one began there, of unlike lengths."""
    first = split.first_key()
    if not isinstance(first, Chunk):
        return list(range(min(ROWS, len(split))))
    steps = int(split.lengths[first.stream])
    width = max(min(4 * ROWS, steps // ROWS), 1)
    starts = range(0, min(steps, ROWS * width), width)
    return [Chunk(first.stream, start, start + max(width - i, 1), width, True) for i, start in enumerate(starts)]


@torch.no_grad()
def check_carried(module: SequenceModule, data: SequenceDataModule) -> None:
    """Of streams: two chunks, the second with the state that the first one left, have the loss of both in one."""
    split = data.split("val")
    first = split.first_key()
    if not isinstance(first, Chunk):
        return
    module.eval()
    half = max(min(4 * ROWS, int(split.lengths[first.stream]) // 2), 1)
    whole = module.step(split.__getitems__([Chunk(first.stream, 0, 2 * half, 2 * half, True)]))
    parts = [
        module.step(split.__getitems__([Chunk(first.stream, start, start + half, half, start == 0)]))
        for start in (0, half)
    ]
    total = sum(part.loss * part.weight for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(total, whole.loss, msg="chunks with carried state have another loss than the whole")


def check_checkpoint(trainer: pl.Trainer, module: SequenceModule, data: SequenceDataModule, folder: Path) -> None:
    """A checkpoint loads without running code, without a datamodule, and predicts the same."""
    path = folder / "contract.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = type(module).load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    batch = data.split("val").__getitems__(first_keys(data.split("val")))
    _same(_run(module, batch)[0], _run(loaded, batch)[0], "a loaded checkpoint predicts something else")


def check_predictions(trainer: pl.Trainer, module: SequenceModule, data: SequenceDataModule, folder: Path) -> None:
    """``predict`` writes one row for each of the source's, in its order, with the source's ids first."""
    import polars

    _trainer(folder, callbacks=[PredictionWriter()]).predict(module, datamodule=data, return_predictions=False)
    table = polars.read_parquet(folder / "predictions.parquet")
    split = data.split("predict")
    assert table.columns[0] == "id", f"the first column of the predictions is {table.columns[0]}, not id"
    ids = [split.row_id(row) for row in range(len(split))]
    assert table["id"].to_list() == ids, "the predictions are not in the order of the source"
    assert (folder / "predictions.csv").is_file(), "there is no predictions.csv"


def check_order(datamodule: type[SequenceDataModule]) -> None:
    """Batches depend on (seed, epoch) alone, and a restored position goes on with the next one."""

    def batches(epoch: int, position: int = 0) -> list[list[Any]]:
        data = datamodule()
        data.setup("fit")
        if position:
            data.load_state_dict({"position": {"epoch": epoch, "batch": position}, "seed": data.seed})
        loader = data.train_dataloader()
        loader.batch_sampler.epoch = epoch
        return list(loader.batch_sampler)

    first = batches(0)
    assert first == batches(0), "the same seed and epoch give another order"
    assert len(first) < 2 or first != batches(1), "the second epoch has the first one's order"
    assert first[1:] == batches(0, 1), "a restored position does not go on with the next batch"
    data = datamodule()
    data.setup("fit")
    _check_once([key for batch in first for key in batch], data.split("train"))


def _check_once(keys: list[Any], split: SplitData) -> None:
    """Every row of a split, or every step of its streams, is there once."""
    if not isinstance(split.first_key(), Chunk):
        assert sorted(keys) == list(range(len(keys))), "rows are lost or repeated"
        return
    times = [torch.zeros(length) for length in split.lengths.tolist()]
    for key in keys:
        times[key.stream][key.start : key.stop] += 1
    assert all(bool((steps == 1).all()) for steps in times), "steps of a stream are lost or repeated"


class _Stopped(Exception):
    pass


class _StopAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            raise _Stopped


def check_resume(task: plugins.Task, folder: Path) -> None:
    """A run that is stopped after two steps and goes on from its last checkpoint ends with the same weights."""

    def run(name: str, *callbacks: pl.Callback, resume: bool = False) -> Path:
        torch.manual_seed(0)
        last = folder / name / "checkpoints" / LAST
        saved = [*callbacks, LastCheckpoint(every_n_steps=1), StepSeed(0)]
        trainer = _trainer(folder / name, max_steps=4, callbacks=saved)
        trainer.fit(task.module(), datamodule=task.datamodule(), ckpt_path=last if resume else None)
        return last

    whole = read_checkpoint(run("whole"))
    with suppress(_Stopped):
        run("stopped", _StopAt(2))
    resumed = read_checkpoint(run("stopped", resume=True))
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), f"a resumed run ends with other weights: {name}"


def _trainer(folder: Path, max_steps: int = -1, callbacks: list[pl.Callback] | None = None) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        max_steps=max_steps,
        limit_val_batches=2,
        logger=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _padded(batch: SequenceBatch, steps: int) -> SequenceBatch:
    """The same rows with more padding."""
    assert isinstance(batch.inputs, Tensor) and batch.lengths is not None, "check_task pads tensors with lengths"

    def longer(values: Tensor) -> Tensor:
        return F.pad(values, (0, 0) * (values.ndim - 2) + (0, steps))

    targets = batch.targets
    if batch.target_lengths is not None and torch.equal(batch.target_lengths, batch.lengths):  # one for each step
        targets = pytree.tree_map_only(Tensor, lambda t: longer(t) if t.ndim > 1 else t, targets)
    return replace(batch, inputs=longer(batch.inputs), targets=targets)


@torch.no_grad()
def _run(module: SequenceModule, batch: SequenceBatch) -> tuple[dict[str, list[object]], Tensor]:
    result = module.step(batch)
    rows: Rows = module.to_rows(batch, result)
    return {
        key: column.tolist() if isinstance(column, Tensor) else list(column) for key, column in rows.items()
    }, result.loss


def _same(expected: dict[str, list[object]], actual: dict[str, list[object]], message: str) -> None:
    assert expected.keys() == actual.keys(), message
    for key, column in expected.items():
        if column and isinstance(column[0], float):
            torch.testing.assert_close(actual[key], column, rtol=1e-4, atol=1e-5, msg=f"{message} (column {key})")
        elif column and not isinstance(column[0], list):
            assert actual[key] == column, f"{message} (column {key})"
