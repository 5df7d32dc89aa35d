import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from codi_jax.config import ConfigError
from codi_jax.optim import TrainState
from codi_jax.parallel import (
    MeshConfig,
    ShardingConfig,
    batch_rows,
    batch_sharding,
    make_mesh,
    paths,
    place_batch,
    resolve,
)
from codi_jax.parallel.sharding import split_context

F32 = jnp.float32


def abstract(**shapes):
    return {name: jax.ShapeDtypeStruct(shape, F32) for name, shape in shapes.items()}


def specs(tree, mesh, config):
    shardings, table = resolve(tree, mesh, config)
    return {path: sharding.spec for path, sharding in paths.flatten(shardings).items()}, table


def test_fsdp_fallback_takes_the_largest_divisible_dimension():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    tree = abstract(square=(16, 16), tall=(64, 12), conv=(3, 3, 8, 30), odd=(31, 33), small=(4, 4), scalar=())
    got, table = specs(tree, mesh, ShardingConfig(fsdp_min_bytes=1000))
    assert got == {
        "square": P(None, "fsdp"),  # of equal dimensions the last
        "tall": P("fsdp"),
        "conv": P(None, None, "fsdp"),  # 30 is larger, but 4 does not divide it
        "odd": P(),
        "small": P(),
        "scalar": P(),
    }
    large = {"square": 1024, "tall": 3072, "conv": 8640, "odd": 4092}
    assert table.sharded_fraction == pytest.approx(1 - large["odd"] / sum(large.values()))
    text = str(table)
    assert "no dimension divisible by 4" in text and "below 1000 B" in text and "(·, fsdp)" in text


def test_a_low_sharded_fraction_is_refused_and_names_the_largest_replicated_arrays():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    tree = abstract(a=(100, 100), odd=(31, 33), odder=(31, 35), small=(3, 3))
    _, table = specs(tree, mesh, ShardingConfig(fsdp_min_bytes=1000))
    share = 10000 / (10000 + 31 * 33 + 31 * 35)
    table.require(mesh, share - 1e-9)
    with pytest.raises(ConfigError) as error:
        table.require(mesh, 0.98)
    assert f"fsdp = 4 splits {share:.1%} of the bytes in arrays of 1000 B or more, 98% are required" in str(error.value)
    assert "Not split: odder [31, 35] (no dimension divisible by 4); odd [31, 33]" in str(error.value)
    one = make_mesh(MeshConfig(fsdp=1))
    specs(tree, one, ShardingConfig(fsdp_min_bytes=1000))[1].require(one, 0.98)


def test_without_an_fsdp_axis_every_array_is_replicated():
    got, table = specs(abstract(w=(1024, 1024)), make_mesh(MeshConfig(fsdp=1)), ShardingConfig(fsdp_min_bytes=0))
    assert got == {"w": P()} and table.rows[0].shards == 1


def test_the_first_matching_rule_shards_a_parameter_and_its_state():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    params = {"unet": {"attn": {"kernel": jnp.ones((8, 8))}, "out": {"kernel": jnp.ones((8, 6))}}}
    state = jax.eval_shape(lambda: TrainState.create(params, optax.adam(1e-3)))
    rules = (("unet/attn/kernel", ("fsdp", "tensor")), ("unet/.*", (None, ["fsdp", "tensor"])), ("out/kernel", ()))
    with pytest.raises(ConfigError, match=r"unet/out/kernel \[8, 6\]: 6 cannot be split into 4 \(fsdp\+tensor\)"):
        resolve(state, mesh, ShardingConfig(rules))
    got, _ = specs(state, mesh, ShardingConfig((rules[0], rules[2]), fsdp_min_bytes=1))
    for place in ("params", "ema", "opt_state/0/mu", "opt_state/0/nu"):
        assert got[f"{place}/unet/attn/kernel"] == P("fsdp", "tensor"), place
        assert got[f"{place}/unet/out/kernel"] == P(), place
    assert got["step"] == got["opt_state/0/count"] == P()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("w", ("model",)), "no mesh axis is called 'model'; there are data, fsdp, tensor, context"),
        (("w", ("fsdp", "fsdp")), "'fsdp' is used twice"),
        (("w", ("fsdp", None, None)), "names 3 dimensions"),
        (("w", "fsdp"), "a sequence of axis names"),
    ],
)
def test_specs_that_do_not_fit_are_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        resolve(abstract(w=(8, 8)), make_mesh(MeshConfig(data=1, fsdp=8)), ShardingConfig((rule,)))


def test_state_is_created_sharded_and_a_sharded_step_equals_the_unsharded_one():
    tx = optax.adam(1e-2)
    params = {"w": jax.random.normal(jax.random.key(0), (16, 32)), "b": jnp.zeros(32)}
    batch = {"x": np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32), "gate": np.float32(2)}

    def step(state, batch):
        def loss(p):
            return jnp.mean(jnp.square(batch["gate"] * jnp.tanh(batch["x"] @ p["w"] + p["b"]) - 1))

        value, grads = jax.value_and_grad(loss)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state)
        return state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state), value

    results = []
    for config, devices in [
        (MeshConfig(), jax.devices()[:1]),
        (MeshConfig(data=2, fsdp=4), None),
        (MeshConfig(data=1, fsdp=2, tensor=4), None),
    ]:
        mesh = make_mesh(config, devices)
        shapes = jax.eval_shape(lambda: TrainState.create(params, tx))
        rules = (("w", (None, "tensor")),) if config.tensor > 1 else ()
        shardings, _ = resolve(shapes, mesh, ShardingConfig(rules, fsdp_min_bytes=128))
        state = jax.jit(lambda: TrainState.create(params, tx), out_shardings=shardings)()
        jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding or pytest.fail(str(sharding)), state, shardings)
        run = jax.jit(step, out_shardings=(shardings, None), donate_argnums=0)
        placed = place_batch(batch, mesh)
        for _ in range(3):
            state, value = run(state, placed)
        assert run._cache_size() == 1
        results.append((float(value), jax.device_get(state.params)))
    for value, got in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, results[0][1])


def test_a_batch_is_split_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    batch = place_batch({"x": np.arange(24.0).reshape(8, 3), "n": 3}, mesh)
    assert batch["x"].sharding == batch_sharding(mesh)
    assert {shard.data.shape for shard in batch["x"].addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(batch["x"], np.arange(24.0).reshape(8, 3))
    assert batch["n"].sharding.is_fully_replicated
    with pytest.raises(ConfigError, match=r"batch of 6 \(x\) cannot be split over 4 devices"):
        place_batch({"x": np.zeros((6, 2))}, mesh)


def test_a_single_process_reads_every_row():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    np.testing.assert_array_equal(batch_rows(mesh, 8), np.arange(8))
    with pytest.raises(ConfigError, match="batch of 6 cannot be split over 4 devices"):
        batch_rows(mesh, 6)


def test_context_rules_split_the_named_dimension():
    mesh = make_mesh(MeshConfig(data=2, fsdp=1, context=4))
    batch = place_batch({"video": {"mean": np.zeros((4, 8, 2)), "prompt": np.zeros((4, 6))}}, mesh)
    split = jax.jit(lambda b: split_context(b, mesh, (("video/mean", 1),)))(batch)
    assert split["video"]["mean"].addressable_shards[0].data.shape == (2, 2, 2)
    assert split["video"]["prompt"].addressable_shards[0].data.shape == (2, 6)
    for rule, message in (
        (("video/prompt", 1), r"sharding.context, video/prompt \[4, 6\]: 6 cannot be split into 4"),
        (("video/mean", 3), r"video/mean \[4, 8, 2\]: there is no dimension 3 other than the batch dimension"),
        (("video/mean", 0), "there is no dimension 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            jax.jit(lambda b, rule=rule: split_context(b, mesh, (rule,)))(batch)
