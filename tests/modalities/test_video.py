"""The video modality: components shared with image, and components of its own."""

import base64
import io
import re

import jax
import numpy as np
import pytest
from PIL import Image

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.parallel import paths
from tests import toy

NAMES = ("image", "video")
FRAMES = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def video():
    return toy.codi(*NAMES)["video"]


def model(**changes):
    """The config of the toy model of image and video, with changes for video."""
    tree = toy.model(NAMES)
    tree["modalities"]["video"].update(changes)
    return tree


def test_media_is_frames_of_pixels(video):
    batch = DigitWorld(WorldConfig(size=3, modalities=("video",))).read(range(3))
    media = video.prepare(batch)
    assert media.shape == video.example(3).shape == (3, 8, 32, 32, 3)
    values = video.raw_from_batch(batch)
    assert [(v.shape, v.dtype) for v in values] == [((8, 32, 32, 3), np.dtype("uint8"))] * 3
    np.testing.assert_allclose(video.preprocess(values), media, atol=2 / 255 + 1e-6)
    assert video.latent_shape == (8, 2, 2, 4)
    assert np.asarray(video.empty(2)).shape == (2, 8, 32, 32, 3)


def test_the_codec_encodes_frames_independently(video):
    codi, variables = toy.codi(*NAMES), toy.variables(toy.codi(*NAMES))
    media = np.asarray(video.preprocess([FRAMES, FRAMES[::-1]]))

    @toy.quick
    def both(variables, media):
        mean, logvar = video.encode_moments(video.component(variables, "codec"), media)
        image_mean, _ = codi["image"].encode_moments(codi["image"].component(variables, "codec"), media[0])
        return (
            mean,
            logvar,
            image_mean,
            video.decode_latent(variables, mean),
            codi["image"].decode_latent(variables, image_mean),
        )

    mean, logvar, image_mean, frames, images = both(variables, media)
    assert mean.shape == logvar.shape == (2, *video.latent_shape) and frames.shape == (2, 8, 32, 32, 3)
    np.testing.assert_allclose(mean[0], image_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean[1], mean[0, ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frames[0], images, rtol=1e-4, atol=1e-5)
    values = video.postprocess(jax.device_get(frames))
    assert [(v.shape, v.dtype) for v in values] == [((8, 32, 32, 3), np.dtype("uint8"))] * 2


def test_the_prompt_depends_on_the_order_of_frames(video):
    variables = toy.variables(toy.codi(*NAMES))
    embed = toy.quick(lambda v, m: video.embed(video.component(v, "prompt"), m))
    forward, backward = embed(variables, np.asarray(video.preprocess([FRAMES, FRAMES[::-1]])))
    assert np.abs(forward - backward).max() > 1e-3


def test_a_video_file_round_trip(video, tmp_path):
    path = tmp_path / "x.mp4"
    video.write(FRAMES, path)
    got = video.raw_from_user(str(path))
    assert got.shape == FRAMES.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - FRAMES).mean() < 12
    with pytest.raises(ConfigError, match="no such video"):
        video.raw_from_user(str(tmp_path / "absent.mp4"))


def test_html_is_an_animation(video):
    html = video.html(FRAMES)
    data = base64.b64decode(re.fullmatch(r'<img class="video".* src="data:image/webp;base64,([^"]+)">', html)[1])
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.is_animated and animation.n_frames == 8 and animation.info["loop"] == 0
        for k in (0, 5, 7):
            animation.seek(k)
            np.testing.assert_array_equal(np.asarray(animation.convert("RGB")), FRAMES[k])  # exactly
            assert animation.info["duration"] == 125


# Components


def test_renamed_components_are_separate_and_the_others_shared():
    codi = toy.codi(*NAMES)
    assert codi["video"].components == {
        "codec": "vision_codec", "prompt": "clip_video", "denoiser": "video_unet",
        "environment": "video_environment", "cross": "video_cross",
    }  # fmt: skip
    assert codi["image"].components["codec"] == "vision_codec"
    shapes = toy.shapes(codi)
    assert set(shapes) == {
        "vision_codec", "clip_vision", "clip_video", "vision_unet", "video_unet",
        *(f"{name}_{role}" for name in NAMES for role in ("environment", "cross")),
    }  # fmt: skip
    # The shared codec is the same as in a model of either modality, without temporal layers.
    alone = [toy.shapes(toy.codi("text", name))["vision_codec"] for name in NAMES]
    assert shapes["vision_codec"] == alone[0] == alone[1]
    assert any("temporal" in path for path in paths.flatten(shapes["video_unet"]))
    assert not any("temporal" in path for path in paths.flatten(shapes["vision_unet"]))
    assert type(codi["image"]).components["denoiser"] == "vision_unet"  # the class is not modified


def test_the_shared_codec_is_initialised_as_in_a_model_of_image():
    made = toy.quick(lambda key: toy.codi(*NAMES).init(key, ("vision_codec",)))(jax.random.key(0))
    sole = toy.quick(lambda key: toy.codi("text", "image").init(key, ("vision_codec",)))(jax.random.key(0))
    assert toy.same(made, sole)


def test_by_default_video_shares_codec_tower_and_unet_with_image():
    tree = model()
    image, video = tree["modalities"]["image"], tree["modalities"]["video"]
    video["components"] = {}
    image["prompt"], image["denoiser"] = video["prompt"], video["denoiser"]
    codi = CoDi.from_config(tree)
    unshared = {name for name in codi.component_names() if name.startswith(("image_", "video_"))}
    assert unshared == {f"{name}_{role}" for name in NAMES for role in ("environment", "cross")}
    assert set(codi.component_names()) - unshared == {"vision_codec", "clip_vision", "vision_unet"}
    # A shared component is traced with video, so that it has all parameters.
    assert any("temporal" in path for path in paths.flatten(codi.shapes("vision_unet")))


def test_an_unknown_role_raises():
    with pytest.raises(
        ConfigError, match=r"^config\.model\.modalities\.video\.components: no role unet; there are cod"
    ):
        CoDi.from_config(model(components={"unet": "vision_unet"}))


@pytest.mark.parametrize(
    ("role", "component", "part"),
    [("prompt", "clip_vision", "prompt"), ("denoiser", "vision_unet", "denoiser")],
)
def test_modalities_that_share_a_component_must_agree_on_its_config(role, component, part):
    names = {**model()["modalities"]["video"]["components"], role: component}
    message = rf"^config\.model\.modalities: image and video share {component}, but differ in their {part}$"
    with pytest.raises(ConfigError, match=message):
        CoDi.from_config(model(components=names))


def test_modalities_that_share_the_codec_must_agree_on_its_config():
    tree = model()
    tree["modalities"]["video"]["codec"]["channels"] = 16
    with pytest.raises(ConfigError, match="image and video share vision_codec, but differ in their codec"):
        CoDi.from_config(tree)
