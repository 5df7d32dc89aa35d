"""The variants of the packaged model's recipe."""

import pytest

from codi_jax import packaged
from codi_jax.config import ConfigError, from_dict
from codi_jax.presets.digit_world.recipe import run
from codi_jax.presets.digit_world.stages import ENVIRONMENT_NOISE, OWN_SHARE
from codi_jax.sampling.config import GenerateConfig
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import Run
from codi_jax.train.variables import check


def settings(config, group="joint"):
    return {name: stage.settings for name, stage in config.stages[group].items()}


def nonzero(config, field):
    return {name: value for name, s in settings(config).items() if (value := s.get(field))}


def test_ours_anchors_v_to_its_own_prompt_and_mixes_it_with_noise_into_the_environment_of_pairs_without_text():
    config = run()
    assert {s["target"] for group in ("joint", "environment") for s in settings(config, group).values()} == {"own"}
    for field, value in (("own_share", OWN_SHARE), ("environment_noise", ENVIRONMENT_NOISE)):
        assert nonzero(config, field) == {"audio+video": value} and value > 0
        assert not nonzero(run(**{field: 0.0}), field)
        assert not nonzero(run(pools="merged"), field)  # which trains every pair


def test_the_papers_loss_has_neither():
    config = run(loss="paper")
    assert not config.stages["environment"]
    for s in settings(config).values():
        assert (s["align"], s["timesteps"]) == ("contrastive", "shared") and "target" not in s
    assert not nonzero(config, "own_share") and not nonzero(config, "environment_noise")
    with pytest.raises(
        ConfigError, match=r"^option loss=paper: it has no anchor, no own_share and no environment_noise$"
    ):
        run(loss="paper", anchor="none")


@pytest.mark.parametrize("anchor", ["own", "partner", "text", "none"])
def test_v_is_trained_by_the_anchor_that_is_named(anchor):
    config = run(anchor=anchor)
    every = [s for group in ("environment", "joint") for s in settings(config, group).values()]
    if anchor == "none":
        # The denoisers' losses train V, in as many steps as both kinds of stages have otherwise.
        assert not config.stages["environment"] and all(s["align"] == "none" for s in every)
        steps = {name: (config.stages["joint"][name].steps, s.steps) for name, s in run().stages["joint"].items()}
        assert all(more == 1.5 * usual for more, usual in steps.values())
        return
    assert all(s.get("target") == (anchor if s["aligned"] else None) for s in every)
    read = Run(config, None)
    for name in (name for name, s in read.stages.items() if s.objective == "latent_alignment"):
        objective_of(read, name)  # the settings are valid
    for name, stage in config.stages["joint"].items():
        trains_v = any("environment" in pattern for pattern in stage.trainable)
        # Beside audio there is no caption: V of videos stays as the stage environment.video has trained it.
        assert trains_v == bool(stage.settings["aligned"]) == (anchor != "text" or "text" in name)


def test_from_the_package_v_and_x_alone_are_trained():
    config = run(start="package")
    stages = Run(config, None).stages
    assert {name.split(".")[0] for name in stages} == {"encode", "environment", "joint"}
    roles = {name: role for name, (_, role) in Run(config, None).codi.component_names().items()}
    assert {roles[name] for name in config.initialized} == {"environment", "cross"}
    assert len(config.initialized) == 8 and config.weights == packaged.DEFAULT
    for name, stage in stages.items():
        sources = (stage.source,) if isinstance(stage.source, str) else stage.source
        assert {source for source in sources if source in stages} <= set(stage.depends_on), name
        assert all(any(p.startswith(c) for c in config.initialized) for p in stage.trainable)


@pytest.mark.parametrize("options", [{}, {"tokens": "map"}, {"modalities": "text+image"}])
def test_the_components_of_the_package_fit(options):
    config = run(start="package", **options)
    read = Run(config, None)
    package = packaged.open_package(packaged.DEFAULT).read("model", read.converted)["params"]
    assert {*read.converted} | {*config.initialized} >= {*read.codi.component_names()}
    check(read, {name: package[name] for name in read.converted if name in read.codi.component_names()})


def test_from_the_package_merged_pools_train_the_denoisers_too():
    config = run(start="package", pools="merged")
    assert {"text_unet", "vision_unet", "audio_unet", "video_unet"} < set(config.initialized)
    assert set(config.stages) == {"encode", "ldm", "environment", "joint"} and set(config.stages["encode"]) == {
        "merged"
    }
    with pytest.raises(ConfigError, match=r"^option start=package: judges are trained from scratch$"):
        run(start="package", judges=True)


def test_the_tower_of_videos_starts_from_that_of_images_and_sees_stills():
    config = run()
    assert config.stages["bridging"]["text+video"].init_from == {"clip_video": "clip_vision"}
    assert config.sources["text+video whole"]["stills"] > 0
    assert not any(source.get("stills") for name, source in config.sources.items() if name != "text+video whole")


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({}, "by_norm"), ({"anchor": "partner"}, "by_norm"), ({"start": "package", "distill": 4}, "by_norm"),
        ({"anchor": "none"}, "mean"), ({"loss": "paper"}, "mean"), ({"tokens": "map"}, "mean"),
    ],
)  # fmt: skip
def test_tokens_count_by_their_norm_where_v_is_anchored(options, environment):
    generate = run(**options).generate
    assert generate.environment == environment
    guided = [rule.limit for rule in generate.guidance.values() if rule.environment != 1]
    assert guided == [] if "distill" in options else set(guided) == {1.0 if environment == "by_norm" else 0.0}


def test_students_of_students_take_a_step_for_two_of_theirs_without_guidance():
    first, second = (run(start="package", distill=2, students=n).stages["distil"]["image"].settings for n in (0, 4))
    assert (first["substeps"], second["substeps"], second["steps"]) == (6, 2, 2)
    scales = [(s["guidance"]["prompt"], s["guidance"]["environment"]) for s in (first, second)]
    assert min(scales[0]) > 1 and scales[1] == (1, 1)
    assert run(start="package", distill=2).weights and not run(start="package", distill=2, students=4).weights


def test_outputs_of_students_start_one_step_after_the_other():
    generate = run(start="package", distill=4).generate
    assert generate.steps == 4 and generate.delay == {"text": 0, "image": 1, "audio": 2, "video": 3}
    assert generate.environment_weights == {"text": 8.0, "image": 1.0, "audio": 2.0, "video": 2.0}
    pair = run(start="package", distill=4, modalities="text+image").generate
    assert (pair.delay, pair.environment_weights) == ({"text": 0, "image": 1}, {"text": 8.0, "image": 1.0})


@pytest.mark.parametrize("options", [{}, {"distill": 4}, {"distill": 3}])
def test_steps_of_students_that_no_student_of_theirs_has(options):
    with pytest.raises(ConfigError, match=r"option students: expected .* multiple of .*, got 4 and distill="):
        run(start="package", students=4, **options)


def test_the_package_samples_as_the_recipe_does():
    saved = packaged.open_package(packaged.DEFAULT).run["generate"]
    assert from_dict(GenerateConfig, saved, "generate") == run(length=3).generate


def test_parts_have_encoders_of_their_own_which_nothing_else_reads():
    stages = run().stages
    assert list(stages["parts"]) == ["image", "audio"]
    assert stages["parts"]["audio"].depends_on == ("bridging.text+audio",)
    assert stages["parts"]["audio"].init_from == {"audio_parts": "clap_audio"}
    needs = (need for of in stages.values() for s in of.values() for need in s.depends_on)
    assert not any(need.startswith("parts.") for need in needs)
    assert run(modalities="text+image").model.modalities["image"].reads_parts


def test_the_encoders_of_parts_are_trained_beside_the_package_alone():
    config = run(start="package", parts=True)
    assert list(config.stages) == ["parts"] and config.weights
    read = Run(config, None)
    for name, tower in (("image", "clip_vision"), ("audio", "clap_audio")):
        assert objective_of(read, f"parts.{name}").components == (f"{name}_parts", tower)
    assert list(run(start="package", parts=True, modalities="text+image").stages["parts"]) == ["image"]
    for options in ({"start": "scratch"}, {"timed": True}, {"pools": "merged"}):
        with pytest.raises(ConfigError, match=r"^option parts: it goes with start=package alone"):
            run(**{"start": "package", "parts": True, **options})
