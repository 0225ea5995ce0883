"""Downloads: whole and right, or not used."""

from __future__ import annotations

import functools
import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightning_rnn.data.download import fetch
from lightning_rnn.errors import DataError

CONTENT = b"something to fetch"
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; ``/short/`` breaks off in the middle of the file."""

    def do_GET(self) -> None:
        if not self.path.startswith("/short/"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(CONTENT)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "mirror"
    (folder / "wrong").mkdir(parents=True)
    (folder / "a.bin").write_bytes(CONTENT)
    (folder / "wrong" / "a.bin").write_bytes(b"something else")
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("md5", [MD5, None])
def test_an_absent_file_is_downloaded_and_nothing_else_is_left(mirror: str, folder: Path, md5: str | None) -> None:
    path = fetch("a.bin", folder, [mirror + "/"], md5)
    assert path == folder / "a.bin"
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["a.bin"]


def test_a_download_is_logged_with_its_address(mirror: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lightning_rnn"):
        fetch("a.bin", folder, [mirror], MD5)
    assert f"{mirror}/a.bin" in caplog.text


def test_a_present_file_needs_no_mirror(mirror: str, folder: Path) -> None:
    fetch("a.bin", folder, [mirror], MD5)
    assert fetch("a.bin", folder, [], MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("first", ["/nowhere", "/wrong", "/short"])
def test_the_next_mirror_is_tried(mirror: str, folder: Path, first: str) -> None:
    assert fetch("a.bin", folder, [mirror + first, mirror], MD5).read_bytes() == CONTENT
    assert not list(folder.glob("*.part"))


def test_a_present_file_with_a_wrong_checksum_is_put_aside_and_replaced(
    mirror: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"damaged")
    assert fetch("a.bin", folder, [mirror], MD5).read_bytes() == CONTENT
    assert (folder / "a.bin.bad").read_bytes() == b"damaged"
    assert MD5 in caplog.text


def test_a_download_with_a_wrong_checksum_is_kept_aside_and_reported(mirror: str, folder: Path) -> None:
    with pytest.raises(DataError, match=f"instead of {MD5}") as caught:
        fetch("a.bin", folder, [mirror + "/wrong"], MD5)
    assert names(folder) == ["a.bin.bad"]
    assert str(folder / "a.bin.bad") in str(caught.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("/nowhere", "404"), ("/short", "18 of 1,000 bytes"), ("no-scheme", "unknown url type"), ("http://[", "IPv6")],
)
def test_when_all_fail_each_reason_is_named(mirror: str, folder: Path, address: str, reason: str) -> None:
    given = mirror + address if address.startswith("/") else address
    with pytest.raises(DataError) as caught:
        fetch("a.bin", folder, [mirror + "/absent", given])
    message = str(caught.value)
    assert all(part in message for part in ("a.bin", str(folder), mirror + "/absent", given, "404", reason))
    assert names(folder) == []


def test_no_mirror_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match="no address is known"):
        fetch("a.bin", folder, [])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        fetch("a.bin", tmp_path / "file" / "set", [])


def test_many_at_once_all_get_the_whole_file(mirror: str, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch("a.bin", folder, [mirror], MD5), range(16)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert names(folder) == ["a.bin"]
