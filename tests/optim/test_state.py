import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.optim import OptimizerConfig, TrainState, apply_gradients, ema, make_optimizer

CONFIG = OptimizerConfig(learning_rate=0.1, warmup=2, clip=1.0, weight_decay=0.01)


def start(dtype=jnp.float32, averaged=True):
    params = {"net": {"kernel": jnp.arange(6, dtype=dtype).reshape(2, 3) / 7, "bias": jnp.ones(3, dtype)}}
    tx = make_optimizer(CONFIG, 20, params)
    state = jax.jit(lambda p: TrainState.create(p, tx, averaged))(params)
    step = jax.jit(lambda s, g, loss: apply_gradients(s, g, tx, loss, 0.9), donate_argnums=0)
    return state, step


def gradient(state, value):
    return jax.tree.map(lambda p: jnp.full_like(p, value), state.params)


def test_ema_by_hand():
    assert [float(ema.warm_decay(0.9, n)) for n in (1, 10, 1000)] == pytest.approx([2 / 11, 11 / 20, 0.9])
    state, step = start()
    average = np.asarray(state.ema["net"]["kernel"])
    for n in (1, 2, 3):
        state, _ = step(state, gradient(state, 0.3), jnp.float32(1))
        d = (1 + n) / (10 + n)
        average = d * average + (1 - d) * np.asarray(state.params["net"]["kernel"])
        np.testing.assert_allclose(state.ema["net"]["kernel"], average, rtol=1e-6)


def test_ema_is_float32_and_has_its_own_buffers():
    state, step = start(jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.ema)} == {jnp.dtype("float32")}
    step(state, gradient(state, 0.1), jnp.float32(1))  # donates every buffer, which fails for shared ones
    state, step = start()
    state, _ = step(state, gradient(state, 0.1), jnp.float32(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_stable_over_a_step(dtype):
    state, step = start(dtype)
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    state, _ = step(state, gradient(state, 0.1), jnp.float32(1))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before


@pytest.mark.parametrize(("value", "loss"), [(np.nan, 1.0), (np.inf, 1.0), (0.1, np.nan), (0.1, -np.inf)])
def test_a_step_that_is_not_finite_changes_the_counts_only(value, loss):
    state, step = start()
    state, _ = step(state, gradient(state, 0.1), jnp.float32(1))
    before = jax.tree.map(np.array, (state.params, state.opt_state, state.ema))
    after, metrics = step(state, gradient(state, value), jnp.float32(loss))
    same = jax.tree.map(
        lambda a, b: a.tobytes() == np.asarray(b).tobytes(), before, (after.params, after.opt_state, after.ema)
    )
    assert all(jax.tree.leaves(same))
    assert (int(after.step), int(after.skipped)) == (2, 1)
    assert float(metrics["update_norm"]) == 0 and float(metrics["skipped"]) == 1


def test_a_skipped_step_does_not_affect_later_ones():
    (a, step), (b, _) = start(), start()
    for value in (0.3, -0.2):
        a, _ = step(a, gradient(a, value), jnp.float32(1))
    for value in (0.3, np.nan, -0.2):
        b, _ = step(b, gradient(b, value), jnp.float32(1))
    same = jax.tree.map(
        lambda x, y: np.array_equal(x, y), (a.params, a.opt_state, a.ema), (b.params, b.opt_state, b.ema)
    )
    assert all(jax.tree.leaves(same))
    assert (int(a.step), int(b.step), int(b.skipped)) == (2, 3, 1)


def test_norms():
    state, step = start()
    before = jax.tree.map(np.array, state.params)
    after, metrics = step(state, gradient(state, 2.0), jnp.float32(1))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(after.params))])
    moved = flat - np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(before)])
    assert float(metrics["grad_norm"]) == pytest.approx(6.0)  # √(9 · 4), before clipping
    assert float(metrics["param_norm"]) == pytest.approx(np.linalg.norm(flat), rel=1e-6)
    assert float(metrics["update_norm"]) == pytest.approx(np.linalg.norm(moved), rel=1e-5)


def test_without_average():
    state, step = start(averaged=False)
    state, _ = step(state, gradient(state, 0.1), jnp.float32(1))
    assert state.ema is None
