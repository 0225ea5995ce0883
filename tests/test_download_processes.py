"""Downloads that are killed, or that several processes and threads want at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mirror import CONTENT, MD5, OTHER, Act, Server, names, serving, until

from lightning_rnn.data import answers, download, transfer
from lightning_rnn.data.disk import locked
from lightning_rnn.data.download import fetch


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TIMEOUT", 0.25)
    monkeypatch.setattr(transfer, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(transfer, "LONGEST_DELAY", 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set"


def forked(work: Callable[[], object]) -> int:
    """The id of a new process that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [0, 1, 123_456, 299_999])
def test_a_killed_download_is_gone_on_with_by_the_next_process(
    server: Server, folder: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "TIMEOUT", 10)
    server.plan = [Act(after=after, then="stall")]
    child = forked(lambda: fetch("a.bin", folder, [server.url], MD5))
    part = folder / "a.bin.part"
    until(lambda: part.exists() and part.stat().st_size == after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(folder) == ["a.bin.lock", "a.bin.part", "a.bin.part.json"]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert names(folder) == ["a.bin"]
    assert server.starts == [0, after]


def test_a_download_stopped_after_its_last_byte_is_only_checked(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*paths: Path) -> None:
        raise KeyboardInterrupt

    for content, starts in ((CONTENT, [0]), (OTHER, [0, 0])):
        server.content, server.asked = content, []
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(download, "replace", stop)
            fetch("a.bin", folder, [server.url])
        assert names(folder) == ["a.bin.part", "a.bin.part.json"]
        server.content = CONTENT
        assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
        assert server.starts == starts
        (folder / "a.bin").unlink()


def test_a_record_that_was_not_written_to_its_end_is_not_trusted(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.bin.part").write_bytes(CONTENT[:1000])
    for record in ("", "{", "[]", '{"url": 1}'):
        (folder / "a.bin.part.json").write_text(record)
        assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
        (folder / "a.bin").rename(folder / "a.bin.part")
    assert server.starts == [0] * 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_of_several_processes_one_downloads_and_all_find_the_file(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "TIMEOUT", 10)
    server.plan = [Act(after=1000, then="stall")]
    children = [forked(lambda: fetch("a.bin", folder, [server.url], MD5)) for _ in range(3)]
    until(lambda: (folder / "a.bin.part").exists() and (folder / "a.bin.part").stat().st_size == 1000)
    time.sleep(0.1)
    assert len(server.asked) == 1
    server.released.set()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert server.starts == [0, 1000]
    assert names(folder) == ["a.bin"]


def test_many_threads_all_get_the_whole_file(server: Server, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch("a.bin", folder, [server.url], MD5), range(16)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.asked) == 1
    assert names(folder) == ["a.bin"]


def test_a_lock_that_is_removed_at_its_end_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside = list[int]()

    def enter(number: int) -> int:
        with locked(tmp_path / "a"):
            inside.append(number)
            time.sleep(0.002)
            found = [*inside]
            inside.remove(number)
        return len(found)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(enter, range(100))) == {1}
    assert names(tmp_path) == []
