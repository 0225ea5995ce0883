"""Arrays of arrays from numpy's ``.npz`` files, without running what such a file can hold.

``numpy.savez`` writes rows of unequal length as an array of objects, a pickle, and ``numpy.load(allow_pickle=True)``
runs whatever code a pickle names. Here a pickle can name four things, those that an array is rebuilt with, and in
place of each stands a record of this module that only keeps what it is given; all else is refused by name.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from lightning_rnn.data.arrays import Array, opened_archive
from lightning_rnn.errors import DataError

NUMBERS = "biuf"  # kinds of numbers that a row can be of


class _Refused(pickle.UnpicklingError):
    pass


class _Dtype:
    """What a pickle says of a type of numbers: its code, such as ``i2``, and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def to_numpy(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.code}".replace("=", "<"))


class _Array:
    """What a pickle says of an array: its shape, its type, its numbers as bytes or a list of objects."""

    shape: tuple[int, ...] = ()
    dtype: _Dtype = _Dtype("O8")
    fortran = False
    content: bytes | list[Any] = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, content = state
        self.content = content.encode("latin-1") if isinstance(content, str) else content  # Python 2's bytes

    def to_numpy(self) -> Array:
        assert isinstance(self.content, bytes)
        flat = np.frombuffer(self.content, self.dtype.to_numpy())
        native = flat.astype(flat.dtype.newbyteorder("="), copy=False)
        return native.reshape(self.shape, order="F" if self.fortran else "C")


def _rebuild(*_: object) -> _Array:
    return _Array()


def _encode(text: str, *_: object) -> bytes:
    """How Python 3 writes bytes in the protocols of Python 2."""
    return text.encode("latin-1")


_STANDS_FOR: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A record in place of what is named; nothing is ever imported."""
        try:
            return _STANDS_FOR[module, name]
        except KeyError:
            raise _Refused(f"it names {module}.{name}, and would run it") from None


def read_object_arrays(path: Path) -> dict[str, list[Array]]:
    """The arrays of an ``.npz`` file of which each is a list of arrays of numbers, in the file's order.

    Args:
        path: of the file, as it is; of Python 2 or 3.

    Returns:
        rows by the array's name; a plain array of numbers is the list of its rows.

    Raises:
        DataError: the file is not of that kind or broken, its pickles name anything but arrays, or a row is no array of
            numbers.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     rows = np.array([np.zeros((2, 3)), np.ones((4, 3))], dtype=object)
        ...     np.savez(f"{folder}/a.npz", train=rows)
        ...     [row.shape for row in read_object_arrays(Path(folder, "a.npz"))["train"]]
        [(2, 3), (4, 3)]
    """
    with opened_archive(path) as archive:
        found = {}
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as stream:
                found[name] = _read_member(cast(BinaryIO, stream), f"{path}, array {name!r}")
        return found


def _read_member(stream: BinaryIO, where: str) -> list[Array]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except ValueError as error:
        raise DataError(f"{where} is no array of numpy ({error}): write the file with numpy.savez") from error
    if dtype.kind != "O":
        return _plain(stream, shape, dtype, where)
    return [_numbers(row, f"{where}, row {number}") for number, row in enumerate(_objects(stream, where), 1)]


def _plain(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> list[Array]:
    """Rows of one length: numpy stores them without a pickle."""
    raw = stream.read()
    if dtype.kind not in NUMBERS or not shape or len(raw) != int(np.prod(shape)) * dtype.itemsize:
        raise DataError(f"{where} is {dtype} {list(shape)} of {len(raw):,} bytes: save a list of arrays of numbers")
    return list(np.frombuffer(raw, dtype).reshape(shape))


def _objects(stream: BinaryIO, where: str) -> list[Any]:
    try:
        found = _ArraysOnly(stream, encoding="latin-1").load()
        content = found.content if isinstance(found, _Array) else None
    except _Refused as error:
        raise DataError(f"{where} is refused: {error}: save arrays of numbers, or take another file") from error
    except Exception as error:  # a pickle that is cut or altered fails in any way
        raise DataError(f"{where} is broken ({type(error).__name__}: {error}): copy the file again") from error
    if not isinstance(content, list):
        raise DataError(f"{where} is no list of arrays: save one with numpy.array(rows, dtype=object)")
    return content


def _numbers(row: object, where: str) -> npt.NDArray[Any]:
    fault = DataError(f"{where} is not a whole array of numbers: save rows as arrays of numbers")
    if not (isinstance(row, _Array) and isinstance(row.content, bytes) and isinstance(row.dtype, _Dtype)):
        raise fault
    try:
        array = row.to_numpy()
    except (TypeError, ValueError) as error:
        raise fault from error
    if array.dtype.kind not in NUMBERS:
        raise fault
    return array
