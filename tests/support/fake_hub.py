"""A stand-in of the Hugging Face hub's HTTP API on this machine: what the client asks for models, and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Repository:
    """A model: its commits, oldest first, each with all its files; and names of commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add files to a branch; returns the commit."""
        before = self.commits.get(self.refs.get(branch, ""), {})
        sha = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = {**before, **files}
        self.refs[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)


class FakeHub(ThreadingHTTPServer):
    """The hub.

    Attributes:
        repositories: `owner/name` -> its content.
        downloads: `revision/file` of every file whose content was sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.downloads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0]).strip("/").split("/")
        api = path[:2] == ["api", "models"]
        name = "/".join(path[2:4] if api else path[:2])
        repository = self.server.repositories.get(name)
        if repository is None:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        rest = path[4:] if api else path[2:]
        revision = rest[1] if len(rest) > 1 else "main"
        sha = repository.find(revision)
        if sha is None:
            return self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[sha]
        if not api:
            return self._file(sha, "/".join(rest[2:]), files)
        if rest[:1] == ["tree"]:
            entries = [{"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                       for file, content in files.items()]  # fmt: skip
            return self._send(200, entries)
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
        return self._send(200, {"id": name, "modelId": name, "sha": sha, "private": False, "siblings": siblings})

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:3] == ["api", "repos", "create"]:
            said = json.loads(body)
            name = f"{said.get('organization') or 'me'}/{said['name']}"
            self.server.repositories.setdefault(name, Repository()).commit({})
            return self._send(200, {"url": f"{self.server.url}/{name}", "id": name, "name": name})
        if path[:2] == ["api", "validate-yaml"]:
            return self._send(200, {"errors": [], "warnings": []})
        repository = self.server.repositories["/".join(path[2:4])]
        if path[4] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in json.loads(body)["files"]]  # fmt: skip
            return self._send(200, {"files": files})
        assert path[4] == "commit", path
        lines = [json.loads(line) for line in body.splitlines()]
        sent = {line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines if line["key"] == "file"}  # fmt: skip
        sha = repository.commit(sent, path[5])
        address = f"{self.server.url}/{'/'.join(path[2:4])}/commit/{sha}"
        return self._send(200, {"success": True, "commitOid": sha, "commitUrl": address, "hookOutput": ""})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _file(self, sha: str, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            return self._send(
                404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            )
        content = files[name]
        if self.command == "GET":
            self.server.downloads.append(f"{sha}/{name}")
        etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": sha}
        return self._send(200, content, etag)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
