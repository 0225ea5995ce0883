"""A table as the bytes of a Parquet and of a CSV file.

Also a script that reads columns from its standard input: the threads of polars do not survive a fork, so a forked
process (strategy ``ddp_fork``, as in notebooks) that called polars itself could wait for ever.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy.typing as npt
import polars

Columns = dict[str, list[Any] | npt.NDArray[Any]]
_imported_by = os.getpid()


def encode(columns: Columns) -> tuple[bytes, bytes]:
    r"""The table as Parquet and as CSV.

    Example:
        >>> import numpy as np
        >>> encode({"id": ["a", "b"], "p": np.array([0.25, 0.5])})[1]
        b'id,p\na,0.25\nb,0.5\n'
    """
    if os.getpid() != _imported_by:
        command = [sys.executable, "-P", __file__]
        done = subprocess.run(command, input=pickle.dumps(columns), stdout=subprocess.PIPE, check=True)
        parquet, text = pickle.loads(done.stdout)
        return parquet, text
    frame, parquet_file, text_file = polars.DataFrame(columns), io.BytesIO(), io.BytesIO()
    frame.write_parquet(parquet_file)
    frame.write_csv(text_file)
    return parquet_file.getvalue(), text_file.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(encode(pickle.load(sys.stdin.buffer))))
