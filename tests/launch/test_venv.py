"""launch/venv.sh: finds a Python and installs into a virtual environment; with fake Pythons, and once for real."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "venv.sh"
NOT_FOUND = "codi_jax: no supported Python found: install python3.13, python3.12 or python3.11"

# A fake Python VERSION that copies itself into virtual environments. If FAILS is set to pip or ensurepip, that prints
# SAYS and fails.
PYTHON = """#!BASH
version=VERSION
case "$*" in
    *sys.version_info*) echo $version ;;
    "-c import ensurepip, venv") exit "${NO_ENSUREPIP:-0}" ;;
    "-c import pip") exec /bin/cat "$(dirname "$0")/../pip" ;;
    "-m venv"*)
        echo "$*" >>"$CALLS"
        for folder; do :; done
        mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" && touch "$folder/pyvenv.cfg" ;;
    "-m ensurepip"*) [ "$FAILS" != ensurepip ] || { echo "$SAYS"; exit 1; }; touch "$(dirname "$0")/../pip" ;;
    "-m pip install"*) echo "$*" >>"$CALLS"; [ "$FAILS" != pip ] || { echo "$SAYS"; exit 1; } ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a minimal PATH and repository to run the script in."""
    for name in ("dirname", "rm", "touch", "mkdir", "cp", "bash"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    for name in ("setup.py", "pyproject.toml"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    return tmp_path


def add_python(folder, version, says=None):
    """Adds a fake Python; one that reports another version than its name is a shim of another Python."""
    path = folder / "bin" / f"python{version}"
    path.write_text(PYTHON.replace("BASH", shutil.which("bash")).replace("VERSION", says or version))
    path.chmod(0o755)
    return path


def run(folder, *arguments, **variables):
    """Exit code, lines of standard output and of standard error, calls of venv and pip."""
    calls = folder / "calls"
    env = {"PATH": str(folder / "bin"), "CALLS": str(calls), "FAILS": "", **variables}
    done = subprocess.run(["bash", SCRIPT, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    called = calls.read_text().splitlines() if calls.exists() else []
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), called


def test_the_newest_python_that_runs_is_used(folder):
    shim = add_python(folder, "3.13")
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    add_python(folder, "3.12")
    add_python(folder, "3.11")
    add_python(folder, "3.10")
    assert run(folder, "--list")[1] == [str(folder / "bin" / f"python3.{minor}") for minor in (12, 11)]
    code, out, err, _ = run(folder, ".venv", "test")
    assert (code, out, err) == (0, ["codi_jax: installing the extra test into .venv, Python 3.12"], [])


def test_a_python_behind_a_shim_that_cannot_run_is_found(folder):
    real = add_python(folder, "3.13")
    shim = folder / "shims" / "python3.13"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    code, out, _, _ = run(folder, "--list", PATH=f"{shim.parent}:{folder / 'bin'}")
    assert (code, out) == (0, [str(real)])


def test_the_environment_is_created_and_installed_once(folder):
    add_python(folder, "3.12")
    calls = run(folder, ".venv", "test")[3]
    assert calls == [
        "-m venv --without-pip .venv",
        "-m pip install --quiet --upgrade pip",
        "-m pip install --quiet --no-compile -e .[test]",
    ]
    assert run(folder, ".venv", "test") == (0, [], [], calls)
    assert run(folder, ".venv", "demo")[3] == [*calls, "-m pip install --quiet --no-compile -e .[demo]"]
    (folder / "setup.py").touch()
    assert run(folder, ".venv", "test")[3][-1] == "-m pip install --quiet --no-compile -e .[test]"


def test_an_incomplete_environment_is_created_again(folder):
    add_python(folder, "3.12")
    run(folder, ".venv", "test")
    (folder / ".venv" / "pip").unlink()
    (folder / "calls").unlink()
    assert run(folder, ".venv", "test")[3][0] == "-m venv --without-pip --clear .venv"


def test_an_explicit_python(folder):
    add_python(folder, "3.13")
    older = add_python(folder, "3.11")
    assert run(folder, ".venv", "test", str(older))[1] == [
        "codi_jax: installing the extra test into .venv, Python 3.11"
    ]
    code, _, err, _ = run(folder, ".venv", "test", "python3.13")
    assert code == 2 and err == [
        "codi_jax: PYTHON=python3.13: .venv has Python 3.11: remove it, or set VENV= to another folder"
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), f"{NOT_FOUND}, or set PYTHON=/path/to/python"),
        (("python4",), "codi_jax: PYTHON=python4 cannot be run: use python3.13, python3.12 or python3.11"),
        (("python3.10",), "codi_jax: PYTHON=python3.10 is Python 3.10: use python3.13, python3.12 or python3.11"),
    ],
)
def test_no_supported_python(folder, given, message):
    add_python(folder, "3.10")
    add_python(folder, "3.12", says="3.10")
    assert run(folder, ".venv", "test", *given)[:3] == (2, [], [message])
    assert not (folder / ".venv").exists()
    assert run(folder, "--list") == (2, [], [NOT_FOUND], [])


def test_no_ensurepip(folder):
    path = add_python(folder, "3.12")
    hint = "install it (on Debian and Ubuntu: apt install python3.12-venv)"
    assert run(folder, ".venv", "test", NO_ENSUREPIP="1")[:3] == (
        2, [], [f"codi_jax: making .venv: {path} has no ensurepip: {hint}"],
    )  # fmt: skip
    assert not (folder / ".venv").exists()


FULL = "Could not install packages due to an OSError: [Errno 28] No space left on device"
READ_ONLY = "[Errno 30] Read-only file system: '/x/.venv'"
REFUSED = (
    "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NewConnectionError: Failed to establish a new connection: [Errno 111] Connection refused': /simple/jax/\n"
    "ERROR: No matching distribution found for jax"
)


@pytest.mark.parametrize("fails", ["ensurepip", "pip"])
@pytest.mark.parametrize(
    ("says", "message"),
    [
        (f"ERROR: {FULL}\n", f"{FULL}: free disk space: about 2 GB in .venv, and during installation as much in /tmp"),
        (READ_ONLY, f"{READ_ONLY}: use a copy of the repository in a writable folder"),
        (REFUSED, "pip cannot reach a package index: connect to a network, or set PIP_INDEX_URL"),
    ],
    ids=["full", "read-only", "no network"],
)
def test_known_errors_are_one_line(folder, fails, says, message):
    add_python(folder, "3.12")
    doing = {"ensurepip": "making .venv", "pip": "upgrading pip in .venv"}[fails]
    code, out, err, _ = run(folder, ".venv", "test", SAYS=says, FAILS=fails)
    assert code == 2 and not out and len(err) == 1 and err[0].startswith(f"codi_jax: {doing}: {message}")
    assert (folder / ".venv").exists() == (fails == "pip")
    assert run(folder, ".venv", "test")[0] == 0  # after the cause is fixed


def test_unknown_errors_show_the_whole_output(folder):
    add_python(folder, "3.12")
    code, _, err, _ = run(folder, ".venv", "test", SAYS="error: one\nerror: two", FAILS="pip")
    assert code == 2 and err == [
        "error: one",
        "error: two",
        "codi_jax: upgrading pip in .venv failed; see the output above",
    ]


def test_pip_without_a_network(tmp_path):
    """The real pip, with an index at an address that does not answer."""
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    env |= {"HOME": str(tmp_path), "no_proxy": "*"}
    done = subprocess.run(
        ["bash", SCRIPT, ".venv", "test", sys.executable], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and ": pip cannot reach a package index: " in last, done.stderr
