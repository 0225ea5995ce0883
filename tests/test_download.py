"""Downloads: whole and right, or not used; what has arrived is not asked for again."""

from __future__ import annotations

import email.utils
import hashlib
import logging
import os
import re
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import CONTENT, MD5, OLD, OTHER, Act, Server, etag, names, serving

from lightning_rnn.data import answers, progress, transfer
from lightning_rnn.data.disk import checksum_of
from lightning_rnn.data.download import fetch
from lightning_rnn.errors import ConfigError, DataError

SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


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


def failure(folder: Path, *mirrors: str, checksum: str | None = MD5) -> str:
    """The sentence of a fetch that fails; checks that nothing has the file's name, and that it says what to do."""
    with pytest.raises(DataError) as caught:
        fetch("a.bin", folder, mirrors, checksum)
    assert not (folder / "a.bin").exists()
    message = str(caught.value)
    assert message.startswith(f"could not download a.bin: put it into {folder} yourself, or give other mirrors; tried ")
    assert all(mirror in message for mirror in mirrors)
    return message


@pytest.mark.parametrize("checksum", [MD5, SHA256, None])
def test_an_absent_file_is_downloaded_and_nothing_else_is_left(
    server: Server, folder: Path, checksum: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lightning_rnn"):
        path = fetch("a.bin", folder, [server.url + "/"], checksum)
    assert path == folder / "a.bin"
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["a.bin"]
    assert f"{server.url}/a.bin" in caplog.text
    assert (f"{path} is not verified" in caplog.text) == (checksum is None)


def test_a_present_file_needs_no_mirror(server: Server, folder: Path) -> None:
    fetch("a.bin", folder, [server.url], MD5)
    assert fetch("a.bin", folder, [], SHA256).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_file_addresses_are_mirrors_and_names_are_quoted(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a b#c.bin").write_bytes(CONTENT)
    assert fetch("a b#c.bin", folder, [tmp_path.as_uri()], MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("after", [0, 1, 100_000, 299_999])
@pytest.mark.parametrize("then", ["close", "stall", "reset"])
def test_what_arrived_before_an_interruption_is_not_asked_for_again(
    server: Server, folder: Path, then: str, after: int
) -> None:
    server.plan = [Act(after=after, then=then), Act(after=50, then=then)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert names(folder) == ["a.bin"]
    assert server.starts[:2] == [0, after]
    assert server.asked[-1][2] == etag(CONTENT)


@pytest.mark.parametrize("after", [0, 7])
def test_more_interruptions_than_attempts_do_no_harm_while_each_brings_something(
    server: Server, folder: Path, after: int
) -> None:
    server.plan = [Act(after=after) for _ in range(3 * transfer.ATTEMPTS)]
    if after:
        assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
        assert server.starts == [7 * number for number in range(3 * transfer.ATTEMPTS + 1)]
    else:
        assert "broke off after 0 of 300,000 bytes, 5 times in a row" in failure(folder, server.url)
        assert server.starts == [0] * transfer.ATTEMPTS


@pytest.mark.parametrize("code", [500, 502, 503, 408, 429])
def test_an_error_that_may_pass_is_tried_again(server: Server, folder: Path, code: int) -> None:
    server.plan = [Act(code=code) for _ in range(transfer.ATTEMPTS - 1)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    server.plan, server.asked = [Act(code=code) for _ in range(transfer.ATTEMPTS)], []
    message = failure(folder / "again", server.url)
    assert f"{server.url}/a.bin (it answers {code} " in message
    assert message.endswith(", 5 times in a row)")
    assert len(server.asked) == transfer.ATTEMPTS
    assert names(folder / "again") == []


@pytest.mark.parametrize("code", [400, 403, 404, 410])
def test_an_error_that_stays_is_not_tried_again(server: Server, folder: Path, code: int) -> None:
    server.plan = [Act(code=code)]
    assert f"{server.url}/a.bin (it answers {code} " in failure(folder, server.url)
    assert len(server.asked) == 1
    server.plan = [Act(code=code)]
    assert fetch("a.bin", folder, [server.url + "/absent", server.url], MD5).read_bytes() == CONTENT
    assert [path for path, _, _ in server.asked[1:]] == ["/absent/a.bin", "/a.bin"]


def test_delays_double_up_to_a_limit(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", slept.append)
    monkeypatch.setattr(transfer, "FIRST_DELAY", 0.2)
    server.plan = [Act(code=500) for _ in range(4)]
    fetch("a.bin", folder, [server.url], MD5)
    assert slept == [0.2, 0.4, 0.8, 1.0]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_is_busy_is_asked_when_it_wants_to_be(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", slept.append)
    monkeypatch.setattr(transfer, "LONGEST_DELAY", 60.0)
    wait = "30" if form == "seconds" else email.utils.formatdate(time.time() + 30, usegmt=True)
    server.plan = [Act(code=429, headers={"Retry-After": wait})]
    fetch("a.bin", folder, [server.url], MD5)
    assert len(slept) == 1
    assert 25 < slept[0] <= 30
    server.plan = [Act(code=503, headers={"Retry-After": "3600"})]
    assert fetch("a.bin", folder / "2", [server.url + "/busy", server.url], MD5).read_bytes() == CONTENT
    server.plan = [Act(code=503, headers={"Retry-After": "3600"})]
    assert "503 Service Unavailable and asks to wait for 3,600 s" in failure(folder / "3", server.url)
    assert len(slept) == 1


def test_a_mirror_that_stalls_is_left_for_the_next(server: Server, folder: Path) -> None:
    server.plan = [Act(after=1000, then="stall")] + [Act(after=0, then="stall") for _ in range(transfer.ATTEMPTS - 1)]
    assert fetch("a.bin", folder, [server.url + "/slow", server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 1000, 1000, 1000, 1000, 0]
    assert names(folder) == ["a.bin"]


def test_a_stall_is_named_and_what_arrived_is_kept_for_the_next_call(server: Server, folder: Path) -> None:
    server.plan = [Act(after=1000, then="stall")] + [Act(after=0, then="stall") for _ in range(transfer.ATTEMPTS - 1)]
    assert "no byte came for 0.25 s, 5 times in a row" in failure(folder, server.url)
    assert names(folder) == ["a.bin.part", "a.bin.part.json"]
    server.asked.clear()
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [1000]
    assert names(folder) == ["a.bin"]


def test_a_server_that_ignores_ranges_starts_again(server: Server, folder: Path) -> None:
    server.plan = [Act(after=1000), Act(ranges=False)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 1000]


@pytest.mark.parametrize("headers", [{"ETag": None}, {"ETag": 'W/"1"'}, {"ETag": None, "Last-Modified": "soon"}])
def test_nothing_is_added_to_a_part_of_an_unknown_version(
    server: Server, folder: Path, headers: dict[str, str | None]
) -> None:
    server.plan = [Act(after=1000, headers=headers), Act(headers=headers)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 0]
    server.plan = [Act(after=1000, headers=headers) for _ in range(transfer.ATTEMPTS)]
    failure(folder / "again", server.url)
    assert names(folder / "again") == []


def test_a_date_of_change_tells_versions_apart_once_it_is_over(server: Server, folder: Path) -> None:
    for date, start in ((OLD, 1000), (email.utils.formatdate(usegmt=True), 0)):
        server.asked.clear()
        server.plan = [Act(after=1000, headers={"ETag": None, "Last-Modified": date}), Act(headers={"ETag": None})]
        assert fetch("a.bin", folder / str(start), [server.url], MD5).read_bytes() == CONTENT
        assert server.starts == [0, start]


@pytest.mark.parametrize("honest", [True, False])
def test_a_part_of_an_older_version_is_never_joined_to_a_newer_file(server: Server, folder: Path, honest: bool) -> None:
    """Also without a checksum; honest servers heed If-Range, others send the rest of the new file."""
    rest = {"Content-Range": "bytes 1000-299999/300000", "Content-Length": "299000", "ETag": etag(CONTENT)}
    server.plan = [Act(content=OTHER, after=1000), Act() if honest else Act(code=206, headers=dict(rest))]
    assert fetch("a.bin", folder, [server.url]).read_bytes() == CONTENT
    assert server.asked[1][1:] == ("bytes=1000-", etag(OTHER))
    assert server.starts == ([0, 1000] if honest else [0, 1000, 0])


@pytest.mark.parametrize("said", ["bytes 999-299999/300000", "bytes 1000-299999/400000", "nonsense", None])
def test_a_range_that_is_not_the_missing_one_is_not_used(server: Server, folder: Path, said: str | None) -> None:
    server.plan = [Act(after=1000), Act(code=206, headers={"Content-Range": said, "Content-Length": "5"})]
    assert fetch("a.bin", folder, [server.url]).read_bytes() == CONTENT
    assert server.starts == [0, 1000, 0]


def test_a_part_that_the_server_cannot_go_on_from_is_dropped(server: Server, folder: Path) -> None:
    server.plan = [Act(after=1000), Act(code=416)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 1000, 0]


def test_pieces_that_do_not_fit_together_are_fetched_once_more_in_one(server: Server, folder: Path) -> None:
    """A server that gives two versions one tag."""
    server.plan = [Act(content=OTHER, headers={"ETag": etag(CONTENT)}, after=1000)]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert (folder / "a.bin.bad").read_bytes() == OTHER[:1000] + CONTENT[1000:]
    assert server.starts == [0, 1000, 0]


def test_a_length_that_is_a_lie_is_noticed(server: Server, folder: Path) -> None:
    lie: dict[str, str | None] = {"Content-Length": "400000", "ETag": None}
    server.plan = [Act(headers=lie) for _ in range(transfer.ATTEMPTS)]
    assert "broke off after 300,000 of 400,000 bytes" in failure(folder, server.url, checksum=None)
    server.plan = [Act(headers={"Content-Length": "1000"})]
    assert "its checksum is md5:" in failure(folder, server.url)
    server.plan = [Act(headers={"Content-Length": "many"})]
    assert "its length is 'many'" in failure(folder, server.url)


def test_what_is_sent_beyond_the_end_is_not_of_the_file(server: Server, folder: Path) -> None:
    server.plan = [Act(content=CONTENT + b"more", headers={"Content-Length": "300000"})]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    server.plan = [Act(after=299_998), Act(code=206, headers={"Content-Range": "bytes 299998-299999/300000"})]
    assert fetch("b.bin", folder, [server.url]).read_bytes() == CONTENT[:-2] + b"so"  # rry


def test_a_length_that_is_not_told_is_no_hindrance(server: Server, folder: Path) -> None:
    server.plan = [Act(headers={"Content-Length": None})]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT


def test_a_mirror_with_another_file_is_left_for_the_next_and_the_file_kept_aside(server: Server, folder: Path) -> None:
    server.plan = [Act(content=OTHER)]
    assert fetch("a.bin", folder, [server.url + "/wrong", server.url], SHA256).read_bytes() == CONTENT
    assert (folder / "a.bin.bad").read_bytes() == OTHER
    server.plan = [Act(content=OTHER)]
    message, bad = failure(folder / "again", server.url), folder / "again" / "a.bin.bad"
    assert f"its checksum is md5:{hashlib.md5(OTHER).hexdigest()} instead of {MD5}, kept as {bad}" in message
    assert names(folder / "again") == ["a.bin.bad"]


def test_a_present_file_with_a_wrong_checksum_is_put_aside_and_replaced(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"damaged")
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert (folder / "a.bin.bad").read_bytes() == b"damaged"
    assert MD5 in caplog.text


def test_redirects_are_followed_on_the_web_with_the_range(server: Server, folder: Path) -> None:
    to = {"Location": f"{server.url}/elsewhere"}
    server.plan = [Act(code=302, headers=dict(to)), Act(after=1000), Act(code=307, headers=dict(to))]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 0, 1000, 1000]


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_redirects_out_of_the_web_are_refused(server: Server, folder: Path, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    server.plan = [Act(code=302, headers={"Location": f"{scheme}://{tmp_path}/secret"})]
    message = failure(folder, server.url)
    assert "not allowed" in message or "unknown url type" in message
    assert names(folder) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("no-scheme", "not an http, https or file address"),
        ("ftp://127.0.0.1", "not an http, https or file address"),
        ("data:text/plain,", "not an http, https or file address"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://127.0.0.1:port", "nonnumeric port"),
        ("http://a..b", "label"),
        ("http://127.0.0.1:1", "Connection refused"),
        ("file:///nowhere", "No such file"),
    ],
)
def test_when_all_fail_each_reason_is_named(server: Server, folder: Path, address: str, reason: str) -> None:
    server.plan = [Act(code=404)]
    message = failure(folder, server.url + "/absent", address)
    assert "404" in message and reason in message
    assert names(folder) == []


def test_no_mirror_says_so(folder: Path) -> None:
    assert failure(folder).endswith("no address is known")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a"])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="without folders"):
        fetch(name, folder, [])


@pytest.mark.parametrize("checksum", ["", MD5[4:], "md5:12", "sha1:" + "0" * 40, MD5.upper()])
def test_a_checksum_of_no_known_kind_is_refused(folder: Path, checksum: str) -> None:
    with pytest.raises(ConfigError, match=r"the checksum of a\.bin must be md5: or sha256:"):
        fetch("a.bin", folder, [], checksum)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/set .Not a directory.*LIGHTNING_RNN_CACHE"):
        fetch("a.bin", tmp_path / "file" / "set", [])


def test_a_folder_that_is_read_only_is_named_but_its_files_are_used(server: Server) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder, user = Path(made), os.geteuid()
        (folder / "b.bin").write_bytes(CONTENT)
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            assert fetch("b.bin", folder, [], MD5).read_bytes() == CONTENT
            with pytest.raises(DataError) as caught:
                fetch("a.bin", folder, [server.url], MD5)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        assert f"in {folder}, or set LIGHTNING_RNN_CACHE to another folder" in str(caught.value)
        assert "(Permission denied)" in str(caught.value)
        assert names(folder) == ["b.bin"]


def test_a_full_disk_is_named_and_once_there_is_room_the_rest_comes(server: Server, folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DataError) as caught:
            fetch("a.bin", folder, [server.url, server.url], MD5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    where = f"cannot use {folder} (File too large): make room or permit writing in {folder}, or set LIGHTNING_RNN_CACHE"
    assert where in str(caught.value)
    assert names(folder) == ["a.bin.part", "a.bin.part.json"]
    assert fetch("a.bin", folder, [server.url], MD5).read_bytes() == CONTENT
    assert server.starts == [0, 100_000]


def test_off_a_terminal_progress_is_a_line_now_and_then(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    with caplog.at_level(logging.INFO, "lightning_rnn"):
        fetch("a.bin", folder, [server.url], MD5)
    assert "a.bin: 0.3 of 0.3 MB" in caplog.messages
    assert caplog.messages[-1] == f"{folder / 'a.bin'} is there: 300,000 bytes"


def test_on_a_terminal_progress_is_a_bar(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    fetch("a.bin", folder, [server.url], MD5)
    assert "300.0/300.0 kB" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)


def test_a_checksum_is_that_of_the_command_line_tools(folder: Path) -> None:
    """The values are of ``printf abc | md5sum`` and ``sha256sum``."""
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"abc")
    assert checksum_of(folder / "a", "md5") == "md5:900150983cd24fb0d6963f7d28e17f72"
    assert checksum_of(folder / "a").startswith("sha256:ba7816bf8f01cfea414140de5dae2223")
