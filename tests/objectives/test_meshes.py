"""A step on every kind of mesh is the step on one device: loss, gradients, what is updated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.optim import TrainState
from codi_jax.parallel import MeshConfig, ShardingConfig, make_mesh, paths, place_batch, replicated, resolve
from codi_jax.parallel.sharding import split_context
from tests import toy
from tests.objectives.test_steps import KEY, OBJECTIVES, TX, parameters

# Attention by heads, feed-forward by its inner width, convolutions by channels.
TENSOR = (
    (r"(query|key|value|fc1|layer_in)/kernel", (None, "tensor")),
    (r"(out|fc2|layer_out)/kernel", ("tensor",)),
    (r"residual/conv1/kernel", (None, None, None, "tensor")),
)
CONTEXT = ((r"image/(mean|std)", 1), (r"image", 1), (r"text/ids", 1))
MESHES = (
    {"data": 8},
    {"fsdp": 8},
    {"tensor": 2, "data": 4},
    {"context": 2, "data": 4},
    {"data": 2, "fsdp": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "context": 2, "data": 2},
    {"tensor": 2, "context": 2, "fsdp": 2},
)


def step(objective, mesh=None):
    """(metrics, gradients, state after two steps) on one device or on a mesh."""
    trained, frozen = parameters(objective)
    constants = jax.tree.map(jnp.asarray, toy.codi().default_constants())
    batch, layout = objective.batch(), None
    create = jax.jit(lambda p: TrainState.create(p, TX))
    options = {}
    if mesh is not None:
        config = ShardingConfig(TENSOR if mesh.shape["tensor"] > 1 else (), CONTEXT, fsdp_min_bytes=256)
        layout, _ = resolve(jax.eval_shape(create, trained), mesh, config)
        create = jax.jit(lambda p: TrainState.create(p, TX), out_shardings=layout)
        frozen = jax.device_put(frozen, resolve(frozen, mesh, config)[0])
        constants, batch = jax.device_put(constants, replicated(mesh)), place_batch(batch, mesh)
        options = {"batch_as": lambda b: split_context(b, mesh, config.context)}
    take = objective.make(toy.codi(), TX, 0.9, compiler_options=toy.QUICK, out_shardings=(layout, None), **options)
    state, metrics = take(create(trained), frozen, constants, batch, KEY)
    gradients = jax.device_get(state.opt_state[0])
    state, _ = take(state, frozen, constants, batch, KEY)
    assert take._cache_size() == 1
    return jax.device_get(metrics), gradients, jax.device_get(state.params)


def close(got, want):
    got, want = paths.flatten(got), paths.flatten(want)
    for path, expected in want.items():
        scale = max(np.abs(expected).max(), 1e-2)
        np.testing.assert_allclose(got[path], expected, rtol=1e-5, atol=1e-5 * scale, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bridging", "ldm", "latent_alignment"])
def test_every_axis_and_their_combinations_compute_what_one_device_does(name):
    want, want_gradients, _ = step(OBJECTIVES[name])
    for sizes in MESHES:
        mesh = make_mesh(MeshConfig(**{"data": 1, "fsdp": 1, **sizes}))
        with jax.set_mesh(mesh):
            metrics, gradients, _ = step(OBJECTIVES[name], mesh)
        assert float(metrics["loss"]) == pytest.approx(float(want["loss"]), rel=1e-5), sizes
        close(gradients, want_gradients)


def test_context_is_split_where_a_rule_says_so_and_it_can_be():
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, context=4))
    batch = place_batch({"video": {"mean": np.zeros((4, 8, 2)), "prompt": np.zeros((4, 6))}}, mesh)
    split = jax.jit(lambda b: split_context(b, mesh, (("video/mean", 1),)))(batch)
    assert split["video"]["mean"].addressable_shards[0].data.shape == (2, 2, 2)
    assert split["video"]["prompt"].addressable_shards[0].data.shape == (2, 6)
    for rule, message in (
        (("video/prompt", 1), r"sharding.context, video/prompt \[4, 6\]: 6 cannot be split into 4"),
        (("video/mean", 3), r"video/mean \[4, 8, 2\]: there is no dimension 3 beside the batch's"),
        (("video/mean", 0), "there is no dimension 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            jax.jit(lambda b, rule=rule: split_context(b, mesh, (rule,)))(batch)
