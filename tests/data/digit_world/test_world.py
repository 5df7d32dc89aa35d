import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError, view
from codi_jax.data.digit_world import COLOURS, DIGITS, PALETTE, DigitWorld, WorldConfig, parse
from codi_jax.data.digit_world.factors import held_out_colour

DIGEST = """
import hashlib, jax, numpy as np
from codi_jax.data.digit_world import DigitWorld, WorldConfig
batch = DigitWorld(WorldConfig("test", seed=5, size=64)).read(range(64))
print(hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in jax.tree.leaves(batch))).hexdigest())
"""


def combinations(world):
    factors = world.read(range(len(world)))["factors"]
    return set(zip(factors["digit"].tolist(), factors["colour"].tolist(), strict=True))


def lean(**kwargs):
    return DigitWorld(WorldConfig(modalities=(), **kwargs))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_sample_is_the_same_in_any_order_and_company():
    world = DigitWorld(WorldConfig(size=200))
    batch = world.read(range(200))
    order = np.random.default_rng(0).permutation(200)
    assert_same(world.read(order), jax.tree.map(lambda x: x[order], batch))
    for i in (0, 77, 199):
        assert_same(world[i], jax.tree.map(lambda x, i=i: x[i], batch))


def test_a_sample_is_the_same_in_any_process():
    local = DigitWorld(WorldConfig("test", seed=5, size=64)).read(range(64))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in jax.tree.leaves(local))).hexdigest()
    env = os.environ | {"PYTHONHASHSEED": "77"}
    out = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == digest


def test_a_sample_does_not_depend_on_what_else_is_asked_for():
    whole = DigitWorld(WorldConfig(size=8)).read(range(8))
    part = DigitWorld(WorldConfig(size=4, modalities=("image",), truncate=1.0)).read(range(4))
    assert set(part) == {"factors", "image"}
    np.testing.assert_array_equal(part["image"], whole["image"][:4])


def test_seeds_and_splits_are_independent_worlds():
    worlds = [lean(size=2000, seed=s, split=p, combinations="seen") for s in (0, 1) for p in ("train", "test")]
    digits = [w.read(range(2000))["factors"]["digit"] for w in worlds]
    for i in range(4):
        for j in range(i):
            assert abs((digits[i] == digits[j]).mean() - 0.1) < 0.035


def test_held_out_combinations_are_never_trained():
    held_out = {(d, held_out_colour(d)) for d in range(10)}
    everything = {(d, c) for d in range(10) for c in range(6)}
    assert combinations(lean(split="train", size=20_000)) == everything - held_out
    for split in ("val", "test", "judge"):
        assert combinations(lean(split=split, size=5000)) == everything
        assert combinations(lean(split=split, size=5000, combinations="seen")) == everything - held_out
        assert combinations(lean(split=split, size=500, combinations="held_out")) == held_out
    for wrong in ("held_out", "all"):
        with pytest.raises(ConfigError, match="held out"):
            WorldConfig("train", combinations=wrong)


def test_factors_are_nearly_uniform():
    factors = lean(size=20_000).read(range(20_000))["factors"]
    np.testing.assert_allclose(np.bincount(factors["digit"], minlength=10) / 20_000, 1 / 10, atol=0.01)
    np.testing.assert_allclose(np.bincount(factors["colour"], minlength=6) / 20_000, 1 / 6, atol=0.02)


def test_captions_and_prompts_tell_the_factors():
    world = DigitWorld(WorldConfig(size=3000, modalities=("text",)))
    batch = world.read(range(3000))
    dropped = {(): 0, ("digit",): 0, ("colour",): 0, ("digit", "colour"): 0}
    for i in range(3000):
        factors = {name: int(values[i]) for name, values in batch["factors"].items()}
        assert parse(batch["text"]["caption"][i]) == factors
        said = parse(batch["text"]["prompt"][i])
        assert all(value in (None, factors[name]) for name, value in said.items())
        missing = tuple(name for name in ("digit", "colour") if said[name] is None)
        dropped[missing] += 1
        if not missing:
            assert batch["text"]["prompt"][i] == batch["text"]["caption"][i]
    shares = {missing: count / 3000 for missing, count in dropped.items()}
    np.testing.assert_allclose(shares.pop(()), 0.7, atol=0.04)
    np.testing.assert_allclose(list(shares.values()), 0.1, atol=0.03)


def test_pictures_show_a_digit_in_its_colour():
    batch = DigitWorld(WorldConfig("test", size=400, modalities=("image",))).read(range(400))
    pixels = batch["image"]
    assert pixels.shape == (400, 32, 32, 3) and pixels.dtype == np.float32
    assert pixels.min() >= -1 and pixels.max() <= 1
    light = (pixels + 1) / 2
    ink = light.max(-1).sum((1, 2))
    assert ink.min() > 15 and ink.max() < 400  # in pixels: neither blank nor full
    mean = light.sum((1, 2)) / np.linalg.norm(light.sum((1, 2)), axis=-1, keepdims=True)
    palette = PALETTE / np.linalg.norm(PALETTE, axis=-1, keepdims=True)
    np.testing.assert_array_equal((mean @ palette.T).argmax(-1), batch["factors"]["colour"])
    border = np.concatenate([light[:, [0, -1]].ravel(), light[:, :, [0, -1]].ravel()])
    assert (border > 0.05).mean() < 0.01  # the digit is not cut off


def test_a_single_sample():
    sample = DigitWorld(WorldConfig(size=3))[2]
    assert DIGITS[sample["factors"]["digit"]] and COLOURS[sample["factors"]["colour"]]
    assert isinstance(sample["text"]["caption"], str) and sample["image"].shape == (32, 32, 3)
    assert len(list(DigitWorld(WorldConfig(size=3)))) == 3


@pytest.mark.parametrize("index", [-1, 3])
def test_out_of_range(index):
    with pytest.raises(IndexError, match="samples 0 to 2"):
        DigitWorld(WorldConfig(size=3))[index]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"split": "tset"}, "'test'"),
        ({"size": 0}, "at least 1"),
        ({"truncate": 1.5}, "probability"),
        ({"modalities": ("text", "smell")}, "no modality smell"),
    ],
)
def test_a_wrong_config_is_one_clear_line(config, message):
    with pytest.raises(ConfigError, match=message):
        view(WorldConfig, config, "data")
