"""tune_cpu: no page faults, denormals zero in every thread, threads as the job gives; and it can be told not to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from children import children

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.runtime import CPUReport, allocator, available_cores, core_limits, cores

DIGITS = Path(__file__).parents[1] / "configs/sequence_classification/digits.yaml"
needs_glibc = pytest.mark.skipif(allocator.glibc_version() is None, reason="Linux with glibc only")


# Denormals

DENORMALS = """
def kept():  # how many of each eighth's products with 1 are still denormal: one thread computes each quarter
    x = torch.zeros(1 << 20, dtype=torch.int32).add_(71362).view(torch.float32)
    weight = torch.ones(1 << 20, requires_grad=True)
    (weight * 1.0).backward(x)
    return [int(part.count_nonzero()) for bits in (x.mul(1.0), weight.grad) for part in bits.view(torch.int32).chunk(8)]
torch.set_num_threads(4)
"""
TUNED = "report = tune_cpu(keep_memory=False, threads=4)\nprint(json.dumps([before, kept(), report.done]))"
UNREACHED = """
kept()
import lightning_rnn.runtime.tune as r
r._in_every_thread = lambda threads: None
print(json.dumps(tune_cpu(keep_memory=False, threads=4).not_done))
"""
CASES = {
    "new threads": "before = []\n" + TUNED,
    "threads that run already": "before = kept()\n" + TUNED,
    "torch's own call": "kept(); torch.set_flush_denormal(True)\nprint(json.dumps(kept()))",
    "not reached": UNREACHED,
}


@pytest.fixture(scope="module")
def flushed() -> dict[str, Any]:
    """What was found in each case, in a process of its own each."""
    return dict(zip(CASES, children(*(DENORMALS + code for code in CASES.values())), strict=True))


@pytest.mark.parametrize("case", ["new threads", "threads that run already"])
def test_denormals_are_zero_in_every_thread(flushed: dict[str, Any], case: str) -> None:
    before, after, done = flushed[case]
    assert not any(after)
    assert "denormals are flushed" in done
    assert before == ([1 << 17] * 16 if case == "threads that run already" else [])


def test_torchs_own_call_leaves_running_threads_as_they_are(flushed: dict[str, Any]) -> None:
    """Why there is more to it than one call of torch's; where this fails, that can go."""
    assert any(flushed["torch's own call"])


def test_threads_that_could_not_be_reached_are_told(flushed: dict[str, Any]) -> None:
    not_done = flushed["not reached"]
    assert not_done[1] == "denormals are flushed in this thread alone, not in those that torch had started before"


# Threads


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_affinity", lambda: set(range(16)))


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, 16),
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "32"}, 16),  # never more than there are
        ({"SLURM_CPUS_ON_NODE": "12"}, 12),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_TASKS_PER_NODE": "4"}, 3),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_TASKS_PER_NODE": "2(x3),5", "SLURM_NODEID": "1"}, 6),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_TASKS_PER_NODE": "2(x3),5", "SLURM_NODEID": "3"}, 2),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_TASKS_PER_NODE": "4", "SLURM_STEP_TASKS_PER_NODE": "1"}, 12),
        ({"SLURM_CPUS_ON_NODE": "2", "SLURM_TASKS_PER_NODE": "4"}, 1),
        ({"LOCAL_WORLD_SIZE": "1"}, 16),
        ({"LOCAL_WORLD_SIZE": "5"}, 3),
        ({"LOCAL_WORLD_SIZE": "99"}, 1),
        # srun starts one torchrun a node, which starts four processes
        ({"LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_PER_TASK": "8", "SLURM_STEP_ID": "0"}, 2),
        # torchrun in the batch script has all that the node's tasks would have
        ({"LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "8"}, 2),
        ({"LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_ON_NODE": "8", "SLURM_TASKS_PER_NODE": "4"}, 2),
    ],
)
def test_share_of_the_job(env: Mapping[str, str], expected: int, tmp_path: Path) -> None:
    assert available_cores(env, tmp_path) == expected


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        (  # rounded up, and the group above counts
            {
                "proc/self/cgroup": "0::/job/step",
                "sys/fs/cgroup/job/step/cpu.max": "max 100000",
                "sys/fs/cgroup/job/cpu.max": "250000 100000",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/../..", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        (  # version 1; the container sees its own group as the topmost
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/0a\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "2:cpuset:/\n1:cpu:/job",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            },
            16,
        ),
        (
            {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 8},{i % 8 + 8}" for i in range(16)},
            8,
        ),
    ],
)
def test_quota_and_threads_of_one_core(files: Mapping[str, str], expected: int, tmp_path: Path) -> None:
    assert available_cores({}, machine(tmp_path, files)) == expected


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"])
@pytest.mark.parametrize("value", ["two", "0", "-1", ""])
def test_variable_that_is_no_number_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a whole number above 0, got '{value}'"):
        core_limits({name: value})


SHARE = "report = tune_cpu(keep_memory=False)\nprint(json.dumps([torch.get_num_threads(), report.done]))"


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_torch_takes_its_share() -> None:
    pinned = "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
    found = children(pinned + SHARE, "os.environ['SLURM_CPUS_PER_TASK'] = '1'\n" + SHARE)
    for (threads, done), why in zip(found, ("this machine's cores", "SLURM_CPUS_PER_TASK"), strict=True):
        assert threads == 1
        if why != "SLURM_CPUS_PER_TASK" or available_cores({}) > 1:  # one core: two limits are equal
            assert f"1 thread ({why})" in done


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_users_own_number_of_threads_stays(name: str) -> None:
    found = children(SHARE, "os.environ['LOCAL_WORLD_SIZE'] = '1'\n" + SHARE, **{name: "1"})
    assert [threads for threads, _ in found] == [1, 1]
    assert f"1 thread ({name}=1)" in found[0][1]
    assert f"1 thread ({name}=1; torchrun sets it where you do not)" in found[1][1]


# The command line


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the command line tunes, which is faked: this process is the tests'."""
    calls: list[int] = []
    monkeypatch.delenv("LIGHTNING_RNN_TUNE", raising=False)
    fake = lambda: calls.append(1) or CPUReport(("all is done",), ("not this",))  # noqa: E731
    monkeypatch.setattr("lightning_rnn.training.command.tune_cpu", fake)
    return calls


def run(folder: Path, *options: str, verb: str = "test") -> int:
    """Ends at a checkpoint that is not there, before any data is read."""
    files = ["--config", str(DIGITS), "--trainer.default_root_dir", str(folder), "--ckpt_path", str(folder / "no.ckpt")]
    return main([verb, *files, *options])


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_each_verb_tunes_and_logs_one_line(
    verb: str, tuned: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lightning_rnn"):
        assert run(tmp_path, verb=verb) == 1
    assert len(tuned) == 1
    (record,) = [record for record in caplog.records if record.getMessage().startswith("cpu: ")]
    assert record.getMessage() == "cpu: all is done (not done: not this)"
    assert record.name.startswith("lightning_rnn.")


def test_command_line_can_be_told_not_to(
    tuned: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("tune_cpu: false\n")
    assert run(tmp_path, "--tune_cpu", "false") == 1
    assert run(tmp_path, "--config", str(overlay)) == 1
    monkeypatch.setenv("LIGHTNING_RNN_TUNE", "0")
    assert run(tmp_path) == 1
    assert not tuned
    monkeypatch.setenv("LIGHTNING_RNN_TUNE", "no")
    assert run(tmp_path) == 2
    assert "LIGHTNING_RNN_TUNE must be 0 or 1, got 'no'" in capsys.readouterr().err
    monkeypatch.setenv("LIGHTNING_RNN_TUNE", "1")
    assert run(tmp_path) == 1
    assert len(tuned) == 1


def test_reading_the_help_or_a_config_tunes_nothing(tuned: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(DIGITS), "--print_config"]) == 0
    assert "tune_cpu: true" in capsys.readouterr().out
    assert not tuned


@needs_glibc
def test_real_command_line_says_what_it_did(tmp_path: Path) -> None:
    code = f"""
os.environ["LIGHTNING_RNN_TUNE"] = "%s"
with contextlib.redirect_stdout(io.StringIO()) as out:
    rc = main(["test", "--config", {str(DIGITS)!r}, "--trainer.default_root_dir", {str(tmp_path)!r}])
print(json.dumps([rc, out.getvalue(), float(torch.tensor(1e-40) * 1)]))
"""
    imports = "import contextlib, io\nfrom lightning_rnn.cli import main\n"
    found = children(code % "1", code % "0", imports=imports)
    for (rc, out, denormal), flushed in zip(found, (True, False), strict=True):
        lines = [line for line in out.splitlines() if line.startswith("cpu: freed memory is kept")]
        assert rc == 1
        assert len(lines) == int(flushed)
        assert (denormal == 0) is flushed
