import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.config import ConfigError, from_dict
from codi_jax.encoders.hifigan import HiFiGAN, HiFiGANConfig

TINY = HiFiGANConfig(
    mels=3, channels=8, rates=(4, 2), kernels=(8, 4), res_kernels=(3, 5), res_dilations=((1, 3), (1, 2))
)
PUBLIC = HiFiGANConfig(64, 1024, (5, 4, 2, 2, 2), (16, 16, 8, 4, 4), (3, 7, 11), ((1, 3, 5),) * 3)


@pytest.fixture(scope="module")
def params():
    """Random parameters of order one, biases included."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(HiFiGAN(TINY).init, jax.random.key(0), jnp.zeros((1, 4, 3)))["params"]
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape) / np.sqrt(max(1, np.prod(s.shape[:-1])))), shapes
    )


@functools.cache
def jitted(dtype):
    return jax.jit(lambda p, x: HiFiGAN(TINY, dtype).apply({"params": p}, x))


def run(params, mel, dtype=jnp.float32):
    return np.asarray(jitted(dtype)(params, mel))


@pytest.fixture(scope="module")
def mel():
    return np.random.default_rng(1).normal(size=(2, 40, 3)).astype(np.float32)


def test_length_of_the_wave(params, mel):
    assert run(params, mel).shape == (2, TINY.samples(40)) == (2, 320)
    assert PUBLIC.samples(1024) == 163872
    assert [PUBLIC.samples(n) - 160 * n for n in (1, 12, 1024)] == [32] * 3
    odd = dataclasses.replace(TINY, rates=(5, 2), kernels=(16, 4))
    out = jax.eval_shape(HiFiGAN(odd).init_with_output, jax.random.key(0), jnp.zeros((1, 7, 3)))[0]
    assert out.shape == (1, odd.samples(7)) == (1, 72)


def test_a_shift_by_a_frame_is_a_shift_by_a_hop(params, mel):
    hop = 8
    a, b = run(params, mel[:, :-1]), run(params, mel[:, 1:])
    np.testing.assert_allclose(a[:, hop * 16 : hop * 24], b[:, hop * 15 : hop * 23], atol=1e-5)
    assert np.abs(a).max() < 1 and np.abs(a[0] - a[1]).max() > 1e-3


def test_upsampling_is_a_transposed_convolution(params):
    """The first upsampling against the sum that defines it."""
    x = np.random.default_rng(2).normal(size=(1, 5, 3)).astype(np.float32)
    _, state = HiFiGAN(TINY).apply({"params": params}, x, capture_intermediates=True, mutable="intermediates")
    inner = state["intermediates"]
    h = np.asarray(inner["conv_in"]["__call__"][0])[0]
    h = np.where(h > 0, h, 0.1 * h)
    kernel = np.asarray(params["up_0"]["kernel"])[::-1]  # the kernel is flipped, see interop.names
    full = np.zeros((4 * 4 + 8, 4))
    for i, row in enumerate(h):
        full[4 * i : 4 * i + 8] += np.einsum("i,kio->ko", row, kernel)
    want = full[2:-2] + np.asarray(params["up_0"]["bias"])
    np.testing.assert_allclose(inner["up_0"]["__call__"][0][0], want, atol=1e-5)


def test_bfloat16_is_close_to_float32(params, mel):
    near, exact = run(params, mel, jnp.bfloat16), run(params, mel)
    assert near.dtype == np.float32
    assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.99


def test_the_config_is_read_from_a_dict_and_checked():
    assert from_dict(HiFiGANConfig, ConfigDict(dataclasses.asdict(TINY))) == TINY
    for wrong in ({"kernels": (8,)}, {"kernels": (8, 1)}, {"res_kernels": (3, 4)}, {"channels": 6}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            dataclasses.replace(TINY, **wrong)
