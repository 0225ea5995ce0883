"""Training as a job of two nodes: preempted and requeued, it ends exactly where a run that was left in peace does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from slurm_cluster import SlurmCluster, finished, is_running

from lightning_rnn.testing.chaos import LOG, OUTPUT, RECORDER, attempt, differences

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]
SCRIPT, ARRAY, SWEEP = (
    ROOT / "configs/cluster" / name for name in ("slurm.sbatch", "slurm_array.sbatch", "sweep.yaml")
)
HERE = ["--trainer.strategy", "ddp_fork", "--trainer.devices", "2"]  # the same two processes without SLURM
ROWS = ["--data.source.init_args.rows", "3000", "--data.source.init_args.eval_rows", "100"]
SMALL = ["--model.hidden_size", "8"]
DIGITS = ["--config", str(ROOT / "configs/sequence_classification/digits.yaml"), *SMALL, "--model.dropout", "0.2"]
REBER = ["--config", str(ROOT / "configs/grammar_acceptance/embedded_reber.yaml"), *SMALL]
TASKS = {
    "digits": [*DIGITS, "--trainer.max_epochs", "3"],
    "reber": [*REBER, "--trainer.max_epochs", "2", *ROWS],
}
CYCLES = int(os.environ.get("CYCLES", "2"))


def batches(root: Path) -> int:
    return (root / LOG).read_text().count("\n") if (root / LOG).exists() else 0


def in_peace(options: list[str], root: Path) -> Path:
    """The folder of the same run that nothing stopped, on two processes without SLURM."""
    argv = ["fit", *options, *HERE, RECORDER, "--trainer.default_root_dir", str(root)]
    assert attempt(argv, root) == 0, (root / OUTPUT).read_text()
    return root


def submit(cluster: SlurmCluster, options: list[str], root: Path, *sbatch: str) -> str:
    root.mkdir(exist_ok=True)
    arguments = [*options, RECORDER, "--trainer.callbacks+=brakes.Brake", "--trainer.default_root_dir", str(root)]
    path = f"{ROOT / 'tests/helpers'}:{os.environ.get('PYTHONPATH', '')}"
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return cluster.submit([f"--output={root / 'job.txt'}", *sbatch], SCRIPT, arguments, environment)


def preempt(cluster: SlurmCluster, job: str, root: Path, after: int) -> bool:
    """Send the signal once so many more batches were trained on; False where the job ends before."""
    enough = batches(root) + after
    while batches(root) < enough:
        if finished(cluster.show(job)):
            return False
        time.sleep(0.1)
    cluster.call("scancel", "--signal=USR1", job, check=False)
    return True


def survived(cluster: SlurmCluster, job: str, root: Path, times: int, after: int) -> int:
    """Preempt a job so often, let it end then; how often it was queued again."""
    for turn in range(times):
        struck = preempt(cluster, job, root, after)
        known = cluster.wait(job, lambda known, turn=turn: int(known["Restarts"]) > turn or finished(known))
        if not struck or finished(known):
            break
        cluster.wait(job, lambda known: is_running(known) or finished(known))
    known = cluster.wait(job, finished)
    assert (known["JobState"], known["ExitCode"]) == ("COMPLETED", "0:0"), (root / "job.txt").read_text()[-4000:]
    return int(known["Restarts"])


@pytest.mark.parametrize("task", TASKS)
def test_a_preempted_job_of_two_nodes_ends_as_if_nothing_was(task: str, cluster: SlurmCluster, tmp_path: Path) -> None:
    peace, root = in_peace(TASKS[task], tmp_path / "peace"), tmp_path / "job"
    assert survived(cluster, submit(cluster, TASKS[task], root), root, times=1, after=20) == 1
    text = (root / "job.txt").read_text()
    assert "MEMBER: 2/2" in text  # two processes, of which each node had one
    assert "stopped by SIGUSR1" in text and "Restoring states from" in text
    assert differences(peace, root) == []


@pytest.mark.slow
def test_cycles_of_preemption_lose_nothing(cluster: SlurmCluster, tmp_path: Path) -> None:
    options = [*DIGITS, "--trainer.max_epochs", str(CYCLES), "--trainer.check_val_every_n_epoch", "5"]
    peace, root = in_peace(options, tmp_path / "peace"), tmp_path / "job"
    restarts = survived(cluster, submit(cluster, options, root), root, times=CYCLES, after=5)
    lines = [tuple(json.loads(line)[:3]) for line in (root / LOG).read_text().splitlines()]
    print(f"{restarts} preemptions of {CYCLES}, {len(set(lines))} batches, {len(lines) - len(set(lines))} repeated")
    assert differences(peace, root) == []
    assert len(lines) == len(set(lines))
    assert restarts == CYCLES


@pytest.mark.slow
def test_the_time_limit_sends_the_signal_by_itself(cluster: SlurmCluster, tmp_path: Path) -> None:
    options, root = [*DIGITS, "--trainer.max_epochs", "1000"], tmp_path / "job"
    job = submit(cluster, options, root, "--time=1", "--signal=USR1@40")
    known = cluster.wait(job, lambda known: known["Restarts"] == "1" or finished(known))
    assert known["Restarts"] == "1", (root / "job.txt").read_text()
    assert "stopped by SIGUSR1" in (root / "job.txt").read_text()
    cluster.call("scancel", job)


@pytest.mark.slow
def test_an_array_trains_one_run_of_the_sweep_for_each_index(cluster: SlurmCluster, tmp_path: Path) -> None:
    arguments = [str(SWEEP), "--folder", str(tmp_path / "runs"), "--trainer.max_epochs", "1"]
    options = ["--array=0-3", f"--output={tmp_path / '%a.txt'}", f"--chdir={ROOT}"]
    job = cluster.submit(options, ARRAY, arguments, {"OMP_NUM_THREADS": "1"})
    found = []
    for index in range(4):
        known = cluster.wait(f"{job}_{index}", finished)
        assert known["JobState"] == "COMPLETED", (tmp_path / f"{index}.txt").read_text()
        config = yaml.safe_load((tmp_path / "runs" / str(index) / "config.yaml").read_text())
        found.append((config["model"]["init_args"]["hidden_size"], config["optimizer"]["init_args"]["lr"]))
    assert found == [(50, 1e-3), (50, 1e-2), (150, 1e-3), (150, 1e-2)]
