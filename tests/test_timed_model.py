"""A model of which audio and video have attention in time: what it changes, what it leaves, and what is trained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.nn.config import EnvironmentConfig, TimingConfig
from codi_jax.objectives import latent_alignment
from codi_jax.objectives.base import StageSpec, make_objective
from codi_jax.objectives.conditioning import PromptConfig
from codi_jax.objectives.latent_alignment import LatentAlignmentConfig
from codi_jax.presets import codi_recipe, digit_world
from codi_jax.presets.digit_world.recipe import run
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train.program import check_objectives, objective_of
from codi_jax.train.recipe import Run
from tests import toy

NAMES = ("text", "audio", "video")
TIMED = ("audio", "video")
PLAIN = GenerateConfig({name: ClassifierFreeGuidance(2.0, 2.0) for name in NAMES}, steps=2, loop="host")


def timed_config():
    """The toy's config with timing encoders of its sizes."""
    config = toy.codi(*NAMES).config

    def timing(name):
        own = config.modalities[name].environment
        sizes = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)} | {"tokens": "time"}
        return TimingConfig(encoder=EnvironmentConfig(**sizes), levels=(True,), heads=2)

    modalities = {
        name: dataclasses.replace(of, timing=timing(name)) if name in TIMED else of
        for name, of in config.modalities.items()
    }
    return dataclasses.replace(config, modalities=modalities)


@functools.lru_cache
def timed():
    codi = CoDi(timed_config())
    return codi, toy.variables(codi)


@functools.lru_cache
def generators():
    """Of the model without attention in time, with it, and with it in one program."""
    return (
        Generator(toy.codi(*NAMES), PLAIN),
        Generator(timed()[0], PLAIN),
        Generator(timed()[0], dataclasses.replace(PLAIN, loop="scan")),
    )


def sample(generator, variables, *outputs):
    prompts = {"text": jnp.ones((2, toy.D))}
    return generator.latents(variables, outputs, prompts, 2, jax.random.key(0))


def test_tokens_of_v_are_followed_by_those_with_a_time():
    codi, variables = timed()
    assert {name: codi[name].timed_tokens for name in NAMES} == {"text": 0, "audio": 2, "video": 8}
    z = jnp.ones((1, *codi["video"].latent_shape))
    tokens = codi["video"].environment_tokens(variables, z, jnp.zeros(1))
    plain = toy.codi(*NAMES)["video"].environment_tokens(variables, z, jnp.zeros(1))
    assert tokens.shape == (1, 9, plain.shape[-1]) and codi.zero_environment_tokens("video", 3).shape == (3, 9, toy.D)
    np.testing.assert_array_equal(tokens[:, :1], plain)


def test_an_environment_has_tokens_of_its_outputs_at_their_seconds():
    codi, _ = timed()
    tokens = {name: codi.zero_environment_tokens(name, 1) for name in NAMES}
    mixed, _ = codi.environment(tokens, jnp.array([0.5, 0.0, 0.5]))
    assert mixed.timed is not None and mixed.values.shape[1] == 1
    columns, frames = np.split(np.asarray(mixed.timed.seconds[0]), [2])
    np.testing.assert_allclose(columns, codi["audio"].duration * np.array([0.25, 0.75]), rtol=1e-6)
    np.testing.assert_allclose(frames, (np.arange(8) + 0.5) / 8, rtol=1e-6)
    np.testing.assert_allclose(mixed.timed.bias[0], [-1e9] * 2 + [np.log(0.5)] * 8, rtol=1e-6)


@pytest.mark.slow
def test_it_changes_audio_and_video_together_and_nothing_else():
    (plain, own, _), (_, variables) = generators(), timed()
    for outputs in (("audio", "video"), ("text", "audio")):
        a, b = sample(plain, variables, *outputs), sample(own, variables, *outputs)
        for name in outputs:
            change = np.abs(a[name] - b[name]).max()
            assert (change > 1e-3) if outputs == TIMED else (change == 0), (outputs, name)


@pytest.mark.slow
def test_the_host_loop_and_one_program_agree():
    _, host, scan = generators()
    a, b = (sample(generator, timed()[1], *TIMED) for generator in (host, scan))
    for name in TIMED:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_the_loss_trains_encoders_and_attention_in_time_of_both():
    codi, variables = timed()
    config = LatentAlignmentConfig(TIMED, (), PromptConfig(TIMED), align="none", timed=True)
    batch = {name: of for name, of in toy.encoded(codi, 2).items() if name in TIMED}

    def loss(timing):
        params = {"params": {**variables["params"], **timing}, "constants": variables["constants"]}
        return latent_alignment.loss(codi, TIMED, config, params, batch, jax.random.key(0)).loss

    timing = {f"{name}_timing": variables["params"][f"{name}_timing"] for name in TIMED}
    for path, gradient in jax.tree.leaves_with_path(toy.quick(jax.grad(loss))(timing)):
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


def test_the_recipe_from_the_package_trains_it_alone():
    recipe = Run(run(start="package", timed=True), None)
    assert recipe.order == ("encode.audio+video", "timing.encoders", "timing.audio+video")
    assert recipe.stage("timing.encoders").trainable == ("audio_timing/encoder/.*", "video_timing/encoder/.*")
    assert recipe.stage("timing.audio+video").trainable == ("audio_timing/attention/.*", "video_timing/attention/.*")
    check_objectives(recipe, recipe.order)
    whole = run(timed=True)
    assert whole.stages["timing"]["audio+video"].depends_on == ("timing.encoders", "joint.audio+video")
    check_objectives(Run(whole, None), ("timing.encoders",))
    assert whole.model == digit_world.model(timed=True) and "timing" not in run().stages
    with pytest.raises(ConfigError, match=r"^option timed: needs audio and video"):
        run(modalities="text+image+audio", timed=True)


def test_no_stage_reads_it_before_it_is_trained():
    """Of the whole recipe; only what a stage trains itself or what one before has trained can be read."""
    recipe = Run(run(timed=True), None)
    for name in recipe.order:
        stages = [recipe.stage(other) for other in (name, *recipe.ancestors(name))]
        trained = {rule.split("/")[0] for stage in stages for rule in stage.trainable}
        if recipe.stage(name).trains:
            assert set(objective_of(recipe, name).components) <= trained, name


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("audio", "video"), {"aligned": ("audio",)}, "V is aligned by the stages before; leave out aligned"),
        (("text", "image"), {"aligned": ()}, "no modality has attention in time; leave out timed"),
    ],
)
def test_settings_that_do_not_fit_are_refused(names, settings, message):
    codi = CoDi(timed_config()) if "audio" in names else toy.codi()
    given = {"losses": names, "prompts": {"sources": names}, "timed": True, **settings}
    with pytest.raises(ConfigError, match=f"timed: {message}"):
        make_objective("latent_alignment", codi, StageSpec(names, given))


def test_the_paper_s_model_at_full_size_can_have_it():
    config = codi_recipe.run(timed=True, tokenizers="digit_world")
    encoders, attention = config.stages["timing"].values()
    assert encoders.trainable == ("audio_timing/encoder/.*", "video_timing/encoder/.*")
    assert attention.depends_on == ("timing.encoders", "joint.audio+video")
    codi = CoDi(config.model)
    assert codi["audio"].timed_tokens == 128 and codi["video"].timed_tokens == 8  # 80 ms, and a frame
    tokens = codi.zero_environment_tokens("audio", 1)
    assert tokens.shape == (1, 129, 1280)
    assert "timing" not in codi_recipe.run(tokenizers="digit_world").stages
    with pytest.raises(ConfigError, match=r"^option timed: the release has no attention in time"):
        codi_recipe.run(timed=True, compat="release")


def test_sizes_that_do_not_fit_are_refused():
    config = timed_config()
    audio = config.modalities["audio"]
    encoder = dataclasses.replace(audio.timing.encoder, width=8)
    for change, message in (
        ({"levels": (True, True)}, "audio.timing.levels: 2, but the denoiser has 1"),
        ({"encoder": encoder}, f"audio.timing.encoder.width: 8, but environment tokens have {toy.D}"),
    ):
        timing = dataclasses.replace(audio.timing, **change)
        changed = {**config.modalities, "audio": dataclasses.replace(audio, timing=timing)}
        with pytest.raises(ConfigError, match=message):
            CoDi(dataclasses.replace(config, modalities=changed))
