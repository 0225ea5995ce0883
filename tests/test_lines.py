"""Lines of compressed and plain files: each once and in order, wherever the file is cut."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from readings import PACK, message_of, taken

from lightning_rnn.data import lines
from lightning_rnn.data.files import opened
from lightning_rnn.data.lines import read_lines, read_text
from lightning_rnn.data.tables import read_records
from lightning_rnn.errors import ConfigError

TEXT = "".join(f"{i} ä € 😀\r\n"[: 4 + i % 9] for i in range(60)) + "\n\nend"


# Compressed files


@pytest.mark.parametrize("end", PACK)
@pytest.mark.parametrize("parts", [1, 3])
def test_unpacking_gives_what_was_packed_in_any_number_of_parts(tmp_path: Path, end: str, parts: int) -> None:
    raw = os.urandom(50_000) + bytes(300_000)
    path = tmp_path / f"a{end}"
    path.write_bytes(PACK[end](raw) * parts)
    with opened(path) as stream:
        assert b"".join(iter(lambda: stream.read(7_001), b"")) == raw * parts


@pytest.mark.parametrize("end", PACK)
def test_no_part_of_a_packed_file_is_taken_for_the_whole(tmp_path: Path, end: str) -> None:
    packed, path = PACK[end](TEXT.encode()), tmp_path / f"a.txt{end}"
    for size in range(len(packed)):
        path.write_bytes(packed[:size])
        assert "download or copy it again" in message_of(path, lambda: read_text(path))


@pytest.mark.parametrize("end", PACK)
@pytest.mark.parametrize("raw", [b"text,label\nx,y\n", bytes(64)])
def test_a_file_that_is_not_packed_is_named(tmp_path: Path, end: str, raw: bytes) -> None:
    (tmp_path / f"a{end}").write_bytes(raw)
    assert "is not a whole" in message_of(tmp_path, lambda: read_text(tmp_path / f"a{end}"))


def test_a_zstd_frame_without_content_is_passed_over(tmp_path: Path) -> None:
    skipped = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"
    (tmp_path / "a.zst").write_bytes(skipped + zstandard.compress(b"x") + skipped + zstandard.compress(b""))
    assert read_text(tmp_path / "a.zst") == "x"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert "cannot read" in message_of(tmp_path / "a.txt", lambda: read_text(tmp_path / "a.txt"))


# Lines


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, 2**18])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gb18030"])
def test_where_pieces_are_cut_changes_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, encoding: str
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    (tmp_path / "a").write_bytes(TEXT.encode(encoding))
    wanted = "utf-8" if encoding == "utf-8-sig" else encoding
    assert read_text(tmp_path / "a", wanted) == TEXT
    assert list(read_lines(tmp_path / "a", wanted)) == [line.removesuffix("\r") for line in TEXT.split("\n")]


@pytest.mark.parametrize("piece", [1, 2, 5, 2**18])
@pytest.mark.parametrize(("bad", "problem"), [(b"\xe9", "is not utf-8"), (b"\xf0\x9f", "is not utf-8"), (b"\0", "NUL")])
def test_a_bad_byte_is_found_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, bad: bytes, problem: str
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    path = tmp_path / "a"
    for at in (0, 3, 9, 14):
        before = "ä\nbü\n€\n\n😀 c".encode()[:at].decode(errors="ignore").encode()
        path.write_bytes(before + bad + b" d\ne")
        message = message_of(path, lambda: read_text(path))
        assert f"line {before.count(10) + 1}: " in message
        assert problem in message
        assert bad == b"\0" or f"byte {len(before)} (0x{bad[0]:02x})" in message


@pytest.mark.parametrize("encoding", ["utf-99", "base64", ""])
def test_an_unknown_encoding_is_a_wrong_option(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(ConfigError, match="not one that Python knows"):
        read_text(tmp_path / "a", encoding)


def peak_of(action: Callable[[], object]) -> int:
    """The most bytes allocated at once."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("end", "row"), [("csv.gz", '"{}",1\n'), ("tsv.xz", "{}\t1\n"), ("jsonl.zst", '{{"a": "{}"}}\n')]
)
@pytest.mark.parametrize("table", [False, True])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, row: str, table: bool
) -> None:
    monkeypatch.setattr(lines, "PIECE", 2**12)
    path, peaks = tmp_path / f"a.{end}", []
    for rows in (5_000, 20_000):
        raw = "".join(row.format(i * 7919 % 1_000_003) for i in range(rows)).encode()
        path.write_bytes(PACK[f".{end.split('.')[1]}"](raw))
        peaks.append(peak_of(lambda: taken(read_records(path, header=False) if table else read_lines(path))))
    assert peaks[1] - peaks[0] < 2**18  # bytes; 15,000 rows held take over 2**20


def test_rows_before_a_broken_one_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n5\n")
    records = read_records(tmp_path / "a.csv")
    assert [next(records).cells, next(records).cells] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert "row 4" in message_of(tmp_path, lambda: next(records))


def test_a_quote_that_is_not_closed_does_not_take_the_rest_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n"3,4\n' + "5,6\n" * 5_000_000)
    message = list[str]()
    assert peak_of(lambda: message.append(message_of(path, lambda: taken(read_records(path))))) < 8 * 2**20
    assert "row 3: a field of over 131,072 characters: close its quote" in message[0]
