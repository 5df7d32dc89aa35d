"""Samples of a stage while it trains, against those of the finished run from the same noise."""

import shutil

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.source import make_source
from codi_jax.rng import fold
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train import sampling
from codi_jax.train.recipe import SamplesConfig, load_run
from codi_jax.train.trainer import train
from codi_jax.train.variables import variables_of
from tests import toy
from tests.train.test_metrics import events

SOURCE = "captions"


class OneByOne:
    """A source without `read`, such as one of a user."""

    def __init__(self, source):
        self._source = source

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]


@pytest.mark.parametrize(
    "stage, outputs",
    [
        ("ldm.image", ("image",)),
        pytest.param("joint.text+image", ("text", "image"), marks=pytest.mark.slow),
    ],
)
def test_samples_are_of_the_ema_weights_and_do_not_change_training(tmp_path, monkeypatch, stage, outputs):
    monkeypatch.setattr(sampling, "make_source", lambda *arguments: OneByOne(make_source(*arguments)))
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / stage)
    run = toy.with_stage(load_run(tmp_path / "run"), stage, samples=SamplesConfig(SOURCE, every=2, prompt="text", n=3))
    train(run, (stage,), quiet=True)

    before = load_run(toy.trained())
    left = [load_params(str(r.directory(stage) / "params")) for r in (run, before)]
    assert toy.same(*left)  # sampling does not change the random numbers of training
    shown = run.directory(stage) / "samples"
    assert sorted(path.name for path in shown.iterdir()) == ["00000002", "00000004"]
    codi = before.codi
    names = [
        f"{name}_{i}{codi[kind].suffix}"
        for name, kind in (("prompt", "text"), *((o, o) for o in outputs))
        for i in range(3)
    ]
    assert sorted(path.name for path in (shown / "00000004").iterdir()) == sorted(names)
    tags = {value.tag for e in events(run.directory(stage)) for value in e.summary.value}
    assert any("samples/image" in tag for tag in tags)

    if stage == "ldm.image":  # no later stage trains its denoiser
        generator = Generator(codi, from_dict(GenerateConfig, before.config.generate, "generate"))
        prompts = [(shown / "00000004" / f"prompt_{i}.txt").read_text().strip() for i in range(3)]
        key = fold(fold(jax.random.key(before.config.seed), stage), "samples")
        generated = generator.generate(variables_of(before), outputs, {"text": prompts}, 3, key)["image"]
        for i, image in enumerate(generated):
            written = codi["image"].raw_from_user(str(shown / "00000004" / f"image_{i}.png"))
            assert np.abs(written.astype(int) - image).max() <= 1
    images = [(shown / step / "image_0.png").read_bytes() for step in ("00000002", "00000004")]
    assert images[0] != images[1]


@pytest.mark.parametrize(
    "stage, samples, message",
    [
        ("codec.image", SamplesConfig(SOURCE, 2, "text"), "codec trains nothing that generates"),
        ("environment.image", SamplesConfig(SOURCE, 2, "text"), "latent_alignment trains nothing that generates"),
        ("ldm.image", SamplesConfig(SOURCE, 2, prompt="image"), "samples.prompt: captions has no image"),
    ],
)  # fmt: skip
def test_a_stage_that_generates_nothing_is_refused(tmp_path, stage, samples, message):
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / stage)
    with pytest.raises(ConfigError, match=message):
        train(toy.with_stage(load_run(tmp_path / "run"), stage, samples=samples), (stage,), quiet=True)


@pytest.mark.parametrize(
    "samples, message",
    [
        (SamplesConfig("captoins", 2, "text"), "no source 'captoins'"),
        (SamplesConfig(SOURCE, 0, "text"), "every and n must be at least 1"),
        (SamplesConfig(SOURCE, 2, "text", n=0), "every and n must be at least 1"),
    ],
)
def test_an_invalid_samples_config_is_refused(samples, message):
    with pytest.raises(ConfigError, match=message):
        toy.with_stage(load_run(toy.trained()), "ldm.image", samples=samples)
