"""Variables from stages, from `config.weights` and initialized, each directly in its sharding."""

import shutil

import jax
import numpy as np
import pytest

from codi_jax.checkpoint import load_params, save_params
from codi_jax.config import ConfigError
from codi_jax.parallel import make_mesh, paths
from codi_jax.train.recipe import open_run
from codi_jax.train.variables import assemble, component_reader, copy_matching, init_sharded, make_sharding_fn
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


def test_converted_weights_are_read_as_float32_with_their_constants(weights):
    variables = assemble(run(weights), (), ("vision_codec",))
    saved = load_params(str(weights / "vision_codec"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {np.dtype(np.float32)}
    assert toy.same(variables["params"], jax.tree.map(lambda x: x.astype(np.float32), saved["params"]))
    assert toy.same(variables["constants"]["vision_codec"], saved["constants"]["vision_codec"])


def test_a_stage_takes_precedence_over_converted_weights(weights):
    both = run(weights, toy.trained())
    assert (
        both.component_sources(("codec.image",))["vision_codec"] == toy.trained() / "stages" / "codec.image" / "params"
    )
    assert both.component_sources(("codec.image",))["vision_unet"] == weights / "vision_unet"


def test_the_fingerprint_depends_on_the_converted_weights(weights):
    before = run(weights).fingerprint((), {})
    assert before != run("").fingerprint((), {})
    saved = load_params(str(weights / "vision_unet"))
    save_params(
        str(weights / "vision_unet"), jax.tree.map(lambda x: x + np.float16(1), saved), {"components": ["vision_unet"]}
    )
    assert run(weights).fingerprint((), {}) != before


def test_only_named_components_are_read_and_missing_ones_are_reported(weights):
    read = component_reader(run(weights))
    assert set(read(("vision_unet",))["params"]) == {"vision_unet"}
    with pytest.raises(ConfigError, match="no weights for image_cross, text_unet: train the stage that makes it"):
        read(("vision_unet", "image_cross", "text_unet"))


def test_weights_of_another_shape_or_an_empty_directory_are_refused(weights, tmp_path):
    saved = load_params(str(weights / "vision_unet"))
    saved["params"]["vision_unet"]["head"]["layer"]["bias"] = np.zeros(99, np.float16)
    save_params(str(weights / "vision_unet"), saved, {"components": ["vision_unet"]})
    with pytest.raises(ConfigError, match=r"vision_unet.*bias.*: the checkpoint has shape \(99,\)"):
        assemble(run(weights), (), ("vision_unet",))
    shutil.rmtree(weights)
    with pytest.raises(ConfigError, match="no components in"):
        run(weights).component_sources(())


def test_copy_matching_copies_leaves_of_the_same_path_and_shape():
    target = {"block": {"kernel": np.zeros(2), "bias": np.zeros(1)}, "temporal": {"kernel": np.ones(3)}}
    source = {"block": {"kernel": np.array([5.0, 6.0]), "bias": np.zeros(4)}, "head": {"kernel": np.ones(1)}}
    copied = copy_matching(target, source, "start")
    assert copied.keys() == target.keys() and copied["block"].keys() == target["block"].keys()
    np.testing.assert_array_equal(copied["block"]["kernel"], [5, 6])
    np.testing.assert_array_equal(copied["block"]["bias"], [0])  # of another shape
    np.testing.assert_array_equal(copied["temporal"]["kernel"], 1)


def test_copy_matching_without_a_match_is_an_error():
    with pytest.raises(ConfigError, match="start: the two components have no parameter in common"):
        copy_matching({"a": np.zeros(2)}, {"b": np.zeros(2)}, "start")


def test_a_whole_copy_has_every_leaf():
    target, source = {"a": np.zeros(2), "b": np.zeros(1)}, {"a": np.ones(2), "b": np.ones(1), "c": np.ones(3)}
    assert toy.same(copy_matching(target, source, "start", whole=True), {"a": np.ones(2), "b": np.ones(1)})
    del source["b"]
    with pytest.raises(ConfigError, match=r"^start: a component that is not trained is a whole copy, but b does not"):
        copy_matching(target, source, "start", whole=True)


def split(weights):
    """The run on a mesh of eight devices, its larger arrays in four shards."""
    config = toy.config()
    with config.unlocked():
        config.weights = str(weights)
        config.mesh = {"data": 2, "fsdp": 4}
        config.sharding = {"fsdp_min_bytes": 256}
    return open_run(config, None)


def num_shards(tree):
    """The number of different shards of the largest leaf."""
    leaf = max(jax.tree.leaves(tree), key=lambda x: x.nbytes)
    return leaf.nbytes // leaf.addressable_shards[0].data.nbytes


def test_converted_and_initialized_components_are_sharded(weights):
    run_on_mesh, names = split(weights), ("vision_unet",)
    sharding_fn = make_sharding_fn(run_on_mesh, make_mesh(run_on_mesh.config.mesh))
    read = assemble(run_on_mesh, (), names, sharding_fn=sharding_fn)["params"]
    for path, leaf in paths.flatten(sharding_fn(read)).items():
        assert paths.flatten(read)[path].sharding == leaf, path
    assert num_shards(read) == 4
    assert toy.same(read, assemble(run(weights), (), names)["params"])

    def init(key):
        return run_on_mesh.codi.init(key, ("text_unet",))

    initialized = init_sharded(init, jax.random.key(0), sharding_fn)
    assert num_shards(initialized) == 4
    for path, leaf in paths.flatten(init(jax.random.key(0))).items():
        np.testing.assert_allclose(paths.flatten(initialized)[path], leaf, rtol=1e-6, atol=1e-7, err_msg=path)


def test_generation_reads_into_the_mesh_if_it_shards_anything(weights):
    assert num_shards(component_reader(split(weights))(("vision_unet",))["params"]) == 4
    whole = component_reader(run(weights))(("vision_unet",))["params"]
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(whole)} == {1}
    initialized = component_reader(run(weights), random=True)(("text_unet",))["params"]
    # Programs would be compiled again for an array that is committed to its device.
    assert not any(leaf.committed for leaf in jax.tree.leaves((whole, initialized)))
