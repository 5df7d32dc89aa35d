"""A U-Net with cross-modal attention: what the environment and its gate do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.config import ConfigError
from codi_jax.nn import CrossModalAttention, Denoiser, EnvironmentEncoder
from codi_jax.types import MASKED, Tokens
from tests.nn import toy

KINDS = {"spatial": toy.SPATIAL, "video": toy.VIDEO, "vector": toy.VECTOR}
ENVIRONMENT = toy.tokens(4, 3, toy.E)


@pytest.fixture(scope="module", params=KINDS)
def net(request):
    """A kind's denoiser, its moved parameters and a latent."""
    denoiser = Denoiser(KINDS[request.param], cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS[request.param])
    return denoiser, toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT), z


def test_a_closed_gate_shuts_the_environment_out(net):
    denoiser, params, z = net
    gated = toy.quick(lambda tokens, gate: denoiser.apply({"params": params}, z, toy.T, toy.CONTEXT, tokens, gate))
    half = jnp.array([0.0, 1.0])
    closed, other = gated(ENVIRONMENT, half), gated(toy.tokens(9, 3, toy.E), half)
    np.testing.assert_array_equal(closed[0], other[0])
    assert np.abs(closed[1] - other[1]).max() > 1e-3
    # Two programs differ in rounding, because the compiler fuses them differently; the norm over frames magnifies it.
    alone = toy.apply(denoiser, params, z, toy.T, toy.CONTEXT)
    np.testing.assert_allclose(closed[0], alone[0], atol=1e-3 if z.ndim == 5 else 1e-5)
    assert np.abs(closed[1] - alone[1]).max() > 1e-3


def test_a_closed_gate_returns_the_very_features():
    cross, h = CrossModalAttention(toy.SPATIAL, toy.E), toy.normal(3, toy.B, 4, 4, 32)
    place = ("inputs", 1)
    params = jax.eval_shape(lambda: cross.init(jax.random.key(0), place, h, ENVIRONMENT))["params"]
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), params)
    attended = lambda gate: cross.apply({"params": params}, place, h, ENVIRONMENT, gate)  # noqa: E731
    np.testing.assert_array_equal(attended(jnp.zeros(toy.B)), h)
    np.testing.assert_array_equal(attended(jnp.ones(toy.B)), attended(None))
    assert np.abs(attended(None) - h).max() > 1e-3


def test_the_two_parts_are_two_subtrees():
    denoiser = Denoiser(toy.SPATIAL, cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS["spatial"])
    params = jax.eval_shape(denoiser.init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)["params"]
    assert set(params) == {"unet", "cross"}
    assert set(params["cross"]) == {"inputs_1", "outputs_2", "outputs_3"}
    alone = jax.eval_shape(denoiser.init, jax.random.key(0), z, toy.T, toy.CONTEXT)["params"]
    assert set(alone) == {"unet"}
    assert set(traverse_util.flatten_dict(alone["unet"])) == set(traverse_util.flatten_dict(params["unet"]))


def test_what_another_output_looks_like_now_changes_the_prediction():
    """The true wiring: a vector attends to the environment of a map."""
    image, vector = toy.normal(2, *toy.LATENTS["spatial"]), toy.normal(3, *toy.LATENTS["vector"])
    encoder, denoiser = EnvironmentEncoder(toy.SPATIAL_ENVIRONMENT), Denoiser(toy.VECTOR, cross_width=toy.E)
    emb = toy.normal(5, toy.B, 128)
    v = toy.init(encoder, image, emb)
    params = toy.init(denoiser, vector, toy.T, toy.CONTEXT, ENVIRONMENT)

    @toy.quick
    def predict(image):
        tokens = Tokens.of(encoder.apply({"params": v}, image, emb))
        return denoiser.apply({"params": params}, vector, toy.T, toy.CONTEXT, tokens)

    change = predict(image.at[1].add(1.0)) - predict(image)
    assert np.abs(change[1]).max() > 1e-4
    assert not change[0].any()


def test_a_masked_environment_token_is_as_if_absent():
    denoiser = Denoiser(toy.VECTOR, cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS["vector"])
    params = toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT)
    fewer = Tokens.of(ENVIRONMENT.values[:, :2])
    masked = Tokens(ENVIRONMENT.values, jnp.array([[0.0, 0.0, MASKED]] * toy.B))
    np.testing.assert_allclose(
        toy.apply(denoiser, params, z, toy.T, toy.CONTEXT, masked),
        toy.apply(denoiser, params, z, toy.T, toy.CONTEXT, fewer),
        atol=1e-5,
    )


def test_an_environment_that_does_not_fit_is_refused():
    z = jnp.zeros(toy.LATENTS["vector"])
    with pytest.raises(ConfigError, match="without cross-modal attention"):
        jax.eval_shape(Denoiser(toy.VECTOR).init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)
    with pytest.raises(ConfigError, match="environment tokens of width 12"):
        jax.eval_shape(Denoiser(toy.VECTOR, 9).init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)
