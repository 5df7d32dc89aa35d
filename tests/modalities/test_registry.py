"""The interface of every modality in the registry."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media.audio import Audio
from codi_jax.modalities import MODALITIES, ROLES
from codi_jax.modalities import image as image_module
from tests import toy

KEY = jax.random.key(0)
SECONDS = np.arange(8192) / 8000
VALUES = {
    "text": ["the digit seven in red", "a blue one"],
    "image": list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)),
    "audio": [np.round(9000 * np.sin(2 * np.pi * hertz * SECONDS)).astype(np.int16) for hertz in (300, 900)],
    "video": list(np.random.default_rng(0).integers(0, 256, (2, 8, 4, 4, 3), np.uint8).repeat(8, 2).repeat(8, 3)),
}


def everything():
    return toy.codi(*toy.EVERYTHING)


@pytest.fixture(scope="module")
def variables():
    return toy.variables(everything())


each = pytest.mark.parametrize("name", MODALITIES)


@each
def test_names_roles_and_files(name):
    cls = MODALITIES[name]
    assert cls.name == name and cls.suffix.startswith(".")
    assert tuple(cls.components) == ROLES
    assert len(set(cls.components.values())) == len(ROLES)


@each
def test_media_of_every_origin_has_one_structure(name):
    modality = everything()[name]

    def kinds(media):
        return jax.tree.map(lambda x: (x.shape, x.dtype), media)

    want = kinds(modality.example(2))
    assert kinds(modality.empty(2)) == want
    assert kinds(modality.preprocess(VALUES[name])) == want


@each
def test_the_codec_is_deterministic_and_has_the_shape_of_the_latent(name, variables):
    modality = everything()[name]
    params, media = modality.component(variables, "codec"), modality.preprocess(VALUES[name])
    mean, logvar = toy.quick(modality.encode_moments)(params, media)
    assert mean.shape == logvar.shape == (2, *modality.latent_shape)
    decode = toy.quick(modality.decode_latent)
    values = modality.postprocess(jax.device_get(decode(variables, mean)))
    again = modality.postprocess(jax.device_get(decode(variables, mean)))
    assert len(values) == 2 and all(np.array_equal(a, b) for a, b in zip(values, again, strict=True))
    assert type(values[0]) is type(VALUES[name][0])


@each
def test_reconstruction_is_a_loss_per_sample(name, variables):
    modality = everything()[name]
    params, media = modality.component(variables, "codec"), modality.preprocess(VALUES[name])
    latent = jax.random.normal(KEY, (2, *modality.latent_shape))
    loss, metrics = toy.quick(modality.reconstruction)(params, media, latent, KEY)
    assert loss.shape == (2,) and (loss > 0).all() and all(np.isfinite(x) for x in metrics.values())


@each
def test_prompt_embeddings_have_unit_norm(name, variables):
    modality = everything()[name]
    embed = toy.quick(lambda v, m: modality.embed(modality.component(v, "prompt"), m))
    prompts = embed(variables, modality.preprocess(VALUES[name]))
    np.testing.assert_allclose(jnp.linalg.norm(prompts, axis=-1), 1, rtol=1e-5)
    assert not np.allclose(prompts[0], prompts[1])


@each
def test_a_raw_value_survives_its_file_and_has_html(name, tmp_path):
    modality, value = everything()[name], VALUES[name][0]
    path = tmp_path / f"x{modality.suffix}"
    modality.write(value, path)
    back = modality.raw_from_user(path.read_text() if name == "text" else str(path))
    assert type(back) is type(value)
    if name in ("text", "image"):
        np.testing.assert_array_equal(back, value)
    else:  # audio is scaled to floats and back, video is compressed
        assert (back.shape, back.dtype) == (value.shape, value.dtype)
        assert np.abs(back.astype(int) - value).mean() < (1 if name == "audio" else 12)
    assert re.search(rf'class="{name}"|<{name} ', modality.html(value))


@each
def test_what_a_user_gets_can_be_given_back(name):
    modality, value = everything()[name], VALUES[name][0]
    given = modality.user_from_raw(value)
    assert isinstance(given, {"text": str, "image": Image.Image, "audio": Audio, "video": np.ndarray}[name])
    np.testing.assert_array_equal(modality.raw_from_user(given), value)


@each
def test_a_file_may_be_given_as_its_contents(name, tmp_path):
    if name == "text":
        return
    modality, path = everything()[name], tmp_path / "x"
    modality.write(VALUES[name][0], path.with_suffix(modality.suffix))
    path = path.with_suffix(modality.suffix)
    of_path = modality.raw_from_user(path)
    np.testing.assert_array_equal(modality.raw_from_user(path.read_bytes()), of_path)
    np.testing.assert_array_equal(modality.raw_from_user(str(path)), of_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("text", 7, "text: expected a string, got int"),
        ("text", ("a", "b"), "text: expected a string, got tuple; a batch is a list"),
        ("image", 7, "image: expected a file, an image of Pillow or uint8 [H, W, 3], got int"),
        ("image", np.zeros((4, 4, 3)), "image: expected uint8 [H, W, 3], got float64 [4, 4, 3]"),
        ("image", np.zeros((2, 4, 4, 3), np.uint8), "image: expected uint8 [H, W, 3], got uint8 [2, 4, 4, 3]"),
        ("image", b"no image", "a file of 8 bytes: not an image of a known format"),
        ("audio", None, "audio: expected a file, an Audio(samples, rate) or an array [L], got NoneType"),
        ("audio", np.zeros((2, 9)), "audio: expected float or int16 [L], got float64 [2, 9]"),
        ("audio", np.full(9, np.nan), "audio: NaN or infinite samples"),
        ("audio", Audio(np.zeros(9), 0), "audio: a rate of 0 samples a second"),
        ("video", "absent.mp4", "absent.mp4: no such video file"),
        ("video", np.zeros((0, 4, 4, 3), np.uint8), "video: expected uint8 [T, H, W, 3], got uint8 [0, 4, 4, 3]"),
    ],
)
def test_values_that_are_none_of_a_modality_are_named(name, value, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        everything()[name].raw_from_user(value)


def test_a_waveform_is_resampled_and_filled_up():
    audio = everything()["audio"]
    tone = np.sin(2 * np.pi * 300 * np.arange(4000) / 16000).astype(np.float32)
    raw = audio.raw_from_user(Audio(tone, 16000))
    assert raw.shape == (8192,) and raw.dtype == np.int16 and not raw[2010:].any()
    want = np.round(32768 * np.sin(2 * np.pi * 300 * np.arange(1900) / 8000))
    assert np.abs(raw[100:1900] - want[100:]).max() < 300


def test_frames_are_cut_or_the_last_one_repeated():
    video, frames = everything()["video"], VALUES["video"][0]
    np.testing.assert_array_equal(video.raw_from_user(np.concatenate([frames, frames[:2]])), frames)
    np.testing.assert_array_equal(video.raw_from_user(frames[:3]), frames[[0, 1, 2, 2, 2, 2, 2, 2]])


@each
def test_previews_of_values_are_a_text_or_pixels_of_all_of_them(name):
    one, two = (everything()[name].preview(VALUES[name][:1] * n) for n in (1, 2))
    if name == "text":
        assert two == f"{one}\n{one}"
    else:
        axis = 0 if name == "video" else 1
        assert one.dtype == np.uint8 and one.shape[2] == 3
        np.testing.assert_array_equal(two, np.concatenate([one, one], axis=axis))


def test_html_of_text_is_escaped():
    assert "<b>" not in toy.codi()["text"].html("<b>bold</b>")
    assert "(empty)" in toy.codi()["text"].html("")


def test_text_round_trip():
    text = toy.codi()["text"]
    assert text.postprocess(text.preprocess(VALUES["text"])["target"]) == VALUES["text"]
    assert text.raw_from_user("  a \t red\n seven ") == "a red seven"


def test_text_reconstruction_is_the_cross_entropy_without_padding(variables):
    tree = toy.model()
    tree["modalities"]["text"]["word_dropout"] = 0.0
    text = type(toy.codi()).from_config(tree)["text"]
    params, media, latent = text.component(variables, "codec"), text.preprocess(VALUES["text"]), jnp.ones((2, 16))

    @toy.quick
    def both(params):
        logits = text.codec.apply({"params": params}, latent, media["target"][:, :-1], method="decode_logits")
        return text.reconstruction(params, media, latent, KEY)[0], jax.nn.log_softmax(logits)

    loss, log_probability = both(params)
    labels, pad = np.asarray(media["target"])[:, 1:], text.config.codec.pad
    for i, ids in enumerate(labels):
        want = -sum(float(log_probability[i, j, token]) for j, token in enumerate(ids) if token != pad)
        assert (ids == pad).sum() > 0 and float(loss[i]) == pytest.approx(want, rel=1e-5)


def test_an_image_file_is_center_cropped_and_resized(tmp_path):
    image = toy.codi()["image"]
    pixels = np.zeros((40, 80, 4), np.uint8)
    pixels[:, 20:60] = (200, 100, 50, 255)
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    got = image.raw_from_user(str(path))
    assert got.shape == (32, 32, 3)
    np.testing.assert_array_equal(got, np.broadcast_to([200, 100, 50], (32, 32, 3)))


def test_pixels_are_scaled_to_minus_one_to_one_and_back():
    image, values = toy.codi()["image"], VALUES["image"]
    media = np.asarray(image.preprocess(values))
    assert media.min() >= -1 and media.max() <= 1
    assert np.abs(np.asarray(image.postprocess(media), int) - np.asarray(values, int)).max() <= 1
    assert image.postprocess(np.full((1, 2, 2, 3), 7.0))[0].max() == 255


def test_an_image_of_too_many_pixels_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module.files, "MAX_PIXELS", 100)
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    with pytest.raises(ConfigError, match="20x20 is over 100 pixels"):
        toy.codi()["image"].raw_from_user(str(path))


def test_sizes_that_do_not_fit_raise():
    tree = toy.model()
    tree["modalities"]["image"]["size"] = 40
    with pytest.raises(ConfigError, match=r"image\.size: 40 is not a multiple of 16"):
        type(toy.codi()).from_config(tree)
    tree = toy.model()
    tree["modalities"]["text"]["tokenizers"] = ("digit_world",)
    with pytest.raises(ConfigError, match="expected three"):
        type(toy.codi()).from_config(tree)
