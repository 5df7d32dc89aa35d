"""Preprocessing and postprocessing as in the public release, set by config, at toy sizes and at full size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.digit_world import DigitWorld, WorldConfig
from codi_jax.encoders.autokl import clip_outliers
from codi_jax.encoders.text_postprocess import tidy
from codi_jax.media import images, mel
from codi_jax.modalities import text as text_module
from codi_jax.modalities.audio import AudioConfig
from tests import toy

TOWER = 48  # pixels of the CLIP tower; the codec has 32
FRAMES = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
PROMPT_MEL = {"sample_rate": 16000, "n_fft": 512, "hop": 256, "mels": 64, "fmin": 50.0, "fmax": 8000.0}
PROMPT_MEL |= {"power": 2, "decibels": True, "floor": 1e-10}
PROMPT_SAMPLES = 16_000  # at 16 kHz; a wave of the toy has 16384
VOCODER = {"mels": 64, "channels": 8, "rates": (8, 4, 4), "kernels": (17, 8, 8), "res_kernels": (3,)}
VOCODER |= {"res_dilations": ((1, 3),)}


def model(name, **changes):
    """A toy model of one modality with changes in its config; dicts are merged."""
    tree = toy.model(("text", name) if name != "text" else ("text", "image"))
    part = tree["modalities"][name]
    for key, value in changes.items():
        part[key] = {**part[key], **value} if isinstance(part.get(key), dict) else value
    return CoDi.from_config({**tree, "modalities": {name: part}})


def with_clip(name, **changes):
    return model(name, **{"clip": {}, "prompt": {"image_size": TOWER}, **changes})


def wave(hertz, samples=8192):
    return np.round(9000 * np.sin(2 * np.pi * hertz * np.arange(samples) / 8000)).astype(np.int16)


def kinds(media):
    return jax.tree.map(lambda x: (x.shape, x.dtype), media)


# Image and video


@pytest.mark.parametrize(("name", "value"), [("image", FRAMES[0]), ("video", FRAMES)])
def test_codec_and_tower_read_the_same_pixels_at_different_sizes(name, value):
    modality = with_clip(name)[name]
    media = modality.preprocess([value, 255 - value])
    assert media.keys() == {"pixels", "prompt"} and kinds(media) == kinds(modality.example(2))
    np.testing.assert_array_equal(media["pixels"][0], images.to_float(value))
    np.testing.assert_array_equal(media["prompt"][0], images.clip_pixels(images.to_float(value), TOWER))
    np.testing.assert_array_equal(modality.codec_input(media), media["pixels"])
    # Samples of a source are rounded to uint8 levels first; uint8 samples are used as they are.
    batch = DigitWorld(WorldConfig(size=2, modalities=(name,))).read(range(2))
    prepared, levels = modality.prepare(batch), np.stack(modality.raw_from_batch(batch))
    assert kinds(prepared) == kinds(media) and levels.dtype == np.uint8
    for again in (modality.preprocess(levels), modality.prepare({name: levels})):
        jax.tree.map(np.testing.assert_array_equal, again, prepared)
    # Postprocessing truncates to levels, as in the release.
    (output, _) = modality.postprocess(np.asarray(media["pixels"]))
    assert output.dtype == np.uint8 and set(np.unique(value - output)) <= {0, 1}


@pytest.mark.parametrize("name", ["image", "video"])
def test_empty_pixels_are_grey_for_codec_and_tower(name):
    modality = with_clip(name)[name]
    empty = modality.empty(3)
    assert kinds(empty) == kinds(modality.example(3)) and not np.asarray(empty["pixels"]).any()
    normal = images.CLIPPixels()
    want = (127 / 255 - np.array(normal.mean)) / np.array(normal.std)
    np.testing.assert_allclose(empty["prompt"], np.broadcast_to(want, empty["prompt"].shape), rtol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("image", FRAMES[0]), ("video", FRAMES)])
def test_codec_and_tower_read_different_parts_of_the_media(name, value):
    codi = with_clip(name)
    modality, variables = codi[name], toy.variables(codi)
    media = modality.preprocess([value])
    other = jax.tree.map(lambda x: -x, media)

    @toy.quick
    def both(variables, media):
        mean, _ = modality.encode(variables, media)
        codec = modality.component(variables, "codec")
        loss, _ = modality.reconstruction(codec, media, jnp.ones((1, *modality.latent_shape)), jax.random.key(0))
        return mean, loss, modality.prompt(variables, media)

    mean, loss, prompt = both(variables, media)
    swapped = both(variables, {**media, "prompt": other["prompt"]})
    np.testing.assert_array_equal(swapped[0], mean)
    np.testing.assert_array_equal(swapped[1], loss)
    assert np.abs(swapped[2] - prompt).max() > 1e-3
    swapped = both(variables, {**media, "pixels": other["pixels"]})
    assert np.abs(swapped[0] - mean).max() > 1e-3 and np.abs(swapped[1] - loss).max() > 1e-3
    np.testing.assert_array_equal(swapped[2], prompt)


def test_read_size_may_differ_from_size(tmp_path):
    image = with_clip("image", read_size=64)["image"]
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    value = image.raw_from_user(str(path))
    np.testing.assert_array_equal(value, pixels[:, 16:80])
    media = image.preprocess([value, FRAMES[0]])  # with one of the model's size
    np.testing.assert_array_equal(media["pixels"][0], images.to_float(images.resize(value, 32, 32)))
    np.testing.assert_array_equal(media["prompt"][0], images.clip_pixels(images.to_float(value), TOWER))
    np.testing.assert_array_equal(media["pixels"][1], images.to_float(FRAMES[0]))
    cropped = with_clip("image", read_size=64, crop_seed=3)["image"].raw_from_user(str(path))
    np.testing.assert_array_equal(cropped, images.crop_resize(Image.open(path), 64, 3))
    assert not np.array_equal(cropped, value)


def test_frames_of_a_file_are_resized_as_by_the_torchvision_of_the_release(tmp_path):
    path = tmp_path / "x.mp4"
    big = with_clip("video")["video"]
    big.write(FRAMES, path)  # blocks of 8 × 8 equal pixels
    shaped = {
        how: with_clip("video", resize=how)["video"].raw_from_user(str(path))
        for how in ("pillow", "torch", "torch_antialias")
    }
    assert [frames.shape for frames in shaped.values()] == [(8, 32, 32, 3)] * 3
    np.testing.assert_array_equal(shaped["pillow"], big.raw_from_user(str(path)))
    assert (shaped["torch"] != shaped["pillow"]).mean() > 0.05
    assert np.abs(shaped["torch_antialias"].astype(int) - shaped["pillow"]).max() <= 3


# Audio


def with_prompt_mel(**changes):
    return model("audio", prompt_mel=PROMPT_MEL, prompt_samples=PROMPT_SAMPLES, **changes)


def test_codec_and_prompt_encoder_have_different_front_ends_for_one_wave():
    audio = with_prompt_mel(normalize=True)["audio"]
    values = [wave(300), wave(900)]
    media = audio.preprocess(values)
    assert kinds(media) == kinds(audio.example(2)) and media["prompt"].shape == (2, 1 + PROMPT_SAMPLES // 256, 64)
    waves = np.stack(values).astype(np.float32) / 2**15
    want = (mel.log_mel(mel.normalize(waves, 8192), audio.config.mel)[:, :64] + 4.0) * 0.4
    np.testing.assert_allclose(media["mel"][..., 0], want, rtol=1e-5, atol=1e-5)
    # The crop is a slice of the resampled wave.
    whole = mel.resample(waves[:1], 8000, 16000)[0]
    places = [
        mel.log_mel(whole[None, i : i + PROMPT_SAMPLES], audio.config.prompt_mel)[0]
        for i in range(16384 - PROMPT_SAMPLES + 1)
    ]
    assert min(np.abs(place - media["prompt"][0]).max() for place in places) < 1e-3


@pytest.mark.parametrize("own_front_ends", [False, True])
@pytest.mark.parametrize("name", ["text", "image", "audio", "video"])
def test_a_row_is_prepared_alike_in_any_batch(name, own_front_ends):
    """`data.source.transform_rows` computes parts of a batch apart from one another."""
    fronts = {"image": with_clip, "video": with_clip, "audio": lambda _: with_prompt_mel(normalize=True)}
    modality = (fronts.get(name, model) if own_front_ends else model)(name)[name]
    samples = DigitWorld(WorldConfig(size=3, modalities=(name,))).read(range(3))
    whole = modality.prepare(samples)
    for row in range(3):
        one = modality.prepare(jax.tree.map(lambda x, row=row: x[row : row + 1], samples))
        jax.tree.map(np.testing.assert_array_equal, one, jax.tree.map(lambda x, row=row: x[row : row + 1], whole))


def test_the_crop_of_a_wave_depends_only_on_it_and_the_seed():
    values = [wave(hertz) for hertz in (300, 500, 900)]
    audio = with_prompt_mel()["audio"]
    media = audio.preprocess(values)
    for i, value in enumerate(values):
        np.testing.assert_array_equal(audio.preprocess([value])["prompt"][0], media["prompt"][i])
    other = with_prompt_mel(prompt_seed=1)["audio"].preprocess(values)
    np.testing.assert_array_equal(other["mel"], media["mel"])
    assert not np.array_equal(other["prompt"], media["prompt"])
    batch = DigitWorld(WorldConfig(size=2, modalities=("audio",))).read(range(2))
    prepared = audio.prepare(batch)
    jax.tree.map(np.testing.assert_array_equal, audio.preprocess(audio.raw_from_batch(batch)), prepared)
    jax.tree.map(
        np.testing.assert_array_equal, audio.prepare({"audio": np.stack(audio.raw_from_batch(batch))}), prepared
    )


def test_short_and_long_waves_are_padded_and_cropped():
    audio = with_prompt_mel()["audio"]
    short = wave(500, 1500)
    media = audio.preprocess([short, wave(500, 8192 + 32)])
    assert kinds(media) == kinds(audio.example(2))
    # For the codec a short wave is padded with zeros, for the prompt encoder it is repeated five times, then padded.
    silent = np.pad(short, (0, 8192 - 1500))
    np.testing.assert_array_equal(media["mel"][0], audio.preprocess([silent])["mel"][0])
    repeated = mel.fill(mel.resample(short[None].astype(np.float32) / 2**15, 8000, 16000), PROMPT_SAMPLES)
    np.testing.assert_array_equal(media["prompt"][0], mel.log_mel(repeated, audio.config.prompt_mel)[0])
    np.testing.assert_array_equal(repeated[0, 12_000:15_000], repeated[0, :3000])
    assert repeated[0, :3000].any() and not repeated[0, 15_000:].any()
    np.testing.assert_array_equal(media["mel"][1], audio.preprocess([wave(500)])["mel"][0])


def test_empty_audio_is_silence_for_codec_and_prompt_encoder():
    audio = with_prompt_mel(normalize=True)["audio"]
    empty = audio.empty(2)
    assert kinds(empty) == kinds(audio.example(2))
    np.testing.assert_allclose(empty["mel"], (np.log(1e-5) + 4.0) * 0.4, rtol=1e-5)
    np.testing.assert_allclose(empty["prompt"], -100, rtol=1e-5)


def test_codec_and_prompt_encoder_read_different_parts_of_the_media():
    codi = with_prompt_mel()
    audio, variables = codi["audio"], toy.variables(codi)
    media = audio.preprocess([wave(300), wave(900)])

    @toy.quick
    def both(variables, media):
        codec, z = audio.component(variables, "codec"), jnp.ones((2, *audio.latent_shape))
        loss, _ = audio.reconstruction(codec, media, z, jax.random.key(0))
        return audio.encode(variables, media)[0], loss, audio.prompt(variables, media)

    mean, loss, prompt = both(variables, media)
    swapped = both(variables, {**media, "prompt": media["prompt"][::-1]})
    np.testing.assert_array_equal(swapped[0], mean)
    np.testing.assert_array_equal(swapped[1], loss)
    np.testing.assert_allclose(swapped[2], prompt[::-1], rtol=1e-4, atol=1e-5)
    swapped = both(variables, {**media, "mel": media["mel"][::-1]})
    np.testing.assert_allclose(swapped[0], mean[::-1], rtol=1e-4, atol=1e-5)
    assert np.abs(swapped[1] - loss).max() > 1e-3
    np.testing.assert_array_equal(swapped[2], prompt)


def test_the_vocoder_is_a_component_and_makes_the_wave():
    codi = model("audio", vocoder=VOCODER)
    audio, variables = codi["audio"], toy.variables(codi)
    assert codi.component_names()["vocoder"] == ("audio", "vocoder") and "conv_in" in codi.shapes("vocoder")
    assert toy.codi("text", "audio")["audio"].components.keys() == audio.components.keys() - {"vocoder"}
    variables["constants"]["audio_codec"] = {"shift": jnp.full((4,), 0.3), "scale": jnp.full((4,), 0.5)}
    params = variables["params"]

    @toy.quick
    def want(z):
        decoded = audio.codec.apply({"params": params["audio_codec"]}, z / 0.5 + 0.3, method="decode")[..., 0]
        return audio.vocoder.apply({"params": params["vocoder"]}, decoded / audio.config.scale + audio.config.shift)

    decode = toy.quick(audio.decode_latent)
    z = jax.random.normal(jax.random.key(0), (2, *audio.latent_shape))
    waves = decode(variables, z)
    assert waves.shape == (2, audio.config.vocoder.samples(64)) == (2, 8192 + 16)  # all samples are kept
    np.testing.assert_allclose(waves, want(z), atol=1e-6)
    # Outliers are clipped before denormalisation: 80 is not one, though it is 160 after.
    for largest in (80.0, 120.0):
        far = z.at[0, 0, 0, 0].set(largest)
        np.testing.assert_allclose(decode(variables, far), want(clip_outliers(far)), atol=1e-6)
        assert (np.asarray(clip_outliers(far)).max() == largest) == (largest < 100)
    values = audio.postprocess(waves)
    assert all(v.dtype == np.int16 and v.shape == waves.shape[1:] for v in values)
    assert audio.preprocess(values).shape == (2, 64, 64, 1)  # outputs can be prompts
    del variables["params"]["vocoder"]
    with pytest.raises(ConfigError, match=r"the vocoder of audio \(vocoder\) is missing"):
        audio.decode_latent(variables, z)


def test_a_vocoder_can_be_renamed():
    assert "hifigan" in model("audio", vocoder=VOCODER, components={"vocoder": "hifigan"}).component_names()
    with pytest.raises(ConfigError, match="no role vocoder"):
        model("audio", components={"vocoder": "hifigan"})


# Text


def test_each_tokenizer_has_its_length():
    text = model("text", length=(9, 11, 7))["text"]
    caption = "the digit seven in red"
    media = text.preprocess([caption])
    shapes = {"prompt": (1, 9), "full": (1, 9), "source": (1, 11), "target": (1, 7)}
    assert jax.tree.map(jnp.shape, media) == shapes and kinds(media) == kinds(text.example(1)) == kinds(text.empty(1))
    assert text.postprocess(np.asarray(media["target"])) == [caption]
    variables = toy.variables(model("text", length=(9, 11, 7)))
    ids = toy.quick(text.decode_latent)(variables, jnp.ones((2, *text.latent_shape)))
    assert ids.shape == (2, 7)
    one = model("text", length=9)["text"]
    assert {leaf.shape for leaf in one.preprocess([caption]).values()} == {(1, 9)}


def test_sampled_captions_depend_on_the_seed_and_the_row():
    codi = model("text", temperature=1.0)
    text, variables = codi["text"], toy.variables(codi)
    z = jnp.zeros((8, *text.latent_shape))  # eight equal rows
    sampled = np.asarray(toy.quick(text.decode_latent)(variables, z))
    np.testing.assert_array_equal(toy.quick(text.decode_latent)(variables, z), sampled)
    assert len({tuple(row) for row in sampled}) == 8
    np.testing.assert_array_equal(
        toy.quick(text.decode_latent)(variables, z[:3]), sampled[:3]
    )  # independent of other rows
    other = model("text", temperature=1.0, seed=1)["text"]
    assert not np.array_equal(toy.quick(other.decode_latent)(variables, z), sampled)
    greedy = np.asarray(toy.quick(model("text")["text"].decode_latent)(variables, z))
    assert len({tuple(row) for row in greedy}) == 1


def test_captions_are_lower_cased_for_the_codecs_encoder(monkeypatch):
    encoded = []

    class Spy:
        def __init__(self, inner):
            self.inner = inner
            self.size, self.pad, self.bos, self.eos = inner.size, inner.pad, inner.bos, inner.eos

        def encode(self, texts, length):
            encoded.append(list(texts))
            return self.inner.encode(texts, length)

    make = text_module.make_tokenizer
    monkeypatch.setattr(text_module, "make_tokenizer", lambda name: Spy(make(name)))
    for lower, source in ((False, ["A Red"]), (True, ["a red"])):
        encoded.clear()
        model("text", lower=lower)["text"].preprocess(["A Red"])
        assert encoded == [["A Red"], ["A Red"], source, ["A Red"]]


def test_captions_are_postprocessed_if_configured():
    ids = model("text")["text"].preprocess(["the the digit seven in red in red"])["target"]
    assert model("text")["text"].postprocess(ids) == ["the the digit seven in red in red"]
    assert model("text", tidy=True)["text"].postprocess(ids) == [tidy("the the digit seven in red in red")]
    assert tidy("the the digit seven in red in red") == "the digit seven in red"


# Sizes


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("image", {"size": 48, "denoiser": {"multipliers": (1, 1), "blocks": (1, 1), "attention_levels": (False, False),
                   "cross_modal_levels": (True, True)}}, r"image\.size: 48 is not a multiple of 32$"),
        ("image", {"prompt": {"image_size": 48}}, r"image\.prompt\.image_size: 48 differs from size = 32; see `clip`$"),
        ("image", {"read_size": 64}, r"image\.read_size: needs `clip`"),
        ("image", {"crop_seed": -1}, r"image\.crop_seed: -1 is negative$"),
        ("audio", {"prompt_seed": -1}, r"audio\.prompt_seed: -1 is negative$"),
        ("video", {"frames": 31}, r"video\.frames: 31, but denoiser\.max_frames is 30$"),
        ("video", {"environment": {"max_frames": 7}}, r"video\.frames: 8, but environment\.max_frames is 7$"),
        ("video", {"frames": 0}, r"video\.frames: must be positive, got 0$"),
        ("video", {"resize": "torch", "crop_seed": 1}, r"video\.crop_seed: resize = 'torch' crops the centre$"),
        ("video", {"resize": "bilinear"}, r"video\.resize: expected one of 'pillow', 'torch'"),
        ("audio", {"frames": 96}, r"audio\.prompt: takes 64 mels, up to 64 frames; got 64, 96$"),
        ("audio", {"prompt_mel": PROMPT_MEL}, r"audio\.prompt: takes 64 mels, up to 64 frames; got 64, 1876$"),
        ("audio", {"vocoder": {**VOCODER, "rates": (8, 4, 2)}},
         r"audio\.vocoder: needs \(mels, hop\) \(64, 64\), but mel has \(64, 128\)$"),
        ("text", {"length": (9, 9)}, r"text\.length: expected one number or three"),
        ("text", {"length": (9, 40, 9)}, r"text\.length: 40, but codec\.encoder takes 2 .* to 15$"),
        ("text", {"temperature": -1.0}, r"text\.temperature: -1\.0 is negative$"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_raise_one_line(name, changes, message):
    with pytest.raises(ConfigError, match=rf"^config\.model\.modalities\.{message}"):
        model(name, **changes)


def test_tokenizers_that_do_not_fit_the_networks_raise():
    digit, colour = ("digit_world", "digit_colour")
    fewer = model("text", prompt={"vocab": 8})["text"]
    with pytest.raises(ConfigError, match=r"text\.tokenizers\[0\]: \d+ ids, but the vocabulary of the network has 8$"):
        fewer.preprocess(["red"])
    with pytest.raises(ConfigError, match=r"text\.tokenizers\[2\]: its bos, eos and pad are .*, the codec's "):
        model("text", tokenizers=(digit, digit, colour))["text"].preprocess(["red"])


def test_the_audio_model_of_the_release():
    unet = {"kind": "spatial", "latent_channels": 8, "channels": 192, "context_width": 768}
    codec = {"in_channels": 1, "channels": 128, "mult": (1, 2, 4), "blocks": 2, "z_channels": 8, "embed_dim": 8}
    tower = {"mel_bins": 64, "spec_size": 256, "patch_size": 4, "patch_stride": (4, 4), "embed_dim": 256}
    tower |= {"depths": (2, 2, 12, 2), "num_heads": (4, 8, 16, 32), "window": 8, "projection": 768}
    vocoder = {"mels": 64, "channels": 1024, "rates": (5, 4, 2, 2, 2), "kernels": (16, 16, 8, 4, 4)}
    vocoder |= {"res_kernels": (3, 7, 11), "res_dilations": ((1, 3, 5),) * 3}
    tree = {
        "mel": mel.AUDIOLDM, "frames": 1024, "codec": codec, "prompt": tower, "denoiser": unet,
        "environment": {"kind": "spatial", "latent_channels": 8, "channels": 192, "width": 1280},
        "normalize": True, "prompt_mel": mel.CLAP, "vocoder": vocoder,
    }  # fmt: skip
    codi = CoDi.from_config({"modalities": {"audio": tree}, "width": 768, "environment_width": 1280})
    audio = codi["audio"]
    assert isinstance(audio.config, AudioConfig) and audio.latent_shape == (256, 16, 8) and audio.samples == 163840
    value = np.round(9000 * np.sin(2 * np.pi * 440 * np.arange(163_872) / 16000)).astype(np.int16)
    media = audio.preprocess([value, value[:80_000]])  # the length of a vocoder's output, and five seconds
    assert media["mel"].shape == (2, 1024, 64, 1) and media["prompt"].shape == (2, 1001, 64)
    assert kinds(media) == kinds(audio.example(2))
    exact = audio.preprocess([value[:160_000]])["prompt"]  # ten seconds are not cropped
    wave = value[None, :160_000].astype(np.float32) / 2**15
    np.testing.assert_array_equal(exact, mel.log_mel(mel.clap_waveform(wave, 16000), mel.CLAP))
    variables = {
        "params": {name: codi.shapes(name) for name in ("audio_codec", "vocoder")},
        "constants": codi.default_constants(),
    }
    z = jax.ShapeDtypeStruct((1, *audio.latent_shape), jnp.float32)
    assert jax.eval_shape(audio.decode_latent, variables, z).shape == (1, 163_872)
