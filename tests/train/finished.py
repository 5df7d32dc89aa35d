"""The finished run of a recipe of eight stages on eight virtual devices, and ways to interrupt a stage of it.

The fixture `run` is a copy of it in which STAGE has not been run yet.
"""

import json

import pytest

from codi_jax.checkpoint import load_params
from codi_jax.train import trainer
from codi_jax.train.recipe import load_run
from codi_jax.train.stage import Stage
from codi_jax.train.trainer import train
from tests import toy

PAIR = toy.PAIR
ENCODE = "encode.text+image"
STAGE = "ldm.text"  # interrupted by the tests: four steps, a checkpoint after the second


def load_stage(run, name=STAGE):
    return load_params(str(run.directory(name) / "params"))


def scalars(run, name=STAGE, metric="step"):
    return [json.loads(line)[metric] for line in (run.directory(name) / "metrics.jsonl").read_text().splitlines()]


def reference():
    return load_run(toy.trained())


def interrupt(monkeypatch, when, act):
    """Calls `act` before the given step (counted from 0) of the next stage that trains."""
    place, count = trainer.place_batch, iter(range(1000))

    def counted(batch, mesh):
        if next(count) == when:
            act()
        return place(batch, mesh)

    monkeypatch.setattr(trainer, "place_batch", counted)


class Interrupted(Exception):
    pass


def cut_short(run, monkeypatch, step):
    """Trains STAGE and raises an exception before the given step (counted from 0)."""

    def cut():
        raise Interrupted

    with monkeypatch.context() as patch:
        interrupt(patch, step, cut)
        with pytest.raises(Interrupted):
            train(run, (STAGE,), quiet=True)


def record_stages(monkeypatch):
    """A list that collects every Stage that is prepared from now on."""
    stages, prepare = [], Stage.prepare
    monkeypatch.setattr(Stage, "prepare", lambda self: (stages.append(self), prepare(self))[1])
    return stages
