"""Rows of a Parquet file, some thousand at a time.

Also a script that writes them to its standard output: the threads of polars do not survive a fork, so a forked process
(strategy ``ddp_fork``, as in notebooks) that called polars itself could wait for ever.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import polars

Rows = list[dict[str, Any]]
BATCH = 8192
_imported_by = os.getpid()


def _read(path: str) -> Iterator[Rows | str]:
    """Slices by the default engine: the streaming one ends early, without an error, where a page is damaged."""
    try:
        frame = polars.scan_parquet(path, glob=False)
        count = frame.select(polars.len()).collect(engine="in-memory").item()
        for first in range(0, count, BATCH):
            yield list(frame.slice(first, BATCH).collect(engine="in-memory").iter_rows(named=True))
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        yield str(error).split("\n")[0]


def _ask_script(path: str) -> Iterator[Rows | str]:
    command = [sys.executable, "-P", __file__, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as script:
        assert script.stdout is not None
        try:
            while True:
                yield pickle.load(script.stdout)
        except (EOFError, pickle.UnpicklingError):
            pass  # it has ended, well or not
        except GeneratorExit:
            script.kill()
            raise
    if script.returncode:
        yield f"the process that read it ended with {script.returncode}"


def row_batches(path: str) -> Iterator[Rows | str]:
    """The rows in order, in lists of rows by column; a text in place of a list says why the rest cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     polars.DataFrame({"text": ["a", "b"], "label": [0, 1]}).write_parquet(Path(folder, "a.parquet"))
        ...     list(row_batches(f"{folder}/a.parquet"))
        [[{'text': 'a', 'label': 0}, {'text': 'b', 'label': 1}]]
    """
    return _read(path) if os.getpid() == _imported_by else _ask_script(path)


if __name__ == "__main__":
    for part in _read(sys.argv[1]):
        pickle.dump(part, sys.stdout.buffer)
