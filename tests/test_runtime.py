"""tune_cpu: no page faults, denormals zero in every thread, threads as the job gives; and it can be told not to."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError
from lightning_rnn.runtime import CPUReport, allocator, available_cores, core_limits, cores, tune_cpu

DIGITS = Path(__file__).parents[1] / "configs/sequence_classification/digits.yaml"
JOB = ("SLURM_", "OMP_", "MKL_", "MALLOC_", "GLIBC_", "LOCAL_", "LD_PRELOAD", "LIGHTNING_RNN_TUNE")
needs_glibc = pytest.mark.skipif(allocator.glibc_version() is None, reason="Linux with glibc only")


PRELUDE = "import json, os, resource, sys, threading, traceback, torch\nfrom lightning_rnn.runtime import *\n"
FORKS = """
for code in json.loads(sys.argv[1]):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            exec(code, globals())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(pid, 0)
"""


def children(*codes: str, imports: str = "", **env: str) -> list[Any]:
    """What each code prints as JSON, in a process of its own without this job's settings; torch is loaded once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(JOB)} | env
    command = [sys.executable, "-c", PRELUDE + imports + FORKS, json.dumps(codes)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(answers) == len(codes), done.stderr
    return answers


def child(code: str, **env: str) -> Any:
    """What some code prints as JSON, in a process of its own without this job's settings."""
    (answer,) = children(code, **env)
    return answer


# Freed memory is kept

FAULTS = """
def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def blocks():
    x = torch.ones(12 << 20)  # 48 MiB, above the 32 MiB from which glibc always asks the kernel
    y = x + 1
lstm, rows = torch.nn.LSTM(28, 150, batch_first=True), torch.randn(150, 28, 28)
def train():
    lstm.zero_grad()
    lstm(rows)[0].square().mean().backward()
def in_thread(count):
    found = []
    thread = threading.Thread(target=lambda: found.extend([faults(5), faults(count)]))
    thread.start(); thread.join()
    return found[1]
counts = []
for step in (blocks, train):
    faults(5)
    counts.append(faults(8))
step = train
print(json.dumps([*counts, in_thread(8)]))
"""


@needs_glibc
def test_freed_memory_is_not_asked_for_again() -> None:
    plain, tuned = children("torch.set_num_threads(1)" + FAULTS, "tune_cpu(threads=1)" + FAULTS)
    page = os.sysconf("SC_PAGE_SIZE")
    assert plain[0] > 8 * (48 << 20) / page  # every page of a block, in every step
    assert plain[1] > 10_000
    shares = {"blocks": 20, "training": 5, "training in a thread": 5}  # a heap still grows in the first steps
    for (name, share), before, after in zip(shares.items(), plain, tuned, strict=True):
        assert after < before / share, f"{name}: {before} -> {after}"


@needs_glibc
def test_second_call_changes_nothing() -> None:
    code = """
def heap():
    found = [line.split()[0].split("-") for line in open("/proc/self/maps") if "[heap]" in line]
    return sum(int(end, 16) - int(start, 16) for start, end in found) >> 20
sizes, reports = [heap()], []
for _ in range(3):
    reports.append(str(tune_cpu(pool_mb=100)))
    sizes.append(heap())
    if len(reports) == 1:
        used = torch.ones(20 << 20)  # most of the pool: growing by it again would show
print(json.dumps([sizes, reports]))
"""
    sizes, reports = child(code)
    assert sizes[1] - sizes[0] >= 100
    assert sizes[1] == sizes[2] == sizes[3]
    assert len(set(reports)) == 1
    assert "pool of 100 MiB" in reports[0]


class FakeLibc:
    """glibc as far as it is called, and what it was asked."""

    def __init__(self, most: int = 1 << 30, pool: int | None = 1, madvise: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self.freed: list[int] = []
        self.mallopt = lambda option, value: self.asked.append((option, value)) or int(value <= most)
        self.malloc: Callable[[int], int | None] = lambda size: pool
        self.free = lambda pointer: self.freed.append(pointer)
        self.madvise = lambda start, size, advice: madvise


def clauses(libc: FakeLibc) -> dict[str, bool]:
    return {text: ok for ok, text in allocator._keep(libc, "glibc 2.17", 64)}  # type: ignore[arg-type]


def test_older_glibc_takes_a_lower_threshold() -> None:
    libc = FakeLibc(most=32 << 20)
    libc.mallopt = lambda option, value: int(option != allocator.M_MMAP_THRESHOLD or value <= 32 << 20)
    assert clauses(libc)["freed memory is kept (glibc 2.17, blocks up to 32 MiB, pool of 64 MiB)"]
    assert libc.freed == [1]


def test_refusals_are_told() -> None:
    assert clauses(FakeLibc(most=-2)) == {"freed memory is not kept: mallopt of glibc 2.17 refused": False}
    assert clauses(FakeLibc(pool=None))["the heap was not grown: there are no 64 MiB of address space"] is False


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "huge pages are off in this kernel"),
        ({"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]"}, "huge pages are off in this kernel"),
        (
            {"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never", "proc/self/maps": ""},
            "no huge pages: the heap has no name in /proc/self/maps",
        ),
        (
            {
                "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
                "proc/self/maps": "01000000-09000000 rw-p 00000000 00:00 0 [heap]",
            },
            "no huge pages: ",
        ),
    ],
)
def test_no_huge_pages(tmp_path: Path, files: Mapping[str, str], expected: str) -> None:
    done, text = allocator._advise_huge_pages(FakeLibc(madvise=-1), machine(tmp_path, files))  # type: ignore[arg-type]
    assert not done
    assert text.startswith(expected)


def test_only_whole_huge_pages_of_the_heap_are_advised(tmp_path: Path) -> None:
    files = {
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "proc/self/maps": "00300000-00a10000 rw-p 0 00:0 0 [heap]\n7f000000-7f400000 rw-p 0 00:0 0",
    }
    libc, asked = FakeLibc(), []
    libc.madvise = lambda start, size, advice: asked.append((start, size, advice)) or 0
    assert allocator._advise_huge_pages(libc, machine(tmp_path, files))[0]  # type: ignore[arg-type]
    assert asked == [(0x400000, 0x600000, 14)]


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"MALLOC_TRIM_THRESHOLD_": "1"}, "MALLOC_TRIM_THRESHOLD_ is set"),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1"}, "GLIBC_TUNABLES is set"),
    ],
)
def test_users_own_malloc_settings_rule(env: Mapping[str, str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "glibc_version", lambda: "glibc 2.36")
    ((done, text),) = allocator.keep_freed(None, env)
    assert not done
    assert reason in text


def test_other_libc_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "glibc_version", lambda: None)
    report = tune_cpu(flush_denormals=False)
    assert report.not_done[0] == "freed memory is not kept: only Linux with glibc can"
    assert str(report).endswith(f"(not done: {'; '.join(report.not_done)})")


def test_musl_has_no_glibc_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "confstr", confstr)
    assert allocator.glibc_version() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.glibc_version() is None


@needs_glibc
def test_another_allocator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_is_used", lambda libc: False)
    assert allocator.keep_freed(None, {}) == [
        (False, "freed memory is not kept: another allocator than glibc's is loaded (LD_PRELOAD)")
    ]


@needs_glibc
def test_glibcs_malloc_is_told_from_another_by_its_books(monkeypatch: pytest.MonkeyPatch) -> None:
    libc, arena = allocator._libc(), ctypes.create_string_buffer(2 << 20)
    assert allocator._is_used(libc)

    def malloc(size: int) -> int:
        return ctypes.addressof(arena)

    other = SimpleNamespace(malloc=malloc, free=lambda block: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: other)
    assert not allocator._is_used(libc)


def test_pool_is_at_most_an_eighth_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, {"proc/meminfo": "MemTotal:  8388608 kB\nMemFree: 1 kB"})
    assert allocator._largest_pool({}, root) == 1024
    machine(tmp_path, {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": str(800 << 20)})
    assert allocator._largest_pool({}, root) == 100
    assert allocator._largest_pool({"LOCAL_WORLD_SIZE": "4"}, root) == 25
    machine(tmp_path, {"proc/self/cgroup": "3:memory:/b", "sys/fs/cgroup/memory/memory.limit_in_bytes": str(80 << 20)})
    assert allocator._largest_pool({}, root) == 10
    pools: list[int] = []
    monkeypatch.setattr(allocator, "_keep", lambda libc, version, pool_mb: pools.append(pool_mb) or ())
    monkeypatch.setattr(allocator, "glibc_version", lambda: "glibc 2.36")
    monkeypatch.setattr(allocator, "_largest_pool", lambda env: 100)
    for variable in allocator.MALLOC_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    told = [allocator.keep_freed(pool_mb, {}) for pool_mb in (None, 20, 0, 101)]
    assert pools == [100, 20, 0, 100]
    assert told == [[], [], [], [(False, "a pool of 101 MiB would be more than an eighth of the memory")]]


def test_no_negative_pool_and_no_zero_threads() -> None:
    with pytest.raises(ConfigError, match="pool_mb must be 0 or more, got -1"):
        tune_cpu(pool_mb=-1)
    with pytest.raises(ConfigError, match="threads must be above 0, got 0"):
        tune_cpu(threads=0)


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
