"""Stages that are interrupted in every way end bit-identical; exit codes, and seconds and steps that were lost."""

import errno
import json
import os
import re
import shutil
import signal

import jax
import pytest

from codi_jax import cli, storage
from codi_jax.checkpoint import Checkpointer, CheckpointError, index
from codi_jax.train import trainer
from codi_jax.train.ledger import COUNTS, goodput
from codi_jax.train.metrics import Clock
from codi_jax.train.stop import Preempted
from codi_jax.train.trainer import train
from tests import toy
from tests.train.finished import STAGE, cut_short, interrupt, load_stage, record_stages, reference, scalars


def test_exit_codes_of_a_run_and_of_a_single_stage(run, monkeypatch):
    command = ["train", f"--workdir={run.workdir}", "--quiet"]
    interrupt(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as exit:
        cli.main(command)
    assert exit.value.code == 75 and not run.finished(STAGE)
    cli.main([*command, "--stage=ldm.image"])  # returns, which is exit code 0: the stage is finished, the recipe is not
    cli.main([*command, f"--stage={STAGE}"])
    assert run.finished(STAGE)
    cli.main(command)


def test_training_again_is_bit_identical_and_compiles_one_step(run, monkeypatch):
    stages = record_stages(monkeypatch)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    assert [stage.step._cache_size() for stage in stages] == [1]


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_interrupted_stage_ends_bit_identical(run, monkeypatch, step):
    cut_short(run, monkeypatch, step)
    assert not run.finished(STAGE)
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.latest() == (2 if step == 3 else None)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    assert scalars(run) == [0, 1, 2, 3]
    assert scalars(run, metric="loss") == scalars(reference(), metric="loss")


@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_sigterm_saves_a_checkpoint_and_the_next_run_resumes(run, monkeypatch, step):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupt(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Preempted, match=rf"^stopped in ldm\.text at step {step + 1} of 4; run it again$"):
            train(run, (STAGE,), quiet=True)
    assert signal.getsignal(signal.SIGTERM) is before
    assert scalars(run)[-1] == step
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))


def test_sigterm_in_the_last_step_finishes_the_stage_and_stops_before_the_next(run, monkeypatch):
    joint = "joint.text+image"
    shutil.rmtree(run.directory(joint))
    interrupt(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match=r"^stopped after ldm\.text"):
        train(run, (STAGE, joint), quiet=True)
    assert run.finished(STAGE) and not run.directory(joint).exists()
    assert toy.same(load_stage(run), load_stage(reference()))


@pytest.mark.slow
def test_an_offloaded_state_is_trained_saved_and_restored_alike(run, monkeypatch):
    run, stages = toy.with_stage(run, STAGE, offload=("ema", "opt_state")), record_stages(monkeypatch)
    cut_short(run, monkeypatch, 3)
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))
    for stage in stages:
        assert stage.step._cache_size() == 1
        memory = {
            name: {leaf.sharding.memory_kind for leaf in jax.tree.leaves(getattr(stage.state, name))}
            for name in ("params", "ema", "opt_state")
        }
        assert memory == {"params": {"device"}, "ema": {"pinned_host"}, "opt_state": {"pinned_host"}}


@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EROFS, marks=pytest.mark.slow)])
def test_a_checkpoint_that_cannot_be_written_stops_the_stage_and_the_one_before_stays(run, monkeypatch, number):
    run = toy.with_stage(run, STAGE, checkpoint_every=1)
    write, count = index.write, iter(range(3))

    def fails(directory, *arguments):
        if next(count) == 1:
            raise OSError(number, os.strerror(number), str(directory))
        write(directory, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(index, "write", fails)
        with pytest.raises(CheckpointError) as error:
            train(run, (STAGE,), quiet=True)
    line = storage.explain(error.value)
    assert line is not None and os.strerror(number) in line and "\n" not in line
    with Checkpointer(str(run.directory(STAGE) / "checkpoints")) as checkpoints:
        assert checkpoints.latest() == 1
    train(run, (STAGE,), quiet=True)
    assert toy.same(load_stage(run), load_stage(reference()))


def test_the_ledger_records_every_second_and_lost_steps(run, monkeypatch, capsys):
    run = toy.with_stage(run, STAGE, log_every=1)
    cut_short(run, monkeypatch, 3)
    path = run.directory(STAGE) / "cost.json"
    before = json.loads(path.read_text())
    train(run, (STAGE,), quiet=True)
    cost = json.loads(path.read_text())
    assert cost["lost_steps"] == 1  # the third; the checkpoint is of two
    assert all(cost[activity] >= before[activity] > 0 for activity in ("start", "compile", "step", "total"))
    spent = sum(seconds for activity, seconds in cost.items() if activity not in COUNTS)
    assert spent == pytest.approx(cost["total"], abs=0.02)
    assert goodput(cost, 4) == pytest.approx(4 / 5 * cost["step"] / cost["total"])
    assert re.search(rf"^{STAGE}  goodput \d+% of \S+: .*compile.*1 steps lost$", capsys.readouterr().out, re.M)


def test_seconds_are_recorded_even_if_the_stage_fails(run, monkeypatch):
    def fails(self, ledger, *_):
        with ledger.clock.measure("step"):
            raise RuntimeError("no")

    monkeypatch.setattr(trainer, "train_stage", fails)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            train(run, (STAGE,), quiet=True)
    assert set(json.loads((run.directory(STAGE) / "cost.json").read_text())) == {
        "start",
        "step",
        "other",
        "total",
        "lost_steps",
        "reached",
        "core_seconds",
        "sessions",
    }
    assert Clock().share("start") == 0
