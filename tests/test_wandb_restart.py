"""A run that is stopped or killed goes on under its id; a failing server stops nothing; what is offline syncs later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from wandb_file import RunFile, joined, read_runs
from wandb_runs import SHORT, TWO, launch
from wandb_server import Server, serving

pytestmark = pytest.mark.slow
KEY = "a" * 40
PLAIN = ("--trainer.logger.checkpoints", "false")  # the stub takes no artifacts
QUICK = ("--trainer.logger.start_timeout", "5", "--trainer.logger.finish_timeout", "5")
BOUND = 120.0  # seconds for a run of seconds, on a busy machine


class SignalAt(pl.Callback):
    """Sends its process a signal in the given epoch's third batch."""

    number, epoch = signal.SIGTERM, 1

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_global_zero and (trainer.current_epoch, batch_idx) == (self.epoch, 2):
            if self.number == signal.SIGKILL:
                time.sleep(3)  # the file is flushed every second
            os.kill(os.getpid(), self.number)


def struck(number: signal.Signals) -> Callable[[], None]:
    """For the new process: it gets a signal in the second epoch."""

    def prepare() -> None:
        from lightning_rnn.training.module import SequenceModule

        SignalAt.number = number
        known = SequenceModule.run_callbacks
        SequenceModule.run_callbacks = lambda self: [*known(self), SignalAt()]  # type: ignore[method-assign]

    return prepare


def numbers(runs: list[RunFile]) -> dict[tuple[int, int], dict[str, float]]:
    """All rows but what depends on the clock."""
    rows = joined(runs)
    return {
        key: {name: value for name, value in row.items() if not name.startswith("throughput")}
        for key, row in rows.items()
    }


def with_key(url: str) -> dict[str, str]:
    return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}


def sent(server: Server) -> list[dict[str, Any]]:
    """The rows of the only run that the server knows."""
    (rows,) = server.rows.values()
    return rows


def losses(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["epoch"], row["val_loss"]) for row in rows if "val_loss" in row]


def sync(text: str, server: Server, home: Path) -> None:
    """Do what the last line of this kind says, from another folder: W&B writes a log there."""
    line = text[text.rindex("wandb sync") :].splitlines()[0]
    account = os.environ | with_key(server.url) | {"HOME": str(home)}
    del account["WANDB_MODE"]
    command = [sys.executable, "-m", *line.split()]
    subprocess.run(command, cwd=home, env=account, stdin=subprocess.DEVNULL, check=True, timeout=BOUND)


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> list[RunFile]:
    """What a run holds that nothing disturbed."""
    root = tmp_path_factory.mktemp("peace") / "run"
    launch("fit", root, *SHORT)
    return read_runs(root)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("processes", [(), TWO], ids=["one process", "two processes"])
def test_a_preempted_run_goes_on_under_its_id_with_all_its_rows(
    processes: tuple[str, ...], tmp_path: Path, peace: list[RunFile]
) -> None:
    root, options = tmp_path / "run", (*SHORT, *processes, "--ckpt_path", "last")
    launch("fit", root, *options, code=75, also=struck(signal.SIGTERM))
    launch("fit", root, *options)
    runs = read_runs(root)
    assert len(runs) == 2
    assert runs[0].id == runs[1].id
    assert max(runs[0].steps) < min(runs[1].steps)
    assert numbers(runs).keys() == numbers(peace).keys()
    if not processes:
        assert (runs[0].preempting, runs[0].exit_code) == (True, 75)
        assert numbers(runs) == numbers(peace)


def test_a_killed_run_keeps_its_rows_and_goes_on(tmp_path: Path, peace: list[RunFile]) -> None:
    root, options = tmp_path / "run", (*SHORT, "--ckpt_path", "last")
    launch("fit", root, *options, code=-signal.SIGKILL, also=struck(signal.SIGKILL))
    killed = read_runs(root)
    assert losses(killed[0].rows) == losses(peace[0].rows)[:1]
    launch("fit", root, *options)
    runs = read_runs(root)
    assert runs[0].id == runs[1].id
    assert max(runs[0].steps) < min(runs[1].steps)
    assert numbers(runs) == numbers(peace)


def test_with_a_key_it_is_online_and_all_rows_arrive(tmp_path: Path, server: Server, peace: list[RunFile]) -> None:
    root, account = tmp_path / "run", with_key(server.url)
    text = launch("fit", root, *SHORT, *PLAIN, account=account)
    assert "W&B: online (an API key is set)" in text
    assert losses(sent(server)) == losses(peace[0].rows)
    assert len([name for name in server.uploads if name.endswith(".png")]) == 3
    launch("test", root, account=account)
    rows = sent(server)
    assert any("test_loss" in row for row in rows)
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})


def test_what_is_offline_syncs_later_with_the_line_that_was_printed(
    tmp_path: Path, server: Server, peace: list[RunFile]
) -> None:
    root = tmp_path / "run"
    launch("fit", root, *SHORT, *PLAIN, "--ckpt_path", "last", code=75, also=struck(signal.SIGTERM))
    text = launch("fit", root, *SHORT, *PLAIN, "--ckpt_path", "last")
    sync(text, server, tmp_path)
    assert losses(sent(server)) == losses(peace[0].rows)
    steps = [row["_step"] for row in sent(server)]
    assert steps == sorted(set(steps))


def test_a_server_that_dies_while_training_is_waited_for_only_so_long(
    tmp_path: Path, server: Server, peace: list[RunFile]
) -> None:
    root, server.fail_after = tmp_path / "run", 0
    began = time.monotonic()
    text = launch("fit", root, *SHORT, *PLAIN, *QUICK, account=with_key(server.url))
    assert time.monotonic() - began < BOUND
    assert "did not take everything within 5 s; nothing is lost: wandb sync" in text
    assert numbers(read_runs(root)) == numbers(peace)
    server.fail_after, server.failing = None, False
    sync(text, server, tmp_path)
    assert losses(sent(server)) == losses(peace[0].rows)


@pytest.mark.parametrize("answer", ["500", "nothing"])
def test_a_server_that_refuses_leaves_the_run_offline(
    answer: str, tmp_path: Path, server: Server, peace: list[RunFile]
) -> None:
    root, url = tmp_path / "run", server.url
    server.failing = answer == "500"
    if answer == "nothing":
        server.shutdown()
        server.server_close()
    began = time.monotonic()
    text = launch("fit", root, *SHORT, *QUICK, account=with_key(url))
    assert time.monotonic() - began < BOUND
    assert "it is kept offline" in text
    assert numbers(read_runs(root)[-1:]) == numbers(peace)
    assert (root / "checkpoints/last.ckpt").is_file()
