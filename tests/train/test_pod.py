"""Several processes for real, on this machine, against one with as many devices.

Float tolerance: sums over the batch and over split parameters are taken in another order (between processes by Gloo,
within one by XLA), which is a relative 1e-6 in the first step and grows with every update that is made of it.
"""

import json
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.parallel import make_mesh, paths
from codi_jax.train import loop
from codi_jax.train.loop import train
from codi_jax.train.recipe import load_run, open_run, save_config
from tests import toy
from tests.train import pod
from tests.train.pod import STAGE, Pod

TOLERANCE = 1e-4


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Runs a config in this process, on some of its devices; its workdir, and the folder of its batches."""

    def run(config, devices=8):
        workdir, seen = tmp_path / "alone", tmp_path / "alone-batches"
        with monkeypatch.context() as patch:
            patch.setattr(loop, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:devices]))
            pod.watch(seen, patch.setattr)
            save_config(config, workdir)
            train(open_run(config, workdir), quiet=True)
        return workdir, seen

    return run


def lines(workdir: Path, stage: str = STAGE) -> list[dict]:
    file = workdir / "stages" / stage / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def assert_same_batches(seen, reference, processes):
    """Every step has been seen by each of these numbers of processes that it says, and bit by bit as it was alone."""
    want, got = pod.rows_seen(reference), pod.rows_seen(seen)
    assert got.keys() == want.keys()
    assert {n for step in got.values() for n in step} == set(processes)
    for step, (whole,) in ((step, found.values()) for step, found in want.items()):
        for rows in got[step].values():
            assert toy.same(rows, whole), step


def assert_same_curve(workdir, reference, stage=STAGE):
    got, want = lines(workdir, stage), lines(reference, stage)
    assert [line["step"] for line in got] == [line["step"] for line in want]
    for metric in ("loss", "grad_norm"):
        np.testing.assert_allclose([x[metric] for x in got], [x[metric] for x in want], rtol=TOLERANCE)


def assert_same_outcome(workdir, reference, stage=STAGE):
    """The record is the same, and each array by and large: where its gradient is 0 but for rounding, such as that of a
    bias before a norm, Adam makes steps of full length of it, each of which may go either way."""
    assert load_run(workdir).finished_meta(stage) == load_run(reference).finished_meta(stage)
    got, want = (paths.flatten(load_params(str(d / "stages" / stage / "params"))) for d in (workdir, reference))
    assert got.keys() == want.keys()
    steps = load_run(workdir).stage(stage)
    for path, leaf in got.items():
        furthest = 2 * steps.steps * steps.optimizer.learning_rate
        np.testing.assert_allclose(leaf, want[path], atol=furthest, rtol=TOLERANCE, err_msg=path)
    apart = np.sqrt(sum(np.sum((got[path] - want[path]) ** 2.0) for path in got))
    assert apart < 1e-2 * np.sqrt(sum(np.sum(leaf**2.0) for leaf in want.values()))


def test_two_processes_train_what_one_does(tmp_path, alone):
    config = pod.config(steps=3)
    reference, batches = alone(config, devices=4)
    save_config(config, tmp_path / "run")
    run = Pod(tmp_path / "seen", tmp_path / "run", 2, 2)
    run.ends()
    assert_same_batches(tmp_path / "seen", batches, {2})
    assert_same_curve(tmp_path / "run", reference)
    assert_same_outcome(tmp_path / "run", reference)
    assert json.loads((tmp_path / "run" / "stages" / STAGE / "cost.json").read_text())["total"] > 0
    assert not [line for line in run.log.read_text().splitlines() if line.startswith("1: " + STAGE)]


@pytest.mark.slow
def test_one_process_killed_ends_the_other_and_the_same_command_resumes(tmp_path, alone):
    config = pod.config(steps=24)
    reference, batches = alone(config)
    workdir = tmp_path / "run"
    save_config(config, workdir)
    for victim, at in ((1, 5), (0, 12)):
        run = Pod(tmp_path / "seen", workdir, 2, 4)
        began = run.signal(victim, signal.SIGKILL, lambda at=at: len(lines(workdir)) >= at)
        run.ends(128 + signal.SIGKILL)
        assert time.monotonic() - began < 120
        assert "local_pod: " not in run.log.read_text()  # the other ended by itself
        assert not load_run(workdir).finished(STAGE)
    run = Pod(tmp_path / "seen", workdir, 2, 4)
    run.ends()
    assert_same_batches(tmp_path / "seen", batches, {2})
    assert_same_curve(workdir, reference)


@pytest.mark.slow
def test_four_processes_then_two_then_four_are_one_run(tmp_path, alone):
    config = pod.config(steps=24)
    reference, batches = alone(config)
    workdir = tmp_path / "run"
    save_config(config, workdir)

    run = Pod(tmp_path / "seen", workdir, 4, 2)
    run.signal(3, signal.SIGKILL, lambda: len(lines(workdir)) >= 6)
    run.ends(128 + signal.SIGKILL)

    run = Pod(tmp_path / "seen", workdir, 2, 2)  # half the devices, too
    run.signal(1, signal.SIGTERM, lambda: len(lines(workdir)) >= 14)
    run.ends(75)
    (said,) = [line for line in run.log.read_text().splitlines() if "stopped in" in line]
    stopped = len(lines(workdir))
    assert said == f"0: codi-jax: stopped in {STAGE} at step {stopped} of 24; run it again"

    run = Pod(tmp_path / "seen", workdir, 4, 2)
    run.ends()
    assert_same_batches(tmp_path / "seen", batches, {2, 4})
    assert_same_curve(workdir, reference)


@pytest.mark.slow
def test_statistics_latents_and_what_is_built_on_them(tmp_path, alone):
    stages = ("codec.text", "codec.image", "bridging.text+image", "encode.text+image", "ldm.text")
    config = pod.config(4, *stages)
    reference, _ = alone(config)
    workdir, encode = tmp_path / "run", stages[3]
    save_config(config, workdir)
    run = Pod(tmp_path / "seen", workdir, 2, 4)
    run.ends(seconds=1800)
    for name in stages:
        if name != encode:
            assert_same_curve(workdir, reference, name)
            assert_same_outcome(workdir, reference, name)
    # The same program on the same weights: what one process encodes is the same to the last bit.
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    shutil.rmtree(again / "stages" / encode)
    train(load_run(again), (encode,), quiet=True)
    files = [d / "stages" / encode for d in (workdir, again)]
    assert sorted(p.name for p in files[0].iterdir()) == sorted(p.name for p in files[1].iterdir())
    with np.load(files[0] / "arrays.npz") as a, np.load(files[1] / "arrays.npz") as b:
        assert toy.same(dict(a), dict(b))
