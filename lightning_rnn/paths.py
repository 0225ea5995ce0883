"""Where data is read from and where downloads go."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_rnn.errors import DataError


def data_path(path: str | Path) -> Path:
    """``path`` as it is when absolute, else under ``LIGHTNING_RNN_DATA``, by default ``data/`` where one works."""
    return Path(os.environ.get("LIGHTNING_RNN_DATA", "data")) / Path(path).expanduser()


def cache_path(path: str | Path) -> Path:
    """``path`` under ``LIGHTNING_RNN_CACHE``, by default ``~/.cache/lightning-rnn``."""
    return Path(os.environ.get("LIGHTNING_RNN_CACHE", "~/.cache/lightning-rnn")).expanduser() / path


def existing(path: str | Path) -> Path:
    """The file at :func:`data_path`.

    Raises:
        DataError: there is none.
    """
    found = data_path(path)
    if not found.is_file():
        raise DataError(
            f"no file {found}: put it there, give another path, or set LIGHTNING_RNN_DATA to the folder that holds it"
        )
    return found
