"""The views and the labels as modalities."""

import re

import jax
import numpy as np
import pytest

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.modalities import ROLES
from codi_jax.polymnist import LABELS, VIEWS
from codi_jax.presets.polymnist import model


@pytest.fixture(scope="module")
def codi():
    return CoDi(model(32))


def test_views_share_their_codec_and_nothing_else(codi):
    assert tuple(codi.modalities) == (*VIEWS, *LABELS)
    named = [component for name in codi.modalities for component in codi[name].components.values()]
    assert named.count("view_codec") == 3 and len(set(named)) == len(named) - 2
    for name in VIEWS:
        assert tuple(codi[name].components) == ROLES and codi[name].name == name
        assert codi[name].latent_shape == (8, 8, 8)
        pixels = np.zeros((32, 32, 3), np.uint8)
        np.testing.assert_array_equal(codi[name].raw_from_batch({name: pixels[None]})[0], pixels)


@pytest.mark.parametrize("name", LABELS)
def test_a_label_survives_its_codec_and_its_file(codi, name, tmp_path):
    """The nearest embedding is the right one within noise of its posterior."""
    label, values = codi[name], list(LABELS[name])
    media = label.prepare({name: np.arange(len(values))})
    np.testing.assert_array_equal(label.preprocess(values), media)
    params = label.init("codec", jax.random.key(1))
    mean, logvar = label.encode_moments(params, media)
    np.testing.assert_allclose(np.square(mean).sum(-1), label.latent_shape[0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(0.5 * np.asarray(logvar)), 0.2, rtol=1e-5)
    noise = 0.2 * jax.random.normal(jax.random.key(2), mean.shape)
    assert label.postprocess(label.decode(params, mean + noise)) == values
    assert label.raw_from_batch({name: np.asarray(media)}) == values
    label.write(values[1], tmp_path / "x.txt")
    assert label.raw_from_user((tmp_path / "x.txt").read_text()) == values[1] == label.raw_from_user(1)
    assert label.user_from_raw(values[2]) == values[2] and values[1] in label.html(values[1])


def test_the_loss_of_a_label_is_the_cross_entropy_of_its_value(codi):
    """Of orthonormal embeddings e, z = √C e_k has logits √C at k and 0 elsewhere, with C = 16."""
    label = codi["quadrant"]
    params = {"embedding": np.eye(4, 16, dtype=np.float32)}
    loss, metrics = label.reconstruction(params, np.array([2]), 4 * np.eye(4, 16)[[2]], jax.random.key(0))
    np.testing.assert_allclose(loss, -np.log(np.exp(4) / (np.exp(4) + 3)), rtol=1e-5)
    assert metrics["exact"] == 1


def test_prompts_of_labels_are_distinct_and_of_unit_norm(codi):
    label = codi["digit"]
    params = label.init("prompt", jax.random.key(0))
    prompts = np.concatenate(
        [label.embed(params, label.preprocess(LABELS["digit"])), label.embed(params, label.empty(1))]
    )
    np.testing.assert_allclose(np.linalg.norm(prompts, axis=1), 1, rtol=1e-5)
    assert prompts.shape == (11, 64) and (prompts @ prompts.T - np.eye(11)).max() < 0.9


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("digit", "seven", "digit: no value 'seven'; there are 0, 1, "),
        ("digit", 10, "digit: expected one of 0, 1, "),
        ("digit", True, "digit: expected one of 0, 1, "),
        ("quadrant", "uper left", "quadrant: no value 'uper left' (did you mean upper left?); there are "),
    ],
)
def test_other_values_are_refused(codi, name, value, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        codi[name].raw_from_user(value)
