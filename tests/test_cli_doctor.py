"""`codi-jax doctor`, once for real on CPU, and its options."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codi_jax import __version__
from codi_jax.cli import main
from codi_jax.doctor import collect
from codi_jax.exit_codes import EXIT_PROBLEMS
from tests.doctor.test_problems import HEALTHY, MACHINE, dataclasses, shown

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "codi_jax.cli", "doctor"]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "HF_TOKEN": "hf_private"}


def test_on_this_machine():
    """XLA refuses a flag, so something is wrong; the packaged model is read all the same."""
    environment = {**ENVIRONMENT, "XLA_PYTHON_CLIENT_MEM_FRACTION": "1.5"}
    done = subprocess.run(
        [*COMMAND, "--json", "--timeout=500"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    answer = json.loads(done.stdout)
    facts, problems = answer["facts"], answer["problems"]
    assert done.returncode == EXIT_PROBLEMS and done.stderr == ""
    assert any(x["what"].startswith("XLA_PYTHON_CLIENT_MEM_FRACTION=1.5 is no share") for x in problems)
    assert not any("packaged model" in x["what"] or "finds no devices" in x["what"] for x in problems)
    assert facts["installation"]["version"] == __version__
    assert facts["devices"]["platform"] == "cpu" and facts["devices"]["groups"] == [
        {"kind": "cpu", "count": 8, "memory": None}
    ]
    assert facts["model"]["name"] == "digit_world" and facts["codecs"]["missing"] == []
    assert facts["machine"]["environment"]["HF_TOKEN"] == "(set)" and "hf_private" not in done.stdout


def test_an_installation_without_a_working_jax_is_told_of(tmp_path):
    """The verb starts where jax cannot be imported, and says so in a line."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise RuntimeError('jaxlib 9 is newer than this jax')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*COMMAND, "--timeout=500"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == EXIT_PROBLEMS and "Traceback" not in done.stderr + done.stdout
    wanted = "- jax finds no devices (RuntimeError: jaxlib 9 is newer than this jax): check JAX_PLATFORMS=cpu"
    assert any(line.startswith(wanted) for line in done.stdout.splitlines())


@pytest.mark.parametrize("wrong", [False, True])
def test_text_and_exit_code(wrong, monkeypatch, capsys):
    machine = dataclasses.replace(MACHINE, encoding="latin-1") if wrong else MACHINE
    facts, given = dataclasses.replace(HEALTHY, machine=machine), []
    monkeypatch.setattr(collect, "collect", lambda *arguments: given.append(arguments) or facts)
    if wrong:
        with pytest.raises(SystemExit) as end:
            main(["doctor", "--timeout=3", "--plugins=a, b"])
        assert end.value.code == EXIT_PROBLEMS
    else:
        main(["doctor", "--timeout=3", "--plugins=a, b"])
        assert capsys.readouterr().out == shown(HEALTHY, []) + "\n"
    assert given == [(os.environ, 3, ["a", "b"])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout=0"], "--timeout: expected a positive number, got '0'"),
        (["--timeout=soon"], "--timeout: expected a number, got 'soon'"),
        (["now"], "unknown arguments: now"),
    ],
)
def test_what_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["doctor", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"codi-jax: {message}\n"
