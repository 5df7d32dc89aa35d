"""SIM and its towers."""

import jax
import numpy as np
import pytest

from codi_jax import packaged
from codi_jax.config import ConfigError
from codi_jax.digit_world.judges import similarity
from codi_jax.digit_world.judges.similarity import Similarity, SimilarityConfig, coherence, sim
from tests import toy

RNG = np.random.default_rng(0)


def unit(*shape):
    x = RNG.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def codi():
    return toy.codi()


@pytest.fixture(scope="module")
def params(codi):
    names = [similarity.component(name) for name in codi.modalities]
    return jax.jit(lambda key: similarity.init(codi, key, names), compiler_options=toy.QUICK)(jax.random.key(0))


def test_sim_by_hand():
    a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.6, 0.8], [0.6, 0.8]])
    assert sim([a, b]) == pytest.approx((0.6 + 0.8) / 2)
    assert sim([a, b, a]) == pytest.approx((0.7 + 1.0 + 0.7) / 3)


def test_coherence_of_equal_and_of_independent_embeddings():
    a, other = unit(64, 16), unit(64, 16)
    result = coherence({"text": a, "image": a}, {"text": a, "image": other, "audio": other})
    assert result["n"] == 64 and result["joint"] == pytest.approx(1)
    assert abs(result["independent"]) < 0.15 and abs(result["shuffled"]) < 0.15


def test_the_towers_have_separate_weights(codi, params):
    assert not set(params) & set(codi.component_names())
    assert set(params) == {"text_similarity", "image_similarity"}
    shapes = jax.tree.map(np.shape, codi.shapes("clip_vision"))
    assert jax.tree.map(np.shape, params["image_similarity"]) == shapes


def test_the_loss_is_the_mean_infonce_over_all_pairs(codi, params):
    batch = {
        "text": codi["text"].preprocess(["seven in red", "a blue one"]),
        "image": np.zeros((2, 32, 32, 3), np.float32),
    }
    batch["image"][1] = 0.5
    value, metrics = similarity.loss(codi, SimilarityConfig(0.5), {"params": params}, batch, jax.random.key(0))
    a, b = similarity.embed(codi, params, batch).values()
    logits = np.asarray(a @ b.T) / 0.5
    log_p = lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))  # noqa: E731
    by_hand = -(np.trace(log_p(logits)) + np.trace(log_p(logits.T))) / 4
    assert float(value) == pytest.approx(by_hand, rel=1e-5)
    assert 0 <= float(metrics["retrieval/text+image"]) <= 1


def test_embeddings_do_not_depend_on_the_batch_size(codi, params):
    values = {"text": ["seven in red", "a blue one", "five"], "image": list(RNG.random((3, 32, 32, 3)) * 255)}
    values["image"] = [image.astype(np.uint8) for image in values["image"]]
    whole, parts = (Similarity(codi, params, batch)(values) for batch in (3, 2))
    for name in values:
        assert whole[name].shape == (3, toy.D)
        np.testing.assert_allclose(np.linalg.norm(whole[name], axis=-1), 1, rtol=1e-5)
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-6)


def test_the_temperature_must_be_positive():
    with pytest.raises(ConfigError, match="temperature"):
        SimilarityConfig(0.0)


def test_towers_of_a_package_embed_the_values_of_a_model():
    package = packaged.open_package(str(toy.random_package()))
    values = {"text": ["seven in red", "a blue one"], "image": [np.full((32, 32, 3), x, np.uint8) for x in (9, 200)]}
    params = toy.params(toy.codi(), seed=1)
    params = {"text_similarity": params["clip_text"], "image_similarity": params["clip_vision"]}
    expected = Similarity(toy.codi(), params, 2)(values)
    embeddings = similarity.from_package(toy.codi(compat="release"), package, 2)(values)
    for name in values:
        np.testing.assert_array_equal(embeddings[name], expected[name])
    assert similarity.from_package(toy.codi(*toy.EVERYTHING), package, 2) is None
