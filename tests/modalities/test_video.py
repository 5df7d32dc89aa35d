"""Clips: the picture's components where they can be shared, others by name where they cannot."""

import base64
import io
import re

import jax
import numpy as np
import pytest
from PIL import Image

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.data.digit_world import DigitWorld, WorldConfig
from codi_jax.parallel import paths
from tests import toy

SEEN = ("image", "video")
CLIP = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def video():
    return toy.codi(*SEEN)["video"]


def model(**changes):
    """A picture and a clip that share all they can, with the clip's config changed."""
    tree = toy.model(SEEN)
    tree["modalities"]["video"].update(changes)
    return tree


def test_media_are_frames_of_pixels(video):
    batch = DigitWorld(WorldConfig(size=3, modalities=("video",))).read(range(3))
    media = video.prepare(batch)
    assert media.shape == video.example(3).shape == (3, 8, 32, 32, 3)
    values = video.raw_from_batch(batch)
    assert [(v.shape, v.dtype) for v in values] == [((8, 32, 32, 3), np.dtype("uint8"))] * 3
    np.testing.assert_allclose(video.preprocess(values), media, atol=2 / 255 + 1e-6)
    assert video.latent_shape == (8, 2, 2, 4)
    assert np.asarray(video.empty(2)).shape == (2, 8, 32, 32, 3)


def test_the_codec_sees_every_frame_by_itself(video):
    codi, variables = toy.codi(*SEEN), toy.variables(toy.codi(*SEEN))
    media = np.asarray(video.preprocess([CLIP, CLIP[::-1]]))

    @toy.quick
    def both(variables, media):
        mean, logvar = video.encode_moments(video.component(variables, "codec"), media)
        still, _ = codi["image"].encode_moments(codi["image"].component(variables, "codec"), media[0])
        return mean, logvar, still, video.decode_latent(variables, mean), codi["image"].decode_latent(variables, still)

    mean, logvar, still, clip, pictures = both(variables, media)
    assert mean.shape == logvar.shape == (2, *video.latent_shape) and clip.shape == (2, 8, 32, 32, 3)
    np.testing.assert_allclose(mean[0], still, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean[1], mean[0, ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(clip[0], pictures, rtol=1e-4, atol=1e-5)
    values = video.postprocess(jax.device_get(clip))
    assert [(v.shape, v.dtype) for v in values] == [((8, 32, 32, 3), np.dtype("uint8"))] * 2


def test_the_prompt_tells_the_order_of_frames(video):
    variables = toy.variables(toy.codi(*SEEN))
    embed = toy.quick(lambda v, m: video.embed(video.component(v, "prompt"), m))
    forward, backward = embed(variables, np.asarray(video.preprocess([CLIP, CLIP[::-1]])))
    assert np.abs(forward - backward).max() > 1e-3


def test_a_clip_in_a_file(video, tmp_path):
    path = tmp_path / "x.mp4"
    video.write(CLIP, path)
    got = video.read(str(path))
    assert got.shape == CLIP.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - CLIP).mean() < 12
    with pytest.raises(ConfigError, match="no such video"):
        video.read(str(tmp_path / "absent.mp4"))


def test_a_page_holds_a_clip_that_plays(video):
    html = video.html(CLIP)
    data = base64.b64decode(re.fullmatch(r'<img class="video".* src="data:image/webp;base64,([^"]+)">', html)[1])
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.is_animated and animation.n_frames == 8 and animation.info["loop"] == 0
        for k in (0, 5, 7):
            animation.seek(k)
            np.testing.assert_array_equal(np.asarray(animation.convert("RGB")), CLIP[k])  # to the last bit
            assert animation.info["duration"] == 125


# Components


def test_what_is_renamed_is_its_own_and_the_rest_is_shared():
    codi = toy.codi(*SEEN)
    assert codi["video"].components == {
        "codec": "vision_codec", "prompt": "clip_video", "denoiser": "video_unet",
        "environment": "video_environment", "cross": "video_cross",
    }  # fmt: skip
    assert codi["image"].components["codec"] == "vision_codec"
    shapes = toy.shapes(codi)
    assert set(shapes) == {
        "vision_codec", "clip_vision", "clip_video", "vision_unet", "video_unet",
        *(f"{name}_{role}" for name in SEEN for role in ("environment", "cross")),
    }  # fmt: skip
    # The codec that both name is made once, is as either alone would make it, and knows nothing of time.
    alone = [toy.shapes(toy.codi("text", name))["vision_codec"] for name in SEEN]
    assert shapes["vision_codec"] == alone[0] == alone[1]
    assert any("temporal" in path for path in paths.flatten(shapes["video_unet"]))
    assert not any("temporal" in path for path in paths.flatten(shapes["vision_unet"]))
    assert type(codi["image"]).components["denoiser"] == "vision_unet"  # the class is left as it was


def test_one_codec_has_one_value_for_both():
    made = toy.quick(lambda key: toy.codi(*SEEN).init(key, ("vision_codec",)))(jax.random.key(0))
    sole = toy.quick(lambda key: toy.codi("text", "image").init(key, ("vision_codec",)))(jax.random.key(0))
    assert toy.same(made, sole)


def test_by_default_a_clip_shares_all_of_vision():
    tree = model()
    still, clip = tree["modalities"]["image"], tree["modalities"]["video"]
    clip["components"] = {}
    still["prompt"], still["denoiser"] = clip["prompt"], clip["denoiser"]
    codi = CoDi.from_config(tree)
    own = {name for name in codi.component_names() if name.startswith(("image_", "video_"))}
    assert own == {f"{name}_{role}" for name in SEEN for role in ("environment", "cross")}
    assert set(codi.component_names()) - own == {"vision_codec", "clip_vision", "vision_unet"}
    # A component that several name is traced on the clip: all of it is there.
    assert any("temporal" in path for path in paths.flatten(codi.shapes("vision_unet")))


def test_a_role_that_is_not_there():
    with pytest.raises(
        ConfigError, match=r"^config\.model\.modalities\.video\.components: no role unet; there are cod"
    ):
        CoDi.from_config(model(components={"unet": "vision_unet"}))


@pytest.mark.parametrize(
    ("role", "component", "part"),
    [("prompt", "clip_vision", "prompt"), ("denoiser", "vision_unet", "denoiser")],
)
def test_who_shares_a_component_has_to_agree_on_it(role, component, part):
    names = {**model()["modalities"]["video"]["components"], role: component}
    message = rf"^config\.model\.modalities: image and video share {component}, but differ in their {part}$"
    with pytest.raises(ConfigError, match=message):
        CoDi.from_config(model(components=names))


def test_who_shares_the_codec_has_to_agree_on_it():
    tree = model()
    tree["modalities"]["video"]["codec"]["channels"] = 16
    with pytest.raises(ConfigError, match="image and video share vision_codec, but differ in their codec"):
        CoDi.from_config(tree)
