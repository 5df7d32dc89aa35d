"""The KL codec and the prompt tower of sequences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codi_jax.config import ConfigError
from codi_jax.encoders.clip import CLIPVision, CLIPVisionConfig
from codi_jax.encoders.sequence_kl import SequenceKL, SequenceKLConfig
from codi_jax.encoders.sequence_tower import SequenceTower, SequenceTowerConfig
from tests.nn import toy

KL = SequenceKLConfig(in_channels=3, channels=8, mult=(1, 2), blocks=1, embed_dim=4, groups=4, patch=2)
TOWER = SequenceTowerConfig(
    in_channels=3, length=16, patch=4, width=16, layers=2, heads=2, feed_forward=32, projection=5
)
X = toy.normal(0, 2, 16, 3)


def run(model, params, *args, method=None):
    return jax.jit(lambda p, *args: model.apply({"params": p}, *args, method=method))(params, *args)


@pytest.fixture(scope="module")
def codec():
    return SequenceKL(KL), toy.init(SequenceKL(KL), X)


def test_the_latent_is_shorter_by_the_factor_and_sampled_around_the_mean(codec):
    from_mean, mean, logvar = run(*codec, X)
    assert mean.shape == logvar.shape == (2, 16 // KL.downscale, 4) == (2, 4, 4) and from_mean.shape == X.shape
    np.testing.assert_allclose(run(*codec, mean, method="decode"), from_mean, atol=1e-5)
    again, log_variance = run(*codec, X, method="encode")
    np.testing.assert_allclose(again, mean, atol=1e-5)
    np.testing.assert_allclose(log_variance, logvar, atol=1e-5)
    assert np.abs(run(*codec, X, toy.KEY)[0] - from_mean).max() > 1e-3
    np.testing.assert_allclose(run(*codec, X[1:])[0][0], from_mean[1], atol=1e-5)


def test_logvar_is_clipped(codec):
    model, params = codec
    last = {**params["encoder"]["conv_out"], "bias": jnp.full((8,), 1e4)}
    _, logvar = run(model, {**params, "encoder": {**params["encoder"], "conv_out": last}}, X, method="encode")
    assert (logvar == 20).all()


def test_patches_are_folded_into_channels_and_normalised_by_group():
    """An encoder whose kernels are identities and whose residual blocks are zero, by hand."""
    config = dataclasses.replace(KL, mult=(1,), patch=4)
    model = SequenceKL(config)
    params = jax.tree.map(jnp.zeros_like, toy.init(model, X))
    identity = jnp.zeros((3, 12, 8)).at[1].set(jnp.eye(12, 8))
    params["encoder"]["conv_in"]["kernel"] = identity
    params["encoder"]["norm_out"]["scale"] = jnp.ones(8)
    params["encoder"]["conv_out"]["kernel"] = jnp.zeros((3, 8, 8)).at[1].set(jnp.eye(8))
    mean, _ = run(model, params, X, method="encode")
    folded = np.asarray(X).reshape(2, 4, 12)[..., :8].reshape(2, 4, 4, 2)  # the first 8 of 12 values, in four groups
    normed = (folded - folded.mean((1, 3), keepdims=True)) / np.sqrt(folded.var((1, 3), keepdims=True) + 1e-6)
    want = normed.reshape(2, 4, 8) / (1 + np.exp(-normed.reshape(2, 4, 8)))
    np.testing.assert_allclose(mean, want[..., :4], atol=1e-5)


def test_it_learns_to_reconstruct():
    """A few steps on one batch take most of the error of the mean away."""
    model, tx = SequenceKL(KL), optax.adam(1e-2)
    x = jnp.sin(jnp.arange(16)[:, None] * jnp.array([0.4, 0.7, 1.1]) + 6 * jax.random.uniform(toy.KEY, (32, 1, 3)))
    params = jax.jit(model.init)(toy.KEY, x)["params"]

    def loss(params):
        return jnp.square(model.apply({"params": params}, x)[0] - x).mean()

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    state = tx.init(params)
    for _ in range(80):
        params, state, value = step(params, state)
    assert value < 0.2 * x.var()


def test_a_length_that_is_no_multiple_raises(codec):
    with pytest.raises(ValueError, match="a length of 14 is not a multiple of 4"):
        run(*codec, X[:, :14], method="encode")
    with pytest.raises(ConfigError, match="a width of 8 is not a multiple of groups = 16"):
        dataclasses.replace(KL, groups=16)


@pytest.mark.parametrize("stem", [(), (8, 16)])
def test_the_tower_embeds_a_sequence_as_that_of_images_does_its_patches(stem):
    """Compared with `CLIPVision` without a stem, whose convolutions mix neighbours in two directions."""
    config = dataclasses.replace(TOWER, stem=stem)
    model = SequenceTower(config)
    params = toy.init(model, X)
    out = run(model, params, X)
    assert (out.shape, out.dtype) == ((2, 5), jnp.float32)
    shuffled = run(model, params, X[:, ::-1])
    assert np.abs(out - shuffled).max() > 1e-2
    again = run(model.clone(remat="blocks"), params, X)
    np.testing.assert_allclose(out, again, atol=1e-6)
    np.testing.assert_allclose(run(model.clone(dtype=jnp.bfloat16), params, X), out, atol=0.15 * np.abs(out).max())
    if not stem:
        # Four patches of four steps and three channels are four patches of 2 × 2 pixels and three channels.
        vision = CLIPVisionConfig(image_size=4, patch=2, width=16, layers=2, heads=2, feed_forward=32, projection=5)
        pixels = X.reshape(2, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 4, 3)
        kernel = params["patch"]["kernel"].reshape(2, 2, 3, 16)
        np.testing.assert_allclose(
            run(CLIPVision(vision), {**params, "patch": {"kernel": kernel}}, pixels), out, atol=1e-5
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 5}, "16 steps are no whole number of patches of 5"),
        ({"heads": 3}, "3 do not divide a width of 16"),
        ({"stem": (8,)}, "1 convolutions of stride 2 do not make patches of 4"),
        ({"stem": (8, 12)}, "are not multiples of 8"),
    ],
)
def test_an_invalid_tower_config_raises(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TOWER, **change)


def test_another_length_raises():
    with pytest.raises(ValueError, match="expected 16 steps of 3 channels"):
        jax.eval_shape(SequenceTower(TOWER).init, toy.KEY, X[:, :8])
