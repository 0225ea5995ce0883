"""Archives made in memory, and how one is refused."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from lightning_rnn.data.archives import unpack
from lightning_rnn.errors import DataError

TARS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.compress,
}


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def tar_of(*infos: tarfile.TarInfo, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, compression
            file.writestr(info, content)
    return stream.getvalue()


def refusal(archive: Path, max_bytes: int | None = None) -> str:
    """The sentence with which it is refused, after which the disk is as it was before."""
    top = archive.parent
    before = sorted(top.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, top / "sub" / "folder", max_bytes)
    (top / "sub").rmdir()  # its parent, and empty
    assert sorted(top.rglob("*")) == before
    assert str(caught.value).startswith(str(archive))
    return str(caught.value)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path
