"""Stages that train on several pairs of modalities, a batch of one pair each: by way of a mixture."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.data.source import read_batch
from codi_jax.data.sources import make_source
from codi_jax.train.loop import train
from codi_jax.train.program import task_of
from codi_jax.train.recipe import open_run, save_config
from tests import toy
from tests.train.test_loop import interrupt

NAMES = ("text", "image", "audio")
PAIRS = {"text+image": 1.0, "text+audio": 2.0}
STEPS = 9


def config() -> ConfigDict:
    """The toy's recipe with one stage of bridging for both pairs, and one of latent alignment on media."""
    tree = toy.recipe(NAMES)
    tree["model"] = toy.model(NAMES)
    parts = {pair: {**tree["sources"][f"{pair} whole"], "size": 24, "weight": w} for pair, w in PAIRS.items()}
    tree["sources"] = {"pairs": {"name": "mixture", "parts": parts, "whole_batches": True}, **tree["sources"]}
    bridging, joint = (tree["stages"][group]["text+image"] for group in ("bridging", "joint"))
    bridging.update(
        modalities=NAMES, source="pairs", needs=(), batch_size=8, steps=STEPS, checkpoint_every=3, statistics=24,
        train=("clip_text/.*", "clip_vision/.*", "clap_audio/.*", "bridging/.*"), log_every=1,
    )  # fmt: skip
    settings = {**joint["settings"], "losses": NAMES, "aligned": NAMES}
    settings["prompts"] = {**settings["prompts"], "sources": NAMES}
    joint.update(modalities=NAMES, source="pairs", needs=(), settings=settings)
    tree["stages"] = {"bridging": {"all": bridging}, "joint": {"all": joint}}
    return ConfigDict(tree)


def begun(workdir):
    save_config(config(), workdir)
    return open_run(config(), workdir)


def lines(run):
    return [json.loads(line) for line in (run.directory("bridging.all") / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run, uninterrupted."""
    folder = tmp_path_factory.mktemp("pairs")
    run = begun(folder / "run")
    train(run, ("bridging.all",), quiet=True)
    return run


def test_every_batch_is_of_one_pair_and_trains_the_towers_of_both(whole):
    assert [line["step"] for line in lines(whole)] == list(range(STEPS))
    assert lines(whole)[-1]["epoch/text+image"] == pytest.approx(STEPS * 8 / 3 / 24)
    assert lines(whole)[-1]["epoch/text+audio"] == pytest.approx(STEPS * 16 / 3 / 24)
    made = load_params(str(whole.directory("bridging.all") / "params"))
    assert set(made["params"]) == {"bridging", "clap_audio", "clip_text", "clip_vision"}
    assert set(made["constants"]) == {"clap_audio", "clip_text", "clip_vision"}


def test_the_centre_of_a_tower_is_that_of_the_samples_that_it_has(whole):
    made = load_params(str(whole.directory("bridging.all") / "params"))
    source = make_source(whole.config.sources["pairs"])
    variables = {"params": made["params"], "constants": whole.codi.default_constants()}
    for name, indices in (("audio", range(16)), ("image", range(24, 32)), ("text", [*range(16), *range(24, 32)])):
        component, own = whole.codi[name].components["prompt"], list(indices)
        batch = whole.codi[name].prepare({name: jax.tree.map(lambda *x: np.stack(x), *[source[i][name] for i in own])})
        embedded = whole.codi[name].embed(whole.codi[name].component(variables, "prompt"), batch)
        np.testing.assert_allclose(made["constants"][component]["centre"], embedded.mean(0), atol=1e-5)


@pytest.mark.parametrize("step", [4, 6])
def test_it_resumes_within_the_mixture(whole, tmp_path, monkeypatch, step):
    run = begun(tmp_path / "run")

    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, step, stop)
        with pytest.raises(KeyboardInterrupt):
            train(run, ("bridging.all",), quiet=True)
    train(run, ("bridging.all",), quiet=True)
    made = [load_params(str(r.directory("bridging.all") / "params")) for r in (run, whole)]
    assert toy.same(*made)
    assert [line["loss"] for line in lines(run)] == [line["loss"] for line in lines(whole)]


@pytest.mark.parametrize("stage", ["bridging.all", "joint.all"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_loss_of_a_batch_is_that_of_a_stage_of_its_pair(stage, pair):
    run = open_run(config(), None)
    several = task_of(run, stage)
    alone = task_of(toy.with_stage(run, stage, modalities=tuple(pair.split("+"))), stage)
    world = dict(run.config.sources["pairs"]["parts"][pair])
    del world["weight"]
    samples = read_batch(make_source(world), range(4))
    variables, key = toy.variables(run.codi), jax.random.key(0)
    variables["params"] |= several.init(key, ("bridging",)) if stage == "bridging.all" else {}
    found = [toy.quick(task.loss)(variables, task.transform(samples), key) for task in (several, alone)]
    assert set(found[0][1]) == set(found[1][1])
    assert toy.same(*found)


def test_a_batch_of_other_than_two_modalities_is_named():
    task = task_of(open_run(config(), None), "bridging.all")
    world = {"name": "digit_world", "split": "train", "size": 4}
    with pytest.raises(ConfigError, match=r"a batch holds two of text, image, audio, not text$"):
        task.transform(read_batch(make_source({**world, "modalities": ("text",)}), range(2)))
    with pytest.raises(ConfigError, match="a batch holds two of text, image, audio, not text, image, audio"):
        task.transform(read_batch(make_source({**world, "modalities": NAMES, "merged": True}), range(2)))
