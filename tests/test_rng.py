"""Random keys folded by name."""

import zlib

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.rng import fold, normal, seed_key

KEY = jax.random.key(7)


def data(key):
    return jax.random.key_data(key).tolist()


def test_names_fold_by_their_crc_and_integers_as_they_are():
    assert data(fold(KEY, "image")) == data(jax.random.fold_in(KEY, zlib.crc32(b"image")))
    assert data(fold(KEY, 3)) == data(jax.random.fold_in(KEY, 3))
    assert data(fold(KEY)) == data(KEY)


def test_keys_are_stable_over_processes_and_versions():
    assert data(fold(jax.random.key(0), "image", "noise", 3)) == [1057187709, 2648114564]


def test_tags_fold_in_order():
    assert data(fold(KEY, "a", "b", 2)) == data(fold(fold(fold(KEY, "a"), "b"), 2))
    distinct = [("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("a", 1), (1, "a"), ("a", 2)]
    assert len({tuple(data(fold(KEY, *tags))) for tags in distinct}) == len(distinct)


def test_a_draw_does_not_depend_on_other_names():
    def draws(names):
        return {name: np.asarray(jax.random.normal(fold(KEY, name), (3,))) for name in names}

    few, many = draws(["image", "text"]), draws(["video", "text", "audio", "image"])
    for name, draw in few.items():
        np.testing.assert_array_equal(draw, many[name])


def test_a_traced_step_folds_as_an_integer():
    traced = jax.jit(lambda key, step: fold(key, "step", step))
    assert data(traced(KEY, 5)) == data(fold(KEY, "step", 5))
    traced(KEY, 6)
    assert traced._cache_size() == 1


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), (1 << 32) - 1])
def test_a_seed_of_32_bits_is_that_of_jax(seed):
    assert data(seed_key(seed)) == data(jax.random.key(int(seed)))


def test_all_64_bits_of_a_seed_count():
    seeds = [5, 5 + (1 << 32), 5 + (1 << 63), (1 << 64) - 1, (1 << 32) - 1]
    assert len({tuple(data(seed_key(seed))) for seed in seeds}) == len(seeds)
    for seed in (-1, 1 << 64):
        with pytest.raises(ConfigError, match=f"^seed: expected 0 or more and at most 64 bits, got {seed}$"):
            seed_key(seed)
    with pytest.raises(ConfigError, match=r"^seed: expected an integer, got 1\.5$"):
        seed_key(1.5)


def test_noise_of_keys_is_that_of_each_key():
    np.testing.assert_array_equal(normal(KEY, 3, (2,), "z"), jax.random.normal(fold(KEY, "z"), (3, 2)))
    keys = jax.random.split(KEY, 3)
    rows = [jax.random.normal(fold(key, "z", 4), (2, 5)) for key in keys]
    np.testing.assert_array_equal(normal(keys, 3, (2, 5), "z", 4), np.stack(rows))
