"""A pipeline: what users have in, the same numbers as the generator below it, every invalid request refused at once."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import codi_jax
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.pipeline import Pipeline
from codi_jax.rng import fold
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.sampling.prompts import PromptWarning
from codi_jax.sampling.weights import Weights
from tests import toy

PAIR, TEXT = toy.PAIR, "a red seven"
PIXELS = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
CONFIG = GenerateConfig({name: ClassifierFreeGuidance(2.0, 3.0, 0.1, 0.9) for name in PAIR}, steps=2, loop="host")


@functools.lru_cache
def variables():
    return toy.variables(toy.codi())


@functools.lru_cache
def pipeline():
    """A pipeline that tests share with its compiled programs."""
    return Pipeline(toy.codi(), CONFIG, variables())


def latents(*arguments, **options):
    """The latents of a request, not decoded."""
    return jax.device_get(pipeline()(*arguments, **options, decode=False).latents)


def close(a, b):
    """Whether latents are equal but for rounding: programs of other batch sizes add in another order."""
    assert a.keys() == b.keys()
    return all(np.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a)


def rows(z, which):
    return {name: value[which] for name, value in z.items()}


def test_the_package_exports_its_public_names():
    assert dir(codi_jax) == sorted(codi_jax.__all__) and "load" in dir(codi_jax)
    assert codi_jax.Pipeline is Pipeline and codi_jax.ClassifierFreeGuidance is ClassifierFreeGuidance
    assert all(getattr(codi_jax, name) is not None for name in codi_jax.__all__)
    with pytest.raises(AttributeError, match="module 'codi_jax' has no attribute 'lode'"):
        codi_jax.lode  # noqa: B018


def test_one_seed_gives_the_numbers_of_the_generator():
    out = pipeline()({"text": TEXT}, to=PAIR, n=2, seed=4)
    want = Generator(toy.codi(), CONFIG).generate(variables(), PAIR, {"text": [TEXT]}, 2, jax.random.key(4))
    assert out.text == want["text"] and len(out.image) == 2
    for image, pixels in zip(out.image, want["image"], strict=True):
        assert isinstance(image, Image.Image)
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_value_without_a_mapping_is_of_the_first_modality():
    assert toy.same(latents(TEXT, "image", n=2), latents({"text": TEXT}, ("image",), n=2))


@pytest.mark.parametrize(
    "options",
    [
        *[{"eta": 0.0}, {"eta": 1.0}, {"sampler": "ancestral"}, {"sampler": "dpmpp_2m_sde"}],
        {"sampler": "heun", "spacing": "karras"},
    ],
)
def test_a_sample_depends_on_its_own_seed_alone(options):
    whole = latents(TEXT, "text", n=4, seed=[5, 6, 1 << 40, 8], **options)
    assert close(rows(whole, [2, 0]), latents(TEXT, "text", n=2, seed=(1 << 40, 5), **options))
    assert close(whole, latents(TEXT, "text", n=4, seed=np.array([5, 6, 1 << 40, 8]), **options, batch_size=2))
    distances = [np.abs(whole["text"][i] - whole["text"][j]).max() for i in range(4) for j in range(i)]
    assert min(distances) > 0.1


def test_chunks_of_one_seed_use_the_documented_keys():
    chunked = latents(TEXT, "text", n=3, seed=7, batch_size=2)
    assert chunked["text"].shape[0] == 3
    np.testing.assert_array_equal(chunked["text"][:2], latents(TEXT, "text", n=2, seed=7)["text"])
    key = fold(jax.random.key(7), "chunk", 1)
    noise = {"text": jax.random.normal(fold(key, "text", "z_T"), (2, 16))}
    np.testing.assert_array_equal(chunked["text"][2:], latents(TEXT, "text", n=2, latents=noise)["text"][:1])
    whole, split = (pipeline()(TEXT, "text", n=3, seed=[1, 2, 3], batch_size=size) for size in (None, 2))
    assert close(whole.latents, split.latents) and whole.text == split.text


def test_a_list_is_a_batch_with_the_samples_of_a_prompt_together():
    both = latents({"text": [TEXT, "a green two"], "image": PIXELS}, "text", n=2, seed=[1, 2, 1, 2], batch_size=2)
    for i, prompt in enumerate((TEXT, "a green two")):
        one = latents({"text": prompt, "image": PIXELS}, "text", n=2, seed=[1, 2])
        assert close(rows(both, slice(2 * i, 2 * i + 2)), one)
    assert not close(rows(both, slice(2)), rows(both, slice(2, 4)))


def test_mix_weights_may_differ_between_samples():
    prompts = {"text": TEXT, "image": PIXELS}
    mixed = latents(prompts, "text", n=2, seed=[1, 2], weights={"text": [1, 0], "image": np.array([0, 1])})
    of_text, of_image = (latents({name: prompts[name]}, "text", n=2, seed=[1, 2]) for name in PAIR)
    assert close(rows(mixed, [0]), rows(of_text, [0])) and close(rows(mixed, [1]), rows(of_image, [1]))


def test_guidance_is_a_number_or_a_rule_and_the_config_gives_the_rest():
    plain = latents(TEXT, PAIR, n=2)
    assert toy.same(plain, latents(TEXT, PAIR, n=2, guidance=2.0))
    assert toy.same(plain, latents(TEXT, PAIR, n=2, guidance={"image": 2, "text": CONFIG.guidance["text"]}))
    stronger = latents(TEXT, PAIR, n=2, guidance={"image": 5})
    assert not close(rows(plain, [0]), rows(stronger, [0]))
    rule = ClassifierFreeGuidance(5.0, 3.0, 0.1, 0.9)
    assert toy.same(stronger, latents(TEXT, PAIR, n=2, guidance={"image": rule}))


def test_a_negative_prompt_takes_the_place_of_the_null_prompt():
    model, bad = Generator(toy.codi(), CONFIG), ["a green two"] * 2
    prompt, null = (model.prompts(variables(), {"text": texts}) for texts in ([TEXT] * 2, bad))
    want = model.latents(variables(), ("text",), prompt, 2, jax.random.key(0), null=null)
    got = latents(TEXT, "text", n=2, negative={"text": bad[0]})
    assert toy.same(got, jax.device_get(want))
    assert not close(got, latents(TEXT, "text", n=2))
    # Without a prompt, guidance leads from the negative prompt to the null prompt, which is zero here.
    zero = {"text": jnp.zeros((2, toy.D))}
    want = model.latents(variables(), ("text",), zero, 2, jax.random.key(0), null=null)
    assert toy.same(latents(to="text", n=2, negative=bad[0]), jax.device_get(want))


def test_settings_take_the_place_of_the_config_and_programs_are_kept():
    pipe = Pipeline(toy.codi(), CONFIG, variables())
    two, three = (pipe(TEXT, "text", n=2, steps=steps, decode=False).latents for steps in (2, 3))
    count = pipe._generator().compiled_programs()
    # Prompt, step within and outside of the interval of guidance: the number of steps is no part of a program.
    assert not close(two, three) and count == 3
    pipe(TEXT, "text", n=2, seed=[1, 2], guidance=3, decode=False)
    assert pipe._generator().compiled_programs() == count  # seeds and guidance are data
    multistep = pipe(TEXT, "text", n=2, steps=3, sampler="dpmpp_2m", decode=False).latents
    assert not close(three, multistep) and pipe._generator().compiled_programs() == count + 2
    again = pipe(TEXT, "text", n=2, decode=False).latents
    assert toy.same(two, again) and pipe._generator().compiled_programs() == count + 2


def test_latents_go_in_and_out():
    noise = jax.random.normal(jax.random.key(3), (2, *toy.codi()["image"].latent_shape))
    out = pipeline()(TEXT, PAIR, n=2, latents={"image": np.asarray(noise)}, decode=False)
    assert repr(out) == "Output(text: 2 latents, image: 2 latents)" and not list(out)
    with pytest.raises(AttributeError, match=r"image has not been decoded; see `latents`, and `Pipeline\.decode`"):
        out.image  # noqa: B018
    with pytest.raises(ConfigError, match="nothing to save"):
        out.save("x")
    key = jax.random.key(0)
    drawn = {"text": jax.random.normal(fold(key, "text", "z_T"), (2, 16)), "image": noise}
    assert toy.same(out.latents, pipeline()(TEXT, PAIR, n=2, latents=drawn).latents)
    decoded = pipeline().decode(out.latents)
    want = Generator(toy.codi(), CONFIG).decode(variables(), out.latents)
    assert decoded.text == want["text"]
    np.testing.assert_array_equal([np.asarray(image) for image in decoded.image], want["image"])


def test_encode_gives_the_means_that_decode_takes():
    z = pipeline().encode({"image": [PIXELS, Image.fromarray(PIXELS[::-1])], "text": TEXT}, batch_size=2)
    assert {name: (value.shape, value.dtype) for name, value in z.items()} == {
        "text": ((1, 16), np.float32),
        "image": ((2, 2, 2, 4), np.float32),
    }
    image = toy.codi()["image"]
    want = toy.quick(lambda v, m: image.encode(v, m)[0])(variables(), image.preprocess([PIXELS, PIXELS[::-1]]))
    np.testing.assert_allclose(z["image"], want, rtol=1e-4, atol=1e-5)
    assert len(pipeline().decode({"image": z["image"]}).image) == 2


def test_embeddings_are_those_that_bridging_compares():
    values = {"text": [TEXT, "a green two", "blue"], "image": PIXELS}
    embeddings = pipeline().embed(values, batch_size=2)
    for name, given in values.items():
        modality = toy.codi()[name]
        media = modality.preprocess(given if name == "text" else [given])
        want = toy.quick(modality.embed)(modality.component(variables(), "prompt"), media)
        assert embeddings[name].dtype == np.float32 and embeddings[name].shape == (len(want), toy.D)
        np.testing.assert_allclose(embeddings[name], want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(embeddings[name], axis=-1), 1, rtol=1e-5)


def test_weights_are_checked_first_read_when_they_are_used_and_kept():
    checked, read = [], []

    def reader(components):
        read.append(components)
        return variables()

    pipe = Pipeline(toy.codi(), CONFIG, Weights(reader, checked.append))
    assert toy.same(pipe(TEXT, "text", n=2).latents, latents(TEXT, "text", n=2))
    assert read == [("clip_text",), ("text_unet",), ("text_codec",)] and checked == [sum(read, ())]
    pipe(TEXT, PAIR, n=2)
    assert read[3:] == [
        ("text_environment", "text_cross", "vision_unet", "image_environment", "image_cross"),
        ("vision_codec",),
    ]
    released = Weights(reader, checked.append, keep=False)
    for _ in range(2):
        assert set(released(("text_codec",))["params"]) == {"text_codec"}
    assert read[5:] == [("text_codec",)] * 2


def test_missing_weights_are_named_before_anything_is_computed():
    have = variables()
    lacking = {**have, "params": {name: tree for name, tree in have["params"].items() if name != "vision_codec"}}
    said = []
    with pytest.raises(ConfigError, match=r"^no weights for vision_codec$"):
        Pipeline(toy.codi(), CONFIG, lacking)(TEXT, "image", progress=lambda *given: said.append(given))
    assert not said
    assert Pipeline(toy.codi(), CONFIG, lacking)(TEXT, "image", n=2, decode=False).latents.keys() == {"image"}


def test_unknown_words_are_a_warning_at_the_call():
    for call in (lambda text: pipeline()(text, "text", n=2), pipeline().embed):
        with pytest.warns(PromptWarning, match="'dog' is not a word of this model") as caught:
            call("a red dog")
        assert [w.filename for w in caught] == [__file__]


def test_the_end_of_a_prompt_that_is_too_long_is_a_warning():
    length = toy.codi()["text"].lengths[0]
    words = ["a", "red", "seven"] * length
    message = f"text prompt: has {len(words)} tokens, of which the model reads {length - 2}, without '"
    with pytest.warns(PromptWarning, match=re.escape(message)) as caught:
        pipeline()(" ".join(words), "text")
    assert str(caught[0].message).endswith("…'") and len(str(caught[0].message)) < len(message) + 64
    whole, cut = (pipeline().embed(" ".join(words[: length - 2])), pipeline().embed)
    with pytest.warns(PromptWarning):
        np.testing.assert_array_equal(cut(" ".join(words))["text"], whole["text"])


def test_a_pipeline_with_other_settings_shares_weights_and_programs():
    pipe = pipeline()
    pipe(TEXT, "image")
    count = pipe._generator().compiled_programs()
    other = pipe.with_settings(steps=3, guidance={"image": {"prompt": 1.0}})
    assert other.config.steps == 3 and pipe.config == CONFIG
    expected = pipe(TEXT, "image", steps=3, guidance=1.0).latents["image"]
    np.testing.assert_array_equal(other(TEXT, "image").latents["image"], expected)
    assert other._generator().compiled_programs() == count
    with pytest.raises(
        ConfigError,
        match=r"^config\.generate\.stps: unknown key \(did you mean steps\?\); GenerateConfig knows guidance",
    ):
        pipe.with_settings(stps=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to generate; choose from text, image"),
        ({"to": "imge"}, "unknown modality 'imge' (did you mean image?); this model has text, image"),
        ({"to": None}, "to: expected a name or names, got None"),
        ({"to": ("text", 3)}, "to: expected a name or names, got ('text', 3)"),
        ({"to": ("text", "text")}, "modality 'text' is named twice"),
        ({"to": "text", "prompts": {"smell": 1}}, "unknown modality 'smell'; this model has text, image"),
        ({"to": "text", "prompts": 7}, "text: expected a string, got int"),
        ({"to": "text", "prompts": []}, "text: an empty list; leave it out to generate without a prompt"),
        (
            {"to": "text", "prompts": {"text": ["a", "b"], "image": [PIXELS]}},
            "lists of prompts differ in length: text 2, image 1",
        ),
        (
            {"to": "text", "prompts": ["red"], "negative": ["red", "blue"]},
            "lists of prompts differ in length: text 1, text 2",
        ),
        ({"to": "text", "n": 0}, "n: expected a positive number, got 0"),
        ({"to": "text", "n": 1.5}, "n: expected a positive number, got 1.5"),
        ({"to": "text", "seed": -1}, "seed: expected 0 or more and at most 64 bits, got -1"),
        ({"to": "text", "seed": [1 << 64]}, "seed: expected 0 or more and at most 64 bits, got 18446744073709551616"),
        ({"to": "text", "seed": "a"}, "seed: expected an integer, got 'a'"),
        ({"to": "text", "seed": [1, 2]}, "seed: 2 of them for 1 samples; give one number, or 1"),
        ({"to": "text", "weights": {"text": 1}}, "weights: 'text' has no prompt; prompts: none"),
        ({"to": "text", "prompts": "red", "weights": {"text": "1"}}, "weights of text: expected a number, got '1'"),
        (
            {"to": "text", "prompts": "red", "weights": {"text": 0}},
            "mix weights must be finite and >= 0 with a positive sum, got text=0",
        ),
        ({"to": "text", "weights": 2}, "weights: expected a mapping from names, got int"),
        ({"to": "text", "hold": "red"}, "hold: expected a mapping from names, got str"),
        ({"to": "text", "latents": [1]}, "latents: expected a mapping from names, got list"),
        ({"to": "text", "guidance": "3"}, "guidance of text: expected a number, got '3'"),
        ({"to": "text", "guidance": {"image": 3}}, "guidance: 'image' is not an output; outputs: text"),
        ({"to": "text", "steps": 0}, "sampling: "),
        ({"to": "text", "steps": 2.5}, "config.generate.steps: expected int, got 2.5"),
        (
            {"to": "text", "sampler": "dpmpp"},
            "config.generate.sampler: 'dpmpp' is none of ddim, ancestral, euler, heun, dpmpp_2m, dpmpp_2m_sde, unipc "
            "(did you mean dpmpp_2m?)",
        ),
        (
            {"to": "text", "spacing": "karas"},
            "config.generate.spacing: 'karas' is none of trailing, release, karras, log_snr (did you mean karras?)",
        ),
        ({"to": "text", "spacing": 3}, "config.generate.spacing: expected str, got 3"),
        ({"to": "text", "sampler": "heun", "eta": 0.5}, "sampling: eta is 0.5, which heun does not support"),
        ({"to": "text", "eta": 2.0}, "sampling: eta is 2.0, which ddim does not support"),
        ({"to": "text", "batch_size": 0}, "batch_size: expected a positive number, got 0"),
        ({"to": "text", "latents": {"image": PIXELS}}, "latents: image has shape [32, 32, 3], not [n, 2, 2, 4]"),
        ({"to": "text", "latents": {"text": np.zeros((3, 16))}}, "latents: 3 of text for 1 samples"),
        ({"to": "image", "latents": {"text": np.zeros((1, 16))}}, "latents: 'text' is not an output; outputs: image"),
    ],
)
def test_invalid_requests_are_refused_before_anything_is_computed(options, message):
    said = []
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        pipeline()(**options, progress=lambda *given: said.append(given))
    assert not said


def test_progress_names_the_chunk():
    said = []
    pipeline()(TEXT, "text", n=3, batch_size=2, steps=1, progress=lambda *given: said.append(given))
    assert said == [
        ("text prompt",),
        ("reading text_unet",),
        ("sampling, chunk 1 of 2", 0, 1),
        ("sampling, chunk 2 of 2", 0, 1),
        ("decoding text",),
    ]
