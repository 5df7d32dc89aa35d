"""The pictures of the concepts, from a toy with random parameters."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.pictures import activations, draw
from benchmarks.pictures.activations import Real
from tests import toy

N = 10


def real_of(*names):
    codi = toy.codi(*names)
    encoded = toy.encoded(codi, N)
    latents, prompts = (
        {name: jnp.asarray(getattr(of, key)) for name, of in encoded.items()} for key in ("mean", "prompt")
    )
    return Real(codi, toy.variables(codi), {"digit": np.arange(N) % 5}, latents, prompts)


@pytest.fixture(scope="module")
def real():
    return real_of()


def test_without_noise_a_latent_is_itself_and_at_the_end_it_is_noise(real):
    np.testing.assert_allclose(real.noisy("image", 0.0), real.latents["image"], atol=0.1)
    late = [real.noisy("image", 1.0, draw) for draw in (0, 0, 1)]
    np.testing.assert_array_equal(late[0], late[1])
    assert abs(np.corrcoef(np.ravel(late[0]), np.ravel(real.latents["image"]))[0, 1]) < 0.3
    assert np.abs(late[0] - late[2]).max() > 0.5


def test_cosines_of_prompts_by_hand(real):
    prompts = {"text": jnp.eye(toy.D)[: N // 2].repeat(2, 0), "image": jnp.eye(toy.D)[: N // 2].repeat(2, 0)}
    same = dataclasses.replace(real, prompts=prompts, factors={"digit": np.arange(N) // 2})
    np.testing.assert_allclose(activations.alignment(same, "text", "image", "digit", N // 2), np.eye(N // 2), atol=1e-6)


def test_cosines_of_tokens_are_symmetric(real):
    same, other = activations.token_cosines(real, 0.5)
    assert (np.abs(same) <= 1 + 1e-6).all() and (np.abs(other) <= 1 + 1e-6).all()
    np.testing.assert_allclose(same, same.T, atol=1e-6)
    assert (np.diag(same) > np.diag(other)).all()  # two draws of noise of one sample, and two samples


def test_the_only_other_output_makes_all_of_the_change(real):
    assert activations.change(real, "image", 0.9, ["text"]) > 0
    assert activations.shares(real, "image", 0.9) == {"text": pytest.approx(1.0)}


def test_tokens_count_by_their_norms_where_they_do_in_sampling():
    """Of x and a token of no length it is x, as of x twice; their mean is another one."""
    real = real_of("text", "image", "audio")
    x = real.tokens("text", 0.9)
    both, one = ({"text": x, "image": x, "audio": x * scale} for scale in (1.0, 1e-4))
    for by_norm in (True, False):
        of = dataclasses.replace(real, by_norm=by_norm)
        apart = np.abs(of.predicted("image", 0.9, tokens=both) - of.predicted("image", 0.9, tokens=one)).max()
        assert (apart < 1e-5) == by_norm, apart


def test_an_output_whose_others_show_nothing_does_not_change(real, monkeypatch):
    zeros = jnp.zeros_like(real.tokens("text", 0.9))
    real = dataclasses.replace(real)  # keeps nothing yet
    monkeypatch.setattr(Real, "tokens", lambda self, name, level, draw=0: zeros)
    assert activations.change(real, "image", 0.9, ["text"]) == 0.0
    assert activations.shares(real, "image", 0.9) == {"text": 0.0}


def test_pictures_are_files_of_svg(real):
    text = draw.strip([("a row", [np.zeros((2, 2, 3), np.uint8)] * 2)], ["0", "1"], "a strip")
    assert len(ElementTree.fromstring(text).findall("{*}image")) == 2
    curves = ElementTree.fromstring(draw.strength(real))
    assert len(curves.findall("{*}path")) == 2 and curves.find("{*}title").text
    for picture in (draw.bridging, draw.tokens, draw.partners):
        assert len(ElementTree.fromstring(picture(real)).findall("{*}rect")) > 4
