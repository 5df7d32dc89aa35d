"""Stages that train on a mixture of pairs of modalities, one pair per batch."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.data.source import make_source, read_batch
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import open_run, save_config
from codi_jax.train.trainer import train
from tests import toy
from tests.train.finished import interrupt

NAMES = ("text", "image", "audio")
PAIRS = {"text+image": 1.0, "text+audio": 2.0}
STEPS = 9


def config() -> ConfigDict:
    """The toy recipe with one bridging stage for both pairs and one latent alignment stage, both on media."""
    tree = toy.recipe(NAMES)
    tree["model"] = toy.model(NAMES)
    parts = {pair: {**tree["sources"][f"{pair} whole"], "size": 24, "weight": w} for pair, w in PAIRS.items()}
    tree["sources"] = {"pairs": {"name": "mixture", "parts": parts, "whole_batches": True}, **tree["sources"]}
    bridging, joint = (tree["stages"][group]["text+image"] for group in ("bridging", "joint"))
    bridging.update(
        modalities=NAMES, source="pairs", depends_on=(), batch_size=8, steps=STEPS, checkpoint_every=3,
        trainable=("clip_text/.*", "clip_vision/.*", "clap_audio/.*", "bridging/.*"), log_every=1,
        num_stats_samples=24,
    )  # fmt: skip
    settings = {**joint["settings"], "losses": NAMES, "aligned": NAMES}
    settings["prompts"] = {**settings["prompts"], "sources": NAMES}
    joint.update(modalities=NAMES, source="pairs", depends_on=(), settings=settings)
    tree["stages"] = {"bridging": {"all": bridging}, "joint": {"all": joint}}
    return ConfigDict(tree)


def new_run(workdir):
    save_config(config(), workdir)
    return open_run(config(), workdir)


def lines(run):
    return [json.loads(line) for line in (run.directory("bridging.all") / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run without interruptions."""
    folder = tmp_path_factory.mktemp("pairs")
    run = new_run(folder / "run")
    train(run, ("bridging.all",), quiet=True)
    return run


def test_batches_of_one_pair_each_train_the_towers_of_all_pairs(reference):
    assert [line["step"] for line in lines(reference)] == list(range(STEPS))
    assert lines(reference)[-1]["epoch/text+image"] == pytest.approx(STEPS * 8 / 3 / 24)
    assert lines(reference)[-1]["epoch/text+audio"] == pytest.approx(STEPS * 16 / 3 / 24)
    saved = load_params(str(reference.directory("bridging.all") / "params"))
    assert set(saved["params"]) == {"bridging", "clap_audio", "clip_text", "clip_vision"}
    assert set(saved["constants"]) == {"clap_audio", "clip_text", "clip_vision"}


def test_the_centre_of_a_tower_is_the_mean_over_samples_with_its_modality(reference):
    saved = load_params(str(reference.directory("bridging.all") / "params"))
    source = make_source(reference.config.sources["pairs"])
    variables = {"params": saved["params"], "constants": reference.codi.default_constants()}
    for name, indices in (("audio", range(16)), ("image", range(24, 32)), ("text", [*range(16), *range(24, 32)])):
        component, rows = reference.codi[name].components["prompt"], list(indices)
        batch = reference.codi[name].prepare(
            {name: jax.tree.map(lambda *x: np.stack(x), *[source[i][name] for i in rows])}
        )
        embedded = reference.codi[name].embed(reference.codi[name].component(variables, "prompt"), batch)
        np.testing.assert_allclose(saved["constants"][component]["centre"], embedded.mean(0), atol=1e-5)


@pytest.mark.parametrize("step", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_a_stage_resumes_within_the_mixture(reference, tmp_path, monkeypatch, step):
    run = new_run(tmp_path / "run")

    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, step, stop)
        with pytest.raises(KeyboardInterrupt):
            train(run, ("bridging.all",), quiet=True)
    train(run, ("bridging.all",), quiet=True)
    saved = [load_params(str(r.directory("bridging.all") / "params")) for r in (run, reference)]
    assert toy.same(*saved)
    assert [line["loss"] for line in lines(run)] == [line["loss"] for line in lines(reference)]


@pytest.mark.parametrize("stage", ["bridging.all", "joint.all"])
@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=[pytest.mark.slow] * (pair != "text+image")) for pair in PAIRS]
)
def test_the_loss_of_a_batch_equals_that_of_a_stage_on_its_pair_alone(stage, pair):
    run = open_run(config(), None)
    mixture = objective_of(run, stage)
    single = objective_of(toy.with_stage(run, stage, modalities=tuple(pair.split("+"))), stage)
    world = dict(run.config.sources["pairs"]["parts"][pair])
    del world["weight"]
    samples = read_batch(make_source(world), range(4))
    variables, key = toy.variables(run.codi), jax.random.key(0)
    variables["params"] |= mixture.init(key, ("bridging",)) if stage == "bridging.all" else {}
    values = [toy.quick(o.loss)(variables, o.batch(samples), key) for o in (mixture, single)]
    assert set(values[0][1]) == set(values[1][1])
    assert toy.same(*values)


def test_a_batch_without_exactly_two_modalities_is_refused():
    objective = objective_of(open_run(config(), None), "bridging.all")
    world = {"name": "digit_world", "split": "train", "size": 4}
    with pytest.raises(ConfigError, match=r"a batch must hold two of text, image, audio, not text$"):
        objective.batch(read_batch(make_source({**world, "modalities": ("text",)}), range(2)))
    with pytest.raises(ConfigError, match="a batch must hold two of text, image, audio, not text, image, audio"):
        objective.batch(read_batch(make_source({**world, "modalities": NAMES, "merged": True}), range(2)))
