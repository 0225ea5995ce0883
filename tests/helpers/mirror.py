"""A mirror that plays what it is told with each request, and is honest after that."""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import os
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CONTENT = random.Random(0).randbytes(300_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
OTHER = random.Random(1).randbytes(300_000)
OLD = email.utils.formatdate(0, usegmt=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def etag(content: bytes) -> str:
    return f'"{hashlib.sha1(content).hexdigest()}"'


@dataclass
class Act:
    """What the server does with one request."""

    code: int | None = None  # an error instead of the file
    headers: dict[str, str | None] = field(default_factory=dict)  # on top of the usual ones; None leaves one out
    after: int | None = None  # bytes of the body, and then:
    then: str = "close"  # or stall, reset
    ranges: bool = True
    content: bytes | None = None


class Server(http.server.ThreadingHTTPServer):
    """Plays ``plan``, one act for each request, and is honest after its end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.plan = CONTENT, list[Act]()
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, Range, If-Range
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def starts(self) -> list[int]:
        """From which byte each request wanted the file."""
        return [int(re.findall(r"\d+", asked or "0")[0]) for _, asked, _ in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        self.server.asked.append((self.path, asked, condition))
        act = self.server.plan.pop(0) if self.server.plan else Act()
        content = self.server.content if act.content is None else act.content
        start = int(asked[6:-1]) if asked and act.ranges and condition in (etag(content), OLD) else 0
        usual: dict[str, str | None] = {"ETag": etag(content)}
        if act.code is not None:
            code, body = act.code, b"sorry"
        elif start >= len(content):
            code, body = 416, b""
        else:
            code, body = 206 if start else 200, content[start:]
            usual["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}" if start else None
        self.send_response(code)
        for key, value in (usual | {"Content-Length": str(len(body))} | act.headers).items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[: act.after])
        if act.then == "stall":
            self.server.released.wait(10)
        elif act.then == "reset":
            time.sleep(0.05)  # a reset drops what the other side has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.rfile.close()
            self.wfile = open(os.devnull, "wb")  # noqa: SIM115

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def until(condition: Callable[[], bool]) -> None:
    stop = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.005)


@contextmanager
def serving() -> Iterator[Server]:
    """A server at work in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()
