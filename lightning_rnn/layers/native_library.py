"""Building and loading of the native engine: one C++ file, compiled for this machine at first use, then kept."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

from lightning_rnn.paths import cache_path

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parents[1] / "csrc"
ARCHITECTURES = {"x86-64-v4": "avx512vl", "x86-64-v3": "avx2"}  # what wheels are built for, and what shows it is there
FLAGS = ("-O3", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-w")
SWITCH = "LIGHTNING_RNN_NATIVE"


def compiler() -> str | None:
    """The C++ compiler: ``CXX``, else g++ or clang++ where there is one."""
    return next(
        (found for name in (os.environ.get("CXX"), "g++", "clang++") if name and (found := shutil.which(name))), None
    )


def _machine() -> str:
    """What a binary made for this machine depends on."""
    cpu = platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return cpu


def command(output: Path, architecture: str = "native") -> list[str]:
    """The compiler's command line that makes the library for an ``architecture`` (``-march``)."""
    roots = [*(f"-I{path}" for path in include_paths()), f"-I{SOURCES}"]
    libraries = [f"-L{path}" for path in library_paths()]  # loaded already when this is: no path to them is kept
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    source = str(SOURCES / "engine.cpp")
    march = f"-march={architecture}"
    return [
        compiler() or "c++",
        *FLAGS,
        march,
        abi,
        *roots,
        source,
        "-o",
        str(output),
        *libraries,
        "-ltorch_cpu",
        "-lc10",
    ]


def ahead(architecture: str) -> Path:
    """Where a library that was built ahead of time, for a wheel, lies; it serves one minor release of torch."""
    release = ".".join(torch.__version__.split(".")[:2])
    return SOURCES / f"native-{architecture}-torch{release}.so"


def _place() -> Path:
    """Where this machine's library is kept: another source, torch, compiler option or processor has another place."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".h", ".cpp"):
            digest.update(path.read_bytes())
    digest.update(repr((torch.__version__, FLAGS, sys.platform, _machine())).encode())
    return cache_path("native") / f"{digest.hexdigest()[:20]}.so"


def build(output: Path, architecture: str = "native") -> None:
    """Compile the library into ``output``.

    Raises:
        RuntimeError: the compiler failed; its first error.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(f".{os.getpid()}")
    done = subprocess.run(command(unfinished, architecture), capture_output=True, text=True, check=False)
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        lines = done.stderr.splitlines()
        raise RuntimeError(next((line for line in lines if "error" in line), f"exit status {done.returncode}"))
    unfinished.replace(output)  # at once: another process sees all of it or nothing


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process builds, the others of the machine wait for it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def why_not() -> str | None:
    """Why the native engine cannot be had here; None where it is loaded. Builds it when it is first asked for."""
    if os.environ.get(SWITCH, "1") == "0":
        return f"the native engine is switched off ({SWITCH}=0)"
    try:
        _load()
    except (OSError, RuntimeError) as error:
        return f"the native engine cannot be built here: {' '.join(str(error).split())}"
    return None


def _load() -> None:
    features = _machine().split()
    built = next(
        (ahead(name) for name, flag in ARCHITECTURES.items() if flag in features and ahead(name).exists()), None
    )
    torch.ops.load_library(str(built or _made()))  # type: ignore[no-untyped-call]


def _made() -> Path:
    """This machine's library, built where it is not there yet."""
    place = _place()
    if place.exists():
        return place
    if compiler() is None:
        raise RuntimeError("no C++ compiler is installed (g++, clang++ or the one in CXX)")
    with _alone(place):
        if not place.exists():
            log.warning("building the native engine for this machine, once: half a minute (into %s)", place)
            start = time.perf_counter()
            build(place)
            log.info("built the native engine in %.0f s", time.perf_counter() - start)
    return place
