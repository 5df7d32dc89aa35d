"""Training in several real processes on this machine, against one process with as many devices.

Float tolerance: sums over the batch and over sharded parameters have another order (between processes by Gloo, within
one by XLA). The relative difference is 1e-6 in the first step and grows with every update.
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
from codi_jax.train import stage
from codi_jax.train.recipe import load_run, open_run, save_config
from codi_jax.train.trainer import train
from tests import toy
from tests.train import pod
from tests.train.pod import STAGE, Pod

TOLERANCE = 1e-4


@pytest.fixture
def single(tmp_path, monkeypatch):
    """A function that trains a config in this process and returns the workdir and the folder of batches."""

    def run(config, devices=8):
        workdir, seen = tmp_path / "single", tmp_path / "single-batches"
        with monkeypatch.context() as patch:
            patch.setattr(stage, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:devices]))
            pod.watch(seen, patch.setattr)
            save_config(config, workdir)
            train(open_run(config, workdir), quiet=True)
        return workdir, seen

    return run


def lines(workdir: Path, stage: str = STAGE) -> list[dict]:
    file = workdir / "stages" / stage / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def assert_same_batches(seen, reference, processes):
    """Each of these numbers of processes took some steps, with batches bit-identical to the reference."""
    want, got = pod.rows_seen(reference), pod.rows_seen(seen)
    assert got.keys() == want.keys()
    assert {n for step in got.values() for n in step} == set(processes)
    for step, (expected,) in ((step, batches.values()) for step, batches in want.items()):
        for rows in got[step].values():
            assert toy.same(rows, expected), step


def assert_same_curve(workdir, reference, stage=STAGE):
    got, want = lines(workdir, stage), lines(reference, stage)
    assert [line["step"] for line in got] == [line["step"] for line in want]
    for metric in ("loss", "grad_norm"):
        np.testing.assert_allclose([x[metric] for x in got], [x[metric] for x in want], rtol=TOLERANCE)


def assert_same_outcome(workdir, reference, stage=STAGE):
    """The metadata are equal and the arrays close.

    The tolerance is wide because of leaves whose gradient is 0 up to rounding, such as a bias before a norm: Adam
    scales that to steps of full length in either direction.
    """
    assert load_run(workdir).finished_meta(stage) == load_run(reference).finished_meta(stage)
    got, want = (paths.flatten(load_params(str(d / "stages" / stage / "params"))) for d in (workdir, reference))
    assert got.keys() == want.keys()
    config = load_run(workdir).stage(stage)
    for path, leaf in got.items():
        furthest = 2 * config.steps * config.optimizer.learning_rate
        np.testing.assert_allclose(leaf, want[path], atol=furthest, rtol=TOLERANCE, err_msg=path)
    distance = np.sqrt(sum(np.sum((got[path] - want[path]) ** 2.0) for path in got))
    assert distance < 1e-2 * np.sqrt(sum(np.sum(leaf**2.0) for leaf in want.values()))


def test_two_processes_train_the_same_as_one(tmp_path, single):
    config = pod.config(steps=3)
    reference, batches = single(config, devices=4)
    save_config(config, tmp_path / "run")
    run = Pod(tmp_path / "seen", tmp_path / "run", 2, 2)
    run.ends()
    assert_same_batches(tmp_path / "seen", batches, {2})
    assert_same_curve(tmp_path / "run", reference)
    assert_same_outcome(tmp_path / "run", reference)
    assert json.loads((tmp_path / "run" / "stages" / STAGE / "cost.json").read_text())["total"] > 0
    assert not [line for line in run.log.read_text().splitlines() if line.startswith("1: " + STAGE)]


@pytest.mark.slow
def test_killing_one_process_ends_the_other_and_the_same_command_resumes(tmp_path, single):
    config = pod.config(steps=24)
    reference, batches = single(config)
    workdir = tmp_path / "run"
    save_config(config, workdir)
    for victim, at in ((1, 5), (0, 12)):
        run = Pod(tmp_path / "seen", workdir, 2, 4)
        began = run.signal(victim, signal.SIGKILL, lambda at=at: len(lines(workdir)) >= at)
        run.ends(128 + signal.SIGKILL)
        assert time.monotonic() - began < 120
        (said,) = [line for line in run.log.read_text().splitlines() if " is gone: " in line]  # with whatever error
        assert said.startswith(f"{1 - victim}: codi-jax: process {victim} on ")
        assert "local_pod: " not in run.log.read_text()  # the other one exited without help of the launcher
        assert not load_run(workdir).finished(STAGE)
    run = Pod(tmp_path / "seen", workdir, 2, 4)
    run.ends()
    assert_same_batches(tmp_path / "seen", batches, {2})
    assert_same_curve(workdir, reference)


@pytest.mark.slow
def test_a_run_continues_with_other_numbers_of_processes(tmp_path, single):
    config = pod.config(steps=24)
    reference, batches = single(config)
    workdir = tmp_path / "run"
    save_config(config, workdir)

    run = Pod(tmp_path / "seen", workdir, 4, 2)
    run.signal(3, signal.SIGKILL, lambda: len(lines(workdir)) >= 6)
    run.ends(128 + signal.SIGKILL)

    run = Pod(tmp_path / "seen", workdir, 2, 2)  # also half the devices
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
def test_statistics_and_latents_and_a_stage_trained_on_them(tmp_path, single):
    stages = ("codec.text", "codec.image", "bridging.text+image", "encode.text+image", "ldm.text")
    config = pod.config(4, *stages)
    reference, _ = single(config)
    workdir, encode = tmp_path / "run", stages[3]
    save_config(config, workdir)
    run = Pod(tmp_path / "seen", workdir, 2, 4)
    run.ends(seconds=1800)
    for name in stages:
        if name != encode:
            assert_same_curve(workdir, reference, name)
            assert_same_outcome(workdir, reference, name)
    # One process with as many devices, and so as many threads of XLA, encodes with the same program and weights.
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    shutil.rmtree(again / "stages" / encode)
    Pod(tmp_path / "seen again", again, 1, 4, f"--stage={encode}").ends()
    files = [d / "stages" / encode for d in (workdir, again)]
    assert sorted(p.name for p in files[0].iterdir()) == sorted(p.name for p in files[1].iterdir())
    with np.load(files[0] / "arrays.npz") as a, np.load(files[1] / "arrays.npz") as b:
        assert toy.same(dict(a), dict(b))


@pytest.mark.slow
def test_samples_of_two_processes_are_those_of_one(tmp_path, monkeypatch):
    """Of a stage whose parameters are sharded over both; codecs and prompt encoders are read for each generation."""
    name, shown = "ldm.image", "stages/ldm.image/samples/00000004"
    for workdir in (tmp_path / "single", tmp_path / "run"):
        shutil.copytree(toy.trained(), workdir)
        shutil.rmtree(workdir / "stages" / name)
        config = json.loads((workdir / "config.json").read_text())
        config |= {"mesh": {"data": 1, "fsdp": -1}, "sharding": {"fsdp_min_bytes": 256}}
        config["stages"]["ldm"]["image"]["samples"] = {"source": "captions", "every": 2, "prompt": "text", "n": 3}
        (workdir / "config.json").write_text(json.dumps(config))
    with monkeypatch.context() as patch:
        patch.setattr(stage, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:2]))
        train(load_run(tmp_path / "single"), (name,), quiet=True)
    run = Pod(tmp_path / "seen", tmp_path / "run", 2, 1, f"--stage={name}")
    run.ends()
    files = sorted(path.name for path in (tmp_path / "single" / shown).iterdir())
    assert len(files) == 6 and files == sorted(path.name for path in (tmp_path / "run" / shown).iterdir())
    image = load_run(tmp_path / "run").codi["image"]
    for file in files:
        both = [tmp_path / workdir / shown / file for workdir in ("single", "run")]
        if file.endswith(".txt"):
            assert both[0].read_text() == both[1].read_text()
        else:
            one, two = (image.raw_from_user(str(path)).astype(int) for path in both)
            assert np.abs(one - two).max() <= 1, file
