"""The fuzzing command: it counts outcomes, goes on where it was stopped, and names faults."""

import json
import os
import random

import pytest

from benchmarks import fuzz, fuzz_files
from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import SUFFIXES
from codi_jax.media.files import MediaError


def test_every_suffix_is_read():
    every = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}
    assert every - set(fuzz_files.LEFT_OUT) <= fuzz.readers().keys()


def test_a_file_of_a_number_is_the_same_every_time():
    valid = fuzz_files.IMAGES["png"]()
    assert fuzz.mutant("png", valid, 0, 0) == valid != fuzz.mutant("png", valid, 0, 1)
    assert fuzz.mutant("png", valid, 0, 7) == fuzz.mutant("png", valid, 0, 7) != fuzz.mutant("png", valid, 1, 7)
    assert fuzz_files.damaged(b"", random.Random(0)) == b""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MediaError("cut", "one line"), "cut"),
        (ConfigError("one line"), "no source"),
        (ConfigError("two\nlines"), "several lines"),
        (KeyError("x"), "traceback"),
    ],
)
def test_outcomes(tmp_path, error, says):
    def way(folder, data, behind):
        raise error

    assert fuzz.outcome(way, tmp_path, b"", False) == says


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(tmp_path, capfd):
    command = ["--reader=table.csv", f"--json={tmp_path / 'fuzz.json'}"]
    for count in (3, 9):
        assert fuzz.main([*command, f"--mutants={count}"]) == 0
        state = json.loads((tmp_path / "fuzz.json").read_text())["readers"]["table.csv"]
        assert state["done"] == sum(state["outcomes"].values()) == count and not state["faults"]
    assert "| table.csv | 9 |" in capfd.readouterr().out


def test_a_crash_is_counted_and_the_next_file_goes_on(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\nfor a; do case $a in --start=*) s=${a#--start=};; esac; done\n"
        "if [ $s = 0 ]; then echo 0; echo '[\"read\", 5]'; echo 1; exit 9; fi\necho 2; echo '[\"read\", 5]'\n"
    )
    os.chmod(script, 0o755)
    monkeypatch.setattr(fuzz.sys, "executable", str(script))
    state = {"done": 0, "outcomes": {}, "slowest_s": 0.0, "peak_mib": 0, "faults": []}
    fuzz.run("png", 0, state, 3, lambda: None)
    assert state["outcomes"] == {"read": 2, "crash": 1} and state["faults"] == [["crash", 1]]
