import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.objectives import conditioning
from codi_jax.objectives.conditioning import PromptConfig
from tests import toy
from tests.objectives.constant_model import ConstantModality, ConstantModel, encoded

KEY = jax.random.key(0)
SIZE = 400


def context(config, key=KEY, null=0.0):
    model = ConstantModel(a=ConstantModality(), b=ConstantModality())
    model.null = null
    batch = {"a": encoded(SIZE, prompt=1.0), "b": encoded(SIZE, prompt=2.0)}
    tokens = conditioning.context(model, config, {}, batch, key, "a")
    assert tokens.values.shape == (SIZE, 1, 4)
    np.testing.assert_array_equal(tokens.bias, 0)
    return np.asarray(tokens.values[:, 0])


def test_each_sample_gets_the_prompt_of_one_source():
    got = context(PromptConfig(("a", "b"), drop=0.0))
    assert set(np.unique(got)) == {1.0, 2.0}
    assert (got == got[:, :1]).all()
    assert abs((got[:, 0] == 1).mean() - 0.5) < 0.1
    assert (context(PromptConfig(("b",), drop=0.0)) == 2).all()


def drawn_prompts(present, names=("a", "b", "c"), size=SIZE, key=KEY):
    """The prompt that was drawn for each sample: 1, 2 or 3."""
    model = ConstantModel(**{name: ConstantModality() for name in names})
    batch = {name: encoded(size, prompt=1.0 + i) for i, name in enumerate(names)}
    for name, mask in present.items():
        batch[name] = batch[name].replace(present=jnp.asarray(mask, jnp.float32))
    tokens = conditioning.context(model, PromptConfig(names, drop=0.0), {}, batch, key, "a")
    return np.asarray(tokens.values[:, 0, 0])


def test_a_source_that_a_sample_lacks_is_never_drawn():
    half = np.arange(20 * SIZE) % 2
    got = drawn_prompts({"b": half, "c": 1 - half}, size=20 * SIZE)
    assert set(got[half == 1]) == {1.0, 2.0} and set(got[half == 0]) == {1.0, 3.0}
    for rows, other in ((half == 1, 2), (half == 0, 3)):  # the sources that a sample has are equally likely
        assert abs((got[rows] == other).mean() - 0.5) < 0.03
    assert (drawn_prompts({"a": np.zeros(SIZE), "c": np.zeros(SIZE)}) == 2).all()


def test_sources_are_equally_likely_with_and_without_presence():
    ones = np.ones(SIZE)
    for got in (drawn_prompts({"a": ones, "b": ones, "c": ones}), drawn_prompts({})):
        counts = np.bincount(got.astype(int), minlength=4)[1:]
        np.testing.assert_allclose(counts / SIZE, 1 / 3, atol=0.08)


@pytest.mark.parametrize("null", [0.0, -3.0])
def test_dropped_prompts_are_the_null_prompt(null):
    assert (context(PromptConfig(("a", "b"), drop=1.0, noise=5.0), null=null) == null).all()
    got = context(PromptConfig(("a",), drop=0.25), null=null)
    assert set(np.unique(got)) == {null, 1.0}
    assert abs((got[:, 0] == null).mean() - 0.25) < 0.08


def test_noise_is_added_to_prompts_but_not_to_the_null_prompt():
    got = context(PromptConfig(("a",), drop=0.3, noise=0.5))
    dropped = (got == 0).all(1)
    assert abs(dropped.mean() - 0.3) < 0.08
    assert abs((got[~dropped] - 1).std() - 0.5) < 0.05


def test_prompts_are_drawn_by_the_name_of_the_output():
    config = PromptConfig(("a", "b"))
    model = ConstantModel(a=ConstantModality(), b=ConstantModality())
    batch = {"a": encoded(SIZE, prompt=1.0), "b": encoded(SIZE, prompt=2.0)}
    one, two = (conditioning.context(model, config, {}, batch, KEY, name).values for name in ("a", "b"))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, conditioning.context(model, config, {}, batch, KEY, "a").values)


def test_add_noise_samples_the_posterior_and_corrupts_it():
    model, batch = ConstantModel(a=ConstantModality()), encoded(SIZE)
    batch = batch.replace(mean=batch.mean + 2, std=batch.std + 0.5)
    t = jnp.full((SIZE,), 500)
    sample = conditioning.add_noise(model, "a", batch, t, KEY)
    assert abs(float(sample.z.mean()) - 2) < 0.1 and abs(float(sample.z.std()) - 0.5) < 0.05
    level = model.schedule.at(t[0])
    np.testing.assert_allclose(sample.z_t, level.alpha * sample.z + level.sigma * sample.noise, rtol=1e-5, atol=1e-6)


def test_timesteps_are_uniform_over_the_schedule():
    t = np.asarray(conditioning.timesteps(ConstantModel(a=ConstantModality()), 20_000, KEY, "a"))
    assert (t.min(), t.max()) == (0, 999) and abs(t.mean() - 499.5) < 6


def test_a_shift_draws_more_noisy_timesteps():
    model = ConstantModel(a=ConstantModality())
    even, shifted = (np.asarray(conditioning.timesteps(model, 20_000, KEY, "a", shift)) for shift in (1.0, 4.0))
    # 4u / (1 + 3u) of 1/4, 1/2 and 3/4 is 4/7, 4/5 and 12/13.
    np.testing.assert_allclose(np.quantile(even, (0.25, 0.5, 0.75)) / 1000, (0.25, 0.5, 0.75), atol=0.01)
    np.testing.assert_allclose(np.quantile(shifted, (0.25, 0.5, 0.75)) / 1000, (4 / 7, 4 / 5, 12 / 13), atol=0.01)
    assert shifted.min() >= 0 and shifted.max() == 999


def test_encode_normalises_latents_and_centres_prompts():
    codi = toy.codi()
    variables = toy.variables(codi)
    media = {
        "text": codi["text"].preprocess(["the digit seven in red", "a blue one"]),
        "image": np.zeros((2, 32, 32, 3)),
    }
    media["image"][1] = 0.5
    shifted = jax.tree.map(jnp.asarray, variables)
    shifted["constants"]["text_codec"] = {"shift": jnp.full((16,), 0.25), "scale": jnp.full((16,), 3.0)}
    shifted["constants"]["vision_codec"]["scale"] = jnp.full((4,), 5.0)
    shifted["constants"]["clip_vision"] = {"centre": jnp.full((toy.D,), 0.1), "gain": jnp.float32(2.0)}

    program = toy.quick(lambda v, m: conditioning.encode(codi, v, m))
    plain, got = program(variables, media), program(shifted, media)
    np.testing.assert_allclose(got["text"].mean, 3 * (plain["text"].mean - 0.25), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["image"].std, 5 * plain["image"].std, rtol=1e-4)
    # A text latent is the posterior mean, as in the release.
    assert plain["image"].std.min() > 0 and not plain["text"].std.any()
    np.testing.assert_allclose(got["image"].prompt, 2 * (plain["image"].prompt - 0.1), rtol=1e-4, atol=1e-5)
    for name, modality in codi.modalities.items():
        assert plain[name].mean.shape == plain[name].std.shape == (2, *modality.latent_shape)
        np.testing.assert_allclose(jnp.linalg.norm(plain[name].prompt, axis=-1), 1, rtol=1e-5)
        assert {x.dtype for x in jax.tree.leaves(plain[name])} == {jnp.dtype("float32")}
        assert plain[name].present is None  # every sample has it


def test_a_truncated_caption_is_the_prompt_and_the_full_one_is_the_target():
    codi = toy.codi()
    captions = {"caption": np.array(["the digit seven in red"]), "prompt": np.array(["a red"])}
    media = codi["text"].prepare({"text": captions})
    untruncated = codi["text"].preprocess(["the digit seven in red"])
    for part in ("full", "source", "target"):
        np.testing.assert_array_equal(media[part], untruncated[part])
    np.testing.assert_array_equal(media["prompt"], codi["text"].preprocess(["a red"])["prompt"])
