"""Runs of the command line killed at random moments, again and again, and resumed; `benchmarks/chaos.py` has many."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_rnn.data.module import SequenceDataModule
from lightning_rnn.testing.chaos import OUTPUT, attempt, differences, kill_all, kill_one, survive
from lightning_rnn.training.checkpoints import AtomicCheckpointIO

CONFIGS = Path(__file__).parents[1] / "configs/sequence_classification"
DIGITS = ["fit", "--config", str(CONFIGS / "digits.yaml"), "--trainer.max_epochs", "3", "--last.every_n_steps", "7"]
STREAMED = [
    *("fit", "--model", "streamed.StreamedModule", "--data", "streamed.StreamedData"),
    *("--trainer.max_epochs", "4", "--trainer.accelerator", "cpu", "--last.every_n_steps", "5"),
]
TWO = ["--trainer.strategy", "ddp_fork", "--trainer.devices", "2"]


@pytest.mark.parametrize(
    ("argv", "strike"),
    [
        ([*DIGITS, "--model.dropout", "0.2", "--data.num_workers", "1"], kill_all),
        ([*STREAMED, "--trainer.val_check_interval", "0.4"], kill_all),
        ([*STREAMED, *TWO], kill_one),
    ],
    ids=["digits", "streams", "streams_on_two"],
)
def test_killed_again_and_again_the_run_is_the_same(
    argv: list[str], strike: Callable[[int], object], tmp_path: Path
) -> None:
    result = survive(argv, tmp_path, kills=3, seed=1, strike=strike)
    assert result.differences == []
    assert result.kills >= 3


def dies(call: str, number: int, owner: object) -> Callable[[], None]:
    """Kills the process that is about to run in its n-th call of a function."""

    def prepare() -> None:
        known, left = getattr(owner, call), [number]

        def fatal(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return known(*args, **options)

        setattr(owner, call, fatal)

    return prepare


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("peace")
    assert attempt(in_folder(root), root) == 0
    return root


def in_folder(root: Path) -> list[str]:
    recorder = "--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog"
    return [*DIGITS, recorder, "--ckpt_path", "last", "--trainer.default_root_dir", str(root)]


@pytest.mark.parametrize(
    ("call", "number", "owner"),
    [
        ("setup", 1, SequenceDataModule),  # the data are being read
        ("save_checkpoint", 3, AtomicCheckpointIO),
        ("fsync", 5, os),  # a checkpoint is written, not yet flushed
        ("link", 2, os),  # the one before is being kept
        ("replace", 6, os),  # a checkpoint gets its name
    ],
)
def test_killed_in_the_worst_moment(call: str, number: int, owner: object, tmp_path: Path, peace: Path) -> None:
    code = attempt(in_folder(tmp_path), tmp_path, sabotage=dies(call, number, owner))
    assert code == -signal.SIGKILL, (tmp_path / OUTPUT).read_text()
    assert attempt(in_folder(tmp_path), tmp_path) == 0, (tmp_path / OUTPUT).read_text()
    assert differences(peace, tmp_path) == []


def test_a_run_that_has_ended_is_left_as_it_is(peace: Path) -> None:
    before = {path: path.read_bytes() for path in peace.rglob("*.ckpt")}
    assert attempt(in_folder(peace), peace) == 0
    assert {path: path.read_bytes() for path in peace.rglob("*.ckpt")} == before


def test_more_epochs_later_are_the_epochs_that_would_have_come(peace: Path, tmp_path: Path) -> None:
    short = [*in_folder(tmp_path), "--trainer.max_epochs", "2"]
    assert attempt(short, tmp_path) == 0
    assert attempt(in_folder(tmp_path), tmp_path) == 0, (tmp_path / OUTPUT).read_text()
    assert differences(peace, tmp_path) == []


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    seen: list[int] = []

    def second(group: int) -> None:
        seen.append(attempt(in_folder(tmp_path), tmp_path))
        kill_all(group)

    endless = [*in_folder(tmp_path), "--trainer.max_epochs", "1000"]
    assert attempt(endless, tmp_path, after=2.0, strike=second) == -signal.SIGKILL
    assert seen == [2]
    assert "another process is training in" in (tmp_path / OUTPUT).read_text()
