import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.digit_world import COLOURS, DIGITS, PALETTE, DigitWorld, WorldConfig, parse
from codi_jax.digit_world.audio import DRAWS
from codi_jax.digit_world.draws import uniform
from codi_jax.digit_world.factors import CARRIES, FACTORS, MOTIONS, NEVER_PAIRED, held_out_colour, held_out_motion
from codi_jax.digit_world.glyphs import PER_CLASS, SPLITS
from codi_jax.digit_world.images import paint, warp
from codi_jax.digit_world.speech import SPEAKERS, labels, utterance_index
from codi_jax.digit_world.speech import SPLITS as SPEAKERS_OF
from codi_jax.digit_world.tracking import track
from codi_jax.digit_world.videos import RATE, move, offsets

DIGEST = """
import hashlib, jax, numpy as np
from codi_jax.digit_world import DigitWorld, WorldConfig
world = DigitWorld(WorldConfig("test", seed=5, size=16, modalities=("text", "image", "audio", "video")))
batch = world.read(range(16))
print(hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in jax.tree.leaves(batch))).hexdigest())
"""


def combinations(world, factor="colour"):
    factors = world.read(range(len(world)))["factors"]
    return set(zip(factors["digit"].tolist(), factors[factor].tolist(), strict=True))


def factors_only(**kwargs):
    return DigitWorld(WorldConfig(modalities=(), **kwargs))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_sample_is_the_same_in_any_order_and_batch():
    world = DigitWorld(WorldConfig("test", size=60, modalities=tuple(CARRIES)))
    batch = world.read(range(60))
    order = np.random.default_rng(0).permutation(60)
    assert_same(world.read(order), jax.tree.map(lambda x: x[order], batch))
    for i in (0, 37, 59):
        assert_same(world[i], jax.tree.map(lambda x, i=i: x[i], batch))


def test_a_sample_is_the_same_in_any_process():
    local = DigitWorld(WorldConfig("test", seed=5, size=16, modalities=tuple(CARRIES))).read(range(16))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in jax.tree.leaves(local))).hexdigest()
    env = os.environ | {"PYTHONHASHSEED": "77"}
    out = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == digest


def test_a_sample_does_not_depend_on_the_other_modalities():
    whole = DigitWorld(WorldConfig(size=8)).read(range(8))
    part = DigitWorld(WorldConfig(size=4, modalities=("image",), truncate=1.0)).read(range(4))
    assert set(part) == {"factors", "instances", "image"}
    np.testing.assert_array_equal(part["image"], whole["image"][:4])
    for pair in (("text", "video"), ("audio", "text")):
        other = DigitWorld(WorldConfig(size=8, modalities=pair)).read(range(8))
        assert set(other) == {"factors", "instances", *pair}
        assert_same([other["factors"], other["text"]], [whole["factors"], whole["text"]])


def test_seeds_and_splits_are_independent():
    worlds = [factors_only(size=2000, seed=s, split=p, combinations="seen") for s in (0, 1) for p in ("train", "test")]
    digits = [w.read(range(2000))["factors"]["digit"] for w in worlds]
    for i in range(4):
        for j in range(i):
            assert abs((digits[i] == digits[j]).mean() - 0.1) < 0.035


def test_held_out_combinations_are_never_trained():
    held_out = {(d, held_out_colour(d)) for d in range(10)}
    everything = {(d, c) for d in range(10) for c in range(6)}
    assert combinations(factors_only(split="train", size=20_000)) == everything - held_out
    for split in ("val", "test", "judge"):
        assert combinations(factors_only(split=split, size=5000)) == everything
        assert combinations(factors_only(split=split, size=5000, combinations="seen")) == everything - held_out
        assert combinations(factors_only(split=split, size=500, combinations="held_out")) == held_out
    for wrong in ("held_out", "all"):
        with pytest.raises(ConfigError, match="held out"):
            WorldConfig("train", combinations=wrong)


def test_held_out_motions_are_never_trained():
    held_out = {(1, 0), (3, 1), (5, 2), (7, 3)}
    assert {(d, held_out_motion(d)) for d in range(10) if held_out_motion(d) is not None} == held_out
    everything = {(d, m) for d in range(10) for m in range(4)}
    assert combinations(factors_only(split="train", size=5000), "motion") == everything - held_out
    assert combinations(factors_only(split="test", size=5000), "motion") == everything
    assert combinations(factors_only(split="test", size=5000, combinations="seen"), "motion") == everything - held_out
    others = {(d, m) for d, m in everything if d not in (1, 3, 5, 7)}  # digits without a held-out motion
    assert combinations(factors_only(split="test", size=5000, combinations="held_out"), "motion") == held_out | others
    for split in ("train", "test"):
        assert combinations(factors_only(split=split, size=2000), "voice") == {
            (d, v) for d in range(10) for v in range(2)
        }


def test_factors_are_nearly_uniform():
    factors = factors_only(size=20_000).read(range(20_000))["factors"]
    np.testing.assert_allclose(np.bincount(factors["digit"], minlength=10) / 20_000, 1 / 10, atol=0.01)
    np.testing.assert_allclose(np.bincount(factors["colour"], minlength=6) / 20_000, 1 / 6, atol=0.02)
    np.testing.assert_allclose(np.bincount(factors["motion"], minlength=4) / 20_000, 1 / 4, atol=0.02)
    np.testing.assert_allclose(np.bincount(factors["voice"], minlength=2) / 20_000, 1 / 2, atol=0.02)
    np.testing.assert_allclose(np.bincount(factors["moment"], minlength=3) / 20_000, 1 / 3, atol=0.02)
    np.testing.assert_allclose(np.bincount(factors["event"])[1:] / 20_000, 1 / 6, atol=0.02)
    np.testing.assert_array_equal((factors["event"] - 1) // 2, factors["moment"])


def test_captions_and_prompts_parse_to_the_factors():
    world = DigitWorld(WorldConfig(size=3000, modalities=("text",)))
    batch = world.read(range(3000))
    counts = dict.fromkeys(range(len(FACTORS) + 1), 0)  # number of mentioned factors -> number of prompts
    for i in range(3000):
        factors = {name: int(batch["factors"][name][i]) for name in FACTORS}
        assert parse(batch["text"]["caption"][i]) == factors
        parsed = parse(batch["text"]["prompt"][i])
        assert all(value in (None, factors[name]) for name, value in parsed.items())
        mentioned = sum(value is not None for value in parsed.values())
        counts[mentioned] += 1
        if mentioned == len(FACTORS):
            assert batch["text"]["prompt"][i] == batch["text"]["caption"][i]
    shares = np.array(list(counts.values())) / 3000
    # The 1 + 5 + 10 + 10 + 5 proper subsets are equally likely.
    np.testing.assert_allclose(shares, np.array([0.3 / 31 * x for x in (1, 5, 10, 10, 5)] + [0.7]), atol=0.03)


def test_the_test_split_has_wordings_that_do_not_occur_in_training():
    captions = {
        split: DigitWorld(WorldConfig(split, size=4000, modalities=("text",), **options)).read(range(4000))["text"]
        for split, options in (("train", {}), ("test", {}), ("val", {"wordings": "unseen"}), ("judge", {}))
    }
    texts = {split: set(text["caption"]) | set(text["prompt"]) for split, text in captions.items()}
    assert not texts["train"] & (texts["test"] | texts["val"])
    assert texts["train"] & texts["judge"]
    with pytest.raises(ConfigError, match="wordings 'trained' only"):
        WorldConfig("train", wordings="unseen")
    known = DigitWorld(WorldConfig("test", size=4000, wordings="trained", modalities=("text",))).read(range(4000))
    assert not texts["test"] & set(known["text"]["caption"])


def test_captions_mention_the_configured_factors():
    world = DigitWorld(WorldConfig(size=300, modalities=("text",), mention=("digit", "motion"), truncate=0.5))
    batch = world.read(range(300))
    smaller = 0
    for i in range(300):
        mentioned = {name: int(batch["factors"][name][i]) for name in ("digit", "motion")}
        assert parse(batch["text"]["caption"][i]) == {**dict.fromkeys(FACTORS), **mentioned}
        parsed = {name: value for name, value in parse(batch["text"]["prompt"][i]).items() if value is not None}
        assert parsed.items() <= mentioned.items()
        smaller += len(parsed) < 2
    assert abs(smaller / 300 - 0.5) < 0.1


def test_a_prompt_is_the_caption_or_a_reworded_one():
    same, other = (
        DigitWorld(WorldConfig(size=200, modalities=("text",), truncate=0.0, reword=reword)).read(range(200))["text"]
        for reword in (False, True)
    )
    np.testing.assert_array_equal(same["prompt"], same["caption"])
    np.testing.assert_array_equal(other["caption"], same["caption"])
    assert [parse(p) for p in other["prompt"]] == [parse(c) for c in other["caption"]]
    assert (other["prompt"] != other["caption"]).mean() > 0.8


def test_short_captions_are_the_prompts():
    text = DigitWorld(WorldConfig(size=100, modalities=("text",), truncate=0.5, short_captions=True)).read(range(100))
    np.testing.assert_array_equal(text["text"]["caption"], text["text"]["prompt"])
    assert any(None in parse(caption).values() for caption in text["text"]["caption"])


@pytest.mark.parametrize("pair", NEVER_PAIRED, ids="+".join)
def test_held_out_pairs_of_modalities_need_merged(pair):
    for modalities in (pair, pair[::-1], tuple(CARRIES)):
        with pytest.raises(ConfigError, match=r"are never paired in training; see `merged`$"):
            WorldConfig("train", modalities=modalities)
        WorldConfig("train", modalities=modalities, merged=True)
        for split in ("judge", "val", "test"):
            WorldConfig(split, modalities=modalities)
    for modalities in (("text", "image"), ("text", "audio", "video")):
        WorldConfig("train", modalities=modalities)


def test_instances_say_which_glyphs_and_speaker_a_sample_has():
    world = DigitWorld(WorldConfig("test", seed=4, size=300, modalities=tuple(CARRIES)))
    batch = world.read(range(300))
    digit, instances = batch["factors"]["digit"], batch["instances"]
    assert {name: (rows.dtype, rows.shape) for name, rows in instances.items()} == dict.fromkeys(
        ("glyph", "speaker", "utterance", "video glyph"), (np.dtype(np.int32), (300,))
    )
    for name in ("glyph", "video glyph"):
        np.testing.assert_array_equal(instances[name] // PER_CLASS, digit)
        assert set(instances[name] % PER_CLASS) <= set(SPLITS["test"]) and len(set(instances[name])) > 150
    # The image is the glyph, painted and warped by the sample's other draws.
    names = ("right", "down", "scale", "angle")
    right, down, scale, angle = (2 * u - 1 for u in uniform("4/test", names, np.arange(300)).values())
    drawn = warp(instances["glyph"], 2.0 * np.stack([right, down], 1), 1 + 0.1 * scale, np.deg2rad(10) * angle)
    np.testing.assert_array_equal(paint(drawn, batch["factors"]["colour"]), batch["image"])
    # The utterance is one of its speaker, says the digit in the voice, and is what the audio draws.
    known = {name: rows[instances["utterance"]] for name, rows in labels().items()}
    for name, expected in (("digit", digit), ("voice", batch["factors"]["voice"]), ("speaker", instances["speaker"])):
        np.testing.assert_array_equal(known[name], expected)
    assert set(instances["speaker"]) == {v * SPEAKERS + s for v in range(2) for s in SPEAKERS_OF["test"]}
    u = uniform("4/test", (f"audio {DRAWS[0]}",), np.arange(300))["audio utterance"]
    again = utterance_index("test", digit, batch["factors"]["voice"], u)
    np.testing.assert_array_equal(again, instances["utterance"])
    assert set(factors_only(size=2).read([0])["instances"]) == set()
    frames = DigitWorld(WorldConfig("test", seed=4, size=9, modalities=("image", "video"), frames=True)).read(range(9))
    np.testing.assert_array_equal(frames["instances"]["glyph"], frames["instances"]["video glyph"])


def test_videos_and_audio_show_the_factors():
    world = DigitWorld(WorldConfig("test", size=40, modalities=("image", "audio", "video")))
    batch = world.read(range(40))
    assert batch["video"].shape == (40, 8, 32, 32, 3) and batch["audio"].shape == (40, 8192)
    assert all(batch[name].dtype == np.float32 and np.abs(batch[name]).max() <= 1 for name in ("audio", "video"))
    motion = batch["factors"]["motion"]
    for i in range(40):
        # A video is one moving image. The image of the same sample has another glyph.
        back = np.roll(batch["video"][i, 0], (7, 5), (0, 1))[None]
        shift = {0: (0, -4), 1: (0, 4), 2: (-4, 0), 3: (4, 0)}[int(motion[i])]
        still = np.roll(batch["video"][i, 0], shift, (0, 1))
        event = batch["factors"]["event"][i]
        leap = (offsets(MOTIONS[motion[i]], event) - offsets(MOTIONS[motion[i]], None))[0]
        still = np.roll(still, tuple(-leap), (0, 1))  # an early bounce starts in the first frame
        way = motion[i : i + 1], np.array([event]), MOTIONS
        np.testing.assert_array_equal(move(still[None], *way)[0], batch["video"][i])
        assert not np.array_equal(move(back, *way)[0], batch["video"][i])
        assert not np.array_equal(still, batch["image"][i])
    light = (batch["video"] + 1) / 2
    mean = light.sum((1, 2, 3)) / np.linalg.norm(light.sum((1, 2, 3)), axis=-1, keepdims=True)
    palette = PALETTE / np.linalg.norm(PALETTE, axis=-1, keepdims=True)
    np.testing.assert_array_equal((mean @ palette.T).argmax(-1), batch["factors"]["colour"])


def test_the_click_is_in_the_middle_of_the_frame_of_the_bounce():
    world = DigitWorld(WorldConfig("test", size=100, modalities=("audio", "video")))
    batch = world.read(range(100))
    event = batch["factors"]["event"]
    np.testing.assert_array_equal(track(batch["video"])["event"], event)
    # A click raises all bands at once within 5 ms; plosives sometimes come close to that.
    windows = np.lib.stride_tricks.sliding_window_view(batch["audio"], 64, axis=-1)[:, ::16] * np.hanning(64)
    bands = np.log((np.abs(np.fft.rfft(windows)[..., 1:]) ** 2).reshape(100, -1, 8, 4).mean(-1) + 1e-5)
    rise = np.sort(bands[:, 5:] - bands[:, :-5], axis=-1)[..., 1]
    when = ((rise.argmax(1) + 5) * 16 + 32) / 8000
    near = [np.abs(when - (shown + 0.5) / RATE) < 0.015 for shown in (event, np.roll(event, 1))]
    assert near[0].mean() > 0.75 and near[1].mean() < 0.3


def test_images_show_a_digit_in_its_colour():
    batch = DigitWorld(WorldConfig("test", size=400, modalities=("image",))).read(range(400))
    pixels = batch["image"]
    assert pixels.shape == (400, 32, 32, 3) and pixels.dtype == np.float32
    assert pixels.min() >= -1 and pixels.max() <= 1
    light = (pixels + 1) / 2
    ink = light.max(-1).sum((1, 2))
    assert ink.min() > 15 and ink.max() < 400  # in pixels: neither blank nor full
    mean = light.sum((1, 2)) / np.linalg.norm(light.sum((1, 2)), axis=-1, keepdims=True)
    palette = PALETTE / np.linalg.norm(PALETTE, axis=-1, keepdims=True)
    np.testing.assert_array_equal((mean @ palette.T).argmax(-1), batch["factors"]["colour"])
    border = np.concatenate([light[:, [0, -1]].ravel(), light[:, :, [0, -1]].ravel()])
    assert (border > 0.05).mean() < 0.01  # the digit is not cut off


def test_some_videos_are_stills():
    options = {"size": 200, "modalities": ("text", "video")}
    whole, some = (DigitWorld(WorldConfig(**options, stills=p)).read(range(200)) for p in (0.0, 0.4))
    assert_same({k: v for k, v in whole.items() if k != "video"}, {k: v for k, v in some.items() if k != "video"})
    still = np.array([(video == video[0]).all() for video in some["video"]])
    assert 0.3 < still.mean() < 0.5  # of 0.4: 3 standard deviations are 0.1
    np.testing.assert_array_equal(some["video"][~still], whole["video"][~still])
    frames, videos = some["video"][still][:, 0], whole["video"][still]
    shown = (frames[:, None] == videos).all((2, 3, 4))  # [stills, frames]
    assert shown.any(1).all() and shown.any(0).all()
    with pytest.raises(ConfigError, match=r"^digit_world: stills must be a probability, got 2\.0$"):
        WorldConfig(stills=2.0)


def test_with_frames_an_image_is_a_random_frame_of_the_video():
    frames, videos = (
        DigitWorld(WorldConfig(size=60, modalities=(name,), frames=True)).read(range(60))[name]
        for name in ("image", "video")
    )
    times = [[np.array_equal(frames[i], frame) for frame in videos[i]] for i in range(60)]
    assert [sum(row) for row in times] == [1] * 60
    assert np.any(times, axis=0).all()  # every time occurs


def test_a_single_sample():
    sample = DigitWorld(WorldConfig(size=3))[2]
    assert DIGITS[sample["factors"]["digit"]] and COLOURS[sample["factors"]["colour"]]
    assert isinstance(sample["text"]["caption"], str) and sample["image"].shape == (32, 32, 3)
    assert len(list(DigitWorld(WorldConfig(size=3)))) == 3


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range(index):
    with pytest.raises(IndexError, match="samples 0 to 2"):
        DigitWorld(WorldConfig(size=3))[index]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"split": "tset"}, "'test'"),
        ({"size": 0}, "at least 1"),
        ({"truncate": 1.5}, "probability"),
        ({"modalities": ("text", "smell")}, "unknown modality smell"),
        ({"mention": ("digit", "smell")}, "unknown factor smell; factors are digit, colour, motion, voice, moment"),
        ({"modalities": ("image", "audio")}, "image and audio are never paired"),
    ],
)
def test_config_errors(config, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(WorldConfig, config, "data")
