"""Unpacking an archive into a folder that is whole or absent, and that nothing leaves."""

from __future__ import annotations

import logging
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import zstandard

from lightning_rnn.data.disk import append, checksum_of, locked, replace, usable
from lightning_rnn.data.members import Member, Refused, reader_of
from lightning_rnn.errors import DataError

log = logging.getLogger(__name__)
RECORD = ".unpacked"  # in the folder: the checksum of its archive
RATIO, AT_LEAST = 200, 10**9  # the limit by default: times the archive's size, bytes
BLOCK = 4096  # bytes that each member counts for besides its own
CHUNK = 1 << 20
_BROKEN = (  # what reading raises; a folder that cannot be written to is a DataError by then
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,  # of gzip, bz2 and a seek to nowhere
    ValueError,  # of numbers and names
)


class _Unpacker:
    """Writes members below ``root``, up to a number of bytes."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit, self.left = root, limit, limit

    def _count(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused(f"more than {self.limit:,} bytes come out of it", "take another, or give a larger max_bytes")

    def add(self, member: Member) -> None:
        """Write one member.

        Raises:
            Refused: it leads out of the folder, is of a kind that is not written, or one too many.
            DataError: the folder cannot be written to.
        """
        self._count(BLOCK)
        member.check()
        path = self.root.joinpath(*member.parts)
        with usable(self.root.parent):
            new = self._is_new(path, member)
        if new and member.kind == "file":
            self._write(path, member)
        elif new:
            with usable(self.root.parent):
                self._make(path, member)

    def _is_new(self, path: Path, member: Member) -> bool:
        """Make the folder for it; False for a folder that is there already, which is no mistake."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise Refused(f"{member.name!r} is in a file") from error
        if member.parts and os.path.realpath(path.parent, strict=True) != str(path.parent):
            raise Refused(f"{member.name!r} goes through a link")
        if not os.path.lexists(path):
            return True
        if member.kind == "folder" and path.is_dir() and not path.is_symlink():
            return False
        raise Refused(f"{member.name!r} is in it twice")

    def _write(self, path: Path, member: Member) -> None:
        source = None if member.open is None else member.open()
        if source is None:
            raise Refused(f"{member.name!r} cannot be read")
        with usable(self.root.parent):
            target = path.open("xb", buffering=0)
        with target, source:
            while data := source.read(CHUNK):
                self._count(len(data))
                with usable(self.root.parent):
                    append(target, data)

    def _make(self, path: Path, member: Member) -> None:
        if member.kind == "folder":
            path.mkdir()
        elif member.kind == "symbolic link":
            path.symlink_to(member.target)
        else:
            other = self.root.joinpath(*Member(member.target, "file").parts)
            if not other.is_file() or os.path.realpath(other) != str(other):
                raise Refused(f"{member.name!r} is a link to {member.target!r}, which is no file before it")
            os.link(other, path)


def _fill(folder: Path, archive: Path, limit: int) -> None:
    reader, unpacker = reader_of(archive), _Unpacker(folder, limit)
    if reader is None:
        raise DataError(
            f"{archive} is not an archive by its name: unpack it yourself, or give a .tar, .tar.gz, .tgz, .tar.xz, "
            ".tar.zst, .zip, .gz, .xz or .zst"
        )
    try:
        with closing(reader(archive)) as members:
            for member in members:
                unpacker.add(member)
    except Refused as error:
        raise DataError(f"{archive} is not unpacked, {error}") from error
    except NotImplementedError as error:  # how a zip file is compressed
        raise DataError(f"{archive} cannot be unpacked here ({error}): take another archive") from error
    except DataError:
        raise
    except _BROKEN as error:
        reason = str(error) or "it ends early"
        raise DataError(f"{archive} is not a whole archive ({reason}): download or copy it again") from error


def _is_of(folder: Path, checksum: str) -> bool:
    record = folder / RECORD
    return record.is_file() and record.read_bytes() == checksum.encode()


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _make(folder: Path, archive: Path, checksum: str, limit: int) -> None:
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("unpacking", "replaced"))
    _remove(part, old)  # left by a process that was killed
    try:
        part.mkdir()
        (part / RECORD).write_text(checksum)
        _fill(part.resolve(), archive, limit)
        os.sync()  # all files at once: one by one, 100,000 small ones take minutes
        if folder.exists():
            os.replace(folder, old)
        replace(part, folder)
    finally:
        _remove(part, old)


def unpack(archive: Path, folder: Path, max_bytes: int | None = None) -> Path:
    """The folder with what is in the archive, unpacked where it is absent or of another archive.

    It is made beside, as ``.folder.unpacking``, and renamed when all of it is on the disk. The archive's checksum
    stands in it as ``.unpacked``. Names, and links, that lead out of the folder are refused before anything of them is
    written; so are devices, links in zip files, encrypted files, members that are in it twice, and those below a link.
    Files get the permissions and the time that new files have. Several processes may call this at once.

    Args:
        archive: ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz``, ``.tar.zst`` or ``.zip``, or one file as ``.gz``,
            ``.xz`` or ``.zst``.
        folder: to unpack into; a folder that was not made here is left alone.
        max_bytes: more than these are not unpacked, each member counting for 4,096 besides its own. None is 200 times
            the size of the archive, at least 10**9.

    Returns:
        ``folder``.

    Raises:
        DataError: the archive is absent, not whole, or refused (nothing of it is left on the disk); ``folder`` holds
            something else, or cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as here:
        ...     with zipfile.ZipFile(Path(here, "a.zip"), "w") as file:
        ...         file.writestr("texts/1.txt", "hello")
        ...     (unpack(Path(here, "a.zip"), Path(here, "a")) / "texts" / "1.txt").read_text()
        'hello'
    """
    try:
        checksum, size = checksum_of(archive), archive.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {archive} ({error.strerror}): put it there or download it again") from error
    limit = max(RATIO * size, AT_LEAST) if max_bytes is None else max_bytes
    with usable(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if _is_of(folder, checksum):
            return folder
        with locked(folder):
            if not _is_of(folder, checksum):
                _check_own(folder)
                log.info("unpacking %s into %s", archive, folder)
                _make(folder, archive, checksum, limit)
    return folder


def _check_own(folder: Path) -> None:
    """Leave alone what was not unpacked here."""
    if os.path.lexists(folder) and not (folder / RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there, and not unpacked from an archive: move it away, or give another folder")
