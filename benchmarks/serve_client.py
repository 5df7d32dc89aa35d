"""A client of the playground without a browser: what the page sends, by the protocol of gradio's queue."""

import http.client
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

_PLACE = re.compile(r"In the queue: place (\d+)")
_TOKEN = re.compile(r"result/([\w-]{20,})")
_ERROR = re.compile(r'class=\\"status error\\"[^>]*>([^<]*)<')


class Answer(NamedTuple):
    """What became of a request: its result's token, or the error; seconds; the places in the queue that were told."""

    token: str
    error: str
    seconds: float
    places: tuple[int, ...]


class PageClient:
    """One browser, with its own cookie.

    Args:
      url: of the page.
      timeout_s: of every read.
    """

    def __init__(self, url: str, timeout_s: float = 600.0):
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port, self._timeout_s = parts.hostname, parts.port, timeout_s
        self._session, self._cookie = secrets.token_hex(8), ""
        _, headers, _ = self.ask("GET", "/")
        self._cookie = dict(headers).get("set-cookie", "").partition(";")[0]
        config = json.loads(self.ask("GET", "/config")[2])
        self._components = {item["id"]: item["props"] for item in config["components"]}
        button = next(i for i, props in self._components.items() if props.get("elem_id") == "generate")
        self._run = next(
            dep for dep in config["dependencies"] if [button, "click"] in [list(t) for t in dep["targets"]]
        )

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of an answer."""
        connection, answer = self._open(method, path, body, headers or {})
        try:
            return answer.status, [(k.lower(), v) for k, v in answer.getheaders()], answer.read()
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        connection.request(method, path, body, {**headers, **({"Cookie": self._cookie} if self._cookie else {})})
        return connection, connection.getresponse()

    def upload(self, data: bytes, name: str = "file") -> str | None:
        """Uploads a file; returns its path outside, None if it was refused."""
        edge = secrets.token_hex(12)
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        status, _, answer = self.ask("POST", "/gradio_api/upload", body, kind)
        return json.loads(answer)[0] if status == 200 else None

    def generate(self, **values: Any) -> Answer:
        """Asks for what the controls say, as they are when the page opens but for `values`, and waits for it.

        Args:
          **values: by the id of an element of the page, "-" as "_".
        """
        begun, session = time.perf_counter(), secrets.token_hex(8)
        data = [self._value(self._components[i], values) for i in self._run["inputs"]]
        request = {"data": data, "fn_index": self._run["id"], "session_hash": session, "event_data": None}
        body = json.dumps(request).encode()
        kind = {"Content-Type": "application/json"}
        status, _, answer = self.ask("POST", "/gradio_api/queue/join", body, kind)
        if status != 200:
            return Answer("", f"{status} {answer[:80].decode(errors='replace')}", time.perf_counter() - begun, ())
        token, error, places = "", "", []
        connection, stream = self._open("GET", f"/gradio_api/queue/data?session_hash={session}", None, {})
        try:
            for line in stream:
                text = line.decode(errors="replace")
                places += [int(place) for place in _PLACE.findall(text)]
                token = (_TOKEN.findall(text) or [token])[-1]
                error = (_ERROR.findall(text) or [error])[-1]
                if '"msg":"process_completed"' in text:
                    if '"success":false' in text and not error:
                        error = "failed"
                    break
        finally:
            connection.close()
        return Answer(token, error, time.perf_counter() - begun, tuple(places))

    def _value(self, props: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        return values.get(str(props.get("elem_id", "")).replace("-", "_"), props.get("value"))


def file_data(path: str) -> dict[str, Any]:
    """A file as a control sends it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "file"}
