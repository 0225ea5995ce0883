"""Archives: unpacked whole or not at all, and never out of their folder."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import re
import signal
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from lightning_rnn.data import archives
from lightning_rnn.data.archives import RECORD, unpack
from lightning_rnn.errors import DataError

FILES = {
    "texts/1.txt": b"one",
    "texts/deep/2.bin": random.Random(0).randbytes(50_000),
    "empty": b"",
    "é ü.txt": b"\xff",
}
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


def tar_of_files() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(entry("./texts", tarfile.DIRTYPE))
        for name, content in FILES.items():
            tar.addfile(entry(f"./{name}", size=len(content)), io.BytesIO(content))
    return stream.getvalue()


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, compression
            file.writestr(info, content)
    return stream.getvalue()


def packed(suffix: str) -> bytes:
    return zip_of(FILES) if suffix == ".zip" else TARS[suffix](tar_of_files())


def contents(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found.pop(RECORD).startswith(b"sha256:")
    return found


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


SYM, LNK = tarfile.SYMTYPE, tarfile.LNKTYPE
ESCAPES = {
    "an absolute name": ([entry("/tmp/evil")], "'/tmp/evil' leads out"),
    "a name that goes up": ([entry("../evil")], "'../evil' leads out"),
    "a name that goes down and up": ([entry("a/../../outside/evil")], "leads out"),
    "a name for another system": ([entry("..\\evil")], "leads out"),
    "a drive": ([entry("C:/evil")], "leads out"),
    "a folder that goes up": ([entry("../evil", tarfile.DIRTYPE)], "leads out"),
    "a link up": ([entry("a", SYM, "../outside")], "'a' leads out of the folder, to '../outside'"),
    "an absolute link": ([entry("a", SYM, "/etc/passwd")], "to '/etc/passwd'"),
    "a link to nothing": ([entry("a", SYM, "")], "leads out"),
    "a link up from a folder": ([entry("a/b", SYM, "../../outside")], "leads out"),
    "a link up behind a link": ([entry("d", SYM, "."), entry("a", SYM, "d/../../outside")], "'a' leads out"),
    "a file below a link": ([entry("d", SYM, "."), entry("d/evil")], "'d/evil' goes through a link"),
    "a file in place of a link": ([entry("d", SYM, "e"), entry("d")], "'d' is in it twice"),
    "a link in place of a folder": ([entry("d/e"), entry("d", SYM, ".")], "'d' is in it twice"),
    "a folder in place of a link": ([entry("d", SYM, "."), entry("d", tarfile.DIRTYPE)], "'d' is in it twice"),
    "a hard link up": ([entry("a", LNK, "../outside/evil")], "to '../outside/evil'"),
    "an absolute hard link": ([entry("a", LNK, "/etc/passwd")], "to '/etc/passwd'"),
    "a hard link to a link": ([entry("a", SYM, "b"), entry("c", LNK, "a")], "'c' is a link to 'a', which is no file"),
    "a hard link through a link": (
        [entry("b/f"), entry("d", SYM, "b"), entry("c", LNK, "d/f")],
        "'c' is a link to 'd/f', which is no file before it",
    ),
    "a hard link to nothing": ([entry("c", LNK, "a")], "'c' is a link to 'a'"),
    "a file in a file": ([entry("a"), entry("a/b")], "'a/b' is in a file"),
    "a file twice": ([entry("a"), entry("./a")], "'./a' is in it twice"),
    "a file for the folder itself": ([entry(".")], "is in it twice"),
    "the record": ([entry(RECORD)], "is in it twice"),
    "a device": ([entry("null", tarfile.CHRTYPE)], "'null' is a device or pipe"),
    "a disk": ([entry("sda", tarfile.BLKTYPE)], "'sda' is a device or pipe"),
    "a pipe": ([entry("pipe", tarfile.FIFOTYPE)], "'pipe' is a device or pipe"),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_a_tar_file_writes_nothing_outside_its_folder(top: Path, case: str) -> None:
    infos, reason = ESCAPES[case]
    (top / "a.tar").write_bytes(tar_of(entry("before"), *infos))
    message = refusal(top / "a.tar")
    assert reason in message
    assert message.endswith(": take another archive")


def test_a_chain_of_links_longer_than_a_path_may_be_leads_nowhere(top: Path) -> None:
    """CVE-2025-4517: beyond 4,096 characters tarfile's own filter stops to look, and lets it out."""
    name, infos, path = "d" * 247, list[tarfile.TarInfo](), ""
    for letter in "abcdefghijklmnop":
        infos.append(entry(path + name, tarfile.DIRTYPE))
        infos.append(entry(path + letter, SYM, name))
        path += name + "/"
    chain = "/".join("abcdefghijklmnop")
    infos += [
        entry(f"{chain}/{'l' * 254}", SYM, "../" * 16),
        entry("escape", SYM, f"{chain}/{'l' * 254}/../../outside"),
    ]
    (top / "a.tar").write_bytes(tar_of(*infos, entry("escape/evil")))
    assert "goes through a link" in refusal(top / "a.tar")


@pytest.mark.parametrize("name", ["/tmp/evil", "../evil", "a/../../evil", "..\\evil", "C:\\evil", "a\0b"])
def test_a_zip_file_writes_nothing_outside_its_folder(top: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = zip_of({"before": b"1", name.replace("\0", "*"): b"2"}).replace(b"a*b", b"a\0b")
    (top / "a.zip").write_bytes(raw)
    monkeypatch.setattr(archives._Unpacker, "add", lambda *members: pytest.fail("written before it was checked"))
    assert f"a.zip is not unpacked, {name!r} leads out of the folder: take another" in refusal(top / "a.zip")


def test_links_devices_and_encrypted_files_in_a_zip_file_are_refused(top: Path) -> None:
    for mode, reason in ((stat.S_IFLNK, "a link in a zip file"), (stat.S_IFCHR, "a device or pipe")):
        (top / "a.zip").write_bytes(zip_of({"a": b"../outside"}, mode=mode | 0o777))
        assert f"'a' is {reason}" in refusal(top / "a.zip")
    raw = bytearray(zip_of({"a": b"1"}))
    raw[raw.index(b"PK\1\2") + 8] |= 1
    (top / "a.zip").write_bytes(raw)
    assert "'a' is encrypted" in refusal(top / "a.zip")


def test_permissions_are_those_of_new_files(top: Path) -> None:
    info = entry("a", size=1)
    info.mode = 0o6777
    (top / "a.tar").write_bytes(tar_of(info, content=b"1"))
    (top / "plain").touch()
    assert (unpack(top / "a.tar", top / "folder") / "a").stat().st_mode == (top / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz", ".tar.zst", ".zip", ".gz"])
def test_a_bomb_is_stopped_at_the_limit(top: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(5_000_000)
    bombs = {".zip": lambda: zip_of({"zeros": zeros}), ".gz": lambda: gzip.compress(zeros)}
    archive = top / f"a{suffix}"
    archive.write_bytes(
        bombs[suffix]() if suffix in bombs else TARS[suffix](tar_of(entry("zeros", size=len(zeros)), content=zeros))
    )
    assert "more than 4,999,999 bytes come out of it: take another, or give a larger max_bytes" in refusal(
        archive, 4_999_999
    )
    monkeypatch.setattr(archives, "AT_LEAST", 10**5)
    assert f"more than {max(10**5, 200 * archive.stat().st_size):,} bytes come out" in refusal(archive)
    assert unpack(archive, top / "folder", 5_100_000).is_dir()


def test_a_file_of_holes_and_many_empty_files_count_too(top: Path) -> None:
    (top / "a.tar").write_bytes(tar_of(*(entry(f"{number}") for number in range(100))))
    assert "more than 400,000 bytes" in refusal(top / "a.tar", 400_000)
    info = entry("holes")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": "9000000000",
    }
    (top / "b.tar").write_bytes(tar_of(info))
    assert "more than 1,000,000 bytes" in refusal(top / "b.tar", 10**6)


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
