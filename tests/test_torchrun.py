"""Real processes under torchrun: one is killed and both are started again; a signal to the launcher stops both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_rnn.testing.chaos import LOG, differences

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# torch 2.13 gives a restarted process the addresses of those before it, unless each start has a store of its own
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
CONFIG = ROOT / "configs/sequence_classification/digits.yaml"


def command(root: Path, *launcher: str) -> list[str]:
    return [
        *(str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", *launcher),
        *("--no-python", str(BIN / "lightning-rnn"), "fit", "--config", str(CONFIG), "--trainer.max_epochs", "6"),
        *("--trainer.strategy", "ddp", "--trainer.devices", "2", "--model.dropout", "0.2", "--ckpt_path", "last"),
        *("--last.every_n_steps", "5", "--trainer.default_root_dir", str(root)),
        "--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog",
    ]


def run(root: Path, *launcher: str, strike: Callable[[int], None] | None = None, lines: int = 60) -> tuple[int, str]:
    """The launcher's exit code and what was printed; struck once so many batches were trained on."""
    root.mkdir(exist_ok=True)
    output = root / "output.txt"
    with output.open("a") as file:
        process = subprocess.Popen(command(root, *launcher), stdout=file, stderr=file, env=os.environ | ENVIRONMENT)
        while process.poll() is None and strike is not None:
            log = root / LOG
            if log.exists() and log.read_text().count("\n") > lines:
                strike(process.pid)
                break
            time.sleep(0.05)
        code = process.wait(timeout=120)
    return code, output.read_text()


def ranks(launcher: int) -> list[int]:
    """The processes that torchrun started."""
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("peace")
    code, text = run(root)
    assert code == 0, text
    return root


def test_one_process_is_killed_and_torchrun_starts_both_again(tmp_path: Path, peace: Path) -> None:
    code, text = run(tmp_path, "--max-restarts=1", strike=lambda pid: os.kill(ranks(pid)[-1], signal.SIGKILL))
    assert code == 0, text
    assert "Restoring states from" in text
    assert differences(peace, tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_both_where_they_can_go_on(number: signal.Signals, tmp_path: Path, peace: Path) -> None:
    def strike(pid: int) -> None:
        for target in [pid] if number == signal.SIGTERM else ranks(pid):  # torchrun hands on SIGTERM only
            os.kill(target, number)

    began = time.monotonic()
    code, text = run(tmp_path, strike=strike)
    assert code != 0
    assert "run again with --ckpt_path last" in text
    assert time.monotonic() - began < 60
    code, text = run(tmp_path)
    assert code == 0, text
    assert differences(peace, tmp_path) == []
