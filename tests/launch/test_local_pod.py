import signal
import subprocess
import sys
import time

import pytest

from launch import local_pod

LAUNCHER = [sys.executable, local_pod.__file__]


def shell(script, processes=2, **options):
    return local_pod.run(["sh", "-c", script], processes, **options)


def test_processes_get_their_variables_and_lines_are_prefixed(capfdbinary, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert shell('echo "$CODI_PROCESS of $CODI_PROCESSES at $CODI_COORDINATOR $XLA_FLAGS"', 3, devices=2) == 0
    lines = sorted(capfdbinary.readouterr().out.decode().splitlines())
    assert [line.split(" at ")[0] for line in lines] == ["0: 0 of 3", "1: 1 of 3", "2: 2 of 3"]
    (tail,) = {
        line.split(" at ")[1] for line in lines
    }  # one coordinator, and the devices in place of those of this test
    address, flags = tail.split(maxsplit=1)
    assert address.startswith("localhost:") and flags.endswith("--xla_force_host_platform_device_count=2")
    assert flags.count("device_count") == 1


@pytest.mark.parametrize(("end", "code"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_first_that_is_not_0(end, code):
    script = f'if [ "$CODI_PROCESS" = 1 ]; then {end}; fi; sleep 0.5; exit $((CODI_PROCESS * 7))'
    assert shell(script, 3) == code
    assert shell("exit 0") == 0


def test_processes_are_killed_some_time_after_the_first_failure(capfd):
    start = time.monotonic()
    assert shell('if [ "$CODI_PROCESS" = 0 ]; then exit 4; fi; sleep 60', 3, grace=0.5) == 4
    assert time.monotonic() - start < 20
    assert "1, 2 still running 0.5 seconds after the first failed; killed" in capfd.readouterr().out


def test_signals_are_forwarded_and_processes_waited_for():
    script = "trap 'echo stopping; sleep 0.3; exit 75' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*LAUNCHER, "--processes=2", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as launched:
        for _ in range(2):
            assert launched.stdout.readline().endswith("ready\n")
        launched.send_signal(signal.SIGTERM)
        assert sorted(launched.stdout.read().splitlines()) == ["0: stopping", "1: stopping"]
        assert launched.wait() == 75


@pytest.mark.parametrize("arguments", [["--processes=2"], ["--processes=0", "--", "true"], ["--", "true"]])
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        local_pod.main(arguments)
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("usage: local_pod.py [-h] --processes=N [--devices=D] -- COMMAND")


def test_help(capsys):
    with pytest.raises(SystemExit) as exit:
        local_pod.main(["--help"])
    assert exit.value.code == 0
    output = capsys.readouterr().out
    assert "--processes N" in output and "--devices D" in output and "two minutes" in output
