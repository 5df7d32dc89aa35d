"""Training of timing encoders: the target by hand, what is trained, and who can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.objectives import timing
from codi_jax.objectives.base import StageSpec, make_objective
from codi_jax.objectives.latent_alignment import orthonormal_projection
from tests import toy
from tests.test_timed_model import TIMED, timed


def test_the_target_is_what_the_partner_shows_at_the_time_of_a_token():
    codi, _ = timed()
    columns = jnp.arange(2.0)[None, :, None, None] * jnp.ones((1, 2, 2, 4))  # audio: 0 in its first half, 1 in its last
    got = timing.target(codi, "video", "audio", columns)
    assert got.shape == (1, 8, toy.D)
    ones = np.ones(8) @ orthonormal_projection(8, toy.D)
    np.testing.assert_allclose(got[0], np.outer([0] * 4 + [1] * 4, ones), atol=1e-5)
    frames = jnp.arange(8.0)[None, :, None, None, None] * jnp.ones((1, 8, 2, 2, 4))
    ratio = timing.target(codi, "audio", "video", frames)[0] / (np.ones(16) @ orthonormal_projection(16, toy.D))
    np.testing.assert_allclose(ratio[:, 0], [2, 6], rtol=1e-4)  # a quarter and three quarters of a second


def test_parts_of_more_numbers_than_a_token_are_projected():
    rows = timing.projection(1000, 64)
    assert rows.shape == (1000, 64)
    x = np.random.default_rng(1).normal(size=(50, 1000))
    before, after = (np.linalg.norm(v[1:] - v[:-1], axis=1) for v in (x / np.sqrt(1000 / 64), x @ rows))
    assert np.abs(after / before - 1).max() < 0.5
    np.testing.assert_array_equal(timing.projection(8, 16), orthonormal_projection(8, 16))


def test_the_loss_trains_both_encoders_and_nothing_else():
    codi, variables = timed()
    batch = {name: of for name, of in toy.encoded(codi, 2).items() if name in TIMED}

    def loss(params):
        terms = timing.loss(codi, TIMED, {**variables, "params": params}, batch, jax.random.key(0))
        return terms.loss, terms.metrics

    gradient, metrics = toy.quick(jax.grad(loss, has_aux=True))(variables["params"])
    assert set(metrics) == {"timing/audio", "timing/video"}
    moved = {
        "/".join(str(key.key) for key in path[:2])
        for path, x in jax.tree.leaves_with_path(gradient)
        if np.abs(x).max() > 0
    }
    unets = {codi[name].components["denoiser"] + "/time" for name in TIMED}  # frozen by the stage's rules
    assert moved == {"audio_timing/encoder", "video_timing/encoder"} | unets


def test_outputs_without_a_time_are_refused():
    codi, _ = timed()
    spec = StageSpec(("text", "video"), {})
    with pytest.raises(ConfigError, match=r"^text: no attention in time; set config.model"):
        make_objective("timing", codi, spec)
