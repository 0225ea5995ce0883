"""The cores and the memory there are for this process: of the machine, of its control group, of its job."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lightning_rnn.errors import require

ROOT = Path("/")


def available_cores(env: Mapping[str, str] | None = None, root: Path = ROOT) -> int:
    """The cores there are for this process: the smallest of :func:`core_limits`, at least 1.

    Example:
        >>> available_cores({"SLURM_CPUS_PER_TASK": "1"})
        1
    """
    return min(core_limits(env, root).values())


def core_limits(env: Mapping[str, str] | None = None, root: Path = ROOT) -> dict[str, int]:
    """How many cores each source leaves to this process, by the source's name.

    Sources: the CPUs that this process may run on, threads of one core counted once; the CPU quota of the control
    group or of one above it (versions 1 and 2), rounded up; the share of a SLURM task. Where ``torchrun`` started
    several processes on this machine (``LOCAL_WORLD_SIZE``), each has its part, rounded down, at least 1.

    Args:
        env: the environment, by default this process's.
        root: the folder that holds ``proc`` and ``sys``.

    Raises:
        ConfigError: a variable is not a whole number above 0.
    """
    env = os.environ if env is None else env
    limits = {"this machine's cores": _cores(_affinity(), root)}
    if (quota := _cpu_quota(root)) is not None:
        limits["the control group's quota"] = quota
    limits |= _slurm_share(env)
    processes = processes_on_machine(env)
    if processes == 1:
        return limits
    return {f"{name} / {processes} processes": max(1, count // processes) for name, count in limits.items()}


def _affinity() -> set[int]:
    """Numbers of the CPUs that this process may run on."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def _cores(cpus: set[int], root: Path) -> int:
    """How many cores some CPUs are: threads of one core share its units, so a second one computes no faster."""
    topology = root / "sys/devices/system/cpu"
    return len({read(topology / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus})


def processes_on_machine(env: Mapping[str, str]) -> int:
    """How many of the job's processes share this machine, as torchrun says."""
    return _whole(env, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in env else 1


def _slurm_share(env: Mapping[str, str]) -> dict[str, int]:
    """What SLURM gives to this task; under torchrun in a batch script, outside any step, to all of the node's."""
    whole_node = "LOCAL_WORLD_SIZE" in env and "SLURM_STEP_ID" not in env
    if "SLURM_CPUS_PER_TASK" in env and not whole_node:
        return {"SLURM_CPUS_PER_TASK": _whole(env, "SLURM_CPUS_PER_TASK")}
    if "SLURM_CPUS_ON_NODE" not in env:
        return {}
    tasks = 1 if whole_node else _tasks_on_node(env)
    name = "SLURM_CPUS_ON_NODE" + (f" / {tasks} tasks" if tasks > 1 else "")
    return {name: max(1, _whole(env, "SLURM_CPUS_ON_NODE") // tasks)}


def _tasks_on_node(env: Mapping[str, str]) -> int:
    """From ``2(x3),1``: two tasks on each of three nodes, one on the fourth."""
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"):
        if name in env:
            nodes: list[str] = []
            for group in env[name].split(","):
                tasks, _, times = group.rstrip(")").partition("(x")
                nodes += [tasks] * (_whole({name: times}, name) if times else 1)
            node = int(env.get("SLURM_NODEID", "0"))
            return _whole({name: nodes[node if node < len(nodes) else 0]}, name)
    return 1


def _whole(env: Mapping[str, str], name: str) -> int:
    value = env[name]
    require(value.isdecimal() and int(value) > 0, f"{name} must be a whole number above 0, got {value!r}")
    return int(value)


def read(path: Path) -> str:
    """A small file of the kernel's, or nothing where there is none or it is not for us."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control group and of all above it; a container may see only the topmost."""
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        names = {"": [""]}.get(controllers, [controllers, controller])  # version 2 has no names
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        for name in dict.fromkeys(names):
            for depth in range(0 if ".." in parts else len(parts), -1, -1):
                yield (root / "sys/fs/cgroup" / name).joinpath(*parts[:depth])


def _cpu_quota(root: Path) -> int | None:
    """The smallest quota in cores, rounded up."""
    quotas = []
    for folder in _control_groups("cpu", root):
        version1 = [read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for text in (read(folder / "cpu.max").split(), version1):
            if len(text) == 2 and all(part.isdecimal() for part in text):  # no limit is "max" or -1
                quotas.append(max(1, math.ceil(int(text[0]) / int(text[1]))))
    return min(quotas, default=None)


def memory(root: Path) -> int:
    """Bytes of this machine, or of the control group's limit; 0 where neither is known."""
    limits = [int(line.split()[1]) * 1024 for line in read(root / "proc/meminfo").splitlines() if "MemTotal" in line]
    for folder in _control_groups("memory", root):
        found = (read(folder / name) for name in ("memory.max", "memory.limit_in_bytes"))
        limits += [int(text) for text in found if text.isdecimal()]
    return min(limits, default=0)
