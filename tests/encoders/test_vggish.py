"""VGGish: its size, its output with and without the last ReLU, and AudioSet's postprocessing by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.encoders.vggish import VGGish, VGGishConfig, quantized
from codi_jax.interop.vggish import vggish_shapes

TINY = VGGishConfig(channels=(2, 3, 4, 5), hidden=7, embedding=6)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: (rng.normal(size=s.shape) / np.sqrt(max(1, np.prod(s.shape[:-1])))).astype(np.float32),
        vggish_shapes(TINY),
    )


def run(params, patches, relu_output=False):
    return np.asarray(VGGish(TINY, relu_output).apply({"params": params}, jnp.asarray(patches)))


def test_the_published_network_has_72_million_parameters():
    """Convolutions 4,499,712; dense layers 12288·4096 + 4096² + 4096·128 and biases."""
    shapes = vggish_shapes(VGGishConfig())
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 72_141_184
    assert shapes["dense_0"]["kernel"].shape == (512 * 6 * 4, 4096)


def test_patches_of_any_leading_shape(params):
    x = np.random.default_rng(1).normal(size=(2, 3, 96, 64)).astype(np.float32)
    out = run(params, x)
    assert out.shape == (2, 3, 6) and out.dtype == np.float32
    np.testing.assert_allclose(run(params, x[1, 2]), out[1, 2], rtol=1e-5, atol=1e-6)


def test_the_last_relu_is_an_option(params):
    x = np.random.default_rng(2).normal(size=(4, 96, 64)).astype(np.float32)
    raw = run(params, x)
    assert (raw < 0).any() and (raw > 0).any()
    np.testing.assert_array_equal(run(params, x, True), np.maximum(raw, 0))


def test_postprocessing_by_hand():
    vectors, means = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[1.0], [0.5]])
    # V (x - μ) = (0.5, 2) and (-5, 0)
    out = quantized(np.array([[2.0, 1.0], [1.0, -4.5]]), vectors, means)
    assert out.dtype == np.uint8 and out.tolist() == [[159, 255], [0, 128]]  # 2.5 · 63.75 = 159.4, 127.5 to even


def test_other_sizes_are_refused(params):
    with pytest.raises(ConfigError, match=r"patches \[\.\.\., 96, 64\], got \[1, 64, 96\]"):
        run(params, np.zeros((1, 64, 96), np.float32))
    with pytest.raises(ConfigError, match="must have 4 entries"):
        VGGishConfig(channels=(64, 128, 256))
    with pytest.raises(ConfigError, match="at least 1"):
        VGGishConfig(hidden=0)
