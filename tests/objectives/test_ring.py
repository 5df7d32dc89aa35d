"""The ring gives the losses of the full matrix of logits without holding an array of its size."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.objectives import bridging, ring
from codi_jax.parallel import MeshConfig, make_mesh, place_batch

B, D = 32, 6
SCALE, BIAS = jnp.float32(7.0), jnp.float32(-2.0)
SCALARS = {"infonce": (SCALE,), "siglip": (SCALE, BIAS)}


def rows(size=B, seed=0):
    """Unit-norm pairs that are similar enough for some, but not all, to be retrieved."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((size, D))
    b = a + 0.7 * rng.standard_normal((size, D))
    return {n: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for n, x in (("a", a), ("b", b))}


def gradients(loss, kind):
    return jax.value_and_grad(loss, tuple(range(2 + len(SCALARS[kind]))))


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("mesh", [None, {"data": 2, "fsdp": 4}, {"fsdp": 2, "tensor": 2, "context": 2}], ids=str)
def test_loss_and_gradients_equal_those_of_the_full_matrix(kind, mesh):
    batch = rows()
    want = gradients(getattr(bridging, kind), kind)(batch["a"], batch["b"], *SCALARS[kind])
    step = jax.jit(gradients(lambda *x: getattr(ring, kind)(*x).loss, kind))
    if mesh is None:
        got = step(batch["a"], batch["b"], *SCALARS[kind])
    else:
        mesh = make_mesh(MeshConfig(**{"data": 1, **mesh}))
        with jax.set_mesh(mesh):
            placed = place_batch(batch, mesh)
            got = step(placed["a"], placed["b"], *SCALARS[kind])
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # The gradient of a scalar is a mean of differences of cosines, which are rounded separately.
        size = np.abs(y).max() if np.ndim(y) else 1.0
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6 * size)


def test_retrieval_is_the_fraction_of_rows_found():
    batch = rows()
    found = (batch["a"] @ batch["b"].T).argmax(1) == np.arange(B)
    assert 0 < found.mean() < 1
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    with jax.set_mesh(mesh):
        placed = place_batch(batch, mesh)
        assert float(jax.jit(lambda a, b: ring.infonce(a, b, SCALE).retrieval)(**placed)) == found.mean()


@pytest.mark.parametrize("kind", SCALARS)
def test_memory_per_device_does_not_grow_with_the_ring(kind):
    def largest(devices):
        mesh = make_mesh(MeshConfig(data=devices, fsdp=1), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            placed = place_batch(rows(64 * devices), mesh)
            step = jax.jit(gradients(lambda *x: getattr(ring, kind)(*x).loss, kind))
            text = step.lower(placed["a"], placed["b"], *SCALARS[kind]).compile().as_text()
        shapes = re.findall(r"f32\[([\d,]+)\]", text)
        return max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes)

    assert largest(2) == largest(8) == 64 * 64
