"""What is in an archive, one file or folder after the other."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal, Self, cast

from lightning_rnn.data.files import COMPRESSED, opened, plain_name

Kind = Literal["file", "folder", "symbolic link", "hard link", "a device or pipe", "encrypted", "a link in a zip file"]


class Refused(Exception):
    """Something in an archive is not unpacked, and what to do about that."""

    def __init__(self, reason: str, advice: str = "take another archive") -> None:
        super().__init__(f"{reason}: {advice}")


@dataclass(frozen=True)
class Member:
    """One entry: its name, what it is, where a link leads, and how to open a file."""

    name: str
    kind: Kind
    target: str = ""
    open: Callable[[], IO[bytes] | None] | None = None

    @property
    def parts(self) -> list[str]:
        """The folders that it is in, and its own name."""
        return [part for part in self.name.split("/") if part not in ("", ".")]

    def check(self) -> None:
        """Refuse what could be written outside of the folder, by its name and its target alone.

        Raises:
            Refused: why.

        Example:
            >>> Member("a/b", "symbolic link", "../../c").check()
            Traceback (most recent call last):
            lightning_rnn.data.members.Refused: 'a/b' leads out of the folder, to '../../c': take another archive
        """
        if self.kind in ("a device or pipe", "encrypted", "a link in a zip file"):
            raise Refused(f"{self.name!r} is {self.kind}")
        if not _is_inside(self.name):
            raise Refused(f"{self.name!r} leads out of the folder")
        is_link = self.kind == "symbolic link"
        inside = _stays(self.target, len(self.parts) - 1) if is_link else self.kind != "hard link"
        if not inside and (is_link or not _is_inside(self.target)):
            raise Refused(f"{self.name!r} leads out of the folder, to {self.target!r}")


def _is_inside(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    absolute = parts[0] == "" or re.fullmatch(r"[A-Za-z]:", parts[0])
    return not absolute and ".." not in parts and "\0" not in name


def _stays(target: str, depth: int) -> bool:
    """Whether a link in a folder ``depth`` below the top stays inside.

    After its first names it must not go up: they may be links themselves, so that up from there is anywhere.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return target[:1] not in ("", "/") and "\0" not in target and up <= depth and ".." not in parts[up:]


Members = Generator[Member, None, None]


class _Header(tarfile.TarInfo):
    """A header of a tar file that ends at its end mark; the base class takes a damaged header for the end as well."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # typeshed lacks it
                raise
            raise tarfile.ReadError(str(error)) from error


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    kinds: dict[Kind, bool] = {
        "file": info.isfile(),
        "folder": info.isdir(),
        "symbolic link": info.issym(),
        "hard link": info.islnk(),
    }
    return next((kind for kind, yes in kinds.items() if yes), "a device or pipe")


@contextmanager
def _unpacked(archive: Path) -> Iterator[BinaryIO]:
    if archive.suffix != ".tgz":
        with opened(archive) as stream:
            yield stream
    else:
        with gzip.open(archive) as stream:
            yield cast(BinaryIO, stream)


def tar_members(archive: Path) -> Members:
    """Those of a tar file, each to be used before the next is asked for. Reads to the end: checksums stand there.

    Raises:
        DataError: a compressed file that is not whole.
        tarfile.TarError: what is unpacked from it is not whole.
    """
    with _unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as tar:
        for info in tar:
            yield Member(info.name, _tar_kind(info), info.linkname, partial(tar.extractfile, info))
        while stream.read(1 << 20):
            pass


def zip_members(archive: Path) -> Members:
    """Those of a zip file, all checked before the first.

    Raises:
        Refused: see :meth:`Member.check`.
        zipfile.BadZipFile: the file is not whole.
    """
    with zipfile.ZipFile(archive) as file:
        members = [_zip_member(file, info) for info in file.infolist()]
        for member in members:
            member.check()
        yield from members


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kinds: dict[int, Kind] = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
    kinds[stat.S_IFLNK] = "a link in a zip file"
    kind = kinds.get(stat.S_IFMT(info.external_attr >> 16), "a device or pipe")
    kind = "folder" if info.filename.endswith("/") and kind == "file" else kind
    kind = "encrypted" if info.flag_bits & 1 else kind
    return Member(info.orig_filename, kind, open=partial(file.open, info))


def single_member(archive: Path) -> Members:
    """The one file of a compressed file.

    Raises:
        DataError: it is not whole.
    """
    with opened(archive) as stream:
        yield Member(plain_name(archive), "file", open=lambda: stream)


def reader_of(archive: Path) -> Callable[[Path], Members] | None:
    """What reads the archive, by its name; None for a name that is not of one."""
    if archive.suffix == ".zip":
        return zip_members
    if archive.suffix in (".tar", ".tgz") or plain_name(archive).endswith(".tar"):
        return tar_members
    return single_member if archive.suffix in COMPRESSED else None
