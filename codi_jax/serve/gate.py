"""What stands before the page: an ASGI middleware that lets in what the page needs, within bounds.

- Requests of other kinds than the page makes are answered with 404: gradio has more routes than it needs.
- The body of a request has a length that is known and bounded; few files are received at a time, each within a time.
- A browser gets a cookie that nobody can guess; by it clients take turns, and have a history.
- The folder of uploads is called by another name outside, so that no path of this machine is told; and a request may
  name no other file, nor an address, which gradio would copy.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "codi_jax_client"
MAX_JSON = 256 << 10  # bytes of a request that holds no file
_FORM = 64 << 10  # bytes of a form around a file
_GET = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.*|/result/[\w-]{1,64}"
    r"|/gradio_api/(info|startup-events|app_id|theme\.css|queue/data|upload_progress|heartbeat/[\w-]{1,64}|file=.*)/?"
)
_POST = re.compile(r"/gradio_api/(queue/join|upload|component_server|cancel|reset)/?")
_FILES = re.compile(r"/gradio_api/(upload|component_server)/?")
_CLIENT = re.compile(r"[\w-]{20,64}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


class UploadFolder:
    """A folder for files of clients, and its name outside, which is as long.

    Args:
      megabytes: of all files; older ones are deleted for newer ones.
      minutes: that a file is kept.
      clock: seconds since the epoch, as files have them.
    """

    def __init__(self, megabytes: float, minutes: float, clock: Callable[[], float] = time.time):
        self._folder = tempfile.TemporaryDirectory(prefix="codi-jax-serve-")
        self.path = Path(os.path.realpath(self._folder.name))
        self.inside = os.fsencode(self.path)
        self.outside = (
            b"/uploads-" + secrets.token_hex(len(self.inside)).encode()[: len(self.inside) - len("/uploads-")]
        )
        self._megabytes, self._minutes, self._clock = megabytes, minutes, clock

    def sweep(self) -> None:
        """Deletes what is too old, and the oldest files of what is too much."""
        found = []
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                try:
                    stat = path.stat()
                except OSError:  # deleted meanwhile
                    continue
                found.append((stat.st_mtime, stat.st_size, path))
        left = sum(size for _, size, _ in found)
        for since, size, path in sorted(found):
            if left <= self._megabytes * 1e6 and self._clock() - since <= self._minutes * 60:
                break
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is more in it
                path.parent.rmdir()
            left -= size

    def write(self, name: str, data: bytes) -> str:
        """Writes a file for a client, which nobody else can name; returns its path."""
        folder = self.path / secrets.token_urlsafe(18)
        folder.mkdir()
        (folder / name).write_bytes(data)
        return str(folder / name)

    def close(self) -> None:
        """Deletes the folder."""
        self._folder.cleanup()


class Gate:
    """The middleware; see the module.

    Args:
      app: what is behind it.
      uploads: the folder of uploads.
      megabytes: of one file.
      at_once: files that are received at a time; others wait.
      seconds: for one file.
    """

    def __init__(self, app: Asgi, uploads: UploadFolder, megabytes: float, at_once: int = 8, seconds: float = 60.0):
        self._app, self._uploads = app, uploads
        self._max_file = int(megabytes * 1e6) + _FORM
        self._receiving, self._seconds = asyncio.Semaphore(at_once), seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # the page opens no sockets
        method, path = scope["method"], scope["path"]
        reading = method in ("GET", "HEAD")
        if not (_GET if reading else _POST).fullmatch(path) or method not in ("GET", "HEAD", "POST"):
            return await _answer(send, 404, "there is no such page")
        outside = self._uploads.outside.decode()
        if "/file=" in path and not path.startswith(f"/gradio_api/file={outside}/"):
            return await _answer(send, 404, "there is no such file")
        is_file = bool(_FILES.fullmatch(path))
        if not reading and (refusal := self._refusal(scope, is_file)):
            return await _answer(send, *refusal)
        scope = self._inside(scope)
        kind = _header(scope, b"content-type").partition(b";")[0].strip().lower()
        if not reading and kind == b"application/json":
            if (body := self._checked(await _whole(receive))) is None:
                return await _answer(send, 400, "files are uploaded first, and named as they were then")
            receive = _received(body, receive)
        elif not reading and not (is_file and kind == b"multipart/form-data"):
            return await _answer(send, 415, "expected JSON, or a form with a file")
        send = self._sender(scope, send)
        if not is_file:
            return await self._app(scope, receive, send)
        async with self._receiving:
            self._uploads.sweep()
            try:
                await asyncio.wait_for(self._app(scope, receive, send), self._seconds)
            except TimeoutError:
                if scope["begun"]:
                    raise
                await _answer(send, 408, f"the file has taken more than {self._seconds:g} seconds")

    def _refusal(self, scope: Scope, is_file: bool) -> tuple[int, str] | None:
        """Status and line for a request whose body is too large, or of unknown length."""
        length = _header(scope, b"content-length").decode("latin-1")
        if not length.isdigit():
            return 411, "the length of the request is missing"
        longest = self._max_file if is_file else MAX_JSON
        return (413, f"larger than {longest / 1e6:.1f} MB") if int(length) > longest else None

    def _inside(self, scope: Scope) -> Scope:
        """The scope with paths of uploads as they are here, uncompressed answers, and a client, if it is new."""
        path = scope["path"].replace(self._uploads.outside.decode(), os.fsdecode(self._uploads.inside))
        static = path.startswith(("/assets/", "/static/", "/svelte/"))
        headers = [(k, v) for k, v in scope["headers"] if static or k != b"accept-encoding"]
        inside = {**scope, "path": path, "headers": headers, "fresh": None, "begun": False}
        if path == "/" and client_of(scope) is None:
            inside["fresh"] = secrets.token_urlsafe(24)
        return inside

    def _checked(self, body: bytes) -> bytes | None:
        """A body of JSON with files as they are called here; None if it names one that was not uploaded."""
        try:
            tree = json.loads(body)
        except (ValueError, RecursionError):
            return None
        start, trees = f"{self._uploads.outside.decode()}/", [tree]
        while trees:
            node = trees.pop()
            if isinstance(node, list):
                trees += node
            elif isinstance(node, dict):
                path = node.get("path")
                if path is not None and not (isinstance(path, str) and path.startswith(start) and ".." not in path):
                    return None
                trees += node.values()
        return json.dumps(tree).encode().replace(self._uploads.outside, self._uploads.inside)

    def _sender(self, scope: Scope, send: Send) -> Send:
        translated = False

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal translated
            if message["type"] == "http.response.start":
                scope["begun"] = True
                headers = [*message.get("headers", ()), *_HEADERS]
                kind = dict(headers).get(b"content-type", b"")
                translated = kind.startswith((b"application/json", b"text/"))
                if scope["fresh"]:
                    cookie = f"{COOKIE}={scope['fresh']}; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400"
                    headers.append((b"set-cookie", cookie.encode()))
                message["headers"] = headers
            elif translated and message.get("body"):
                message["body"] = bytes(message["body"]).replace(self._uploads.inside, self._uploads.outside)
            await send(message)

        return sent


def client_of(scope: Scope) -> str | None:
    """The client of a request, by its cookie; None if it has none."""
    try:
        cookies = SimpleCookie(_header(scope, b"cookie").decode("latin-1"))
    except CookieError:
        return None
    return as_client(cookies[COOKIE].value) if COOKIE in cookies else None


def as_client(cookie: str | None) -> str | None:
    """The client of a cookie of ours; None for others."""
    return cookie if cookie and _CLIENT.fullmatch(cookie) else None


def _header(scope: Scope, name: bytes) -> bytes:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), b"")


async def _whole(receive: Receive) -> bytes:
    """The body of a request, whose length is bounded."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _received(body: bytes, receive: Receive) -> Receive:
    """A receiver of a body that has been received; what comes afterwards is passed on."""
    left = [body]

    async def received() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return received


async def _answer(send: Send, status: int, line: str) -> None:
    body = f"{line}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
