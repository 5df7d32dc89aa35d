"""Inception-v3 and its preprocessing; tests/parity/oracles compares both with torch-fidelity and pytorch-fid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.encoders.inception import InceptionConfig, InceptionV3, _average, _maximum, preprocess
from codi_jax.interop.inception import target

SMALL = InceptionV3(InceptionConfig(classes=7, divisor=16))


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)

    def random(leaf):
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if len(leaf.shape) > 1 else 0.2
        return jnp.asarray(rng.normal(len(leaf.shape) == 1, scale, leaf.shape), jnp.float32)

    return jax.tree.map(random, target(SMALL.config))


@jax.jit
def apply(params, x):
    return SMALL.apply({"params": params}, x)


def images(n=1, side=75):
    return np.random.default_rng(1).uniform(-1, 1, (n, side, side, 3)).astype(np.float32)


def test_the_real_network_has_the_parameters_of_the_weights():
    """94 convolutions with 4 vectors each, and the last layer."""
    shapes = target(InceptionConfig())
    assert len(jax.tree.leaves(shapes)) == 94 * 5 + 2
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 23_885_392
    assert shapes["fc"]["kernel"].shape == (2048, 1008)
    assert shapes["Mixed_6c"]["branch7x7_2"]["conv"]["kernel"].shape == (1, 7, 160, 160)


def test_shapes_and_the_bias_of_the_logits(params):
    pool, logits = apply(params, images(2))
    assert pool.shape == (2, 128) and logits.shape == (2, 7)
    assert pool.dtype == logits.dtype == jnp.float32
    assert float(pool.std()) > 1e-3
    np.testing.assert_allclose(logits, pool @ params["fc"]["kernel"], rtol=1e-5, atol=1e-6)
    biased = jax.jit(lambda p, x: SMALL.apply({"params": p}, x, bias=True))(params, images(2)).logits
    np.testing.assert_allclose(biased, logits + params["fc"]["bias"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "highest"), [(jnp.float32, True), (jnp.bfloat16, False)])
def test_float32_products_have_the_highest_precision(params, dtype, highest):
    model = InceptionV3(SMALL.config, dtype)
    lowered = jax.jit(lambda p, x: model.apply({"params": p}, x)).lower(params, jnp.zeros((1, 75, 75, 3)))
    convolutions = [line for line in lowered.as_text().splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 94
    assert all(("HIGHEST" in line) == highest for line in convolutions)


def test_images_of_a_batch_do_not_mix(params):
    batch = images(2)
    np.testing.assert_allclose(apply(params, batch[::-1]).pool, apply(params, batch).pool[::-1], rtol=1e-4, atol=1e-6)


def test_the_average_leaves_padding_out_and_the_maximum_ignores_it():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    np.testing.assert_allclose(_average(x)[0, :, :, 0], [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])
    np.testing.assert_array_equal(_maximum(x - 100, 1)[0, :, :, 0], np.float32([[4, 5, 5], [7, 8, 8], [7, 8, 8]]) - 100)
    np.testing.assert_array_equal(_maximum(x)[0, :, :, 0], [[8]])


def test_halving_reads_every_other_pixel_or_the_mean_of_two():
    row = np.random.default_rng(2).integers(0, 256, (1, 299, 598, 3)).astype(np.uint8)
    values = row.astype(np.float32)
    np.testing.assert_allclose(preprocess(row), (values[:, :, ::2] - 128) / 128, atol=1e-6)
    mean = (values[:, :, ::2] + values[:, :, 1::2]) / 2
    np.testing.assert_allclose(preprocess(row, "pytorch-fid"), 2 * mean / 255 - 1, atol=1e-6)


def test_doubling_by_hand():
    """Two pixels 0 and 255 as one column: positions 2 j / 299, or 2 (j + ½) / 299 - ½ and at least 0; clamped at 1."""
    column = np.uint8([0, 255]).reshape(1, 2, 1, 1).repeat(3, -1)
    j = np.arange(299)
    ours = preprocess(column)[0, :, 5, 1]
    np.testing.assert_allclose(ours, (255 * np.minimum(2 * j / 299, 1) - 128) / 128, atol=1e-5)
    ours = preprocess(column, "pytorch-fid")[0, :, 5, 1]
    np.testing.assert_allclose(ours, 2 * np.clip(2 * (j + 0.5) / 299 - 0.5, 0, 1) - 1, atol=1e-5)


def test_units_and_images_of_the_right_size():
    grey = np.full((1, 299, 299, 3), 128, np.uint8)
    assert np.unique(preprocess(grey)) == [0]
    np.testing.assert_allclose(preprocess(grey, "pytorch-fid"), 1 / 255, atol=1e-7)
    np.testing.assert_allclose(jax.jit(preprocess)(grey[:, :9]), 0, atol=1e-6)
    white = np.full((1, 20, 30, 3), 255, np.uint8)
    np.testing.assert_allclose(preprocess(white), 127 / 128, atol=1e-6)


def test_bad_input_is_one_line():
    with pytest.raises(ConfigError, match=r"expected uint8 images \[B, H, W, 3\], got float32 \(1, 4, 4, 3\)"):
        preprocess(np.zeros((1, 4, 4, 3), np.float32))
    with pytest.raises(ConfigError, match=r"got uint8 \(4, 4, 3\)"):
        preprocess(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match="convention: expected one of tensorflow, pytorch-fid, got 'pillow'"):
        preprocess(np.zeros((1, 4, 4, 3), np.uint8), "pillow")
    with pytest.raises(ConfigError, match="divisor 1, 2, 4, 8 or 16"):
        InceptionConfig(divisor=3)
    with pytest.raises(ValueError, match=r"sides of at least 75, got shape \(1, 32, 32, 3\)"):
        jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
