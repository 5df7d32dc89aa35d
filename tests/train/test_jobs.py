"""Stages that train in parallel, in several processes."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.parallel import paths
from codi_jax.train import jobs
from codi_jax.train.ledger import wall_seconds
from codi_jax.train.overall import Overall
from codi_jax.train.recipe import load_run, open_run, save_config
from codi_jax.train.trainer import train
from tests import toy


def new_run(workdir, change=lambda tree: None):
    config = toy.config()
    with config.unlocked():
        change(config)
    save_config(config, workdir)
    return load_run(workdir)


def params(run, name):
    return paths.flatten(load_params(str(run.directory(name) / "params")))


def test_the_critical_path_starts_at_a_first_stage():
    run = open_run(toy.config(), "nowhere")
    length = jobs.critical_path(run)
    assert length["joint.text+image"] == run.stage("joint.text+image").scheduling_weight
    assert all(
        length[need] >= length[n] + run.stage(need).scheduling_weight
        for n in run.order
        for need in run.stage(n).depends_on
    )
    assert max(length, key=length.__getitem__) in ("codec.text", "codec.image", "bridging.text+image")


def test_a_worker_sends_progress_at_most_every_two_seconds(monkeypatch):
    clock, sent = iter([10.0, 10.0, 11.0, 12.5, 12.5, 13.0, 13.0]), []
    monkeypatch.setattr(jobs.time, "monotonic", lambda: next(clock))
    forward = jobs._Forward(SimpleNamespace(send=sent.append), every=2.0)
    forward.begin("ldm.image")
    for done in (1, 2, 3):
        forward("ldm.image", done, 9)
    forward.begin("ldm.text")
    forward("ldm.text", 5, 6)
    assert sent == [("ldm.image", 1, 9), ("ldm.image", 3, 9), ("ldm.text", 5, 6)] and not forward.due()


def test_parallel_training_gives_the_results_of_sequential_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "Overall", functools.partial(Overall, every=0))
    stages = ("codec.text", "codec.image", "bridging.text+image", "encode.text+image")
    parallel, sequential = new_run(tmp_path / "side"), new_run(tmp_path / "alone")
    jobs.train_side_by_side(parallel, stages, jobs=2, quiet=True)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("all  ")]
    assert said[0].startswith("all  stages 1 and 2 of 4  ") and "  100% done  " in said[-1]
    percent = [int(re.search(r"(\d+)% done", line)[1]) for line in said]
    assert percent == sorted(percent)
    train(sequential, stages, quiet=True)
    assert all(parallel.finished(name) for name in stages)
    costs = [json.loads((parallel.directory(name) / "cost.json").read_text()) for name in stages]
    assert 0 < wall_seconds(costs) < sum(cost["total"] for cost in costs)  # the codecs trained at the same time
    for name in stages[:3]:
        a, b = params(parallel, name), params(sequential, name)
        assert a.keys() == b.keys()
        for path in a:  # another number of cores sums in another order
            np.testing.assert_allclose(a[path], b[path], rtol=1e-3, atol=1e-4, err_msg=path)
    jobs.train_side_by_side(parallel, stages, jobs=2, quiet=True)  # nothing is left to do


def test_a_config_error_in_a_worker_reaches_the_parent(tmp_path):
    def change(config):
        config.sources.captions.size = 0

    run = new_run(tmp_path, change)
    with pytest.raises(ConfigError, match="size must be at least 1, got 0"):
        jobs.train_side_by_side(run, ("codec.text",), jobs=1, quiet=True)


def test_a_write_error_in_a_worker_reaches_the_parent_as_one_line(tmp_path):
    def change(config):
        config.sources.captions.size = 0  # so that it fails at once, and then writes cost.json

    run = new_run(tmp_path, change)
    (tmp_path / "stages").symlink_to("/sys/kernel")  # where no directory can be created
    with pytest.raises(ConfigError, match=r"/codec.text: .*: choose a directory that you may read and write$"):
        jobs.train_side_by_side(run, ("codec.text",), jobs=1, quiet=True)


def test_a_stage_with_an_unfinished_dependency_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="depends on 'codec"):
        jobs.train_side_by_side(new_run(tmp_path), ("encode.text+image",), jobs=2)


def children(pid):
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(x) for x in listed]


def has_exited(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl and /proc")
def test_no_worker_outlives_a_killed_parent(tmp_path):
    def change(config):
        config.stages.codec.image.steps = 10**6  # it would run for hours

    new_run(tmp_path, change)
    command = [sys.executable, "-m", "codi_jax.cli", "train", f"--workdir={tmp_path}", "--jobs=2", "--quiet"]
    with open(tmp_path / "log", "w") as log:
        parent = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    deadline = time.monotonic() + 120
    while "codec.image" not in (tmp_path / "log").read_text():
        assert parent.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.2)
    workers = children(parent.pid)
    assert workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while not all(has_exited(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
