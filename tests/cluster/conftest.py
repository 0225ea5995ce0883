"""One SLURM for all tests of this folder, and a stand-in for the program where only the batch script is meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster

STAND_IN = """\
#!/usr/bin/env bash
[ -z "${DEAF:-}" ] && trap 'exit 75' USR1 TERM
echo "started ${SLURM_RESTART_COUNT:-0}"
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && exit 0
[ -n "${CODE:-}" ] && exit "$CODE"
for _ in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Two idle nodes, on which ``lightning-rnn`` is the one of this Python."""
    if missing := SlurmCluster.missing():
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)}")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def stand_in(tmp_path: Path, cluster: SlurmCluster) -> str:
    """A PATH on which ``lightning-rnn`` waits for a signal and leaves with 75; started again, it ends with 0.

    CODE: it leaves with that at once. DEAF: the signal kills it, as it does a program that has not yet begun.
    """
    program = tmp_path / "bin" / "lightning-rnn"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return f"{program.parent}:{cluster.environment['PATH']}"
