"""The token store of runs that are killed, damaged or at work together: whole or absent."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_cases import TOKENIZER, Lines, expected, folders, prepare, rows_of, write_corpus

from lightning_rnn.data.store import MappedRagged, prepare_tokens

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lightning_rnn.data.store.CHUNK_TEXTS", 50)
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def empty(path: Path) -> None:
    path.write_text("[]")


FILES = ("values.npy", "offsets.npy", "meta.json")
DAMAGES = [(name, damage) for damage in (shorten, Path.unlink, empty) for name in FILES]


@pytest.mark.parametrize(("name", "damage"), [*DAMAGES, ("values.npy", flip), ("offsets.npy", flip)])
def test_a_damaged_store_is_made_anew(
    cache: Path, corpus: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepare(Lines(corpus)).folder
    damage(folder / name)
    again = prepare(lines := Lines(corpus))
    assert rows_of(again) == expected(corpus) and lines.read == 1
    assert caplog.messages[0].startswith(f"{folder} is damaged") and "preparing it again" in caplog.messages[0]
    assert folders(cache) == [folder.name]


def test_a_killed_run_leaves_nothing_that_is_used(cache: Path, corpus: Path) -> None:
    for stop_at in (0, 170, 399):
        child = FORK.Process(target=prepare, args=(Lines(corpus, stop_at),))
        child.start()
        stopped = corpus.with_name("stopped")
        while not stopped.exists():
            assert child.is_alive()
            time.sleep(0.005)
        stopped.unlink()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert [name.partition(".")[2][-4:] for name in folders(cache)] == ["part"]
        if stop_at != 170:
            assert rows_of(prepare(Lines(corpus))) == expected(corpus)
            assert len(folders(cache)) == 1
        else:  # another store removes the litter as well
            prepare(Lines(corpus), eos=True)
            assert len(folders(cache)) == 1
        shutil.rmtree(cache)


def test_kills_at_any_moment_leave_a_whole_store_or_none(cache: Path, corpus: Path) -> None:
    whole, draw = expected(corpus), random.Random(1)
    for _ in range(15):
        child = FORK.Process(target=prepare, args=(Lines(corpus),))
        child.start()
        time.sleep(draw.uniform(0, 0.03))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert rows_of(prepare(Lines(corpus))) == whole
        assert len(folders(cache)) == 1
        shutil.rmtree(cache)


def _prepare_and_tell(lines: Lines, queue: Any) -> None:
    tokens = prepare(lines)
    queue.put((lines.read, tokens.folder, rows_of(tokens)))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_prepare_together_share_one_store(cache: Path, corpus: Path, count: int) -> None:
    queue = FORK.SimpleQueue()
    children = [FORK.Process(target=_prepare_and_tell, args=(Lines(corpus, pause=0.2), queue)) for _ in range(count)]
    for child in children:
        child.start()
    told = [queue.get() for _ in children]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sum(read for read, _, _ in told) == 1
    assert {folder for _, folder, _ in told} == {cache / folders(cache)[0]}
    assert all(rows == expected(corpus) for _, _, rows in told)


def test_a_waiting_process_takes_over_from_a_killed_one(cache: Path, corpus: Path) -> None:
    queue = FORK.SimpleQueue()
    first = FORK.Process(target=prepare, args=(Lines(corpus, 100),))
    first.start()
    while not corpus.with_name("stopped").exists():
        time.sleep(0.005)
    second = FORK.Process(target=_prepare_and_tell, args=(Lines(corpus), queue))
    second.start()
    time.sleep(0.2)
    assert queue.empty()
    first.kill()
    first.join()
    read, _, rows = queue.get()
    second.join()
    assert read == 1 and rows == expected(corpus) and len(folders(cache)) == 1


def test_a_long_preparation_says_how_far_it_is(
    cache: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        prepare(Lines(corpus))
        assert caplog.messages == []
        monkeypatch.setattr("lightning_rnn.data.store.LOG_EVERY", 0.0)
        prepare(Lines(corpus), eos=True)
    assert [message.split(",")[0] for message in caplog.messages] == [
        *(f"tokens: {number} texts so far" for number in range(50, 401, 50)),
        "tokens: 400 texts",
    ]


def test_without_locks_the_first_one_stands(cache: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner: list[MappedRagged] = []
    lines = Lines(corpus)

    def late() -> Iterator[str]:
        if not inner:
            inner.append(MappedRagged.open(prepare_tokens([corpus], lines, TOKENIZER).folder))
        return lines()

    from contextlib import nullcontext

    monkeypatch.setattr("lightning_rnn.data.cache.locked", lambda path: nullcontext())
    monkeypatch.setattr("lightning_rnn.data.cache._sweep", lambda folder: None)
    outer = prepare_tokens([corpus], late, TOKENIZER)
    assert lines.read == 2 and rows_of(outer) == rows_of(inner[0]) == expected(corpus)
    assert len(folders(cache)) == 1


def test_litter_of_a_run_at_work_is_left_alone(cache: Path, corpus: Path) -> None:
    child = FORK.Process(target=prepare, args=(Lines(corpus, 100),))
    child.start()
    while not corpus.with_name("stopped").exists():
        time.sleep(0.005)
    prepare(Lines(corpus), eos=True)
    assert sum(name.endswith(".part") for name in folders(cache)) == 1
    child.kill()
    child.join()
