"""Every loss on a case that can be computed by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion import process
from codi_jax.objectives import bridging, codec, conditioning, latent_alignment, ldm
from codi_jax.objectives.conditioning import PromptConfig
from codi_jax.objectives.latent_alignment import LatentAlignmentConfig
from tests.objectives.constant_model import ConstantModality, ConstantModel, encoded

KEY = jax.random.key(0)
EYE = jnp.eye(4, 6)


def test_infonce_of_orthonormal_embeddings():
    # Logits are s on the diagonal and 0 elsewhere: -log softmax = log(1 + 3 e^-s) for every row and column.
    s = 3.0
    assert float(bridging.infonce(EYE, EYE, jnp.float32(s))) == pytest.approx(np.log1p(3 * np.exp(-s)), rel=1e-5)
    assert float(bridging.infonce(EYE, -EYE, jnp.float32(s))) == pytest.approx(np.log1p(3 * np.exp(s)), rel=1e-5)
    constant = jnp.ones((4, 1))
    assert float(bridging.infonce(constant, constant, jnp.float32(s))) == pytest.approx(np.log(4), rel=1e-5)


def test_infonce_is_symmetric():
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in jax.random.normal(KEY, (2, 5, 6)))
    assert float(bridging.infonce(a, b, jnp.float32(9))) == pytest.approx(float(bridging.infonce(b, a, jnp.float32(9))))


def test_siglip_of_orthonormal_embeddings():
    # A row has one positive of logit s + b and three negatives of logit b.
    s, b = 3.0, -1.0
    want = np.log1p(np.exp(-(s + b))) + 3 * np.log1p(np.exp(b))
    assert float(bridging.siglip(EYE, EYE, jnp.float32(s), jnp.float32(b))) == pytest.approx(want, rel=1e-5)


def test_the_initial_temperature_is_as_published_and_is_capped():
    assert np.exp(bridging.init(bridging.BridgingConfig())["bridging"]["logit_scale"]) == pytest.approx(1 / 0.07)
    params = bridging.init(bridging.BridgingConfig("siglip"))["bridging"]
    assert (np.exp(params["logit_scale"]), params["logit_bias"]) == (pytest.approx(10.0), -10.0)

    class Embeds:
        component = staticmethod(lambda variables, role: None)
        embed = staticmethod(lambda params, media: media)

    variables = {"params": {"bridging": {"logit_scale": jnp.float32(9.0)}}}
    model, config = {"a": Embeds(), "b": Embeds()}, bridging.BridgingConfig()
    value, metrics = bridging.loss(model, ("a", "b"), config, variables, {"a": EYE, "b": EYE}, KEY)
    assert float(metrics["scale"]) == 100 and float(metrics["retrieval"]) == 1
    assert float(value) == pytest.approx(0, abs=1e-6)
    config = bridging.BridgingConfig(max_scale=2.0)
    value, metrics = bridging.loss(model, ("a", "b"), config, variables, {"a": EYE, "b": EYE}, KEY)
    assert float(metrics["scale"]) == 2
    assert float(value) == pytest.approx(np.log(np.exp(2) + len(EYE) - 1) - 2, rel=1e-5)
    with pytest.raises(ConfigError, match=r"^max_scale: 0.0 is not positive$"):
        bridging.BridgingConfig(max_scale=0.0)


def test_views_contrast_a_modality_with_itself():
    # Prompt: EYE, full: its rows in another order; the other modality is EYE. With orthonormal rows and logits s on the
    # diagonal the loss is log(1 + 3 e^-s); with the s off the diagonal it is larger by s.
    s, right = 2.0, np.log1p(3 * np.exp(-2.0))

    class Words:
        component = staticmethod(lambda variables, role: None)
        embed = staticmethod(lambda params, media, untruncated=False: media["full" if untruncated else "prompt"])

    class Sights:
        component = staticmethod(lambda variables, role: None)
        embed = staticmethod(lambda params, media: media)

    model, variables = {"a": Words(), "b": Sights()}, {"params": bridging.init(bridging.BridgingConfig())}
    batch = {"a": {"prompt": EYE, "full": EYE}, "b": EYE}

    def loss(pair, views, batch=batch):
        config = bridging.BridgingConfig(max_scale=s, views=views)
        value, metrics = bridging.loss(model, pair, config, variables, batch, KEY)
        assert float(metrics["retrieval"]) == 1
        return float(value)

    for pair in (("a", "b"), ("b", "a")):
        assert loss(pair, ()) == pytest.approx(right, rel=1e-5)
        assert loss(pair, ("a",)) == pytest.approx(2 * right, rel=1e-5)
        other = {**batch, "a": {"prompt": EYE, "full": EYE[::-1]}}
        assert loss(pair, ("a",), other) == pytest.approx(2 * right + s, rel=1e-5)
        assert loss(pair, (), other) == pytest.approx(right, rel=1e-5)


def test_prompt_statistics_centre_and_scale():
    x = np.random.default_rng(0).normal(3, 2, (500, 4))
    constants = bridging.prompt_statistics(jnp.asarray(x))
    c = (x - constants["centre"]) * constants["gain"]
    np.testing.assert_allclose(c.mean(0), 0, atol=1e-4)
    assert c.var(0).mean() == pytest.approx(1, rel=1e-4)


def test_codec_loss_is_reconstruction_and_kl_with_free_bits():
    mean, logvar = jnp.array([[0.0, 2.0], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [np.log(4.0), 0.0]])

    class Codec:
        component = staticmethod(lambda variables, role: None)
        encode_moments = staticmethod(lambda params, media: (mean, logvar))
        reconstruction = staticmethod(lambda params, media, latent, key: (jnp.array([10.0, 20.0]), {"seen": latent}))

    kl = np.array([[0, 2.0], [0.5 * (4 - 1 - np.log(4)), 0]])
    for weight, free in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (1.0, 3.0)):
        config = codec.CodecConfig(weight, free)
        value, metrics = codec.loss({"a": Codec()}, "a", config, {}, {"a": None}, KEY)
        assert float(value) == pytest.approx(15 + weight * np.maximum(kl, free).sum(1).mean(), rel=1e-5)
        assert float(metrics["reconstruction"]) == 15
        assert float(metrics["kl"]) == pytest.approx(kl.sum(1).mean(), rel=1e-5)


def test_latent_statistics_normalise_posterior_samples():
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(2, 3, (4000, 2, 2, 3)), rng.normal(-1, 0.3, (4000, 2, 2, 3))
    constants = codec.latent_statistics(jnp.asarray(mean), jnp.asarray(logvar))
    z = mean + np.exp(0.5 * logvar) * rng.normal(size=mean.shape)
    z = (z - constants["shift"]) * constants["scale"]
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=0.02)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "flow"])
def test_ldm_loss_of_a_constant_answer(prediction):
    model, batch = ConstantModel(prediction, a=ConstantModality(answer=0.5)), {"a": encoded(64)}
    config = ldm.LDMConfig(PromptConfig(("a",), drop=0.0))
    value, _ = ldm.loss(model, "a", config, {}, batch, KEY)
    (call,) = model["a"].calls
    assert call.environment is None and call.gate is None
    np.testing.assert_array_equal(call.context.values, 1)
    sample = conditioning.add_noise(model, "a", batch["a"], call.t, KEY)
    target = process.target(model.schedule, sample.z, sample.noise, call.t, prediction)
    assert float(value) == pytest.approx(float(jnp.square(target - 0.5).mean()), rel=1e-5)
    if prediction == "x0":
        assert float(value) == 0.25  # z is 0 everywhere


def align(model, **options):
    options = {"losses": ("a", "b"), "aligned": ("a", "b"), "prompts": PromptConfig(("a", "b"), drop=1.0), **options}
    batch = {"a": encoded(8, full=1.0), "b": encoded(8, full=2.0)}
    return latent_alignment.loss(model, ("a", "b"), LatentAlignmentConfig(**options), {}, batch, KEY)


def constant_pair():
    return ConstantModel("x0", a=ConstantModality(answer=0.5, token=3.0), b=ConstantModality(answer=1.0, token=4.0))


def test_alignment_sums_both_losses_and_the_anchor():
    # x0 is 0: the losses are 0.5² and 1². Tokens 3 and 4 against the partners' embeddings 2 and 1: (3-2)² and (4-1)².
    value, metrics = align(constant_pair(), align_weight=0.1)
    got = {k: float(v) for k, v in metrics.items()}
    assert got == {"loss/a": 0.25, "loss/b": 1.0, "align/a": 1.0, "align/b": 9.0}
    assert float(value) == pytest.approx(1.25 + 0.1 * 10)


def test_only_the_named_losses_and_alignments_count():
    value, metrics = align(constant_pair(), losses=("a",), aligned=("b",))
    assert set(metrics) == {"loss/a", "align/b"} and float(value) == pytest.approx(0.25 + 9)
    value, metrics = align(constant_pair(), losses=())  # environment encoders by the anchor alone
    assert set(metrics) == {"align/a", "align/b"} and float(value) == pytest.approx(10)
    value, metrics = align(constant_pair(), align="none")
    assert set(metrics) == {"loss/a", "loss/b"} and float(value) == pytest.approx(1.25)


def test_anchor_with_target_own():
    # Tokens 3 and 4 against the own embeddings 1 and 2.
    _, metrics = align(constant_pair(), target="own")
    assert float(metrics["align/a"]) == 4.0 and float(metrics["align/b"]) == 4.0


def test_anchor_with_a_named_target():
    # Tokens 3 and 4 against the embedding of b, 2.
    _, metrics = align(constant_pair(), target="b")
    assert float(metrics["align/a"]) == 1.0 and float(metrics["align/b"]) == 4.0
    with pytest.raises(ConfigError, match=r"^latent_alignment: target c is not in a batch of a and b$"):
        align(constant_pair(), target="c")


def test_a_pair_without_an_optional_target_trains_the_denoisers_alone():
    value, metrics = align(constant_pair(), target="c", optional_target=True)
    assert set(metrics) == {"loss/a", "loss/b"} and float(value) == pytest.approx(1.25)
    assert float(align(constant_pair(), target="c", optional_target=True, losses=())[0]) == 0
    _, metrics = align(constant_pair(), target="b", optional_target=True)
    assert set(metrics) == {"loss/a", "loss/b", "align/a", "align/b"}


@pytest.mark.parametrize(
    "losses, aligned, kind, read",
    [
        (("a",), (), "anchor", ("b",)),  # A attends to V_B
        ((), ("a",), "anchor", ("a",)),
        (("a",), ("a",), "none", ("b",)),
        (("a", "b"), (), "anchor", ("a", "b")),
        ((), (), "contrastive", ("a", "b")),
    ],
)
def test_the_environment_encoders_that_a_loss_reads(losses, aligned, kind, read):
    config = LatentAlignmentConfig(losses=losses, aligned=aligned, align=kind, prompts=PromptConfig(("a",)))
    assert config.environments(("a", "b")) == read
    own = dataclasses.replace(config, own_share=0.5)
    assert set(own.environments(("a", "b"))) == {*read, *losses}


def test_each_output_attends_to_its_partner_alone():
    model = constant_pair()
    align(model)
    for name, other in (("a", 4.0), ("b", 3.0)):
        (call,) = model[name].calls
        np.testing.assert_array_equal(call.environment.values, other)
        np.testing.assert_array_equal(call.gate, 1)
    np.testing.assert_array_equal(model["a"].calls[0].context.values, model["b"].calls[0].context.values)


def test_an_environment_mixed_with_its_own_is_between_both():
    # Tokens are 3 of a and 4 of b: a attends to (1-u) 4 + u 3, b to (1-u) 3 + u 4, with u in [0, s), of each sample.
    model, s = constant_pair(), 0.6
    value, _ = align(model, own_share=s)
    shares = {}
    for name, partner, own in (("a", 4.0, 3.0), ("b", 3.0, 4.0)):
        (call,) = model[name].calls
        assert call.environment.values.shape == (8, 1, 4)
        np.testing.assert_array_equal(call.environment.bias, 0)
        u = np.asarray(call.environment.values - partner) / (own - partner)
        np.testing.assert_allclose(u, np.broadcast_to(u[:, :, :1], u.shape), atol=1e-5)
        shares[name] = u[:, 0, 0]
        assert (u >= 0).all() and (u < s).all() and np.unique(shares[name]).size == 8
    assert not np.allclose(shares["a"], shares["b"])
    assert float(value) == float(align(constant_pair())[0])  # of constant answers
    with pytest.raises(ConfigError, match=r"^own_share: expected a number between 0 and 1, got 1.5$"):
        align(constant_pair(), own_share=1.5)


def test_the_own_environment_is_at_another_noise_level_and_trains_no_encoder():
    """The tokens are the noisy latents themselves, times a parameter."""

    class Latents(ConstantModality):
        def environment_tokens(self, variables, z, t, timed=True):
            self.seen.append((z, t))
            return variables["scale"] * z[:, None]

        def denoise(self, variables, z, t, context, environment=None, gate=None):
            super().denoise(variables, z, t, context, environment, gate)
            return environment.values[:, 0]

    def loss(variables, own_share):
        for modality in model.values():
            modality.seen = []
        batch = {"a": encoded(8), "b": encoded(8)}
        options = {"aligned": (), "prompts": PromptConfig(("a", "b"), drop=1.0), "own_share": own_share}
        config = LatentAlignmentConfig(losses=("a",), **options)
        return latent_alignment.loss(model, ("a", "b"), config, variables, batch, KEY).loss

    model = ConstantModel("x0", a=Latents(), b=Latents())
    assert np.isfinite(loss({"scale": 2.0}, 0.5))
    assert len(model["b"].seen) == 1 and len(model["a"].seen) == 2  # a of the loss's noisy sample, and of another
    (z, t), (other, other_t) = model["a"].seen
    assert not np.array_equal(t, other_t) and not np.array_equal(z, other)
    # A alone in its own environment: the loss does not train V of A.
    tokens = jnp.zeros((8, 1, 3))

    config = LatentAlignmentConfig(("a",), (), PromptConfig(("a", "b")), own_share=1.0)

    def mixed(scale):
        environment = latent_alignment.environment(model, "a", config, {"scale": scale}, encoded(8), ("b", tokens), KEY)
        return environment.values.sum()

    assert float(jax.grad(mixed)(jnp.float32(2.0))) == 0


def test_noise_of_the_environment_has_its_standard_deviation_and_leaves_the_anchor_alone():
    model, sigma = constant_pair(), 0.7
    quiet, noisy = align(constant_pair()), align(model, environment_noise=sigma)
    (a,), (b,) = model["a"].calls, model["b"].calls
    noise = np.stack([a.environment.values - 4.0, b.environment.values - 3.0])  # the tokens are 3 of a and 4 of b
    assert abs(noise.std() - sigma) < 0.2 and abs(noise.mean()) < 0.25  # 64 draws
    assert np.unique(noise).size == noise.size
    for metric in ("align/a", "align/b"):
        np.testing.assert_array_equal(noisy[1][metric], quiet[1][metric])
    with pytest.raises(ConfigError, match=r"^environment_noise: expected a number of at least 0, got -1.0$"):
        align(constant_pair(), environment_noise=-1)


def test_timesteps_are_independent_or_shared():
    for timesteps in ("independent", "shared"):
        model = constant_pair()
        align(model, timesteps=timesteps)
        a, b = (np.asarray(model[name].calls[0].t) for name in ("a", "b"))
        assert np.array_equal(a, b) == (timesteps == "shared")
        assert not np.array_equal(model["a"].calls[0].z, model["b"].calls[0].z)  # the noise is always independent


def test_contrastive_alignment_of_orthonormal_tokens():
    tokens = EYE[:, None] * 7.0  # the norm does not matter
    want = np.log1p(3 * np.exp(-1 / 0.5))
    assert float(latent_alignment.contrastive(tokens, tokens, 0.5)) == pytest.approx(want, rel=1e-5)


def test_anchor_with_known_tokens():
    tokens = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    assert float(latent_alignment.anchor(tokens, jnp.array([[1.0, 1.0]]))) == pytest.approx((0 + 1 + 4 + 9) / 4)


def test_orthonormal_projection_keeps_lengths_and_angles():
    np.testing.assert_array_equal(latent_alignment.orthonormal_projection(5, 5), np.eye(5))
    rows = latent_alignment.orthonormal_projection(5, 12)
    assert rows.shape == (5, 12)
    np.testing.assert_allclose(rows @ rows.T, np.eye(5), atol=1e-6)
    again = latent_alignment.orthonormal_projection.__wrapped__(5, 12)
    np.testing.assert_array_equal(rows, again)  # it is drawn from a fixed seed
    with pytest.raises(ValueError, match="at least the prompt width 5"):
        latent_alignment.orthonormal_projection(5, 4)
