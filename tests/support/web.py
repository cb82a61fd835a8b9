"""A web server on this machine that serves files, and fails in the ways in which web servers fail."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mmae.data.remote.transport import Patience

Fault = Callable[["Handler", bytes], None]

PATIENT = Patience(connect_s=60, stall_s=60, slowest=1, give_up_s=300, first_delay_s=0.01, longest_delay_s=0.05)
"""Whatever a busy machine does, nothing but a server's own faults makes these attempts more."""
STALLING = replace(PATIENT, stall_s=0.3, slowest=1000)
"""Where a server stands still. A busy machine may look like that too, and makes more attempts than the fault does."""


class Web(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        faults: name -> what happens to its next requests, one each, before it is served well.
        requests: name -> the first byte that each request asked for.
        ranges: whether it knows requests for a part of a file.
        piece, slow_s: bytes of a body that are sent at a time, and seconds before each.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.requests: defaultdict[str, list[int]] = defaultdict(list)
        self.headers: list[Mapping[str, str]] = []
        self.ranges = True
        self.piece = 1 << 16
        self.slow_s = 0.0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of these tests leave early."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        web = self.server
        self.begin = 0
        asked = self.headers.get("Range")
        if asked and web.ranges:
            self.begin = int(asked.removeprefix("bytes=").rstrip("-"))
        web.requests[name].append(self.begin)
        web.headers.append(dict(self.headers.items()))
        path = web.folder / name
        content = path.read_bytes() if path.is_file() else None
        if web.faults[name]:
            web.faults[name].popleft()(self, content or b"")
        elif content is None:
            self.refuse(404)
        elif self.begin >= len(content) > 0:
            self.refuse(416)
        else:
            self.send(content)

    def send(self, content: bytes, length: int | None = None) -> None:
        """The part of `content` that was asked for, at most `length` bytes of it though more are promised."""
        body = content[self.begin :]
        self.head(len(body), len(content))
        body = body[:length]
        for start in range(0, len(body), self.server.piece):
            time.sleep(self.server.slow_s)
            self.wfile.write(body[start : start + self.server.piece])
            self.wfile.flush()

    def head(self, length: int, whole: int) -> None:
        self.send_response(206 if self.begin else 200)
        if self.begin:
            self.send_header("Content-Range", f"bytes {self.begin}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def stall(handler: Handler, content: bytes) -> None:
    """Half of what was asked for, and then nothing more."""
    handler.send(content, (len(content) - handler.begin) // 2)
    handler.server.ended.wait(30)
    handler.close_connection = True


def drip(handler: Handler, content: bytes) -> None:
    """A byte now and then."""
    handler.head(len(content) - handler.begin, len(content))
    for place in range(handler.begin, len(content)):
        handler.wfile.write(content[place : place + 1])
        handler.wfile.flush()
        if handler.server.ended.wait(0.02):
            break
    handler.close_connection = True


def silence(handler: Handler, content: bytes) -> None:
    """Not even a status."""
    handler.server.ended.wait(30)
    handler.close_connection = True


def cut(length: int) -> Fault:
    """Fewer bytes than promised."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.send(content, length)
        handler.close_connection = True

    return fault


def status(code: int, **headers: str) -> Fault:
    return lambda handler, content: handler.refuse(code, **headers)


def other(content: bytes) -> Fault:
    """Other bytes than those of the file."""
    return lambda handler, _: handler.send(content)


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    with Web(folder) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            web.ended.set()
            web.shutdown()
            thread.join()
