"""Arrays of arrays from ``.npz`` files: the numbers that numpy gives, and nothing run that a file names."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_rnn.data.object_arrays import read_object_arrays
from lightning_rnn.errors import DataError


def rows() -> Any:
    made = np.empty(3, dtype=object)
    for place in range(3):
        made[place] = np.arange(3 * (place + 1), dtype=np.int16).reshape(-1, 3)
    return made


def member(content: bytes) -> bytes:
    """An ``.npy`` file of objects with this pickle in it."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1,)})  # type: ignore[arg-type]
    return stream.getvalue() + content


def archive(path: Path, content: bytes, name: str = "train.npy") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
    return path


class Evil:
    """Unpickled by ``pickle``, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("dtype", ["int16", "float32", ">i4", "bool"])
def test_rows_are_those_that_numpy_reads(tmp_path: Path, dtype: str) -> None:
    made = np.empty(2, dtype=object)
    made[0], made[1] = np.ones((2, 3), dtype), np.asfortranarray(np.arange(12).reshape(4, 3).astype(dtype))
    np.savez_compressed(tmp_path / "a.npz", train=made, valid=rows())
    found = read_object_arrays(tmp_path / "a.npz")
    expected = np.load(tmp_path / "a.npz", allow_pickle=True)
    assert list(found) == ["train", "valid"]
    for name in found:
        for row, other in zip(found[name], expected[name], strict=True):
            assert row.dtype == other.dtype
            np.testing.assert_array_equal(row, other)


def test_rows_of_one_length_need_no_pickle(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=np.arange(24).reshape(2, 4, 3))
    assert [row.tolist() for row in read_object_arrays(tmp_path / "a.npz")["train"]] == np.arange(24).reshape(
        2, 4, 3
    ).tolist()


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    """As Python 2 wrote them: protocol 2, bytes as 8-bit strings, ``numpy.core``."""
    raw = np.array([[1, -2, 0], [300, 4, 1]], "<i2").tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02%bK\x00K\x01tR(K\x03U\x01%bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    inner = empty + b"(K\x01(K\x02K\x03t" + dtype % (b"i2", b"<") + b"\x89U" + bytes([len(raw)]) + raw + b"tb"
    outer = b"\x80\x02" + empty + b"(K\x01(K\x01t" + dtype % (b"O8", b"|") + b"\x89](" + inner + b"etb."
    path = archive(tmp_path / "a.npz", member(outer))
    assert read_object_arrays(path)["train"][0].tolist() == [[1, -2, 0], [300, 4, 1]]


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    made = np.empty(1, dtype=object)
    made[0] = Evil(touched)
    np.savez(tmp_path / "a.npz", train=made)
    with pytest.raises(DataError, match=r"a\.npz, array 'train' is refused: it names posix\.system"):
        read_object_arrays(tmp_path / "a.npz")
    assert not touched.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["train"]  # what it would have done
    assert touched.exists()


@pytest.mark.parametrize(
    "named", ["builtins\neval", "numpy\nload", "numpy\nsave", "os\nsystem", "numpy.core.multiarray\nscalar", "numpy\nX"]
)
def test_everything_but_arrays_is_refused(tmp_path: Path, named: str) -> None:
    path = archive(tmp_path / "a.npz", member(f"c{named}\n(U\x011tR.".encode()))
    with pytest.raises(DataError, match="is refused: it names " + named.replace("\n", r"\.")):
        read_object_arrays(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text", "no array of numpy"),
        (member(b""), "broken"),
        (member(pickle.dumps(["a", 1])), "no list of arrays"),
        (member(pickle.dumps(rows(), protocol=2)[:-40]), "broken"),
        (member(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."), "broken"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=rf"a\.npz, array 'train' is .*{said}|a\.npz, array 'train' is {said}"):
        read_object_arrays(archive(tmp_path / "a.npz", content))


def test_a_row_that_is_no_array_of_numbers_is_named(tmp_path: Path) -> None:
    for wrong in ("abc", [1, 2], np.array(["a", "b"]), None):
        made = rows()
        made[1] = wrong
        np.savez(tmp_path / "a.npz", train=made)
        with pytest.raises(DataError, match=r"array 'train', row 2 is not a whole array of numbers"):
            read_object_arrays(tmp_path / "a.npz")


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not a zip file")
    with pytest.raises(DataError, match=r"a\.npz is not a whole \.npz file"):
        read_object_arrays(tmp_path / "a.npz")


def test_altered_pickles_never_fail_in_another_way(tmp_path: Path) -> None:
    whole, random = bytearray(pickle.dumps(rows(), protocol=2)), np.random.default_rng(0)
    for _ in range(300):
        altered = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            altered[place] = random.integers(0, 256)
        with suppress(DataError):
            read_object_arrays(archive(tmp_path / "a.npz", member(bytes(altered))))
