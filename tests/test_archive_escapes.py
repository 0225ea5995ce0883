"""Archives that would write outside their folder, or without end."""

from __future__ import annotations

import gzip
import stat
import tarfile
from pathlib import Path

import pytest
from archives import TARS, entry, refusal, tar_of, zip_of

from lightning_rnn.data import archives
from lightning_rnn.data.archives import RECORD, unpack


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path


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
