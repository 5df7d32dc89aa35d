"""Feature networks: their names, and that their features are those of the networks that they stand for."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import codi_jax
from codi_jax.config import ConfigError
from codi_jax.encoders.inception import InceptionConfig, InceptionV3, preprocess
from codi_jax.encoders.vggish import VGGish
from codi_jax.evaluation import inception, vggish
from codi_jax.evaluation.networks import NETWORKS, in_chunks, open_networks, parse_networks, random_parameters
from codi_jax.evaluation.settings import Settings
from codi_jax.interop.inception import target
from codi_jax.interop.names import to_release
from codi_jax.interop.vggish import RULES, vggish_shapes
from codi_jax.media import files
from codi_jax.media.vggish_mel import vggish_patches
from tests.evaluation import made

SETTINGS = Settings(batch_size=3, frames=2, seconds=2.5)


def opened(text):
    ((named),) = open_networks(parse_networks(text), SETTINGS).values()
    return named


def test_networks_are_named_with_labels():
    assert parse_networks("inception=a/b=c.pth, tower=digit_world,tower:clap=out/clap,") == {
        "inception": ("inception", "a/b=c.pth"),
        "tower": ("tower", "digit_world"),
        "clap": ("tower", "out/clap"),
    }
    assert parse_networks("") == {} and tuple(NETWORKS) == ("inception", "vggish", "tower")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inception", "networks: expected NAME=WEIGHTS, such as inception=FILE, got 'inception'"),
        ("incepton=a", "no network 'incepton' (did you mean inception?); there are inception, vggish, tower"),
        ("tower=a,tower=b", "networks: tower is given twice; name one of them as tower:LABEL=WEIGHTS"),
        ("tower:../a=b", "networks: a label has letters, digits, - and _, got '../a'"),
        ("vggish=random:x", "networks: expected random, or random:8 for an eighth of the widths, got 'random:x'"),
        ("tower=random", "networks: tower=random: a tower has the weights of a model; expected its name"),
        ("tower=digit_wrld", "no model 'digit_wrld' (did you mean digit_world?)"),
        ("inception=none.pth", "none.pth: there is no such file"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(ConfigError) as error:
        opened(text)
    assert str(error.value).startswith(message)


def test_chunks_have_one_size():
    sizes = []

    def double(x):
        sizes.append(len(x))
        return 2 * x, x.sum(1)

    rows = np.arange(10.0).reshape(5, 2)
    twice, sums = in_chunks(double, rows, 3)
    np.testing.assert_array_equal(twice, 2 * rows)
    np.testing.assert_array_equal(sums, rows.sum(1))
    assert sizes == [3, 3]


def test_inception_features_are_those_of_the_network(tmp_path):
    """Of images of two shapes in one batch, and of the frames of a video."""
    named = opened("inception=random:16")
    assert named.random and named.describe() == {
        "kind": "inception", "weights": "random:16, seed 0", "resize": "tensorflow", "frames": 2
    }  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in ((16, 16), (9, 20))]
    for i, pixels in enumerate(arrays):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    found = named.network("image", [named.network.read("image", str(tmp_path / f"{i}.png")) for i in range(2)])
    config = InceptionConfig(divisor=16)
    params, model = random_parameters(target(config), 0), InceptionV3(config)
    apply = jax.jit(lambda x: model.apply({"params": params}, x))
    inputs = np.concatenate([preprocess(pixels[None]) for pixels in arrays] + [preprocess(arrays[0][None])])
    pool, logits = apply(inputs)
    np.testing.assert_allclose(found["pool"], pool[:2], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["logits"], logits[:2], rtol=1e-3, atol=1e-4)
    assert np.abs(pool[0] - pool[1]).max() > 1e-3
    files.write_video(tmp_path / "a.mp4", np.repeat(arrays[0][None], 4, 0), 4)
    (rows,) = named.network("video", [named.network.read("video", str(tmp_path / "a.mp4"))])["pool"]
    assert rows.shape == (2, 128)
    np.testing.assert_allclose(rows[0], rows[1], rtol=0.05, atol=1e-2)  # equal frames, but for their compression


def test_vggish_has_a_row_for_each_patch_of_the_audio_itself(tmp_path):
    named = opened("vggish=random:32")
    for name, seconds in (("short", 0.5), ("long", 2.0), ("longest", 4.0)):
        made.tone(tmp_path / f"{name}.wav", 300, seconds, 16000)
    read = [named.network.read("audio", str(tmp_path / f"{name}.wav")) for name in ("short", "long", "longest")]
    assert [len(x) for x in read] == [1, 2, 2]  # 2.5 s at most
    found = named.network("audio", read)["embedding"]
    assert [x.shape for x in found] == [(1, 4), (2, 4), (2, 4)]
    assert isinstance(named.network, vggish.VGGishFeatures)
    wave = files.read_audio(str(tmp_path / "long.wav"), 32000, 16000)
    want = named.network._apply(np.concatenate([vggish_patches(wave[None], 16000)[0]] * 2)[:3])
    np.testing.assert_allclose(found[1], np.asarray(want)[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-4, atol=1e-5)  # the same tone, but twice as long


def test_weights_of_a_file_are_known_by_their_content(tmp_path, monkeypatch):
    config = vggish.VGGishConfig(channels=(1, 1, 1, 1), hidden=2, embedding=3)
    monkeypatch.setattr(vggish, "WEIGHTS", dataclasses.replace(vggish.WEIGHTS, published=config))
    params = random_parameters(vggish_shapes(config), 1)
    save_file({key: np.asarray(x) for key, x in to_release(params, RULES).items()}, tmp_path / "a.safetensors")
    named = opened(f"vggish={tmp_path / 'a.safetensors'}")
    assert not named.random
    assert named.network.identity == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    x = np.random.default_rng(0).normal(size=(3, 96, 64)).astype(np.float32)
    want = VGGish(config).apply({"params": params}, x)
    np.testing.assert_allclose(np.concatenate(named.network("audio", [x])["embedding"]), want, rtol=1e-4, atol=1e-5)


def test_a_tower_embeds_files_as_the_pipeline_does(tmp_path):
    named = opened("tower=digit_world")
    pipe = codi_jax.load("digit_world")
    assert named.network.modalities == pipe.modalities and named.network.joint and not named.random
    made.noise(tmp_path / "a.png", 0)
    path = str(tmp_path / "a.png")
    (found,) = named.network("image", [named.network.read("image", path)])["embedding"]
    np.testing.assert_allclose(found, pipe.embed({"image": path})["image"][0], rtol=1e-5, atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    words = "a word that no vocabulary has: xyzzy"  # what a prompt warns of
    assert named.network("text", [named.network.read("text", words)])["embedding"][0].shape == found.shape


def test_a_module_of_a_user_adds_a_network(restored_registries):
    @codi_jax.register("network", "mine")
    def make(weights, settings):
        return made.Colours(f"{weights} {settings.batch_size}")

    assert opened("mine:x=w").describe() == {"kind": "mine", "weights": "w 3"}


def test_the_resize_of_one_image_is_that_of_a_batch():
    pixels = np.random.default_rng(1).integers(0, 256, (7, 400, 3), np.uint8)
    want = np.asarray(preprocess(pixels[None]))[0]
    np.testing.assert_allclose(inception._resized(pixels), want, rtol=0, atol=1e-5)
