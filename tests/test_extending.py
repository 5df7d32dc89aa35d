"""The blocks of docs/extending.md run, and what they add works where the document says that it is found."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import codi_jax
from codi_jax.config import ConfigError
from codi_jax.data.source import make_source, read_batch
from codi_jax.diffusion.guidance import ALONE, JOINT, ClassifierFreeGuidance, Guidance
from codi_jax.metrics.base import compute
from codi_jax.objectives.base import OBJECTIVES
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import open_run
from tests import registries, toy

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def module():
    """What the blocks define."""
    names: dict = {"__name__": "my_module"}
    with registries.restored():
        exec("\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)), names)
        yield SimpleNamespace(**{name: value for name, value in names.items() if not name.startswith("__")})


def test_a_source(module):
    source = make_source({"name": "tones", "size": 8, "seed": 3})
    assert len(source) == 8 and source[2]["text"] == source[2]["text"]
    batch = read_batch(source, range(4))
    pitches = [int(re.search(r"\d+", str(caption))[0]) for caption in batch["text"]["caption"]]
    spectra = np.abs(np.fft.rfft(batch["audio"], axis=1)) * 1.0
    np.testing.assert_allclose(spectra.argmax(1) * 8000 / 8192, pitches, atol=1)
    audio = toy.codi(*toy.EVERYTHING)["audio"]
    assert audio.prepare(batch).shape == audio.example(4).shape


def test_an_objective(module):
    tree = toy.recipe()
    tree["model"], tree["stages"]["ldm"]["image"]["objective"] = toy.model(), "huber_ldm"
    run = open_run(tree, None)
    objective, plain = objective_of(run, "ldm.image"), OBJECTIVES["ldm"]
    assert isinstance(objective, module.HuberLDM)
    codi = run.codi
    variables, batch = toy.variables(codi), toy.encoded(codi, 4)
    loss = toy.quick(objective.loss)(variables, batch, jax.random.key(0)).loss
    squared = toy.quick(plain.loss.__get__(objective))(variables, batch, jax.random.key(0)).loss
    assert 0 < float(loss) < float(squared) / 2 + 1e-6  # Huber's is at most half of the square
    step = objective.train_step(optax.sgd(1e-3), 0.9)
    assert callable(step)


def test_a_config_and_a_preset(module):
    tree = module.get_config()
    assert tree.plugins == ("my_module",)
    with tree.unlocked():
        tree.plugins = ()
    assert isinstance(objective_of(open_run(tree, None), "ldm.image"), module.HuberLDM)
    assert codi_jax.CoDi.from_preset("demo_wide", environment_width=96).config.environment_width == 96


def test_a_sampler(module):
    pipe = Pipeline(toy.codi(), GenerateConfig({}, steps=3), toy.variables(toy.codi()))
    request = {"guidance": 40.0, "decode": False, "seed": 1}
    clipped, plain = (pipe("a red seven", "image", sampler=s, **request) for s in ("clipped_ddim", "ddim"))
    assert abs(clipped.latents["image"]).max() <= 3 < abs(plain.latents["image"]).max()
    clipped, plain = (
        pipe("a red seven", "image", guidance=1.0, decode=False, sampler=s) for s in ("clipped_ddim", "ddim")
    )
    assert abs(plain.latents["image"]).max() < 3  # nothing was clipped
    np.testing.assert_allclose(clipped.latents["image"], plain.latents["image"], atol=1e-5)


def test_a_rule_of_guidance(module):
    rule = module.RisingGuidance(prompt=5.0, environment=3.0)
    assert isinstance(rule, Guidance)
    coefficients = rule.coefficients(1000)
    for branches in (JOINT, ALONE):
        for t in (np.int32(0), np.array([0, 500, 999])):
            np.testing.assert_allclose(coefficients(t, branches).sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(coefficients(np.int32(500), JOINT), [-2, 0, 3])  # s = 3, g = 3
    pipe = Pipeline(toy.codi(), GenerateConfig({}, steps=2), toy.variables(toy.codi()))
    guided, plain = (
        pipe("a red seven", "image", guidance={"image": scale}, decode=False).latents["image"]
        for scale in (module.RisingGuidance(1.0), 1.0)
    )
    np.testing.assert_allclose(guided, plain, atol=1e-5)
    assert not np.allclose(pipe("a red seven", "image", guidance={"image": rule}, decode=False).latents["image"], plain)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ClassifierFreeGuidance, "ClassifierFreeGuidance is a class; give an object, ClassifierFreeGuidance"),
        (lambda t, branches: np.ones(len(branches)) / len(branches), "has to return a pytree of numbers that can be"),
        (jax.tree_util.Partial(lambda t, branches: np.ones(len(branches))), "expected as many coefficients, which sum"),
        (jax.tree_util.Partial(lambda t, branches: np.ones(1)), r"gives \[1\.0\] for 2 branches; expected as many"),
    ],
)
def test_a_wrong_rule_of_guidance_is_one_line(rule, message):
    given = rule if isinstance(rule, type) else SimpleNamespace(coefficients=lambda num_timesteps: rule)
    pipe = Pipeline(toy.codi(), GenerateConfig({}, steps=2), toy.variables(toy.codi()))
    with pytest.raises(ConfigError, match=f"^guidance of image: .*{message}"):
        pipe("a red seven", "image", guidance={"image": given})


@pytest.mark.usefixtures("restored_registries")
def test_a_wrong_sampler_is_refused_when_it_is_registered(module):
    with pytest.raises(ValueError, match=r"ClippedDDIM is a class; register an object, ClippedDDIM\(\)$"):
        codi_jax.register("sampler", "mine")(module.ClippedDDIM)
    with pytest.raises(ValueError, match="SimpleNamespace has no noise, init, step; see Sampler"):
        codi_jax.register("sampler", "mine")(SimpleNamespace(evaluations=1))


def test_a_metric(module):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    grey = images.mean(-1) / 255
    for batches in ([images], [images[:1], images[1:]]):
        numbers = compute(module.Brightness(), batches)
        np.testing.assert_allclose([numbers["mean"], numbers["std"]], [grey.mean(), grey.std()])
