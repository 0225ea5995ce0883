"""Real processes under torchrun, on one node and two: one is killed, all start again; a signal stops all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from lightning_rnn.testing.chaos import LOG, differences

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# torch 2.13 gives a restarted process the addresses of those before it, unless each start has a store of its own
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
EVERY = 5  # steps between two checkpoints
CONFIG = ROOT / "configs/sequence_classification/digits.yaml"


OPTIONS = [
    *("--config", str(CONFIG), "--trainer.max_epochs", "6", "--trainer.strategy", "ddp", "--model.dropout", "0.2"),
    *("--last.every_n_steps", str(EVERY), "--trainer.callbacks+=lightning_rnn.testing.chaos.BatchLog"),
]


def command(root: Path, *launcher: str) -> list[str]:
    return [
        *(str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", *launcher),
        *("--no-python", str(BIN / "lightning-rnn"), "fit", *OPTIONS, "--trainer.devices", "2"),
        *("--ckpt_path", "last", "--trainer.default_root_dir", str(root)),
    ]


def started(words: list[str], output: IO[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A launcher in a session of its own."""
    variables = os.environ | environment
    return subprocess.Popen(words, stdout=output, stderr=output, env=variables, start_new_session=True)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; what takes too long is killed with all that it started."""
    try:
        return process.wait(timeout=300)
    except subprocess.TimeoutExpired:
        for pid in ranks(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        return process.wait()


def run(root: Path, *launcher: str, strike: Callable[[int], None] | None = None, lines: int = 60) -> tuple[int, str]:
    """The launcher's exit code and what was printed; struck once so many batches were trained on."""
    root.mkdir(exist_ok=True)
    output = root / "output.txt"
    with output.open("a") as file:
        process = started(command(root, *launcher), file, ENVIRONMENT)
        while process.poll() is None and strike is not None:
            log = root / LOG
            if log.exists() and log.read_text().count("\n") > lines:
                strike(process.pid)
                break
            time.sleep(0.05)
        code = ended(process)
    return code, output.read_text()


def ranks(launcher: int) -> list[int]:
    """The processes that torchrun started."""
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


def repeated(root: Path) -> int:
    """How many batches were trained on again, of all processes together."""
    lines = [tuple(json.loads(line)[:3]) for line in (root / LOG).read_text().splitlines()]
    return len(lines) - len(set(lines))


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("peace")
    code, text = run(root)
    assert code == 0, text
    return root


def test_one_process_is_killed_and_torchrun_starts_both_again(tmp_path: Path, peace: Path) -> None:
    code, text = run(tmp_path, "--max-restarts=1", strike=lambda pid: os.kill(ranks(pid)[-1], signal.SIGKILL))
    assert code == 0, text
    assert text.count("Restoring states from") == 1  # rank 0 says so once each time that all are started again
    assert repeated(tmp_path) <= 2 * EVERY
    assert differences(peace, tmp_path) == []


def test_of_two_nodes_one_loses_its_process_and_both_go_back_to_the_last_checkpoint(
    tmp_path: Path, peace: Path
) -> None:
    """The shipped script, started twice on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    nodes = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PET_LOCAL_ADDR": "127.0.0.1"}
    environment = nodes | {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    script = [str(ROOT / "configs/cluster/torchrun.sh"), *OPTIONS, "--trainer.default_root_dir", str(tmp_path)]
    outputs = [tmp_path / "node0.txt", tmp_path / "node1.txt"]
    agents = []
    for output in outputs:
        with output.open("w") as file:
            agents.append(started(script, file, environment))
    until = time.monotonic() + 240
    while not (tmp_path / LOG).exists() or (tmp_path / LOG).read_text().count("\n") < 60:
        if time.monotonic() > until or any(agent.poll() is not None for agent in agents):
            break
        time.sleep(0.05)
    else:
        os.kill(ranks(agents[1].pid)[-1], signal.SIGKILL)
    codes = [ended(agent) for agent in agents]
    text = "".join(output.read_text() for output in outputs)
    assert codes == [0, 0], text
    assert text.count("Restoring states from") == 1
    assert repeated(tmp_path) <= 2 * EVERY
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
