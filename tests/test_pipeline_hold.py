"""What users give of outputs: bit by bit in the result, with prompts and in batches, checked before it is computed."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from PIL import Image

import codi_jax
from codi_jax import Condition
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from tests import toy

EVERY = toy.EVERYTHING
CONFIG = GenerateConfig({name: ClassifierFreeGuidance(2.0, 2.0) for name in EVERY}, steps=2, loop="host")


@functools.lru_cache
def pipeline():
    """A pipeline that tests share with its compiled programs."""
    codi = toy.codi(*EVERY)
    return Pipeline(codi, CONFIG, toy.variables(codi))


def pixels(seed=0, frames=()):
    return np.random.default_rng(seed).integers(0, 256, (*frames, 32, 32, 3), np.uint8)


def wave(seed=0):
    modality = pipeline().codi["audio"]
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, modality.samples).astype(np.float32)
    return codi_jax.Audio(samples, modality.config.mel.sample_rate)


def upper():
    """A mask that generates the lower half."""
    mask = np.zeros((32, 32), bool)
    mask[16:] = True
    return mask


def refused(*args, **kwargs):
    with pytest.raises(ConfigError) as error:
        pipeline()(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_part_of_an_image_is_kept_and_the_rest_generated():
    given, pipe = pixels(), pipeline()
    made = pipe(to="image", n=2, hold={"image": Condition(given, mask=upper())})
    free = pipe(to="image", n=2)
    for shown, other in zip(made.image, free.image, strict=True):
        np.testing.assert_array_equal(np.asarray(shown)[:16], given[:16])
        assert np.abs(np.asarray(shown)[16:].astype(int) - given[16:]).mean() > 10
        assert np.abs(np.asarray(shown)[16:].astype(int) - np.asarray(other)[16:]).max() > 0  # it goes with the rest
    assert np.abs(np.asarray(made.image[0])[16:].astype(int) - np.asarray(made.image[1])[16:]).mean() > 1
    white = Image.fromarray((255 * upper()).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    again = pipe(to=(), n=2, hold={"image": Condition(Image.fromarray(given), mask=white)})
    np.testing.assert_array_equal(np.asarray(again.image[1]), np.asarray(made.image[1]))


def test_frames_and_seconds_of_a_video_are_kept():
    given, pipe = pixels(1, (8,)), pipeline()
    ends = pipe(hold={"video": Condition(given, keep="0,7")}).video[0]
    np.testing.assert_array_equal(ends[[0, 7]], given[[0, 7]])
    assert (np.abs(ends[1:7].astype(int) - given[1:7]).mean((1, 2, 3)) > 10).all()
    half = pipe(hold={"video": Condition(given, keep="0-0.5s")}).video[0]
    np.testing.assert_array_equal(half[:4], given[:4])
    assert (np.abs(half[4:].astype(int) - given[4:]).mean((1, 2, 3)) > 10).all()


def test_what_is_kept_in_part_is_a_prompt_unless_there_is_one():
    given, pipe = pixels(1, (8,)), pipeline()
    hold = {"video": Condition(given, keep="0")}
    still = np.repeat(given[:1], 8, axis=0)
    made = pipe(hold=hold).video[0]
    np.testing.assert_array_equal(pipe({"video": still}, hold=hold).video[0], made)
    assert np.abs(pipe({"video": given}, hold=hold).video[0].astype(int) - made).max() > 0
    prompt = {"text": "a red seven"}
    without = pipe(prompt, hold=hold, weights={"video": 0}).video[0]
    assert np.abs(pipe(prompt, hold=hold).video[0].astype(int) - without).max() > 0
    edit = {"video": Condition(given, keep="0", strength=0.5)}
    with pytest.raises(ConfigError, match="video"):  # an edit is led by its prompts alone
        pipe(prompt, hold=edit, weights={"video": 0})
    whole = pipe(to="audio", hold={"video": given}).audio[0].samples
    np.testing.assert_array_equal(pipe({"video": given}, to="audio", hold={"video": given}).audio[0].samples, whole)
    by_v = pipe(to="audio", hold={"video": given}, weights={"video": 0}).audio[0].samples
    assert np.abs(by_v - whole).max() > 0 and np.abs(by_v - pipe(to="audio").audio[0].samples).max() > 0
    filled = pipe.codi["audio"].filled(np.int16([5, 6, 7]), np.array([True, False, True]))
    np.testing.assert_array_equal(filled, [5, 0, 7])
    assert filled.dtype == np.int16


def test_seconds_of_a_sound_are_kept():
    given, pipe = wave(), pipeline()
    rate = given.rate
    (made,) = pipe(hold={"audio": Condition(given, keep="0-0.25s,0.75-2s")}).audio
    raw = pipe.codi["audio"].raw_from_user(given)
    kept = np.r_[0 : rate // 4, 3 * rate // 4 : len(raw)]
    np.testing.assert_array_equal(np.round(made.samples * 32768)[kept], raw[kept])
    middle = slice(rate // 4 + rate // 50, 3 * rate // 4 - rate // 50)
    assert np.abs(made.samples[middle] - given.samples[middle]).mean() > 0.01


def test_what_is_hidden_does_not_count():
    pipe, image, video, audio = pipeline(), pixels(), pixels(1, (8,)), wave()
    samples = audio.samples.copy()
    samples[audio.rate // 2 :] = wave(1).samples[audio.rate // 2 :]
    others = {
        "image": (image, np.where(upper()[..., None], 255 - image, image), {"mask": upper()}),
        "video": (video, np.concatenate([video[:4], 255 - video[4:]]), {"keep": "0-0.5s"}),
        "audio": (audio, codi_jax.Audio(samples, audio.rate), {"keep": "0-0.5s"}),
    }
    for name, (value, other, kept) in others.items():
        made, same = (pipe(to="image", hold={name: Condition(of, **kept)}, decode=False) for of in (value, other))
        np.testing.assert_array_equal(same.latents[name], made.latents[name])
        np.testing.assert_array_equal(same.latents["image"], made.latents["image"])
    # An edit within a mask starts from what is there.
    edits = [
        pipe(hold={"image": Condition(of, mask=upper(), strength=0.5)}, decode=False) for of in others["image"][:2]
    ]
    assert np.abs(edits[0].latents["image"] - edits[1].latents["image"]).max() > 1e-3


def test_parts_have_a_prompt_encoder_of_their_own():
    codi, given = toy.reading_parts("text", "image"), pixels()
    variables, config = toy.variables(codi), dataclasses.replace(CONFIG, guidance={"image": CONFIG.guidance["image"]})
    params = variables["params"]

    def made(name, **call):
        reversed_ = {name: jax.tree.map(lambda x: x[..., ::-1], params[name])} if name else {}
        pipe = Pipeline(codi, config, {**variables, "params": {**params, **reversed_}})
        return np.asarray(pipe(to="image", seed=3, **call).image[0])

    part = {"hold": {"image": Condition(given, mask=upper())}}
    assert np.array_equal(made("clip_vision", **part), made("", **part))
    assert not np.array_equal(made("image_parts", **part), made("", **part))
    whole = {"prompts": {"image": given}}
    assert np.array_equal(made("image_parts", **whole), made("", **whole))
    assert not np.array_equal(made("clip_vision", **whole), made("", **whole))


def test_what_is_kept_whole_is_the_result_and_guides_the_others():
    pipe, one, two = pipeline(), pixels(2), pixels(3)
    made = [pipe(to="audio", hold={"image": of}) for of in (one, two)]
    for out, given in zip(made, (one, two), strict=True):
        assert list(out) == ["image", "audio"]
        np.testing.assert_array_equal(np.asarray(out.image[0]), given)
    assert np.abs(made[0].audio[0].samples - made[1].audio[0].samples).max() > 1e-4
    assert np.abs(made[0].audio[0].samples - pipe(to="audio").audio[0].samples).max() > 1e-4


def test_an_edit_keeps_more_of_its_value_the_less_its_strength():
    pipe, given = pipeline().with_settings(steps=4), pixels(4)
    z = pipe.encode({"image": given})["image"]
    distance = [
        np.abs(pipe(hold={"image": Condition(given, strength=s)}, decode=False).latents["image"] - z).mean()
        for s in (0.25, 1.0)
    ]
    assert distance[0] < 0.8 * distance[1]
    free = pipe(to="image", decode=False).latents["image"]
    np.testing.assert_array_equal(
        pipe(hold={"image": Condition(given, strength=1)}, decode=False).latents["image"], free
    )


def test_lists_chunks_and_seeds_of_samples_give_each_its_own_condition():
    pipe, values = pipeline(), [pixels(5), pixels(6)]
    mask = [upper(), ~upper()]
    seeds = [7, 8, 9, 10]
    hold = {"image": Condition(values, mask=mask)}
    prompts = ["a red seven", "a blue two"]
    whole = pipe({"text": prompts}, n=2, seed=seeds, hold=hold)
    np.testing.assert_array_equal(np.asarray(whole.image[1])[:16], values[0][:16])
    np.testing.assert_array_equal(np.asarray(whole.image[2])[16:], values[1][16:])
    chunks = pipe({"text": prompts}, n=2, seed=seeds, hold=hold, batch_size=3)
    for a, b in zip(whole.image, chunks.image, strict=True):
        assert np.abs(np.asarray(a).astype(int) - np.asarray(b)).max() <= 1
    alone = pipe({"text": prompts[1]}, seed=[9], hold={"image": Condition(values[1], mask=mask[1])})
    assert np.abs(np.asarray(alone.image[0]).astype(int) - np.asarray(whole.image[2])).max() <= 1


def test_a_caption_begins_with_given_words_and_goes_on():
    pipe = pipeline()
    words = ["a red seven", "the blue"]
    begun = pipe(hold={"text": Condition(words, keep="beginning")}, n=2)
    for text, word in zip(begun.text, np.repeat(words, 2), strict=True):
        assert text == word or text.startswith(f"{word} ")
    prompted = pipe({"text": words}, "text", n=2)  # the words are the prompt, too
    np.testing.assert_array_equal(begun.latents["text"], prompted.latents["text"])
    other = pipe({"text": "green"}, hold={"text": Condition("a red seven", keep="beginning")})
    np.testing.assert_array_equal(other.latents["text"], pipe({"text": "green"}, "text").latents["text"])
    assert other.text[0].startswith("a red seven")
    chunks = pipe(hold={"text": Condition(words, keep="beginning")}, n=2, batch_size=3)
    assert all(text.startswith(word) for text, word in zip(chunks.text, np.repeat(words, 2), strict=True))
    assert "a beginning of 40 tokens; a caption has" in refused(hold={"text": Condition("red " * 40, keep="beginning")})


def test_a_model_with_larger_images_than_it_generates_keeps_them_in_its_size():
    image = pipeline().codi["image"]
    generated, value = pixels(7), np.repeat(np.repeat(pixels(8), 2, 0), 2, 1)
    kept = np.zeros((64, 64, 1), bool)
    kept[:32] = True
    made = image.composite(generated, value, kept)
    assert made.shape == generated.shape
    np.testing.assert_array_equal(made[16:], generated[16:])
    assert np.abs(made[:15].astype(int) - pixels(8)[:15]).mean() < 40


@pytest.mark.parametrize(
    ("hold", "why"),
    [
        ({"image": Condition(pixels(), keep="0-1s")}, "image: keep: '0-1s', but it has no time; give a mask"),
        ({"audio": Condition(np.zeros(4000, np.float32), mask=upper())}, "audio: it has no mask; give keep, spans of"),
        (
            {"text": Condition("a", keep="0-1s")},
            "text: keep: its latent is one vector, of which no part can be kept, but its",
        ),
        ({"video": Condition(pixels(0, (8,)), keep="8")}, "video: keep: expected frames from 0 to 7"),
        ({"video": Condition(pixels(0, (8,)), keep="0-7")}, "video: all of it is kept; leave out keep and mask"),
        ({"audio": Condition(np.zeros(4000, np.float32), keep="90-91s")}, "audio: no part of it is kept"),
        (
            {"image": Condition(pixels(), mask=np.zeros((2, 2, 3)))},
            "image: expected a mask [H, W], or an image of it",
        ),
        (
            {"image": Condition(pixels(), mask=3)},
            "image: expected a mask: a file, an image of Pillow or an",
        ),
        ({"image": Condition([pixels(), pixels()], mask=[upper()] * 3)}, "image: 3 masks for 2 values; give one, or"),
        ({"image": pixels()}, "image: all of it is given; name an output that is generated"),
        ({"smell": "x"}, "unknown modality"),
    ],
)
def test_what_cannot_be_held_is_refused_in_one_line(hold, why):
    assert why in refused(hold=hold)
