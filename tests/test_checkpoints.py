"""A checkpoint is whole or absent, holds nothing that could run code, and a broken one is passed over by name."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_rnn.errors import CheckpointError, DataError
from lightning_rnn.training.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    AtomicCheckpointIO,
    newest_good,
    read_checkpoint,
    remove_litter,
    to_bytes,
)


def state(step: int, size: int = 1000) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"w": torch.full((size,), float(step))}}


def save(folder: Path, *steps: int) -> Path:
    for step in steps:
        AtomicCheckpointIO().save_checkpoint(state(step), folder / LAST)
    return folder / LAST


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert {p.name: read_checkpoint(p)["global_step"] for p in tmp_path.iterdir()} == {LAST: 3, PREVIOUS: 2}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """One bit of a weight: torch itself loads it without a word."""
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor([3.0]).numpy().tobytes() * 100)
    content[place] ^= 1
    path.write_bytes(content)


def as_text(path: Path) -> None:
    path.write_text("weights: none\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_archive(path: Path) -> None:
    torch.save([1, 2], path)


def without_step(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


BREAKS = [truncate, flip, as_text, empty, another_archive, without_step]


@pytest.mark.parametrize("harm", BREAKS, ids=lambda f: f.__name__)
def test_a_broken_newest_one_is_named_and_passed_over(
    harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = save(tmp_path, 1, 2, 3)
    harm(last)
    with caplog.at_level(logging.WARNING):
        assert newest_good(tmp_path) == tmp_path / PREVIOUS
    assert str(last) in caplog.text
    assert "passed over" in caplog.text
    assert "step 2" in caplog.text


def test_where_last_is_broken_the_furthest_is_taken(tmp_path: Path) -> None:
    truncate(save(tmp_path, 1, 2, 3))
    AtomicCheckpointIO().save_checkpoint(state(9), tmp_path / BEST)
    assert newest_good(tmp_path) == tmp_path / BEST


def test_where_all_are_broken_all_are_named(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for name in (LAST, PREVIOUS):
        truncate(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{LAST}.*{PREVIOUS}"):
        newest_good(tmp_path)


def test_without_a_last_one_there_is_none(tmp_path: Path) -> None:
    assert newest_good(tmp_path) is None
    AtomicCheckpointIO().save_checkpoint(state(9), tmp_path / BEST)  # by a validation, before the first last.ckpt
    assert newest_good(tmp_path) is None


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"global_step": 1, "state_dict": {}, "x": Payload()}, LAST)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / LAST, weights_only=False)
    assert not (tmp_path / "pwned").exists()


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    last = save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="PosixPath"):
        AtomicCheckpointIO().save_checkpoint({**state(2), "hyper_parameters": {"path": tmp_path}}, last)
    assert read_checkpoint(last)["global_step"] == 1


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_last_good_one(small_disk: Path) -> None:
    last = save(small_disk, 1, 2)
    with pytest.raises(DataError, match=rf"No space left.*the checkpoint before is {last}"):
        AtomicCheckpointIO().save_checkpoint(state(3, 400_000), last)
    assert newest_good(small_disk) == last
    assert read_checkpoint(last)["global_step"] == 2
    assert sorted(p.name for p in small_disk.iterdir()) == [LAST, PREVIOUS]


@pytest.mark.parametrize(("call", "code"), [("fsync", errno.ENOSPC), ("replace", errno.EROFS), ("fsync", errno.EIO)])
def test_a_disk_that_fails_leaves_the_last_good_one(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = save(tmp_path, 1, 2)

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DataError, match=os.strerror(code)):
        AtomicCheckpointIO().save_checkpoint(state(3), last)
    monkeypatch.undo()
    assert read_checkpoint(last)["global_step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS]


def test_a_file_system_without_links_keeps_the_one_before_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, 1, 2)
    assert read_checkpoint(tmp_path / PREVIOUS)["global_step"] == 1


def write_for_ever(last: Path) -> None:
    step = 1
    while True:
        AtomicCheckpointIO().save_checkpoint(state(step, 200_000), last)
        step += 1


@pytest.mark.parametrize("wait", [0.03 * i for i in range(1, 11)])
def test_killed_while_writing_there_is_a_whole_one(wait: float, tmp_path: Path) -> None:
    last = save(tmp_path, 0)
    child = os.fork()
    if child == 0:
        write_for_ever(last)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    newest = newest_good(tmp_path)
    assert newest == last
    step = read_checkpoint(newest)["global_step"]
    if (tmp_path / PREVIOUS).exists():
        assert read_checkpoint(tmp_path / PREVIOUS)["global_step"] in (step - 1, step)
    remove_litter(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} <= {LAST, PREVIOUS}


def test_bytes_are_a_torch_file(tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(to_bytes(state(4)))
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 4
