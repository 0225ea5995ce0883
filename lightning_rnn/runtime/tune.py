"""One call for a process that trains on a CPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_rnn.errors import require
from lightning_rnn.runtime.allocator import Step, keep_freed
from lightning_rnn.runtime.cores import ROOT, core_limits, read

GRAIN = 1 << 15  # elements that torch gives to one thread
DENORMAL = 71362  # the bits of 1e-40 in float32
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class CPUReport:
    """What :func:`tune_cpu` did, and what it did not do and why: short clauses; as a string one line for a log."""

    done: tuple[str, ...]
    not_done: tuple[str, ...]

    def __str__(self) -> str:
        line = "cpu: " + "; ".join(self.done or ("nothing done",))
        return line + (f" (not done: {'; '.join(self.not_done)})" if self.not_done else "")


def tune_cpu(
    *,
    keep_memory: bool = True,
    pool_mb: int | None = None,
    flush_denormals: bool = True,
    threads: int | None = None,
) -> CPUReport:
    """Set this process up for training on a CPU: once, at its start. The command line does it by itself.

    - **Freed memory is kept.** glibc gives large blocks back to the kernel when they are freed, so every training step
      takes them anew, page by page: half of a step's time in small recurrent networks. With this, freed blocks of up to
      1 GiB stay with the process, its heap is grown once by ``pool_mb``, and the kernel is asked to back it by huge
      pages. The process no longer shrinks: it stays at its peak. Linux with glibc only. A thread other than the main
      one keeps blocks below 64 MiB, the size of glibc's heaps for threads.
    - **Denormals are flushed** to zero (below 1.2e-38 in float32): they make arithmetic many times slower, and long
      sequences produce them. A CPU keeps this flag for each thread; it is set in the calling thread and in torch's
      threads, and threads that these start later inherit it. NumPy and Python's own floats in those threads flush too.
    - **torch's threads** are the cores that are there for this process, see :func:`core_limits`. ``OMP_NUM_THREADS``
      and ``MKL_NUM_THREADS`` come first: where one is set, torch is left as it is.

    A second call changes nothing more. A process that is forked from this one (a DataLoader's worker) inherits all but
    the number of threads; one that is spawned does not.

    Args:
        keep_memory: keep freed memory.
        pool_mb: how much to grow the heap by, in MiB; it costs address space until it is used. By default 512, and
            never more than an eighth of the memory there is for this process. 0 grows nothing.
        flush_denormals: flush denormals.
        threads: how many threads torch takes, whatever the environment says.

    Returns:
        What was done, and what was not and why. Nothing raises where a platform lacks something.

    Raises:
        ConfigError: ``pool_mb`` is negative, ``threads`` is not above 0, or a variable of the job is not a number.

    Example:
        >>> report = tune_cpu(keep_memory=False, flush_denormals=False, threads=torch.get_num_threads())
        >>> report.not_done
        ('freed memory is not kept: not asked for', 'denormals are not flushed: not asked for')
    """
    require(pool_mb is None or pool_mb >= 0, f"pool_mb must be 0 or more, got {pool_mb}")
    require(threads is None or threads > 0, f"threads must be above 0, got {threads}")
    steps = [
        _set_threads(threads, os.environ),  # first: the next step may start them
        _flush_denormals() if flush_denormals else (False, "denormals are not flushed: not asked for"),
        *(keep_freed(pool_mb, os.environ) if keep_memory else [(False, "freed memory is not kept: not asked for")]),
    ][::-1]
    return CPUReport(tuple(text for ok, text in steps if ok), tuple(text for ok, text in steps if not ok))


def may_tune() -> bool:
    """Whether ``LIGHTNING_RNN_TUNE`` leaves the process to ``--tune_cpu``: 1, as when it is not set; 0 is no."""
    value = os.environ.get("LIGHTNING_RNN_TUNE", "1")
    require(value in ("0", "1"), f"the environment variable LIGHTNING_RNN_TUNE must be 0 or 1, got {value!r}")
    return value == "1"


def _set_threads(asked: int | None, env: Mapping[str, str]) -> Step:
    now = torch.get_num_threads()
    limits = core_limits(env)
    source = min(limits, key=lambda name: limits[name])
    if asked is not None:
        count, why = asked, "as asked for"
    elif fixed := next((f"{name}={env[name]}" for name in THREAD_VARIABLES if env.get(name)), None):
        torchrun = "; torchrun sets it where you do not" if "LOCAL_WORLD_SIZE" in env else ""
        count, why = now, f"{fixed}{torchrun}"
    else:
        count, why = limits[source], source
    if count != now:
        torch.set_num_threads(count)
    return True, f"{count} thread{'s' * (count > 1)} ({why})"


def _flush_denormals() -> Step:
    if not torch.set_flush_denormal(True):  # this thread, and threads that it starts from now on
        return False, "denormals are not flushed: this CPU or this build of torch cannot"
    if not _all_threads_flush():
        _in_every_thread(torch.get_num_threads())
    if _all_threads_flush():
        return True, "denormals are flushed"
    return False, "denormals are flushed in this thread alone, not in those that torch had started before"


def _all_threads_flush() -> bool:
    """Whether every thread of torch's takes a denormal number for zero, seen in bits: comparisons flush too."""
    count = GRAIN * torch.get_num_threads()
    numbers = torch.zeros(count, dtype=torch.int32).add_(DENORMAL).view(torch.float32)
    return not numbers.mul(1.0).view(torch.int32).any()


def _in_every_thread(threads: int) -> None:
    """Set the flag in the threads of a pool that runs already, by way of the OpenMP library that torch loaded."""
    maps = [line.split()[-1] for line in read(ROOT / "proc/self/maps").splitlines()]
    loaded = next((path for path in maps if Path(path).name.startswith(("libgomp", "libiomp", "libomp"))), None)
    if loaded is None:
        return
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    try:
        run = ctypes.CDLL(loaded).GOMP_parallel
    except AttributeError:  # an OpenMP library without GNU's names
        return
    run.argtypes = (work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    run(work(lambda _: torch.set_flush_denormal(True)), None, threads, 0)
