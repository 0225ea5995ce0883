"""One way to open a file, compressed or not, and to say what is wrong with it."""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import zstandard

from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import data_path, existing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 4096  # compressed bytes taken at once: what they unpack to is held in memory
_NOT_WHOLE = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class _ZstdFile(io.RawIOBase):
    """The frames of a zstd file as one stream; the library's own reader takes a truncated file for a whole one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._frame = self._decompressor.decompressobj()
        self._inside = False
        self._packed, self._ready = b"", b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready and self._take():
            pass
        view = memoryview(buffer)
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _take(self) -> bool:
        """Unpack the next piece; False at the end of the file."""
        packed = self._packed or self._file.read(_PIECE)
        if not packed:
            if self._inside:
                raise EOFError("it ends inside a frame")
            return False
        self._ready, self._packed, self._inside = self._frame.decompress(packed), b"", True
        if self._frame.eof:
            self._packed, self._inside = self._frame.unused_data, False
            self._frame = self._decompressor.decompressobj()
        return True


def _open_zstd(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_ZstdFile(path), 2**17)


_OPEN: dict[str, tuple[str, Callable[[Path], Any]]] = {
    ".gz": ("gzip", gzip.open),
    ".xz": ("xz", lzma.open),
    ".zst": ("zstd", _open_zstd),
}
COMPRESSED = (*_OPEN,)


def plain_name(path: Path) -> str:
    """The file's name without ``.gz``, ``.xz`` or ``.zst`` at its end.

    Example:
        >>> plain_name(Path("a/b.csv.xz")), plain_name(Path("b.csv"))
        ('b.csv', 'b.csv')
    """
    return path.stem if path.suffix in COMPRESSED else path.name


def _open(path: Path) -> BinaryIO:
    if path.suffix not in COMPRESSED:
        return path.open("rb")
    if not path.stat().st_size:
        raise EOFError("it is empty")
    return cast(BinaryIO, _OPEN[path.suffix][1](path))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes as a stream, decompressed where its name ends in ``.gz``, ``.xz`` or ``.zst``.

    Raises:
        DataError: the file cannot be read, or is not a whole file of the kind that its name says.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "a.zst").write_bytes(zstandard.compress(b"hello"))
        ...     with opened(Path(folder, "a.zst")) as stream:
        ...         stream.read()
        b'hello'
    """
    try:
        with _open(path) as stream:
            yield stream
    except _NOT_WHOLE as error:
        raise DataError(
            f"{path} is not a whole {_OPEN[path.suffix][0]} file ({error}): download or copy it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): check the path and its permissions") from error


def find_files(paths: list[str]) -> list[Path]:
    """The files that paths or patterns (``wiki/*.txt.gz``, ``**`` for any depth) name, those of a pattern in order.

    Args:
        paths: relative to the data folder.

    Raises:
        ConfigError: two of them name the same file.
        DataError: a file is missing, or a pattern fits none.
    """
    found = list[Path]()
    for path in paths:
        is_pattern = glob.has_magic(path) and not data_path(path).is_file()
        found += _matches(path) if is_pattern else [existing(path)]
    double = next((path for path, times in Counter(found).items() if times > 1), None)
    require(double is None, f"the file {double} is named twice: name it once")
    return found


def _matches(pattern: str) -> list[Path]:
    whole = str(data_path(pattern))
    found = [path for path in map(Path, sorted(glob.glob(whole, recursive=True))) if path.is_file()]
    if not found:
        raise DataError(f"no file fits {whole}: mend the pattern, or set LIGHTNING_RNN_DATA to the folder it starts in")
    return found
