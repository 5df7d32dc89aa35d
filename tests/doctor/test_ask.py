"""Questions are asked in processes of their own, and no process outlasts its time."""

import json
import os
import signal
import time

import pytest

from codi_jax.doctor import ask as asking
from codi_jax.doctor.ask import Answer, ask, cause, to_answer
from codi_jax.doctor.collect import to_codecs, to_devices
from codi_jax.doctor.facts import Codecs, DeviceGroup, Devices

FAKE = "import json, os, sys, time; question, *rest = sys.argv[2:]; "


@pytest.fixture
def fake(monkeypatch):
    """Replaces the script of the processes, which need not import anything then."""
    return lambda script: monkeypatch.setattr(asking, "_SCRIPT", FAKE + script)


def test_an_answer_among_other_output(fake):
    fake("print('hello'); print('codi-jax-doctor: ' + json.dumps([question, *rest, os.environ['X']]))")
    answers = ask({"a": ["1"], "b": ()}, {**os.environ, "X": "x"}, 60)
    assert answers == {"a": Answer(["a", "1", "x"]), "b": Answer(["b", "x"])}


def test_a_process_that_hangs_is_killed(fake, tmp_path):
    """With its children: the one that it starts would hold the pipe open."""
    file = tmp_path / "pid"
    fake(
        "import subprocess; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(file)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    start = time.monotonic()
    (answer,) = ask({"devices": ()}, os.environ, 5).values()
    assert time.monotonic() - start < 60
    assert not answer.in_time and answer.error == "no answer within 5 seconds"
    assert to_devices(answer, 5) == Devices(error="no answer within 5 seconds", seconds=5)
    pid = int(file.read_text())
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("its child is alive")


def test_the_error_of_a_process_is_one_line(fake):
    fake("raise RuntimeError('jaxlib is too old')")
    (answer,) = ask({"devices": ()}, os.environ, 60).values()
    assert answer == Answer(None, "RuntimeError: jaxlib is too old")


@pytest.mark.parametrize(
    ("output", "code", "line"),
    [
        ("", 1, "it printed nothing"),
        ("no module 'x'\n", 1, "no module 'x'"),
        ("Traceback:\n  x\njax.errors.JaxRuntimeError: busy\nbye\n", 1, "jax.errors.JaxRuntimeError: busy"),
        (
            "F0000 00:00:1 1 flags.cc:234] Unknown flags in XLA_FLAGS: --x\n*** Check failure ***\n    @ 0x1 x\n",
            -signal.SIGABRT,
            "Unknown flags in XLA_FLAGS: --x (ended by SIGABRT)",
        ),
    ],
)
def test_cause(output, code, line):
    assert cause(output, code) == line


def test_the_last_warning_is_kept():
    values = {"platform": "cpu", "groups": [["cpu", 2, None]], "processes": 1, "source": ""}
    answer = to_answer(f"codi-jax-doctor: {json.dumps(values)}", "WARNING: a\nW1130 jax: no GPU\nbye\n", 0)
    assert to_devices(answer, 5) == Devices("cpu", (DeviceGroup("cpu", 2, None),), warning="W1130 jax: no GPU")


def test_codecs():
    assert to_codecs(Answer({})) == Codecs()
    assert to_codecs(Answer({"pyav": "18", "ffmpeg": "8", "missing": ["x"]})) == Codecs("18", "8", ("x",))
    assert to_codecs(Answer(None, "ImportError: x")) == Codecs(error="ImportError: x")
