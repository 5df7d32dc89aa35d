import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.config import from_dict
from codi_jax.encoders.bert import BertConfig
from codi_jax.encoders.gpt2 import GPT2Config
from codi_jax.encoders.optimus import Optimus, OptimusConfig

BOS, EOS, PAD, LENGTH = 1, 2, 0, 9
TINY = OptimusConfig(
    encoder=BertConfig(vocab=11, width=8, layers=2, heads=2, feed_forward=16, positions=8),
    decoder=GPT2Config(vocab=13, width=8, layers=2, heads=2, feed_forward=16, positions=LENGTH + 1),
    latent=6,
    bos=BOS,
    eos=EOS,
    pad=PAD,
)


def random_params(model, *args):
    """Random parameters of order one, so that no layer is zero; drawn in NumPy to avoid compiling the initialisers."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *args)["params"]

    def draw(path, leaf):
        fan = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        return jnp.asarray((path[-1].key == "scale") + rng.normal(size=leaf.shape) / np.sqrt(fan), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def params():
    ids = jnp.ones((1, 3), jnp.int32)
    return random_params(Optimus(TINY), ids, ids)


@pytest.fixture(scope="module")
def z():
    return jax.random.normal(jax.random.key(1), (5, 6))


@functools.cache
def jitted(method, dtype, **static):
    return jax.jit(lambda p, *args: Optimus(TINY, dtype).apply({"params": p}, *args, method=method, **static))


def run(params, *args, method=None, dtype=jnp.float32, **static):
    return jitted(method, dtype, **static)(params, *args)


def generate(params, z, seed=0, temperature=0.0, **kwargs):
    return np.asarray(run(params, z, jax.random.key(seed), temperature, method="generate", max_length=LENGTH, **kwargs))


def zeroed(params, name):
    decoder = params["decoder"]
    return {**params, "decoder": {**decoder, name: jax.tree.map(jnp.zeros_like, decoder[name])}}


def test_greedy_generation_with_a_cache_equals_argmax_without(params, z):
    got = generate(params, z)
    ids = np.full((len(z), LENGTH), PAD)
    ids[:, 0] = BOS
    for place in range(1, LENGTH):
        logits = run(params, z, ids, method="decode_logits")  # causal: tokens after `place` do not matter
        drawn = np.asarray(logits[:, place - 1].argmax(-1))
        ended = (ids[:, :place] == EOS).any(1)
        ids[:, place] = np.where(ended, PAD, EOS if place == LENGTH - 1 else drawn)
    np.testing.assert_array_equal(got, ids)
    assert len(np.unique(got, axis=0)) > 1


def test_token_by_token_logits_equal_those_of_one_pass(params, z):
    length = 4
    ids = np.asarray(jax.random.randint(jax.random.key(2), (len(z), length), 0, 13))
    want = run(params, z, ids, method="decode_logits")

    def by_steps(model, z, ids):
        cache, out = model.decoder.empty_cache(z, length), []
        for place in range(length):
            logits, cache = model.decoder(ids[:, place : place + 1], z, cache, place)
            out.append(logits)
        return jnp.concatenate(out, axis=1)

    np.testing.assert_allclose(run(params, z, ids, method=by_steps), want, atol=1e-5)


def test_logits_depend_on_the_past_and_on_both_paths_of_the_latent(params, z):
    ids = np.full((len(z), 5), 7)
    base = run(params, z, ids, method="decode_logits")
    changed = ids.copy()
    changed[:, 3] = 4
    difference = np.abs(run(params, z, changed, method="decode_logits") - base).max((0, 2))
    assert (difference[:3] == 0).all()
    assert (difference[3:] > 1e-4).all()
    for name in ("memory", "latent"):  # each path alone carries z to every position
        one = zeroed(params, name)
        moved = run(one, z + 1, ids, method="decode_logits") - run(one, z, ids, method="decode_logits")
        assert (np.abs(moved).max((0, 2)) > 1e-4).all()
    neither = zeroed(zeroed(params, "memory"), "latent")
    np.testing.assert_array_equal(
        run(neither, z + 1, ids, method="decode_logits"), run(neither, z, ids, method="decode_logits")
    )


def test_token_positions_start_at_one(params, z):
    ids = np.full((len(z), 1), 7)
    base = run(params, z, ids, method="decode_logits")
    table = params["decoder"]["position"]["embedding"]
    for row, moves in enumerate((False, True, False)):
        decoder = {**params["decoder"], "position": {"embedding": table.at[row, 0].add(1.0)}}
        moved = np.abs(run({**params, "decoder": decoder}, z, ids, method="decode_logits") - base).max()
        assert (moved > 1e-4) == moves


def test_the_encoder_ignores_padding(params):
    ids = np.array([[3, 4, 5], [6, 7, 0]])
    padded = np.pad(ids, ((0, 0), (0, 3)))
    for short, long in zip(run(params, ids, method="encode"), run(params, padded, method="encode"), strict=True):
        assert short.shape == (2, 6)
        np.testing.assert_allclose(short, long, atol=1e-5)


def test_samples_follow_the_softmax(params, z):
    count, temperature = 4000, 0.7
    many = jnp.broadcast_to(z[:1], (count, 6))
    first = generate(params, many, seed=5, temperature=temperature)[:, 1]
    logits = run(params, z[:1], np.array([[BOS]]), method="decode_logits")[0, 0]
    want = np.asarray(jax.nn.softmax(logits / temperature))
    got = np.bincount(first, minlength=13) / count
    assert (np.abs(got - want) <= 5 * np.sqrt(want * (1 - want) / count) + 1e-6).all()
    again = generate(params, many, seed=5, temperature=temperature)[:, 1]
    np.testing.assert_array_equal(first, again)


def test_sequences_end_at_eos_and_are_padded(params, z):
    ids = generate(params, jnp.tile(z, (20, 1)), temperature=2.0)
    assert (ids[:, 0] == BOS).all()
    end = (ids == EOS).argmax(1)
    assert len(set(end)) > 2
    for row, place in zip(ids, end, strict=True):
        assert row[place] == EOS
        assert (row[place + 1 :] == PAD).all()


def test_a_training_pass_in_bfloat16_is_close_to_float32(params):
    ids = np.array([[3, 4, 5, 6], [6, 7, 0, 0]])
    exact = run(params, ids, ids)
    near = run(params, ids, ids, dtype=jnp.bfloat16)
    assert all(y.dtype == jnp.float32 for y in near)
    assert near[0].shape == (2, 4, 13)
    np.testing.assert_allclose(near[1], exact[1], atol=0.1)
    drawn = run(params, ids, ids, jax.random.key(0))
    np.testing.assert_array_equal(drawn[1], exact[1])
    assert np.abs(drawn[0] - exact[0]).max() > 1e-3
    assert generate(params, jnp.zeros((2, 6)), dtype=jnp.bfloat16).shape == (2, LENGTH)


def test_the_config_is_read_from_a_dict():
    assert from_dict(OptimusConfig, ConfigDict(dataclasses.asdict(TINY))) == TINY


def test_inputs_beyond_the_limits_raise(params, z):
    with pytest.raises(ValueError, match="exceed the 8 positions"):
        run(params, np.ones((1, 9), int), method="encode")
    with pytest.raises(ValueError, match="10 tokens need 11 positions"):
        run(params, z, np.ones((5, 10), int), method="decode_logits")
    with pytest.raises(ValueError, match="max_length is 1"):
        run(params, z, jax.random.key(0), method="generate", max_length=1)
