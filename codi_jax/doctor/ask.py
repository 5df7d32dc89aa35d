"""Asks questions of `probe` in processes of their own, which are killed after a time limit."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

NO_ANSWER = "no answer within"
_MARK = "codi-jax-doctor: "  # before the answer, since libraries may print, too
# Of what a process prints as it ends, the line that says why: of an exception, of glog, of abseil.
_CAUSE = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt|Exit)\b|F\d{4} |FATAL)")
_LOG = re.compile(r"^F\d{4} [^\]]*\] ")  # time, process and place in the source
_WARNING = re.compile(r"^(?:WARNING:|W\d{4} |E\d{4} |ERROR:)")
_SCRIPT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from codi_jax.doctor import probe; probe.main()"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a process answered.

    Attributes:
      values: the answer; None if there was none.
      error: why there was none, as one line.
      in_time: whether the process ended within the limit.
      warning: the last warning that it printed.
    """

    values: dict[str, Any] | None
    error: str = ""
    in_time: bool = True
    warning: str = ""


def cause(output: str, code: int) -> str:
    """Why a process failed, as one line, by what it printed and its exit code."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [_LOG.sub("", line) for line in lines if _CAUSE.match(line)]
    line = told[-1] if told else lines[-1] if lines else "it printed nothing"
    if code >= 0:
        return line
    with contextlib.suppress(ValueError):
        return f"{line} (ended by {signal.Signals(-code).name})"
    return f"{line} (ended by signal {-code})"


def to_answer(output: str, errors: str, code: int) -> Answer:
    """The answer of a process that has ended."""
    warnings = [line.strip() for line in errors.splitlines() if _WARNING.match(line)]
    warning = warnings[-1] if warnings else ""
    for line in output.splitlines():
        if line.startswith(_MARK):
            return Answer(json.loads(line.removeprefix(_MARK)), warning=warning)
    return Answer(None, cause(errors, code), warning=warning)


def print_answer(values: Mapping[str, Any]) -> None:
    """Prints an answer, in the process that was asked."""
    print(f"\n{_MARK}{json.dumps(values)}", flush=True)


def _start(question: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-c", _SCRIPT, json.dumps(sys.path), question, *arguments]
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that it can be killed with its children
    )


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that waits for a driver cannot be killed; it is left behind.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=2)


def ask(questions: Mapping[str, Sequence[str]], environment: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    """Asks several questions at once.

    Args:
      questions: name of the question, a function of `probe` -> its arguments.
      environment: of the processes.
      seconds: time limit of all of them.
    """
    end = time.monotonic() + seconds
    started: dict[str, subprocess.Popen] = {}
    answers = {}
    try:
        for question, arguments in questions.items():
            started[question] = _start(question, arguments, environment)
        for question, process in started.items():
            try:
                output, errors = process.communicate(timeout=max(end - time.monotonic(), 0.1))
                answers[question] = to_answer(output, errors, process.returncode)
            except subprocess.TimeoutExpired:
                answers[question] = Answer(None, f"{NO_ANSWER} {seconds:g} seconds", in_time=False)
    finally:
        for process in started.values():
            if process.poll() is None:
                _kill(process)
    return answers
