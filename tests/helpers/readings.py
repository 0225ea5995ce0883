"""What tests of sources read, and with which sentence it fails."""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import polars
import pytest
import zstandard

from lightning_rnn.errors import DataError, UserError

Pack = Callable[[bytes], bytes]
PACK: dict[str, Pack] = {
    ".gz": lambda raw: gzip.compress(raw, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def message_of(path: Path, action: Callable[[], object], kind: type[UserError] = DataError) -> str:
    """The one sentence that names the file."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def as_parquet(**columns: list[object]) -> bytes:
    stream = io.BytesIO()
    polars.DataFrame(columns).write_parquet(stream)
    return stream.getvalue()


def taken(records: Iterator[object]) -> int:
    return sum(1 for _ in records)
