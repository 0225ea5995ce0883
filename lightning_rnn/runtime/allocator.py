"""glibc's allocator, told to keep what is freed: mallopt(3), a heap grown once, huge pages."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lightning_rnn.runtime.cores import ROOT, memory, processes_on_machine, read

MB = 1 << 20
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
MADV_HUGEPAGE = 14  # sys/mman.h
BLOCKS = (1 << 30, 32 << 20)  # blocks up to this size are kept: what we ask for, and what every glibc grants
POOL_MB, SHARE_OF_MEMORY = 512, 8
MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
TUNABLES = tuple(f"glibc.malloc.{name}" for name in ("trim_threshold", "mmap_threshold", "mmap_max", "top_pad"))

Step = tuple[bool, str]  # whether it was done, and the clause that says so


def glibc_version() -> str | None:
    """Such as ``glibc 2.36``; ``None`` on another system or another C library."""
    if sys.platform != "linux":
        return None
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # musl
        return None


def _largest_pool(env: Mapping[str, str], root: Path = ROOT) -> int:
    """MiB: an eighth of the memory there is for this process."""
    return memory(root) // SHARE_OF_MEMORY // processes_on_machine(env) // MB


def keep_freed(pool_mb: int | None, env: Mapping[str, str]) -> list[Step]:
    """Keep freed memory, unless this system or this user has it otherwise; what was done, and what not and why."""
    no = "freed memory is not kept: "
    version = glibc_version()
    if version is None:
        return [(False, no + "only Linux with glibc can")]
    own = [name for name in MALLOC_VARIABLES if name in env]
    own += ["GLIBC_TUNABLES"] * any(name in env.get("GLIBC_TUNABLES", "") for name in TUNABLES)
    if own:
        return [(False, no + f"{own[0]} is set, which is left to rule")]
    libc = _libc()
    if not _is_used(libc):
        return [(False, no + "another allocator than glibc's is loaded (LD_PRELOAD)")]
    asked, most = POOL_MB if pool_mb is None else pool_mb, _largest_pool(env)
    steps = _keep(libc, version, min(asked, most))
    if pool_mb is None or pool_mb <= most:
        return [*steps]
    return [(False, f"a pool of {pool_mb} MiB would be more than an eighth of the memory"), *steps]


@cache
def _libc() -> ctypes.CDLL:
    """One object for the process, so that what was done with it is remembered."""
    return ctypes.CDLL("libc.so.6", use_errno=True)


class _Books(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usm", "fsm", "used", "free", "keepcost")
    ]


def _is_used(libc: ctypes.CDLL) -> bool:
    """Whether what this process calls malloc is glibc's: a block that it gives stands in glibc's books.

    Addresses do not tell: that of a program which is not position-independent, such as Debian's Python, is a stub.
    """
    everybodys = ctypes.CDLL(None)
    malloc, free = everybodys.malloc, everybodys.free
    try:
        books = libc.mallinfo2
    except AttributeError:  # before glibc 2.33
        return ctypes.cast(libc.malloc, ctypes.c_void_p).value == ctypes.cast(malloc, ctypes.c_void_p).value
    books.restype, malloc.restype, malloc.argtypes = _Books, ctypes.c_void_p, (ctypes.c_size_t,)
    free.argtypes = (ctypes.c_void_p,)
    before = books()
    block = malloc(MB)
    after = books()
    free(block)
    return bool(after.used + after.hblkhd >= before.used + before.hblkhd + MB)


@cache
def _keep(libc: ctypes.CDLL, version: str, pool_mb: int) -> tuple[Step, ...]:
    """mallopt(3), and the heap grown once: with trimming off, what is freed at its end stays there."""
    kept = next((size for size in BLOCKS if libc.mallopt(M_MMAP_THRESHOLD, size)), None)
    if kept is None or not libc.mallopt(M_TRIM_THRESHOLD, -1) or not libc.mallopt(M_TOP_PAD, 64 * MB):
        return ((False, f"freed memory is not kept: mallopt of {version} refused"),)
    done = (True, f"freed memory is kept ({version}, blocks up to {kept // MB} MiB, pool of {pool_mb} MiB)")
    if not pool_mb:
        return (done,)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    pool = libc.malloc(pool_mb * MB)
    if not pool:
        return (False, f"the heap was not grown: there are no {pool_mb} MiB of address space"), done
    libc.free(pool)
    return _advise_huge_pages(libc), done


def _advise_huge_pages(libc: ctypes.CDLL, root: Path = ROOT) -> Step:
    mode = read(root / "sys/kernel/mm/transparent_hugepage/enabled")
    if not mode or "[never]" in mode:
        return False, "huge pages are off in this kernel"
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    failed = []
    heaps = [line.split()[0].split("-") for line in read(root / "proc/self/maps").splitlines() if "[heap]" in line]
    for start, end in ((int(a, 16), int(b, 16)) for a, b in heaps):
        first, last = -(-start // (2 * MB)) * 2 * MB, end // (2 * MB) * 2 * MB  # whole huge pages
        if last > first and libc.madvise(first, last - first, MADV_HUGEPAGE):
            failed.append(os.strerror(ctypes.get_errno()))
    if failed or not heaps:
        return False, f"no huge pages: {failed[0] if failed else 'the heap has no name in /proc/self/maps'}"
    return True, "huge pages are advised"
