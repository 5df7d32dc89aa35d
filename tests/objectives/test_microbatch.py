"""Microbatches give the gradients and embeddings of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.objectives import microbatch
from codi_jax.parallel import MeshConfig, make_mesh, place_batch
from codi_jax.rng import fold

KEY = jax.random.key(0)
BATCH = {"x": np.arange(24, dtype=np.float32).reshape(8, 3), "gate": np.float32(2)}
W = jnp.linspace(-1, 1, 3)


def test_split_takes_every_nth_row_and_repeats_scalars():
    got = microbatch.split(BATCH, 4)
    np.testing.assert_array_equal(got["x"], [BATCH["x"][k::4] for k in range(4)])
    np.testing.assert_array_equal(got["gate"], [2, 2, 2, 2])


def test_rows_stay_on_their_devices():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        text = jax.jit(lambda b: microbatch.split(b, 2)).lower(place_batch(BATCH, mesh)).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"))


@pytest.mark.parametrize("unrolled", [True, False])
@pytest.mark.parametrize("n", [2, 8])
def test_mean_gradients_equal_the_mean_over_parts(n, unrolled, monkeypatch):
    monkeypatch.setattr(microbatch, "_unrolled", lambda: unrolled)

    def loss(w, batch, key):
        noise = jax.random.normal(key, batch["x"].shape)
        value = jnp.mean(jnp.square(batch["gate"] * (batch["x"] + noise) @ w))
        return value, {"square": jnp.square(value)}

    def value_and_grad(batch, key):
        return jax.value_and_grad(loss, has_aux=True)(W, batch, key)

    (value, metrics), gradient = jax.jit(lambda: microbatch.mean_gradients(value_and_grad, BATCH, KEY, n))()
    each = [value_and_grad({"x": BATCH["x"][k::n], "gate": BATCH["gate"]}, fold(KEY, "part", k)) for k in range(n)]
    np.testing.assert_allclose(value, np.mean([v for (v, _), _ in each]), rtol=1e-5)
    np.testing.assert_allclose(metrics["square"], np.mean([m["square"] for (_, m), _ in each]), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.mean([g for _, g in each], axis=0), rtol=1e-5)


@pytest.mark.parametrize("unrolled", [True, False])
def test_embedded_keeps_the_order_of_rows_and_the_gradients(unrolled, monkeypatch):
    monkeypatch.setattr(microbatch, "_unrolled", lambda: unrolled)
    w = jax.random.normal(KEY, (3, 4))

    def pairs(w, n):  # a loss over all pairs, which is no mean over parts
        e = microbatch.embedded(lambda b: jnp.tanh(b["x"] @ w / 10), {"x": BATCH["x"]}, n)
        return jax.nn.logsumexp(e @ e.T), e

    (value, e), gradient = jax.value_and_grad(pairs, has_aux=True)(w, 1)
    (got, parted), got_gradient = jax.jit(jax.value_and_grad(pairs, has_aux=True), static_argnums=1)(w, 4)
    np.testing.assert_allclose(parted, e, rtol=1e-6)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(got_gradient, gradient, rtol=1e-4, atol=1e-6)
