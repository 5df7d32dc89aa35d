"""CLAP's audio tower: resizing, folding, fixed statistics, sizes and errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from codi_jax.config import ConfigError, from_dict
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig, FixedBatchNorm, cubic_matrix, fold, unit_or_zero

TINY = CLAPAudioConfig(
    mel_bins=4,
    spec_size=16,
    patch_size=2,
    patch_stride=(2, 2),
    embed_dim=8,
    depths=(2, 1),
    num_heads=(2, 2),
    window=4,
    projection=5,
)
DEMO = CLAPAudioConfig(
    mel_bins=64,
    spec_size=64,
    patch_size=4,
    patch_stride=(4, 4),
    embed_dim=32,
    depths=(1,),
    num_heads=(2,),
    window=4,
    projection=16,
    mlp_ratio=2.0,
)


@functools.cache
def tower(config, dtype=jnp.float32):
    """A jitted tower and random parameters of order one."""
    model = CLAPAudio(config, dtype)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, config.mel_bins)))["params"]

    def draw(path, leaf):
        fan = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        noise = rng.normal(size=leaf.shape) / np.sqrt(fan)
        return jnp.asarray(np.exp(noise) if path[-1].key in ("scale", "var") else noise, jnp.float32)

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    return jax.jit(lambda p, x: model.apply({"params": p}, x)), params


@pytest.fixture(scope="module")
def log_mel():
    return np.random.default_rng(1).normal(size=(2, 64, 4)).astype(np.float32)


def test_cubic_matrix_by_hand():
    """Weights at 1/2 and 1/4 between samples; taps beyond an end repeat the end."""
    half, quarter = [-0.09375, 0.59375, 0.59375, -0.09375], [-0.10546875, 0.87890625, 0.26171875, -0.03515625]
    np.testing.assert_allclose(cubic_matrix(4, 7)[3], half, atol=1e-7)
    np.testing.assert_allclose(cubic_matrix(5, 17)[5], [*quarter, 0], atol=1e-7)
    np.testing.assert_allclose(cubic_matrix(5, 17)[1], [sum(quarter[:2]), *quarter[2:], 0, 0], atol=1e-7)
    np.testing.assert_allclose(cubic_matrix(2, 3)[1], [0.5, 0.5], atol=1e-7)
    np.testing.assert_array_equal(cubic_matrix(1, 4), np.ones((4, 1)))


@given(length=st.integers(2, 40), factor=st.integers(1, 4))
def test_cubic_matrix_keeps_samples_and_constants_and_is_symmetric(length, factor):
    matrix = cubic_matrix(length, factor * (length - 1) + 1)
    np.testing.assert_allclose(matrix[::factor], np.eye(length), atol=1e-5)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-5)
    assert (np.count_nonzero(matrix, axis=1) <= 4).all()


def test_cubic_positions_are_rounded_to_float32():
    """From 1001 to 1024 frames, between two samples near the end, the rounding changes the weight."""

    def weight(t):
        return (1.25 * t - 2.25) * t**2 + 1

    exact = 1000 / 1023 * 1001 - 978
    rounded = float(np.float32(1000) / np.float32(1023) * np.float32(1001)) - 978
    assert abs(weight(exact) - weight(rounded)) > 5e-6
    np.testing.assert_allclose(cubic_matrix(1001, 1024)[1001, 978], weight(rounded), atol=1e-7)


def test_fold_stacks_segments_of_time_along_frequency():
    """A number per (time, bin): with 2 bins and side 4 there are two segments of 4 frames, the first on top."""
    config = dataclasses.replace(TINY, mel_bins=2, spec_size=4, depths=(1,), num_heads=(2,), window=2)
    x = 10 * np.arange(8)[:, None] + np.arange(2)
    want = [[0, 10, 20, 30], [1, 11, 21, 31], [40, 50, 60, 70], [41, 51, 61, 71]]
    assert fold(jnp.asarray(x[None], jnp.float32), config)[0].tolist() == want
    short = x[None, :5].astype(np.float32)
    stretched = np.einsum("st,btf->bsf", cubic_matrix(5, 8), short)
    np.testing.assert_allclose(fold(jnp.asarray(short), config), fold(jnp.asarray(stretched), config), atol=1e-4)


def test_fixed_statistics_are_applied_and_have_no_gradient(log_mel):
    run, params = tower(TINY)
    stats = params["norm_mel"]
    want = (log_mel - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * stats["scale"] + stats["bias"]
    np.testing.assert_allclose(FixedBatchNorm().apply({"params": stats}, log_mel), want, rtol=1e-5, atol=1e-5)

    gradients = jax.jit(jax.grad(lambda p: jnp.square(run(p, log_mel)).sum()))(params)
    assert not gradients["norm_mel"]["mean"].any() and not gradients["norm_mel"]["var"].any()
    trainable = {**gradients, "norm_mel": {k: v for k, v in gradients["norm_mel"].items() if k not in ("mean", "var")}}
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(trainable))
    moved = run(
        {**params, "norm_mel": {**stats, "mean": stats["mean"] + 1}}, log_mel + 1
    )  # but the output depends on them
    np.testing.assert_allclose(moved, run(params, log_mel), atol=1e-5)


def test_shorter_inputs_are_resized_and_samples_are_independent(log_mel):
    run, params = tower(TINY)
    base = run(params, log_mel)
    assert base.shape == (2, 5) and base.dtype == jnp.float32
    np.testing.assert_allclose(run(params, log_mel[:1]), base[:1], atol=1e-5)
    assert np.abs(base[0] - base[1]).max() > 1e-3
    assert np.abs(run(params, log_mel[:, ::-1]) - base).max() > 1e-3
    resized = np.einsum("st,btf->bsf", cubic_matrix(40, 64), log_mel[:, :40])
    identity = {k: jnp.full(4, float(k in ("scale", "var"))) for k in params["norm_mel"]}
    params = {**params, "norm_mel": identity}  # resizing comes after the norm
    np.testing.assert_allclose(run(params, log_mel[:, :40]), run(params, resized), atol=1e-4)


def test_one_stage_and_as_many_mel_bins_as_the_side():
    run, params = tower(DEMO)
    x = np.random.default_rng(2).normal(size=(3, 64, 64)).astype(np.float32)
    assert DEMO.frames == 64 and DEMO.grid(0) == (16, 16)
    assert run(params, x).shape == (3, 16)
    assert not any("merge" in name for name in params)
    assert params["stage_0_block_0"]["fc1"]["kernel"].shape == (32, 64)


def test_patches_may_overlap_and_a_small_grid_is_one_window(log_mel):
    """Patches of 4 with strides (2, 4): 8 × 4 cells, then 4 × 2, where a window of 2 covers one side."""
    config = dataclasses.replace(TINY, patch_size=4, patch_stride=(2, 4), depths=(2, 2))
    assert [config.grid(i) for i in range(2)] == [(8, 4), (4, 2)]
    assert [config.window_of(i) for i in range(2)] == [4, 2]
    assert not any(config.shift_of(stage, block) for stage in range(2) for block in range(2))
    assert [TINY.shift_of(0, 0), TINY.shift_of(0, 1), TINY.shift_of(1, 1)] == [0, 2, 0]
    run, params = tower(config)
    assert np.isfinite(run(params, log_mel)).all()
    assert params["stage_1_block_0"]["attention"]["table"].shape == (9, 2)


def test_bfloat16_is_close_to_float32(log_mel):
    run, params = tower(TINY)
    near = tower(TINY, jnp.bfloat16)[0](params, log_mel)
    assert near.dtype == jnp.float32
    assert (unit_or_zero(near) * unit_or_zero(run(params, log_mel))).sum(-1).min() > 0.99


def test_unit_or_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit_or_zero(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit_or_zero(x).sum())(x)).all()


def test_the_config_is_read_from_a_dict():
    assert from_dict(CLAPAudioConfig, ConfigDict(dataclasses.asdict(TINY))) == TINY


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 65, 4), "65 frames; the audio tower takes 1 to 64"),
        ((1, 0, 4), "0 frames"),
        ((1, 64, 5), r"expected a log-mel \[B, T, 4\], got \[1, 64, 5\]"),
        ((1, 1, 64, 4), "expected a log-mel"),
    ],
)
def test_spectrograms_of_other_shapes_raise(shape, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(CLAPAudio(TINY).init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mel_bins": 5}, "16 is not a multiple of 5 mel_bins"),
        ({"patch_stride": (2,)}, "expected two strides"),
        ({"patch_stride": (3, 3)}, "patches of 2 every 3 do not cover 16 evenly"),
        ({"patch_size": 3}, "patches of 3 every 2"),
        ({"depths": (2,)}, "must have the same length"),
        ({"num_heads": (2, 3)}, "3 do not divide the width 16 of stage 1"),
        ({"window": 3}, r"window: 3 does not divide the grid \(8, 8\) of stage 0"),
        ({"depths": (1,) * 5, "num_heads": (1,) * 5}, r"the grid \(8, 8\) cannot be halved 4 times"),
    ],
)
def test_sizes_that_do_not_fit_raise(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **change)
