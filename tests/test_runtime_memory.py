"""tune_cpu and memory: what is freed is kept; what the C library refuses is told."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from children import child, children

from lightning_rnn.errors import ConfigError
from lightning_rnn.runtime import allocator, tune_cpu

needs_glibc = pytest.mark.skipif(allocator.glibc_version() is None, reason="Linux with glibc only")


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


# Threads


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


# The command line
