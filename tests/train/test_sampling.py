"""What a stage generates while it trains, against what the finished run generates from the same noise."""

import shutil

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError, from_dict
from codi_jax.data.sources import make_source
from codi_jax.generate import GenerateConfig, Generator
from codi_jax.rng import fold
from codi_jax.train import sampling
from codi_jax.train.loop import train
from codi_jax.train.recipe import SamplesConfig, load_run
from codi_jax.train.variables import variables_of
from tests import toy
from tests.train.test_metrics import events

SOURCE = "captions"


class OneByOne:
    """A source without `read`, as those of users' files are."""

    def __init__(self, source):
        self._source = source

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]


@pytest.mark.parametrize("stage, outputs", [("ldm.image", ("image",)), ("joint.text+image", ("text", "image"))])
def test_a_stage_shows_what_its_average_makes_and_trains_alike(tmp_path, monkeypatch, stage, outputs):
    monkeypatch.setattr(sampling, "make_source", lambda *arguments: OneByOne(make_source(*arguments)))
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / stage)
    run = toy.with_stage(load_run(tmp_path / "run"), stage, samples=SamplesConfig(SOURCE, every=2, prompt="text", n=3))
    train(run, (stage,), quiet=True)

    before = load_run(toy.trained())
    left = [load_params(str(r.directory(stage) / "params")) for r in (run, before)]
    assert toy.same(*left)  # it draws nothing that training draws
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

    if stage == "ldm.image":  # nothing after it trains its denoiser
        generator = Generator(codi, from_dict(GenerateConfig, before.config.generate, "generate"))
        prompts = [(shown / "00000004" / f"prompt_{i}.txt").read_text().strip() for i in range(3)]
        key = fold(fold(jax.random.key(before.config.seed), stage), "samples")
        made = generator.generate(variables_of(before), outputs, {"text": prompts}, 3, key)["image"]
        for i, picture in enumerate(made):
            there = codi["image"].read(str(shown / "00000004" / f"image_{i}.png"))
            assert np.abs(there.astype(int) - picture).max() <= 1
    pictures = [(shown / step / "image_0.png").read_bytes() for step in ("00000002", "00000004")]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    "stage, samples, says",
    [
        ("codec.image", SamplesConfig(SOURCE, 2, "text"), "codec trains nothing that generates"),
        ("environment.image", SamplesConfig(SOURCE, 2, "text"), "latent_alignment trains nothing that generates"),
        ("ldm.image", SamplesConfig(SOURCE, 2, prompt="image"), "samples.prompt: captions has no image"),
    ],
)  # fmt: skip
def test_what_cannot_show_anything_is_refused(tmp_path, stage, samples, says):
    shutil.copytree(toy.trained(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stages" / stage)
    with pytest.raises(ConfigError, match=says):
        train(toy.with_stage(load_run(tmp_path / "run"), stage, samples=samples), (stage,), quiet=True)


@pytest.mark.parametrize(
    "samples, says",
    [
        (SamplesConfig("captoins", 2, "text"), "no source 'captoins'"),
        (SamplesConfig(SOURCE, 0, "text"), "every and n are at least 1"),
        (SamplesConfig(SOURCE, 2, "text", n=0), "every and n are at least 1"),
    ],
)
def test_a_bad_config_is_refused_at_once(samples, says):
    with pytest.raises(ConfigError, match=says):
        toy.with_stage(load_run(toy.trained()), "ldm.image", samples=samples)
