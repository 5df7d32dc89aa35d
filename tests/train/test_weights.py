"""`config.weights`: components that were made elsewhere serve where no stage has made any."""

import shutil

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import load_params, save_params
from codi_jax.config import ConfigError
from codi_jax.train.loop import assemble, component_reader
from codi_jax.train.recipe import open_run
from tests import toy


@pytest.fixture
def weights(tmp_path):
    """Half-precision copies of two components of the toy's run."""
    for stage, component in (("codec.image", "vision_codec"), ("ldm.image", "vision_unet")):
        saved = load_params(str(toy.trained() / "stages" / stage / "params"))
        params = {component: jax.tree.map(lambda x: x.astype(np.float16), saved["params"][component])}
        constants = {c: v for c, v in saved.get("constants", {}).items() if c == component}
        out = {"params": params, **({"constants": constants} if constants else {})}
        save_params(str(tmp_path / "weights" / component), out, {"components": [component]})
    return tmp_path / "weights"


def run(weights, workdir=None):
    config = toy.config()
    with config.unlocked():
        config.weights = str(weights) if weights else ""
    return open_run(config, workdir)


def test_they_are_read_as_float32_with_their_constants(weights):
    variables = assemble(run(weights), (), ("vision_codec",))
    saved = load_params(str(weights / "vision_codec"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {np.dtype(np.float32)}
    assert toy.same(variables["params"], jax.tree.map(lambda x: x.astype(np.float32), saved["params"]))
    assert toy.same(variables["constants"]["vision_codec"], saved["constants"]["vision_codec"])


def test_a_stage_that_made_one_comes_first(weights):
    own = run(weights, toy.trained())
    assert own.providers(("codec.image",))["vision_codec"] == toy.trained() / "stages" / "codec.image" / "params"
    assert own.providers(("codec.image",))["vision_unet"] == weights / "vision_unet"


def test_what_was_computed_from_others_is_told_apart(weights):
    before = run(weights).fingerprint((), {})
    assert before != run("").fingerprint((), {})
    saved = load_params(str(weights / "vision_unet"))
    save_params(
        str(weights / "vision_unet"), jax.tree.map(lambda x: x + np.float16(1), saved), {"components": ["vision_unet"]}
    )
    assert run(weights).fingerprint((), {}) != before


def test_components_are_read_one_by_one_and_what_is_nowhere_is_named(weights):
    read = component_reader(run(weights))
    assert set(read(("vision_unet",))["params"]) == {"vision_unet"}
    with pytest.raises(ConfigError, match="nothing has made image_cross, text_unet: train it"):
        read(("vision_unet", "image_cross", "text_unet"))


def test_one_of_another_size_or_none_at_all_is_refused(weights, tmp_path):
    saved = load_params(str(weights / "vision_unet"))
    saved["params"]["vision_unet"]["head"]["layer"]["bias"] = np.zeros(99, np.float16)
    save_params(str(weights / "vision_unet"), saved, {"components": ["vision_unet"]})
    with pytest.raises(ConfigError, match=r"vision_unet.*bias.*: the checkpoint has \(99,\)"):
        assemble(run(weights), (), ("vision_unet",))
    shutil.rmtree(weights)
    with pytest.raises(ConfigError, match="no components in"):
        run(weights).providers(())
