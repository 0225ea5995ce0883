"""The batch scripts on a real SLURM: queued again after a preemption, and after nothing else."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, finished, is_running

pytestmark = pytest.mark.slurm
CONFIGS = Path(__file__).parents[2] / "configs/cluster"
SCRIPT, ARRAY = CONFIGS / "slurm.sbatch", CONFIGS / "slurm_array.sbatch"


def started(job: str, cluster: SlurmCluster, output: Path, lines: int = 2) -> None:
    """Wait until the stand-in runs on both nodes, and has asked for signals."""
    cluster.wait(job, is_running)
    until = time.monotonic() + 30
    while not output.exists() or output.read_text().count("started") < lines:
        assert time.monotonic() < until, "nothing was started"
        time.sleep(0.05)


@pytest.mark.parametrize("deaf", ["", "1"])
def test_the_signal_before_the_time_limit_requeues(
    deaf: str, cluster: SlurmCluster, stand_in: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"
    job = cluster.submit(["-o", str(output)], SCRIPT, [], {"PATH": stand_in, "DEAF": deaf})
    started(job, cluster, output)
    cluster.call("scancel", "--signal=USR1", job)
    known = cluster.wait(job, finished)
    assert (known["JobState"], known["Restarts"]) == ("COMPLETED", "1")
    assert output.read_text().count("started 1") == 2  # --open-mode=append kept what was before


def test_a_more_urgent_job_preempts_it_and_it_goes_on_afterwards(
    cluster: SlurmCluster, stand_in: str, tmp_path: Path
) -> None:
    output, urgent = tmp_path / "out.txt", tmp_path / "urgent.sh"
    job = cluster.submit(["-o", str(output), "--exclusive"], SCRIPT, [], {"PATH": stand_in})
    started(job, cluster, output)
    urgent.write_text("#!/usr/bin/env bash\nsleep 2\n")
    other = cluster.submit(["-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null"], urgent, [], {})
    assert cluster.wait(other, finished)["JobState"] == "COMPLETED"
    known = cluster.wait(job, finished)
    assert (known["JobState"], known["Restarts"]) == ("COMPLETED", "1")


def test_a_failed_run_is_not_queued_again(cluster: SlurmCluster, stand_in: str, tmp_path: Path) -> None:
    job = cluster.submit(["-o", str(tmp_path / "out.txt")], SCRIPT, [], {"PATH": stand_in, "CODE": "3"})
    known = cluster.wait(job, finished)
    assert (known["JobState"], known["ExitCode"], known["Restarts"]) == ("FAILED", "3:0", "0")


def test_a_cancelled_job_stays_cancelled(cluster: SlurmCluster, stand_in: str, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    job = cluster.submit(["-o", str(output)], SCRIPT, [], {"PATH": stand_in})
    started(job, cluster, output)
    cluster.call("scancel", job)
    cluster.wait(job, finished)
    time.sleep(2)
    known = cluster.show(job)
    assert (known["JobState"], known["Restarts"]) == ("CANCELLED", "0")


def test_where_it_cannot_be_requeued_it_says_so(cluster: SlurmCluster, stand_in: str, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    job = cluster.submit(["-o", str(output), "--no-requeue"], SCRIPT, [], {"PATH": stand_in, "CODE": "75"})
    known = cluster.wait(job, finished)
    assert (known["JobState"], known["ExitCode"], known["Restarts"]) == ("FAILED", "75:0", "0")
    assert "cannot be requeued: submit it again, and it goes on" in output.read_text()


def test_without_scontrol_it_says_so(cluster: SlurmCluster, stand_in: str, tmp_path: Path) -> None:
    output, folder = tmp_path / "out.txt", Path(stand_in.partition(":")[0])
    for name in ("bash", "srun", "seq", "sleep"):
        (folder / name).symlink_to(shutil.which(name) or name)
    job = cluster.submit(["-o", str(output)], SCRIPT, [], {"PATH": str(folder), "CODE": "75"})
    assert cluster.wait(job, finished)["ExitCode"] == "75:0"
    assert "cannot be requeued: submit it again, and it goes on" in output.read_text()


def test_of_an_array_only_the_index_that_was_stopped_is_queued_again(
    cluster: SlurmCluster, stand_in: str, tmp_path: Path
) -> None:
    job = cluster.submit(["-o", str(tmp_path / "%a.txt"), "--array=0-1"], ARRAY, ["x.yaml"], {"PATH": stand_in})
    tasks = [f"{job}_{index}" for index in range(2)]
    for task, name in zip(tasks, ("0.txt", "1.txt"), strict=True):
        started(task, cluster, tmp_path / name, lines=1)
    same = next(task for task in tasks if cluster.show(task)["JobId"] == job)  # its number is that of the whole array
    other = next(task for task in tasks if task != same)
    cluster.call("scancel", "--signal=USR1", same)
    known = cluster.wait(same, finished)
    assert (known["JobState"], known["Restarts"]) == ("COMPLETED", "1")
    known = cluster.show(other)
    assert (known["JobState"], known["Restarts"]) == ("RUNNING", "0")
    cluster.call("scancel", job)
