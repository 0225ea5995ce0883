"""The number of processes may change between a checkpoint and what goes on from it: the same global batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lightning_rnn.testing.chaos import LOG, OUTPUT, attempt
from lightning_rnn.training.checkpoints import read_checkpoint

DIGITS = Path(__file__).parents[1] / "configs/sequence_classification/digits.yaml"
RUNS = {
    "digits": ["--config", str(DIGITS), "--data.batch_size", "16"],
    "streams": ["--model", "streamed.StreamedModule", "--data", "streamed.StreamedData", "--model.dropout", "0.0"],
}


def fit(root: Path, name: str, processes: int, epochs: int) -> None:
    argv = [
        *("fit", *RUNS[name], "--ckpt_path", "last", "--trainer.default_root_dir", str(root)),
        *("--trainer.precision", "64-true"),
        *("--trainer.max_epochs", str(epochs), "--trainer.accelerator", "cpu", "--trainer.devices", str(processes)),
        *("--trainer.strategy", "ddp_fork" if processes > 1 else "auto", "--trainer.limit_val_batches", "0"),
        *("--checkpoint.monitor", "null"),
        *("--last.every_n_steps", "3", "--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog"),
    ]
    assert attempt(argv, root) == 0, (root / OUTPUT).read_text()


def batches(root: Path) -> dict[tuple[int, int], list[int]]:
    """The rows of every global batch, put together from those of all processes."""
    parts: dict[tuple[int, int], dict[int, list[int]]] = {}
    for line in (root / LOG).read_text().splitlines():
        epoch, batch, rank, rows, *_ = json.loads(line)
        parts.setdefault((epoch, batch), {})[rank] = rows
    merged = {}
    for key, shares in parts.items():
        merged[key] = [0] * sum(map(len, shares.values()))
        for rank, rows in shares.items():
            merged[key][rank :: len(shares)] = rows
    return merged


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_another_number_of_processes_sees_the_same_batches(name: str, first: int, then: int, tmp_path: Path) -> None:
    steady, changed = tmp_path / "steady", tmp_path / "changed"
    fit(steady, name, first, epochs=3)
    fit(changed, name, first, epochs=1)
    fit(changed, name, then, epochs=3)
    assert batches(changed) == batches(steady)
    one, two = (read_checkpoint(root / "checkpoints/last.ckpt")["state_dict"] for root in (steady, changed))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-9, atol=1e-10, msg=key)
