"""Code in processes of their own, without this job's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

JOB = ("SLURM_", "OMP_", "MKL_", "MALLOC_", "GLIBC_", "LOCAL_", "LD_PRELOAD", "LIGHTNING_RNN_TUNE")
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
