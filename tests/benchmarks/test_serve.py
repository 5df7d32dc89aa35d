"""Clients of the playground at once, with a pipeline that computes nothing behind it."""

import os
import signal
import time

import pytest

from benchmarks import serve
from benchmarks.serve_client import PageClient, file_data

FAKE = ("-m", "tests.serve.served", "--seconds=0.01")
VALUES = {"value_text": "a red seven", "to": ["image"], "steps": 2}


@pytest.fixture(scope="module")
def served():
    pytest.importorskip("gradio", reason="needs gradio: the extra `serve`")
    with serve.serving(*FAKE) as found:
        yield found


def test_clients_are_answered_in_turn_and_hostile_ones_refused(served):
    pid, url = served
    row = serve.measure(url, pid, 8, 12, **VALUES)
    assert serve.faults(row) == [] and row["a_minute"] > 0 and row["errors"] == []
    assert "| 8 | 8 |" in serve.to_table([row])


def test_a_file_of_another_client_or_of_the_machine_is_none(served):
    _, url = served
    one, other = PageClient(url), PageClient(url)
    token = one.generate(**VALUES).token
    assert one.ask("GET", f"/result/{token}")[0] == 200 and other.ask("GET", f"/result/{token}")[0] == 404
    for path in ("/etc/passwd", "/proc/self/environ", "http://127.0.0.1:9/", "/tmp/x.wav"):
        answer = other.generate(value_audio=file_data(path), to=["image"])
        assert answer.error.startswith("400") and path not in answer.error
        assert other.ask("GET", f"/gradio_api/file={path}")[0] == 404
    path = one.upload(b"of one alone")
    assert path.startswith("/uploads-") and one.ask("GET", f"/gradio_api/file={path}")[2] == b"of one alone"
    assert other.ask("GET", f"/gradio_api/file={path}/../../x")[0] in (403, 404)
    assert one.upload(bytes(30_000_000)) is None


def test_what_a_table_finds_wrong():
    row = {
        "clients": 4, "answered": 3, "errors": ["failed at /tmp/x"], "places_fall": False, "hostile": 2,
        "hostile_refused": 1, "hostile_errors": [], "before_mib": 100.0, "most_mib": 100.0 + serve.MORE_MIB + 1,
    }  # fmt: skip
    assert len(serve.faults(row)) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_server_that_is_ended(tmp_path, monkeypatch, number):
    pytest.importorskip("gradio", reason="needs gradio: the extra `serve`")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serve.serving(*FAKE) as (pid, url):
        client = PageClient(url)
        assert client.upload(b"a file") and list(tmp_path.glob("codi-jax-serve-*/*"))
        os.kill(pid, number)
        for _ in range(300):
            if not list(tmp_path.glob("codi-jax-serve-*")):
                break
            time.sleep(0.1)
        assert not list(tmp_path.glob("codi-jax-serve-*"))
