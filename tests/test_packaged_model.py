"""The packaged model meets its floors, so that a change that breaks generation is detected.

For small n, the upper end of the 95 % interval must reach a floor (see `digit_world.benchmark.floors`).
"""

import dataclasses

import jax
import pytest

from codi_jax.config import from_dict
from codi_jax.data.source import make_source
from codi_jax.digit_world import LEADING
from codi_jax.digit_world.benchmark.config import EvaluateConfig
from codi_jax.digit_world.benchmark.floors import ENOUGH_SAMPLES, checks
from codi_jax.digit_world.benchmark.run import Evaluation
from codi_jax.digit_world.benchmark.samples import take
from codi_jax.digit_world.benchmark.verdict import verdict
from codi_jax.digit_world.judges.readers import make_readers
from codi_jax.metrics.agreement import agreement
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train.recipe import open_run

N = 24
SMALL = {
    "n": N, "reference": 2, "held_out": None, "pretrained": 0, "combinations": 0, "mixes": (), "neighbours": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def package():
    return open_package(DEFAULT)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_directions_and_sets_of_outputs_have_floors_and_meet_them(package, everything):
    """Unless slow, all four together."""
    run = open_run(package.run, None)
    floors = from_dict(EvaluateConfig, run.config.evaluate, "evaluate").floors
    config = dataclasses.replace(run.config, evaluate={**run.config.evaluate, **SMALL})
    evaluation = Evaluation(package.codi, config, package.read("model"))
    if not everything:
        evaluation.directions["seen"] = []
        evaluation.sets = [outputs for outputs in evaluation.sets if set(outputs) == set(evaluation.names)]
    metrics, _ = evaluation.run()
    made = checks(metrics, floors)
    assert {"->".join(c.modalities) for c in made if c.kind == "direction"} == set(metrics["matrix"])
    assert {"+".join(c.modalities) for c in made if c.kind == "joint"} == set(metrics["joint"])
    assert {c.n for c in made} == {N} and N < ENOUGH_SAMPLES
    assert all(c.passed for c in made), str(verdict(metrics, floors))


def test_a_broken_denoiser_is_detected(package):
    """The control: the same prompts and noise, with the channels of every layer in reverse order."""
    codi, variables = package.codi, package.read("model")
    samples = take(codi, make_source(package.run["sources"]["test_seen"]), range(N))
    generator = Generator(codi, from_dict(GenerateConfig, package.run["generate"], "generate"))
    read = make_readers(codi, package, N)["image"]
    name = codi["image"].components["denoiser"]
    broken = jax.tree.map(lambda x: x[..., ::-1], variables["params"][name])

    def accuracy(params):
        changed = {**variables, "params": params}
        outputs = generator.generate(changed, ("image",), {"text": samples.values["text"]}, N, jax.random.key(0))
        return agreement((samples.factors[LEADING], read(outputs["image"]).factors[LEADING]))

    assert accuracy(variables["params"]) > 0.8
    assert accuracy({**variables["params"], name: broken}) < 0.3
