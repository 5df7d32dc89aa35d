"""A packed tree trains bit-identically to the tree, and packing and unpacking are inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.optim import OptimizerConfig, TrainState, apply_gradients, make_optimizer
from codi_jax.optim.optimizer import packing
from codi_jax.optim.packed import Packed, VectorLayout, packed_like, unpacked
from codi_jax.optim.state import global_norm

SHAPES = {"a": {"kernel": (4, 3), "bias": (3,)}, "b": {"kernel": (3, 5), "table": (2, 2, 2)}, "c": {"scale": ()}}
# Bit-identical results need the usual compiler options instead of those of the test suite: with little optimization
# jax 0.12 fuses multiply-adds in some loops and not in others.
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
RULES = {"lr_multipliers": (("a/.*", 0.5), ("b/kernel", 3.0))}


def draw(seed, dtype=jnp.float32, other=None):
    """A tree of random numbers; `b` has dtype `other`, if given."""
    keys = iter(jax.random.split(jax.random.key(seed), 10))
    types = {"b": other or dtype}
    return {
        part: {name: jax.random.normal(next(keys), shape, types.get(part, dtype)) for name, shape in leaves.items()}
        for part, leaves in SHAPES.items()
    }


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), a, b)))


def trained(config, params, gradients, layout=None):
    """The unpacked state after some steps, and the metrics of every step."""
    tx = make_optimizer(config, 20, params, layout)
    state = jax.jit(lambda p: TrainState.create(p, tx, layout=layout))(params)

    def step(state, grads):
        return apply_gradients(state, packed_like(state.params, grads), tx, jnp.float32(1), 0.9)

    step, seen = jax.jit(step, donate_argnums=0, compiler_options=OPTIMIZED), []
    for grads in gradients:
        state, metrics = step(state, grads)
        seen.append({key: float(value) for key, value in metrics.items()})
    return unpacked(jax.device_get(state)), seen


@pytest.mark.parametrize(
    ("name", "dtype", "other", "rules"),
    [
        ("adamw", "float32", None, {}),
        ("adamw", "float32", None, {**RULES, "weight_decay": 0.3, "no_decay": ("b/table",)}),
        ("adam", "float32", "bfloat16", RULES),
        ("lion", "bfloat16", None, {**RULES, "weight_decay": 0.3}),
    ],
)
def test_the_packed_state_is_bit_identical_to_the_tree(name, dtype, other, rules):
    """Decay, multipliers and dtypes differ between leaves, one step is skipped, and gradients are not clipped."""
    config = OptimizerConfig(name=name, learning_rate=0.1, warmup=2, clip=100.0, **rules)
    params, gradients = draw(0, dtype, other), [draw(seed, dtype, other) for seed in (1, 2, 3, 4)]
    gradients[2]["a"]["bias"] *= jnp.nan
    (tree, norms), (packed, packed_norms) = (
        trained(config, params, gradients, layout) for layout in (None, packing(config, params))
    )
    assert same(packed, tree)
    assert jax.tree.map(lambda x: x.dtype, packed) == jax.tree.map(lambda x: x.dtype, tree)
    assert [n["skipped"] for n in packed_norms] == [0, 0, 1, 1]
    for got, want in zip(packed_norms, norms, strict=True):
        assert got == pytest.approx(want, rel=1e-6, nan_ok=True)


def test_clipping_uses_the_norm_of_all_vectors():
    config, params = OptimizerConfig(clip=0.5, **RULES), draw(0)
    (tree, norms), (packed, packed_norms) = (
        trained(config, params, [draw(1)] * 3, layout) for layout in (None, packing(config, params))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), packed, tree)
    assert packed_norms[-1] == pytest.approx(norms[-1], rel=1e-6)


def test_norms_of_a_million_numbers_agree():
    leaves = {f"{i}": jax.random.normal(jax.random.key(i), (1000, 200)) for i in range(6)}
    packed = VectorLayout.of(leaves, lambda _: 0, length=2_000_000).pack(leaves)
    assert packed.vectors[0].shape == (1_200_000,)
    norm = jax.jit(global_norm)
    assert float(norm(packed)) == pytest.approx(float(norm(leaves)), rel=1e-6)
    exact = np.linalg.norm(np.float64(packed.vectors[0]))
    assert float(norm(packed)) == pytest.approx(exact, rel=1e-6)


def test_leaves_of_one_kind_are_joined_up_to_the_maximum_length():
    def shape(*lengths, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(lengths, dtype)

    small, half = shape(3, 2), shape(3, 2, dtype=jnp.bfloat16)
    tree = {"a": small, "b": shape(5, 4), "c": half, "d": small, "e": half, "f": small, "g": small, "h": shape()}
    layout = VectorLayout.of(tree, lambda index: index == 5, length=13)
    assert layout.joined == ((0,), (1,), (2, 4), (3, 6, 7), (5,))
    packed = jax.eval_shape(layout.pack, tree)
    assert [x.shape for x in packed.vectors] == [(3, 2), (5, 4), (12,), (13,), (3, 2)]
    assert jax.eval_shape(unpacked, packed) == tree


def test_gradients_are_packed_and_numpy_is_unpacked_without_a_copy():
    params = draw(0)
    packed = VectorLayout.of(params, lambda _: 0).pack(params)
    loss = lambda tree: sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(tree))  # noqa: E731
    got = jax.jit(jax.grad(lambda p: loss(unpacked(p))))(packed)
    assert isinstance(got, Packed)
    assert same(unpacked(got), jax.grad(loss)(params))
    host = jax.device_get(packed)
    tree = unpacked({"x": host, "y": np.ones(2)})
    assert same(tree["x"], params)
    assert np.shares_memory(tree["x"]["b"]["kernel"], host.vectors[0])
    again = packed_like({"x": host, "y": 0}, tree)
    assert isinstance(again["x"].vectors[0], np.ndarray)
    assert same(again["x"], packed)
