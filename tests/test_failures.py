"""One process of several goes wrong: all end soon, with its sentence and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_rnn.errors import ConfigError
from lightning_rnn.testing.chaos import OUTPUT, attempt
from lightning_rnn.training.failures import Failure, OneForAll

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FIT = ["fit", "--config", str(ROOT / "configs/sequence_classification/digits.yaml"), "--trainer.max_epochs", "3"]
FIT += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--throughput.enabled", "false"]
FORK = {"class_path": "pytorch_lightning.strategies.DDPStrategy", "init_args": {"start_method": "fork"}}
DISK, SIEVE = "error: the disk with the numbers is gone: mount it", "error: model.sieve must have holes: set it to 3"
GONE, SILENT = "another process has ended without a word", "another process did not answer within"


def faulty(fault: str, hook: str = "on_train_batch_start", process: int = 1, call: int = 3) -> list[str]:
    options = {"fault": fault, "hook": hook, "process": process, "call": call}
    return [f"--trainer.callbacks+={json.dumps({'class_path': 'faults.Faulty', 'init_args': options})}"]


def forked(root: Path, *options: str, timeout: str = "0:01:00") -> tuple[int, str]:
    """The command line in forks of this process: exit code, and what was printed."""
    strategy = {**FORK, "init_args": {**FORK["init_args"], "timeout": timeout}}  # type: ignore[dict-item]
    argv = [*FIT, "--trainer.strategy", json.dumps(strategy), "--trainer.default_root_dir", str(root), *options]
    began = time.monotonic()
    code = attempt(argv, root)
    assert time.monotonic() - began < 120
    return code, (root / OUTPUT).read_text()


SLOWLY = pytest.mark.slow
FAULTS = [
    pytest.param(faulty("data"), 1, DISK, id="training, the second"),
    pytest.param(faulty("config", "on_validation_batch_start", 0, 1), 2, SIEVE, id="validation, the first"),
    pytest.param(["--data", "faults.BrokenData"], 1, "error: row 77 cannot be read", id="loader"),
    pytest.param(faulty("data", "on_fit_end", 1, 1), 1, DISK, id="at the end", marks=SLOWLY),
    pytest.param(faulty("data", "setup", 0, 1), 1, DISK, id="setup, the first", marks=SLOWLY),
    pytest.param(faulty("config", process=0), 2, SIEVE, id="training, the first", marks=SLOWLY),
    pytest.param(["--data", "faults.BrokenData", "--data.num_workers", "2"], 1, "row 77", id="worker", marks=SLOWLY),
]


@pytest.mark.parametrize(("options", "code", "sentence"), FAULTS)
def test_all_end_with_the_sentence_and_the_code_of_the_one_that_fails(
    options: list[str], code: int, sentence: str, tmp_path: Path
) -> None:
    found, text = forked(tmp_path, *options)
    assert found == code, text
    assert sentence in text and "Traceback" not in text
    assert text.count("error: ") == 1, text


@pytest.mark.slow
def test_a_fault_of_the_program_is_shown_whole(tmp_path: Path) -> None:
    code, text = forked(tmp_path, *faulty("bug", process=0))
    assert code == 1 and text.count("KeyError: 'nobody thought of this'") == 1, text
    assert "gloo" not in text


@pytest.mark.parametrize("process", [1, pytest.param(0, marks=SLOWLY)])
def test_one_that_is_killed_ends_the_others(process: int, tmp_path: Path) -> None:
    code, text = forked(tmp_path, *faulty("kill", process=process))
    assert code == 1 and f"process {process} was ended by SIGKILL" in text and "Traceback" not in text, text


@pytest.mark.slow
def test_one_that_hangs_is_not_waited_for_longer_than_the_timeout(tmp_path: Path) -> None:
    code, text = forked(tmp_path, *faulty("hang"), timeout="0:00:10")
    assert code == 1 and SILENT in text and "Traceback" not in text, text


LAUNCHERS: dict[str, list[str]] = {
    "popen": [],
    "torchrun": [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", "--no-python"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    ("fault", "process", "codes", "sentence"),
    [
        ("data", 1, (1,), DISK),
        ("config", 0, (2,), SIEVE),
        ("bug", 1, (1,), "KeyError: 'nobody thought of this'"),
        ("kill", 1, (1, -9), GONE),  # Lightning kills the first process too, at a moment of its own
        ("kill", 0, (-9,), GONE),
        ("hang", 1, (1,), SILENT),
    ],
)
def test_processes_started_in_other_ways_end_so_too(
    launcher: str, fault: str, process: int, codes: tuple[int, ...], sentence: str, tmp_path: Path
) -> None:
    ddp: dict[str, Any] = {"class_path": "pytorch_lightning.strategies.DDPStrategy"}
    ddp["init_args"] = {"timeout": "0:01:00", "process_group_backend": "gloo"}
    argv = [*LAUNCHERS[launcher], str(BIN / "lightning-rnn"), *FIT, "--trainer.strategy", json.dumps(ddp)]
    argv += ["--trainer.default_root_dir", str(tmp_path), *faulty(fault, process=process)]
    paths = f"{ROOT / 'tests/helpers'}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        argv,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode in (codes if launcher == "popen" else (1,)), done.stderr
    assert sentence in done.stderr or (launcher == "torchrun" and fault == "kill"), done.stderr


def test_a_failure_is_what_the_exception_says() -> None:
    assert Failure.of(ConfigError("give it a name"), 3, 1) == Failure(3, 1, 2, "give it a name")
    assert Failure.of(KeyError("x"), 0, 0).sentence == "KeyError: 'x'"
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1930")
    late = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms for recv")
    assert GONE in Failure.of(gone, 0, 0).sentence and SILENT in Failure.of(late, 0, 0).sentence


def test_the_only_process_fails_as_ever() -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as raised:
        OneForAll().leave(error)
    assert raised.value is error
