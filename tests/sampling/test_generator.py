"""Generation: one program serves every subset of outputs, and noise depends only on names and the seed."""

import dataclasses
import errno
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.diffusion import samplers
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.parallel import MeshConfig, ShardingConfig, make_mesh, resolve
from codi_jax.rng import fold
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.files import save
from codi_jax.sampling.generator import Generator
from tests import toy

KEY, N, PAIR = jax.random.key(0), 2, toy.PAIR
TEXT = ["the digit seven in red"]
IMAGE = [np.full((32, 32, 3), 40, np.uint8), np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)]
VALUES = {"text": TEXT, "image": IMAGE}
ONE = {name: ClassifierFreeGuidance(1.0, 1.0) for name in PAIR}  # the conditional prediction, unguided


@functools.lru_cache
def generator(late=0, **options):
    """A generator that tests share with its compiled programs; image starts `late` steps after text."""
    scales = {name: ClassifierFreeGuidance(2.0, 3.0) for name in PAIR}
    options = {"steps": 3, "loop": "host", "delay": {"image": late}, **options}
    return Generator(toy.codi(), GenerateConfig(scales, **options))


@pytest.fixture(scope="module")
def variables():
    return toy.variables(toy.codi())


@pytest.fixture(scope="module")
def prompts(variables):
    return generator().prompts(variables, {"text": TEXT * N, "image": IMAGE})


def sample(variables, outputs, prompts, key=KEY, model=None, **options):
    return jax.device_get((model or generator()).latents(variables, outputs, prompts, N, key, **options))


def subsets():
    return [s for r in range(3) for s in itertools.combinations(PAIR, r)]


@pytest.mark.slow
def test_the_number_of_programs_does_not_grow_with_subsets_or_scales(variables):
    model = Generator(
        toy.codi(), GenerateConfig({name: ClassifierFreeGuidance() for name in PAIR}, steps=2, loop="host")
    )

    def every_request(low):
        requests = itertools.product((("text",), ("image",), PAIR), subsets())
        for i, (outputs, given) in enumerate(requests):
            weights = {"text": 0.5 + i} if "text" in given else None
            guidance = {name: ClassifierFreeGuidance(low + i, 0.5 * i, 0.1, 0.9) for name in outputs}
            values = {name: VALUES[name][:1] for name in given}
            model.generate(variables, outputs, values, N, jax.random.key(i), weights, guidance)

    every_request(low=1.0)
    count = model.compiled_programs()
    # Prompt, environment, decode; a step on one or two branches alone, and on one to three if there are others.
    assert count <= 8 * len(PAIR)
    every_request(low=1.25)
    assert model.compiled_programs() == count


@pytest.mark.slow
def test_sharded_parameters_do_not_add_programs(variables, prompts):
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shardings, _ = resolve(variables["params"], mesh, ShardingConfig(fsdp_min_bytes=256))
    split = {**variables, "params": jax.device_put(variables["params"], shardings)}
    model = Generator(
        toy.codi(), GenerateConfig({name: ClassifierFreeGuidance() for name in PAIR}, steps=3, loop="host")
    )
    for outputs, given in itertools.product((("text",), ("image",), PAIR), subsets()):
        made = model.latents(split, outputs, {name: prompts[name] for name in given}, N, KEY)
    assert model.compiled_programs() == 4 * len(PAIR)  # environment, step, step alone with a prompt and without
    whole = sample(variables, PAIR, prompts, model=model)
    for name, z in made.items():
        np.testing.assert_allclose(z, whole[name], atol=2e-4)


@pytest.mark.slow
def test_four_modalities_compile_five_programs_each_for_all_fifteen_sets_of_outputs():
    codi = toy.codi(*toy.EVERYTHING)
    everything = toy.variables(codi)
    model = Generator(codi, GenerateConfig({}, steps=1, loop="host"))
    rng = np.random.default_rng(0)
    values = {
        **{"text": TEXT, "image": IMAGE[:1]},
        "audio": [rng.integers(-9000, 9000, 8192).astype(np.int16)],
        "video": [rng.integers(0, 256, (8, 32, 32, 3), np.uint8)],
    }
    prompts = model.prompts(everything, values)
    sets = [s for r in range(1, 5) for s in itertools.combinations(toy.EVERYTHING, r)]
    assert len(sets) == 15
    made = {}
    for outputs, asked in zip(sets, sets[::-1], strict=True):
        weights = {name: np.float32([name in asked]) for name in prompts}
        latents = model.latents(everything, outputs, prompts, 1, KEY, weights)
        assert {name: z.shape for name, z in latents.items()} == {
            name: (1, *codi[name].latent_shape) for name in outputs
        }  # fmt: skip
        assert all(np.isfinite(z).all() for z in latents.values())
        made = model.decode(everything, latents)
    assert {name: np.shape(value[0]) for name, value in made.items()} == {
        **{"text": (), "image": (32, 32, 3)},
        **{"audio": (8192,), "video": (8, 32, 32, 3)},
    }
    # Prompt, environment, advance, advance alone, decode.
    assert model.compiled_programs() == 5 * len(toy.EVERYTHING)


@pytest.mark.parametrize("outputs", [("text",), ("image",), PAIR])
def test_the_same_key_gives_the_same_latents(variables, prompts, outputs):
    got = sample(variables, outputs, prompts)
    assert {name: z.shape for name, z in got.items()} == {
        name: (N, *toy.codi()[name].latent_shape) for name in outputs
    }  # fmt: skip
    assert all(np.isfinite(z).all() for z in got.values())
    assert toy.same(got, sample(variables, outputs, prompts))
    other = sample(variables, outputs, prompts, jax.random.key(1))
    assert not any(np.array_equal(got[name], other[name]) for name in outputs)


def test_scan_and_host_loop_agree(variables, prompts):
    scanned = sample(variables, PAIR, prompts, model=generator(loop="scan"))
    looped = sample(variables, PAIR, prompts)
    for name in PAIR:
        np.testing.assert_allclose(scanned[name], looped[name], rtol=1e-3, atol=1e-4)


def test_a_delay_changes_only_the_environment_of_the_others(variables, prompts):
    no_environment = {name: ClassifierFreeGuidance(2.0, 0.0) for name in PAIR}
    for guidance, same in ((no_environment, True), (None, False)):
        got = sample(variables, PAIR, prompts, model=generator(late=2), guidance=guidance)
        want = sample(variables, PAIR, prompts, guidance=guidance)
        for name in PAIR:
            assert np.allclose(got[name], want[name], rtol=1e-3, atol=1e-4) is same
    scanned = sample(variables, PAIR, prompts, model=generator(late=2, loop="scan"))
    for name in PAIR:
        np.testing.assert_allclose(scanned[name], got[name], rtol=1e-3, atol=1e-4)
    alone = sample(variables, ("image",), prompts, model=generator(late=2))
    assert toy.same(alone, sample(variables, ("image",), prompts))


def test_an_environment_by_norm_has_programs_of_its_own_and_is_that_of_a_single_partner(variables, prompts):
    mean = generator()
    want, before = sample(variables, PAIR, prompts), mean.compiled_programs()
    by_norm = mean.with_config(dataclasses.replace(mean.config, environment="by_norm"))
    got = sample(variables, PAIR, prompts, model=by_norm)
    assert by_norm.compiled_programs() == before + len(PAIR)
    for name in PAIR:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-3, atol=1e-4)


def test_weights_of_the_environment_need_no_program_and_do_not_change_that_of_a_single_partner(variables, prompts):
    equal = generator()
    want, before = sample(variables, PAIR, prompts), equal.compiled_programs()
    weighed = equal.with_config(dataclasses.replace(equal.config, environment_weights={"text": 8.0}))
    assert toy.same(sample(variables, PAIR, prompts, model=weighed), want)
    assert weighed.compiled_programs() == before


def test_noise_does_not_depend_on_the_other_outputs(variables, prompts):
    # Without environment guidance outputs are the same together and alone.
    no_environment = {name: ClassifierFreeGuidance(2.0, 0.0) for name in PAIR}
    joint = sample(variables, PAIR, prompts, guidance=no_environment)
    for name in PAIR:
        alone = sample(variables, (name,), prompts, guidance=no_environment)
        np.testing.assert_allclose(joint[name], alone[name], rtol=1e-3, atol=1e-4)
    guided = sample(variables, PAIR, prompts)
    assert all(np.abs(guided[name] - joint[name]).max() > 1e-3 for name in PAIR)


def test_scales_of_zero_are_unconditional_generation(variables, prompts):
    zero = {name: ClassifierFreeGuidance(0.0, 0.0) for name in PAIR}
    joint = sample(variables, PAIR, prompts, guidance=zero)
    for name in PAIR:
        unconditional = sample(variables, (name,), {}, guidance=ONE)
        np.testing.assert_allclose(joint[name], unconditional[name], rtol=1e-3, atol=1e-4)
        alone = sample(variables, (name,), prompts, guidance=zero)
        np.testing.assert_allclose(alone[name], unconditional[name], rtol=1e-3, atol=1e-4)


def test_scales_of_one_are_the_conditional_prediction(variables, prompts):
    # Against DDIM on the unguided prediction with prompt and environment.
    model, codi = generator(), toy.codi()
    context = codi.context(prompts)
    connectivity = jnp.asarray(codi.connectivity(PAIR))

    @toy.quick
    def predict(z, t):
        batch = jnp.full((N,), t)
        tokens = {name: codi[name].environment_tokens(variables, z[name], batch) for name in PAIR}
        environments = {name: codi.environment(tokens, connectivity[i]) for i, name in enumerate(PAIR)}
        return {name: codi[name].denoise(variables, z[name], batch, context, *environments[name]) for name in PAIR}

    noise = {name: jax.random.normal(KEY, (N, *codi[name].latent_shape)) for name in PAIR}
    z = noise
    for t, t_next in samplers.timesteps(codi.schedule, model.config.steps, model.config.spacing):
        now, then = codi.schedule.at(t), codi.schedule.at(t_next)
        v = predict(z, t)
        x0 = {name: now.alpha * z[name] - now.sigma * v[name] for name in PAIR}
        eps = {name: now.sigma * z[name] + now.alpha * v[name] for name in PAIR}
        z = {name: then.alpha * x0[name] + then.sigma * eps[name] for name in PAIR}
    got = sample(variables, PAIR, prompts, guidance=ONE, noise=noise)
    for name in PAIR:
        np.testing.assert_allclose(got[name], z[name], rtol=1e-3, atol=1e-4)


def test_guidance_applies_only_within_its_interval(variables, prompts):
    never = {"text": ClassifierFreeGuidance(5.0, 5.0, 2.0, 3.0)}
    np.testing.assert_allclose(
        sample(variables, ("text",), prompts, guidance=never)["text"],
        sample(variables, ("text",), prompts, guidance=ONE)["text"],
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_mix_weight_of_zero_removes_a_prompt(variables, prompts):
    got = sample(variables, ("text",), prompts, weights={"text": 0.0})
    want = sample(variables, ("text",), {"image": prompts["image"]})
    np.testing.assert_allclose(got["text"], want["text"], rtol=1e-5, atol=1e-6)


def test_mix_weights_per_sample(variables, prompts):
    mixed = sample(variables, ("text",), prompts, weights={"text": np.float32([1, 0]), "image": np.float32([0, 1])})
    noise = {"text": jax.random.normal(fold(KEY, "text", "z_T"), (N, 16))}
    for i, name in enumerate(PAIR):
        alone = sample(variables, ("text",), {name: prompts[name]}, noise=noise)
        np.testing.assert_allclose(mixed["text"][i], alone["text"][i], rtol=1e-4, atol=1e-5)


def test_noise_during_sampling_depends_on_the_key(variables, prompts):
    model = generator(eta=1.0)
    one, two = (sample(variables, ("text",), prompts, jax.random.key(i), model=model)["text"] for i in (0, 1))
    noise = {"text": jnp.zeros((N, 16))}
    a, b = (
        sample(variables, ("text",), prompts, jax.random.key(i), model=model, noise=noise)["text"] for i in (0, 1)
    )  # fmt: skip
    assert not np.array_equal(one, two) and not np.array_equal(a, b)  # not only z_T depends on the key
    assert toy.same(one, sample(variables, ("text",), prompts, model=model)["text"])


def test_generate_returns_raw_values_that_save_writes(variables, tmp_path):
    values = generator().generate(variables, PAIR, {"text": TEXT}, N, KEY)
    assert [type(text) for text in values["text"]] == [str] * N
    assert [(x.shape, x.dtype) for x in values["image"]] == [((32, 32, 3), np.dtype("uint8"))] * N
    paths = save(toy.codi(), values, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["text_0.txt", "text_1.txt", "image_0.png", "image_1.png"]
    assert paths[1].read_text() == values["text"][1] + "\n"
    np.testing.assert_array_equal(toy.codi()["image"].raw_from_user(str(paths[2])), values["image"][0])


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    codi = toy.codi()
    saved = save(codi, {"text": ["one"]}, tmp_path)

    def half(value, path):
        path.write_text(value[:1])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(type(codi["text"]), "write", staticmethod(half))
    with pytest.raises(OSError, match="full"):
        save(codi, {"text": ["two"]}, tmp_path)
    assert list(tmp_path.iterdir()) == saved and saved[0].read_text() == "one\n"


def test_progress_is_called_in_order_and_changes_nothing(variables):
    calls, loaded = [], []

    def load(components):
        loaded.append(components)
        return variables

    def progress(*arguments):
        calls.append(arguments)

    model = generator(late=1)
    watched = model.generate(load, PAIR, {"text": TEXT}, N, KEY, progress=progress)
    sampled = ("text_unet", "text_environment", "text_cross", "vision_unet", "image_environment", "image_cross")
    assert calls == [
        ("text prompt",),
        (f"reading {', '.join(sampled)}",),
        *(("sampling", i, 4) for i in range(4)),  # three steps, and one of delay
        ("decoding text",),
        ("decoding image",),
    ]
    assert loaded == [("clip_text",), sampled, ("text_codec",), ("vision_codec",)]
    calls.clear()
    generator(loop="scan").generate(variables, PAIR, {"text": TEXT}, N, KEY, progress=progress)
    assert calls[2] == ("sampling",)
    again = model.generate(variables, PAIR, {"text": TEXT}, N, KEY)
    assert watched["text"] == again["text"]
    np.testing.assert_array_equal(watched["image"], again["image"])


def test_invalid_requests_raise(variables):
    model = generator()
    with pytest.raises(ConfigError, match=r"^2 image prompts for 3 samples; give 1 or 3$"):
        model.generate(variables, ("text",), {"image": IMAGE}, 3, KEY)
    with pytest.raises(ConfigError, match=r"^nothing to generate; choose from text, image$"):
        model.generate(variables, (), {}, N, KEY)
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        model.generate(variables, ("smell",), {}, N, KEY)
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        Generator(toy.codi(), GenerateConfig({"smell": ClassifierFreeGuidance()}))
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        Generator(toy.codi(), GenerateConfig({}, delay={"smell": 1}))
    with pytest.raises(ConfigError, match=r"^delay of image: -1 steps; must be 0 or more$"):
        Generator(toy.codi(), GenerateConfig({}, delay={"image": -1}))
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        Generator(toy.codi(), GenerateConfig({}, environment_weights={"smell": 1.0}))
    with pytest.raises(ConfigError, match=r"^environment_weights of image: expected a positive number, got 0\.0$"):
        Generator(toy.codi(), GenerateConfig({}, environment_weights={"image": 0.0}))


@pytest.mark.parametrize("changes", [{"environment": "by_norm"}, {"environment_weights": {"image": 2.0}}])
def test_the_release_refuses_weights_of_an_environment_that_it_does_not_read(changes):
    release = toy.codi(compat="release")
    Generator(release, GenerateConfig({}, environment_weights={"image": 1.0}))
    with pytest.raises(ConfigError, match=r"^config\.generate: in the release .* no output reads another one; leave"):
        Generator(release, GenerateConfig({}, **changes))


def test_an_unknown_sampler_is_an_error_that_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"^config\.generate\.sampler: 'heune' is none of ddim, .*mean heun\?\)$"):
        GenerateConfig({}, sampler="heune")


@pytest.mark.parametrize("loop", ["host", "scan"])
@pytest.mark.parametrize("bad", [{"sampler": "dpmpp_2m", "eta": 0.5}, {"eta": 1.5}, {"eta": -0.1}, {"steps": 0}])
def test_invalid_sampler_options_raise(bad, loop):
    with pytest.raises(ConfigError, match="sampling: "):
        Generator(toy.codi(), from_dict(GenerateConfig, {"guidance": {}, "loop": loop, **bad}))


def test_dpm_solver_generates(variables, prompts):
    got = sample(variables, ("text",), prompts, model=generator(sampler="dpmpp_2m"))["text"]
    ddim = sample(variables, ("text",), prompts)["text"]
    assert np.isfinite(got).all() and not np.array_equal(got, ddim)


def test_a_model_of_one_modality_generates():
    tree = toy.model()
    del tree["modalities"]["image"]
    codi = CoDi.from_config(tree)
    model = Generator(codi, GenerateConfig({}, steps=2, loop="host"))
    assert model.latents(toy.variables(codi), ("text",), {}, N, KEY)["text"].shape == (N, 16)
