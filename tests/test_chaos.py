"""`codi-jax chaos` without its trainings, which the slow suite runs."""

import json
import os
import signal

import numpy as np
import pytest

from codi_jax import cli
from codi_jax.checkpoint import index, save_params
from codi_jax.cli import chaos, faults
from codi_jax.cli.common import EXIT_BAD_INPUT
from codi_jax.train.recipe import save_config
from tests import toy

STAGE = "codec.text"


def finished(workdir, value=1.0, loss=2.0):
    """A workdir with one finished stage."""
    save_config(toy.config(), workdir)
    params = {"params": {"text_codec": {"kernel": np.full(3, value, np.float32)}}}
    stage = workdir / "stages" / STAGE
    save_params(str(stage / "params"), params, {"components": ["text_codec"]})
    (stage / "metrics.jsonl").write_text(json.dumps({"step": 0, "loss": loss, "steps_per_second": value}) + "\n")


def entry(fault="kill", code=-signal.SIGKILL, hit=True):
    return {"fault": fault, "during": "steps", "hit": hit, "code": code, "process": 0, "steps": 3, "seconds": 1.0}


@pytest.fixture
def injected(monkeypatch):
    """The entries that `inject` returns one after the other instead of training."""
    entries = []

    def inject(self):
        self.entries.append(entries.pop(0))
        return self.entries[-1]

    monkeypatch.setattr(chaos.Chaos, "inject", inject)
    monkeypatch.setattr(chaos.Chaos, "finish", lambda *_: None)
    return entries


def test_equal_results_end_well(tmp_path, injected, capsys):
    injected += [entry(), entry(code=0, hit=False), entry("terminate", 75)]  # the first run ends before the third
    for name in ("uninterrupted", "faults-0", "faults-1"):
        finished(tmp_path / name)
    cli.main(["chaos", f"--workdir={tmp_path}", "--kills=2"])
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "parameters and metrics are equal"
    assert len({line.split()[0] for line in out[-4:-1]}) == 1  # the hashes of three runs
    assert out[-5].split() == ["all", "2"]


@pytest.mark.parametrize("other", [{"value": 1.5}, {"loss": 3.0}])
def test_different_results_exit_with_1(tmp_path, injected, capsys, other):
    injected.append(entry())
    finished(tmp_path / "uninterrupted")
    finished(tmp_path / "faults-0", **other)
    with pytest.raises(SystemExit) as exit:
        cli.main(["chaos", f"--workdir={tmp_path}", "--kills=1"])
    assert exit.value.code == 1 and "parameters or metrics differ" in capsys.readouterr().out


def test_a_process_that_fails_by_itself_is_shown(tmp_path, capsys):
    """The command is refused by `train`."""
    with pytest.raises(SystemExit) as exit:
        cli.main(["chaos", f"--workdir={tmp_path}", "--config=no_such_config"])
    err = capsys.readouterr().err
    assert exit.value.code == 1 and "no config 'no_such_config'" in err and "exit code 2, expected 0" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--kills=0"], "expected positive numbers"), (["--seed=1"], "holds runs of other arguments")],
)
def test_invalid_arguments_are_refused(tmp_path, injected, capsys, options, message):
    chaos.Chaos(tmp_path, chaos.DEFAULT, 0, 1)
    with pytest.raises(SystemExit) as exit:
        cli.main(["chaos", f"--workdir={tmp_path}", *options])
    assert exit.value.code == EXIT_BAD_INPUT and message in capsys.readouterr().err


def test_a_workdir_in_a_bucket_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["chaos", "--workdir=s3://bucket/run"])
    assert "expected a local directory" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["checkpoint", "rename", "renamed", "full"])
def test_a_fault_comes_at_the_call_of_its_number(tmp_path, monkeypatch, fault):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    for module, name in ((os, "rename"), (os, "replace"), (index, "write")):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored after the test
    faults.install(fault, 2)
    for k in range(3):
        try:
            save_params(str(tmp_path / str(k)), {"w": np.ones(2)})
        except Exception as error:
            assert "No space left on device" in str(error)
            killed.append("full")
    assert killed == (["full"] if fault == "full" else [signal.SIGKILL])
