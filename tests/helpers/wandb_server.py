"""A server on loopback that speaks enough of W&B's protocol for a run to be online, and can be told to fail."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
PROJECT = {"id": "p", "name": "lightning-rnn", "entity": {"id": "e", "name": "me"}}


class Server(ThreadingHTTPServer):
    """Keeps what it was sent.

    Attributes:
        rows: history rows by run id, in the order in which they came.
        uploads: names of the files that were put.
        failing: whether everything is answered with 500.
        fail_after: posts of rows after which it fails; None never.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows: dict[str, list[Json]] = {}
        self.uploads: list[str] = []
        self.failing = False
        self.fail_after: int | None = None
        self.posts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""

    def stream(self, run: str, body: Json) -> None:
        """Take a post of rows; those from a given offset on replace what was there."""
        self.posts += 1
        history = body.get("files", {}).get("wandb-history.jsonl")
        if history:
            known = self.rows.setdefault(run, [])
            known[history["offset"] :] = [json.loads(line) for line in history["content"]]
        self.failing |= self.fail_after is not None and self.posts > self.fail_after

    def answer(self, query: str, variables: Json) -> Json:
        """Data for a GraphQL query."""
        name = variables.get("name") or ""
        if "upsertBucket" in query:
            bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "project": PROJECT}
            return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0, "sweepName": None}, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "RunResumeStatus" in query:
            return {"model": {"bucket": self._bucket(name)}}
        return {}

    def _bucket(self, name: str) -> Json | None:
        rows = self.rows.get(name)
        if not rows:
            return None
        tail = {"historyTail": json.dumps([json.dumps(rows[-1])]), "eventsTail": "[]"}
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"summaryMetrics": "{}", "config": "{}", "wandbConfig": '{"t": 1}'}
        return {"id": "b", "name": name, "displayName": name, "tags": [], **tail, **counts, **texts}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _reply(self, value: Json) -> None:
        text = json.dumps(value).encode()
        self.send_response(500 if self.server.failing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self.server.uploads.append(self.path.removeprefix("/upload/"))
        self._reply({})

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        if found := re.search(r"/([^/]+)/file_stream", self.path):
            if not self.server.failing:
                self.server.stream(found[1], body)
            self._reply({"exitcode": None, "limits": {}})
        else:
            self._reply({"data": self.server.answer(body.get("query", ""), body.get("variables") or {})})


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread of this process."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
