"""A hub on this machine's loopback: the few routes of huggingface.co that downloads and uploads need."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_of_the_owner"


class FakeHub:
    """Repositories by name.

    Attributes:
      commits: repository -> revision (a branch or a commit) -> path -> content.
      private, gated: names of repositories that need `TOKEN`, or of which nobody may read anything.
      downloads: the paths that were downloaded.
      created: what was asked of a new repository.
      summaries: the messages of commits.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.downloads: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.summaries: list[str] = []

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Sets the files of a branch; returns the hash of the commit."""
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(repository, {}).update({branch: files, digest: files})
        return digest

    def hash_of(self, repository: str, revision: str) -> str:
        files = self.commits[repository][revision]
        return next(name for name, of in self.commits[repository].items() if of is files and len(name) == 40)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refused(self, repository: str, revision: str | None = None) -> bool:
        """Answers if the repository, or the revision, may not be read."""
        hub, owner = self.hub, self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository not in hub.commits or (repository in hub.private and not owner):
            self._answer(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        elif repository in hub.gated:
            self._answer(403, {"error": "Access is restricted."}, X_Error_Code="GatedRepo")
        elif revision is not None and revision not in hub.commits[repository]:
            self._answer(404, {"error": f"Invalid rev id: {revision}"}, X_Error_Code="RevisionNotFound")
        else:
            return False
        return True

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repository, revision = match[1], match[2] or "main"
            if not self._refused(repository, revision):
                sha = self.hub.hash_of(repository, revision)
                self._answer(200, {"id": repository, "sha": sha, "siblings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if not self._refused(match[1], match[2]):
                files = self.hub.commits[match[1]][match[2]]
                oids = {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}
                tree = [{"type": "file", "path": n, "size": len(files[n]), "oid": oid} for n, oid in oids.items()]
                self._answer(200, tree)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, name = match.groups()
            if self._refused(repository, revision):
                return
            data = self.hub.commits[repository][revision].get(name)
            if data is None:
                return self._answer(404, b"", X_Error_Code="EntryNotFound")
            if self.command == "GET":
                self.hub.downloads.append(name)
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self._answer(200, data, ETag=etag, X_Repo_Commit=self.hub.hash_of(repository, revision))
        else:
            self._answer(404, {"error": path})

    do_HEAD = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(403, {"error": "You don't have the rights to create a model here"})
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            made = json.loads(body)
            self.hub.created.append(made)
            name = f"{made['organization']}/{made['name']}"
            exists = name in self.hub.commits
            if not exists:
                self.hub.commit(name, {})
            return self._answer(409 if exists else 200, {"url": f"http://{self.headers['Host']}/{name}"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            self.hub.commits[match[1]].setdefault(match[2], self.hub.commits[match[1]]["main"])
            return self._answer(200, {})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self._answer(200, {"files": modes})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            files = dict(self.hub.commits[match[1]][match[2]])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    self.hub.summaries.append(value["summary"])
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                else:
                    assert line["key"] == "deletedFile"
                    del files[value["path"]]
            digest = self.hub.commit(match[1], files, match[2])
            address = f"http://{self.headers['Host']}/{match[1]}/commit/{digest}"
            return self._answer(200, {"success": True, "commitOid": digest, "commitUrl": address})
        self._answer(404, {"error": path})


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Any):
    """A hub that huggingface_hub asks instead of huggingface.co, with an empty cache."""
    from huggingface_hub import constants

    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
