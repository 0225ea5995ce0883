"""Archives: unpacked whole or not at all, and never out of their folder."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import re
import signal
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from archives import TARS, entry, refusal, tar_of, zip_of

from lightning_rnn.data import archives
from lightning_rnn.data.archives import RECORD, unpack
from lightning_rnn.errors import DataError

FILES = {
    "texts/1.txt": b"one",
    "texts/deep/2.bin": random.Random(0).randbytes(50_000),
    "empty": b"",
    "é ü.txt": b"\xff",
}


def tar_of_files() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(entry("./texts", tarfile.DIRTYPE))
        for name, content in FILES.items():
            tar.addfile(entry(f"./{name}", size=len(content)), io.BytesIO(content))
    return stream.getvalue()


def packed(suffix: str) -> bytes:
    return zip_of(FILES) if suffix == ".zip" else TARS[suffix](tar_of_files())


def contents(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found.pop(RECORD).startswith(b"sha256:")
    return found


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path


@pytest.mark.parametrize("suffix", [*TARS, ".zip"])
def test_all_files_come_out_as_they_went_in_and_nothing_else_is_left(top: Path, suffix: str) -> None:
    archive = top / f"a{suffix}"
    archive.write_bytes(packed(suffix))
    assert unpack(archive, top / "sub" / "folder") == top / "sub" / "folder"
    assert contents(top / "sub" / "folder") == FILES
    assert [path.name for path in (top / "sub").iterdir()] == ["folder"]


def test_one_compressed_file_comes_out_under_its_name(top: Path) -> None:
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.compress)):
        (top / f"a.txt{suffix}").write_bytes(compress(b"hello"))
        assert contents(unpack(top / f"a.txt{suffix}", top / suffix[1:])) == {"a.txt": b"hello"}


def test_a_second_call_writes_nothing_and_a_changed_archive_is_unpacked_again(top: Path) -> None:
    archive = top / "a.zip"
    archive.write_bytes(zip_of({"old": b"1", "both": b"1"}))
    folder = unpack(archive, top / "folder")
    before = folder.stat(), (folder / "both").stat()
    unpack(archive, folder)
    assert (folder.stat(), (folder / "both").stat()) == before
    archive.write_bytes(zip_of({"new": b"2", "both": b"2"}))
    assert contents(unpack(archive, folder)) == {"new": b"2", "both": b"2"}
    assert sorted(path.name for path in top.iterdir()) == ["a.zip", "folder", "outside"]


def test_a_broken_new_archive_leaves_what_the_old_one_gave(top: Path) -> None:
    archive = top / "a.zip"
    archive.write_bytes(zip_of({"old": b"1"}))
    folder = unpack(archive, top / "folder")
    archive.write_bytes(b"broken")
    with pytest.raises(DataError, match="not a whole archive"):
        unpack(archive, folder)
    assert contents(folder) == {"old": b"1"}


def test_a_folder_of_something_else_is_left_alone(top: Path) -> None:
    (top / "a.zip").write_bytes(zip_of(FILES))
    (top / "outside" / "mine").write_text("mine")
    with pytest.raises(DataError, match="outside is there, and not unpacked from an archive: move it away"):
        unpack(top / "a.zip", top / "outside")
    assert (top / "outside" / "mine").read_text() == "mine"
    (top / "empty").mkdir()
    assert contents(unpack(top / "a.zip", top / "empty")) == FILES


def test_links_that_stay_inside_are_kept(top: Path) -> None:
    infos = (
        entry("a/file", size=5),
        entry("a/soft", tarfile.SYMTYPE, "../b/../a/file"),
        entry("hard", tarfile.LNKTYPE, "a/file"),
    )
    (top / "a.tar").write_bytes(
        tar_of(infos[0], entry("a/soft", tarfile.SYMTYPE, "../a/file"), infos[2], content=b"hello")
    )
    folder = unpack(top / "a.tar", top / "folder")
    assert (folder / "a" / "soft").is_symlink()
    assert (folder / "a" / "soft").read_bytes() == (folder / "hard").read_bytes() == b"hello"
    (top / "b.tar").write_bytes(tar_of(*infos, content=b"hello"))
    assert "leads out of the folder" in refusal(top / "b.tar")  # up again from where b may lead


@pytest.mark.parametrize("suffix", [*TARS, ".zip", ".gz"])
def test_an_archive_cut_anywhere_is_refused(top: Path, suffix: str) -> None:
    whole = gzip.compress(FILES["texts/deep/2.bin"]) if suffix == ".gz" else packed(suffix)
    archive, end = top / f"a{suffix}", len(whole)
    if suffix == ".tar":
        end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # the end mark follows
    for size in (0, 1, 100, 512, 1024, end // 2 // 512 * 512, end // 2 + 7, end - 1, end):
        if size == len(whole):
            continue
        archive.write_bytes(whole[:size])
        assert refusal(archive).endswith(": download or copy it again")


def test_an_archive_with_a_flipped_bit_gives_the_same_files_or_none(top: Path) -> None:
    """Where there is a checksum over all of it; a plain tar file has one over its headers only."""
    dice = random.Random(0)
    for suffix in (".tar.gz", ".tar.xz", ".tar.zst", ".zip"):
        whole = packed(suffix)
        if suffix == ".tar.zst":
            whole = zstandard.ZstdCompressor(write_checksum=True).compress(tar_of_files())
        for number in range(40):
            flipped = bytearray(whole)
            flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
            (top / f"a{suffix}").write_bytes(flipped)
            with suppress(DataError):
                found = contents(unpack(top / f"a{suffix}", top / "out" / f"{number}{suffix}"))
                assert found == FILES or (suffix == ".zip" and [*found.values()] == [*FILES.values()])  # a name's bit


def test_a_tar_file_with_a_damaged_header_is_not_taken_for_a_shorter_one(top: Path) -> None:
    """What ``tarfile`` does by itself."""
    raw = bytearray(tar_of(*(entry(f"{number}") for number in range(3))))
    raw[512 + 10] ^= 1
    (top / "a.tar").write_bytes(raw)
    with tarfile.open(top / "a.tar") as tar:
        assert tar.getnames() == ["0"]
    assert "a.tar is not a whole archive (bad checksum): download or copy it again" in refusal(top / "a.tar")


def test_what_the_readers_choke_on_is_named(top: Path) -> None:
    whole = zip_of({"a": bytes(100), "é": b"1"}, zipfile.ZIP_BZIP2)
    stream = whole.index(b"BZh")
    cases = {
        "a name in no encoding": whole.replace("é".encode(), b"\xff\xff"),
        "data in no format": whole[: stream + 4] + bytes(6) + whole[stream + 10 :],
        "a way to compress that is not known": zip_of({"a": b"1"}).replace(
            b"PK\1\2\x14\3\x14\0\0\0\x08", b"PK\1\2\x14\3\x14\0\0\0\x63"
        ),
    }
    unnamed = bytearray(zip_of({"a": b"1"}))
    entry_at = unnamed.index(b"PK\1\2")
    unnamed[entry_at + 28], unnamed[entry_at + 32] = 0, 1  # its name is its comment
    cases["an empty name"] = bytes(unnamed)
    info = entry("a")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "1,x",
        "GNU.sparse.size": "5",
    }
    for case, raw in cases.items():
        (top / "a.zip").write_bytes(raw)
        assert re.search("(whole|unpacked).*: (download|take another)", refusal(top / "a.zip")), case
    (top / "a.tar").write_bytes(tar_of(info))
    assert "a.tar is not a whole archive (invalid literal" in refusal(top / "a.tar")


def test_what_is_no_archive_and_what_is_not_there_are_named(top: Path) -> None:
    for name in ("a.rar", "a.tar.bz2", "tar"):
        (top / name).write_bytes(b"1")
        assert "is not an archive by its name: unpack it yourself, or give a .tar, " in refusal(top / name)
    with pytest.raises(DataError, match=r"cannot read .*b\.zip .No such file or directory.: put it there"):
        unpack(top / "b.zip", top / "folder")
    (top / "file").write_text("")
    (top / "a.zip").write_bytes(zip_of(FILES))
    with pytest.raises(DataError, match=r"cannot use .*LIGHTNING_RNN_CACHE"):
        unpack(top / "a.zip", top / "file" / "folder")


def test_many_at_once_all_find_the_whole_folder(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "a.tgz").write_bytes(packed(".tgz"))
    made: list[Path] = []
    make = archives._make
    monkeypatch.setattr(archives, "_make", lambda *given: (made.append(given[0]), make(*given)))
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: contents(unpack(top / "a.tgz", top / "folder")), range(16))]
    assert found == [FILES] * 16
    assert made == [top / "folder"]
    assert sorted(path.name for path in top.iterdir()) == ["a.tgz", "folder", "outside"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_unpacking_leaves_nothing_under_the_name_and_the_next_one_cleans_up(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "a.tgz").write_bytes(packed(".tgz"))
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(archives.os, "sync", lambda: time.sleep(60))
        unpack(top / "a.tgz", top / "folder")
    stop = time.monotonic() + 10
    while not (top / ".folder.unpacking" / "é ü.txt").exists():
        assert time.monotonic() < stop
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (top / "folder").exists()
    assert contents(unpack(top / "a.tgz", top / "folder")) == FILES
    assert sorted(path.name for path in top.iterdir()) == ["a.tgz", "folder", "outside"]
