"""A U-Net with cross-modal attention: the effect of the environment and its gate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from codi_jax.config import ConfigError
from codi_jax.nn import CrossModalAttention, Denoiser, EnvironmentEncoder
from codi_jax.nn.compute import Compute
from codi_jax.parallel.flops import count
from codi_jax.types import MASKED, Tokens
from tests.nn import toy

CONFIGS = {"spatial": toy.SPATIAL, "video": toy.VIDEO, "sequence": toy.SEQUENCE, "vector": toy.VECTOR}
KINDS = {kind: dataclasses.replace(config, **toy.ONE_LEVEL) for kind, config in CONFIGS.items()}
ENVIRONMENT = toy.tokens(4, 3, toy.E)


@pytest.fixture(scope="module", params=[pytest.param(k, marks=[pytest.mark.slow] * (k == "sequence")) for k in KINDS])
def net(request):
    """The denoiser of a kind, nonzero parameters and a latent."""
    denoiser = Denoiser(KINDS[request.param], cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS[request.param])
    return denoiser, toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT), z


def test_with_a_gate_of_zero_the_environment_has_no_effect(net):
    denoiser, params, z = net
    gated = toy.quick(lambda tokens, gate: denoiser.apply({"params": params}, z, toy.T, toy.CONTEXT, tokens, gate))
    half = jnp.array([0.0, 1.0])
    closed, other = gated(ENVIRONMENT, half), gated(toy.tokens(9, 3, toy.E), half)
    np.testing.assert_array_equal(closed[0], other[0])
    assert np.abs(closed[1] - other[1]).max() > 1e-3
    # Two programs are fused differently and differ in rounding, which the norm over frames amplifies.
    alone = toy.apply(denoiser, params, z, toy.T, toy.CONTEXT)
    np.testing.assert_allclose(closed[0], alone[0], atol=1e-3 if z.ndim == 5 else 1e-5)
    assert np.abs(closed[1] - alone[1]).max() > 1e-3


def test_with_a_gate_of_zero_the_features_are_unchanged():
    cross, h = CrossModalAttention(toy.SPATIAL, toy.E), toy.normal(3, toy.B, 4, 4, 32)
    place = ("inputs", 1)
    params = jax.eval_shape(lambda: cross.init(jax.random.key(0), place, h, ENVIRONMENT))["params"]
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), params)
    attended = lambda gate: cross.apply({"params": params}, place, h, ENVIRONMENT, gate)  # noqa: E731
    np.testing.assert_array_equal(attended(jnp.zeros(toy.B)), h)
    np.testing.assert_array_equal(attended(jnp.ones(toy.B)), attended(None))
    assert np.abs(attended(None) - h).max() > 1e-3


def test_unet_and_cross_modal_attention_are_separate_subtrees():
    denoiser = Denoiser(toy.SPATIAL, cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS["spatial"])
    params = jax.eval_shape(denoiser.init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)["params"]
    assert set(params) == {"unet", "cross"}
    assert set(params["cross"]) == {"inputs_1", "outputs_2", "outputs_3"}
    alone = jax.eval_shape(denoiser.init, jax.random.key(0), z, toy.T, toy.CONTEXT)["params"]
    assert set(alone) == {"unet"}
    assert set(traverse_util.flatten_dict(alone["unet"])) == set(traverse_util.flatten_dict(params["unet"]))


def test_the_prediction_depends_on_the_latent_of_another_output():
    """A vector attends to the environment of a map."""
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


@pytest.mark.parametrize("kind", ["vector", pytest.param("video", marks=pytest.mark.slow)])
def test_variants_of_the_context_share_what_comes_before_it(kind):
    """Values, for vectors also gradients, in float64, and fewer operations."""
    with jax.enable_x64(True):
        denoiser = Denoiser(KINDS[kind], toy.E, Compute(jnp.float64))
        z = toy.normal(2, *toy.LATENTS[kind])
        params = jax.tree.map(jnp.float64, toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT))
        z, context, environment = (jax.tree.map(jnp.float64, x) for x in (z, toy.tokens(6, 2, toy.D), ENVIRONMENT))
        context = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), context, jax.tree.map(jnp.float64, toy.CONTEXT))

        def predict(params, z):
            return denoiser.apply({"params": params}, z, jnp.array([3.0]), context, environment)

        def loss(params, z, repeated):
            return jnp.sin(predict(params, jnp.concatenate([z] * repeated))).sum()

        compared = jax.value_and_grad(loss, argnums=(0, 1)) if kind == "vector" else loss
        shared, repeated = (jax.jit(compared, static_argnums=2)(params, z, n) for n in (1, 2))
        scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(repeated))  # some numbers are float32
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * scale), shared, repeated)
        operations = [count(jax.make_jaxpr(predict)(params, jnp.concatenate([z] * n))).total for n in (1, 2)]
    assert operations[0] < 0.99 * operations[1]


def test_a_masked_environment_token_has_no_effect():
    denoiser = Denoiser(KINDS["vector"], cross_width=toy.E)
    z = toy.normal(2, *toy.LATENTS["vector"])
    params = toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT)
    fewer = Tokens.of(ENVIRONMENT.values[:, :2])
    masked = Tokens(ENVIRONMENT.values, jnp.array([[0.0, 0.0, MASKED]] * toy.B))
    np.testing.assert_allclose(
        toy.apply(denoiser, params, z, toy.T, toy.CONTEXT, masked),
        toy.apply(denoiser, params, z, toy.T, toy.CONTEXT, fewer),
        atol=1e-5,
    )


def test_an_environment_that_does_not_fit_raises():
    z = jnp.zeros(toy.LATENTS["vector"])
    with pytest.raises(ConfigError, match="without cross-modal attention"):
        jax.eval_shape(Denoiser(toy.VECTOR).init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)
    with pytest.raises(ConfigError, match="environment tokens of width 12"):
        jax.eval_shape(Denoiser(toy.VECTOR, 9).init, jax.random.key(0), z, toy.T, toy.CONTEXT, ENVIRONMENT)


@pytest.mark.parametrize("kind", ["spatial", "vector"])
def test_an_environment_for_the_last_samples_is_a_gate_of_zero_for_the_others(kind):
    with jax.enable_x64(True):
        denoiser = Denoiser(KINDS[kind], toy.E, Compute(jnp.float64))
        z = toy.normal(2, *toy.LATENTS[kind]).astype(jnp.float64)
        params = toy.init(denoiser, z, toy.T, toy.CONTEXT, ENVIRONMENT)

        def predict(tokens, gate):
            return denoiser.apply({"params": params}, z, toy.T, toy.CONTEXT, tokens, gate)

        last = jax.tree.map(lambda x: x[1:], ENVIRONMENT)
        want = toy.quick(predict)(ENVIRONMENT, jnp.array([0.0, 0.5]))
        np.testing.assert_allclose(toy.quick(predict)(last, jnp.array([0.5])), want, rtol=1e-6)


@pytest.mark.parametrize("kind", ["spatial", "vector"])
def test_one_timestep_serves_all_samples(kind):
    with jax.enable_x64(True):
        denoiser = Denoiser(KINDS[kind], compute=Compute(jnp.float64))
        z = toy.normal(2, *toy.LATENTS[kind]).astype(jnp.float64)
        params = toy.init(denoiser, z, toy.T, toy.CONTEXT)
        predict = toy.quick(lambda t: denoiser.apply({"params": params}, z, t, toy.CONTEXT))
        one, all_equal, others = (predict(jnp.array(t)) for t in ([700.0], [700.0] * 2, [700.0, 3.0]))
        np.testing.assert_allclose(one, all_equal, rtol=1e-6)
        assert not np.allclose(one, others, rtol=1e-3)
