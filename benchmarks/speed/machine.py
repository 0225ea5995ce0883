"""The machine that a figure belongs to, and whether something else runs on it."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def describe(threads: int) -> dict[str, Any]:
    """CPU, its instruction sets, versions, date and load; nothing that names the machine."""
    import torch

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in fields.get("flags", "").split()],
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": round(os.getloadavg()[0], 2),
    }


def busy(seconds: float = 0.2) -> float:
    """Cores in use right now, 0 to all of them, by whatever runs: called while the workers wait, it is other load."""

    def ticks() -> tuple[int, int]:
        values = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(values[:8]), values[3] + values[4]  # all, idle and waiting for disks

    time.sleep(seconds)  # threads that wait for more work go to sleep
    before = ticks()
    time.sleep(seconds)
    after = ticks()
    passed, idle = after[0] - before[0], after[1] - before[1]
    return 0.0 if not passed else (os.cpu_count() or 1) * (passed - idle) / passed
