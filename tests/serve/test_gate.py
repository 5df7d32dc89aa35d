"""What comes through the gate, as an ASGI application sees it."""

import asyncio
import json
import os
import re

import pytest

from codi_jax.serve.gate import COOKIE, MAX_JSON, Gate, UploadFolder, client_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = UploadFolder(megabytes=1, minutes=60)
    yield made
    made.close()


class Inner:
    """An application that says what it has got."""

    def __init__(self, answer=b"{}", kind=b"application/json", wait=0.0):
        self.answer, self.kind, self.wait, self.scopes, self.bodies = answer, kind, wait, [], []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.bodies.append((await receive()).get("body"))
        await asyncio.sleep(self.wait)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self.kind)]})
        await send({"type": "http.response.body", "body": self.answer})


JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"multipart/form-data; boundary=x")


def asked(gate, method, path, body=b"{}", headers=()):
    """Status, headers and body of an answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    if method == "POST":
        names = [name for name, _ in headers]
        more = [(b"content-length", str(len(body)).encode()), FORM if path.endswith("upload") else JSON]
        headers = [*headers, *(pair for pair in more if pair[0] not in names)]
    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(gate(scope, receive, send))
    start, *rest = sent
    return start["status"], start["headers"], b"".join(part["body"] for part in rest)


OPEN = [
    *[("GET", "/"), ("HEAD", "/"), ("GET", "/config"), ("GET", "/assets/a.js"), ("GET", "/gradio_api/queue/data")],
    *[("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"), ("GET", "/result/abc_-1")],
]
CLOSED = [
    *[("GET", "/docs"), ("GET", "/monitoring"), ("GET", "/monitoring/summary"), ("GET", "/gradio_api/proxy=http://x")],
    *[("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/call/run"), ("POST", "/gradio_api/vibe-edit/")],
    *[("POST", "/login"), ("PUT", "/"), ("DELETE", "/result/a"), ("OPTIONS", "/"), ("GET", "/result/../etc")],
    *[("GET", "/gradio_api/file=/etc/passwd"), ("GET", "/gradio_api/file=https://example.org/"), ("POST", "/")],
    *[
        ("GET", "/gradio_api/file=/uploads"),
        ("GET", "/gradio_api/deep_link"),
        ("POST", "/gradio_api/process_recording"),
    ],
]


@pytest.mark.parametrize("method, path", OPEN)
def test_what_the_page_needs_comes_through(folder, method, path):
    inner = Inner()
    status, headers, _ = asked(Gate(inner, folder, 1), method, path)
    assert status == 200 and len(inner.scopes) == 1
    assert (b"referrer-policy", b"no-referrer") in headers and (b"x-content-type-options", b"nosniff") in headers


@pytest.mark.parametrize("method, path", CLOSED)
def test_nothing_else_does(folder, method, path):
    inner = Inner()
    assert asked(Gate(inner, folder, 1), method, path)[0] == 404 and not inner.scopes


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x+json", b"", b"application/x-www-form-urlencoded"])
def test_bodies_of_other_kinds_are_refused(folder, kind):
    inner = Inner()
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/component_server"):
        assert asked(Gate(inner, folder, 1), "POST", path, headers=[(b"content-type", kind)])[0] == 415
    assert asked(Gate(inner, folder, 1), "POST", "/gradio_api/queue/join", headers=[FORM])[0] == 415
    assert not inner.scopes


def test_sockets_are_not_answered(folder):
    inner = Inner()
    asyncio.run(Gate(inner, folder, 1)({"type": "websocket", "path": "/"}, None, None))
    assert not inner.scopes


@pytest.mark.parametrize(
    "path, length, status",
    [
        ("/gradio_api/queue/join", MAX_JSON, 200),
        ("/gradio_api/queue/join", MAX_JSON + 1, 413),
        ("/gradio_api/upload", 1_000_000, 200),
        ("/gradio_api/upload", 1_100_000, 413),
        ("/gradio_api/component_server", 10**30, 413),
        ("/gradio_api/upload", "", 411),
        ("/gradio_api/upload", "-1", 411),
    ],
)
def test_bodies_have_a_length_within_bounds(folder, path, length, status):
    inner = Inner()
    headers = [(b"content-length", str(length).encode())]
    assert asked(Gate(inner, folder, megabytes=1), "POST", path, headers=headers)[0] == status
    assert len(inner.scopes) == (status == 200)


def test_the_folder_has_another_name_outside(folder):
    inside, outside = os.fsdecode(folder.inside), folder.outside.decode()
    assert len(inside) == len(outside) and inside == str(folder.path) and outside.startswith("/uploads-")
    inner = Inner(f'{{"path": "{inside}/x/a.png"}}'.encode())
    gate, kind = Gate(inner, folder, 1), [JSON]
    given = f'{{"data": [{{"path": "{outside}/x/a.png"}}]}}'
    body = asked(gate, "POST", "/gradio_api/queue/join", given.encode(), kind)[2]
    assert (
        inner.bodies == [given.replace(outside, inside).encode()]
        and body == f'{{"path": "{outside}/x/a.png"}}'.encode()
    )
    assert asked(gate, "GET", f"/gradio_api/file={outside}/x/a.png")[0] == 200
    assert inner.scopes[-1]["path"] == f"/gradio_api/file={inside}/x/a.png"
    assert asked(gate, "GET", f"/gradio_api/file={inside}/x/a.png")[0] == 404


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "http://127.0.0.1/", "/uploads-other/a.png", "OUTSIDE/../../etc/passwd", "OUTSIDE", 7, ["a"]],
)
def test_a_request_names_no_other_file(folder, path):
    outside, inner = folder.outside.decode(), Inner()
    path = path.replace("OUTSIDE", outside) if isinstance(path, str) else path
    kind = [JSON]
    for tree in ({"path": path}, {"data": [None, {"layers": [{"url": "x", "path": path}]}]}):
        body = json.dumps(tree).encode()
        assert asked(Gate(inner, folder, 1), "POST", "/gradio_api/queue/join", body, kind)[0] == 400
    for body in (b"{", b"[" * 100_000, b"\xff"):
        assert asked(Gate(inner, folder, 1), "POST", "/gradio_api/queue/join", body, kind)[0] == 400
    assert not inner.scopes
    assert asked(Gate(inner, folder, 1), "POST", "/gradio_api/queue/join", b'{"path": null}', kind)[0] == 200


def test_contents_of_files_are_not_changed(folder):
    inner = Inner(folder.inside, b"image/png")
    assert asked(Gate(inner, folder, 1), "POST", "/gradio_api/upload", folder.outside, [FORM])[2] == folder.inside
    assert inner.bodies == [folder.outside]


def test_answers_that_are_translated_are_not_compressed(folder):
    inner = Inner()
    for path in ("/config", "/assets/a.js"):
        asked(Gate(inner, folder, 1), "GET", path, headers=[(b"accept-encoding", b"br")])
    assert [dict(scope["headers"]) for scope in inner.scopes] == [{}, {b"accept-encoding": b"br"}]


def test_a_browser_gets_a_cookie_once(folder):
    gate = Gate(Inner(), folder, 1)
    given = dict(asked(gate, "GET", "/")[1])[b"set-cookie"].decode()
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{32}}; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400", given)
    cookie = given.partition(";")[0].encode()
    assert b"set-cookie" not in dict(asked(gate, "GET", "/", headers=[(b"cookie", cookie)])[1])
    assert b"set-cookie" not in dict(asked(gate, "GET", "/config")[1])
    assert client_of({"headers": [(b"cookie", b"other=1; " + cookie)]}) == cookie.decode().partition("=")[2]
    for bad in (b"", b"x", f"{COOKIE}=short".encode(), f"{COOKIE}={'a' * 200}".encode()):
        assert client_of({"headers": [(b"cookie", bad)]}) is None


def test_a_file_that_takes_too_long_is_refused(folder):
    gate = Gate(Inner(wait=5), folder, 1, seconds=0.05)
    assert asked(gate, "POST", "/gradio_api/upload")[0] == 408


def test_few_files_are_received_at_a_time(folder):
    now, most = [0], [0]

    async def inner(scope, receive, send):
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.01)
        now[0] -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def many():
        gate = Gate(inner, folder, 1, at_once=3)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/gradio_api/upload",
            "headers": [(b"content-length", b"0"), FORM],
        }

        async def send(message):
            pass

        await asyncio.gather(*(gate(dict(scope), None, send) for _ in range(12)))

    asyncio.run(many())
    assert most == [3] and now == [0]


def test_old_files_and_too_many_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    now = [1e6]
    folder = UploadFolder(megabytes=0.001, minutes=1, clock=lambda: now[0])
    paths = [folder.write(f"{i}.png", bytes(400)) for i in range(4)]
    for i, path in enumerate(paths):
        os.utime(path, (now[0] + i, now[0] + i))
    folder.sweep()
    assert [os.path.exists(path) for path in paths] == [False, False, True, True]
    now[0] += 62.5
    folder.sweep()
    assert [os.path.exists(path) for path in paths] == [False, False, False, True]
    folder.close()
    assert not folder.path.exists()
