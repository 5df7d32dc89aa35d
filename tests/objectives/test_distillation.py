"""Distillation: the target by hand, what has gradients, which settings are refused, and a stage that is trained."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.diffusion.samplers import timesteps
from codi_jax.objectives.base import StageSpec, make_objective
from codi_jax.objectives.batches import EncodedBatches
from codi_jax.objectives.conditioning import PromptConfig
from codi_jax.objectives.distillation import (
    DistillationConfig,
    DistillationObjective,
    environment,
    teacher_of,
)
from codi_jax.objectives.teacher import Grid, Inputs, guided, target
from codi_jax.optim import partition, select
from codi_jax.parallel import paths
from codi_jax.presets.digit_world import recipe
from codi_jax.train.program import check_objectives, objective_of, parameter_shapes
from codi_jax.train.recipe import Run, load_run
from codi_jax.train.stage import Stage
from codi_jax.train.trainer import train
from codi_jax.types import Tokens
from tests import toy
from tests.objectives.linear_model import SIZE, WEIGHTS, LinearModel, encoded, parameters
from tests.train.finished import Interrupted, interrupt, load_stage, scalars

KEY, B = jax.random.key(0), 8
NO_GUIDANCE = ClassifierFreeGuidance(1.0, 1.0)
NAME = "distil.image"


def values(seed):
    return np.random.default_rng(seed).standard_normal((B, SIZE)).astype(np.float32)


def inputs(gate=1.0):
    tokens = [Tokens.of(jnp.asarray(values(seed))[:, None]) for seed in (1, 2, 3)]
    return Inputs(*tokens, jnp.full(B, gate))


def settings(**changes):
    return DistillationConfig(**{"steps": 2, "prompts": PromptConfig(("a", "b"), drop=0.5), "substeps": 2, **changes})


def linear(config, prediction="x0"):
    model = LinearModel(prediction)
    return DistillationObjective(model, "a", config, EncodedBatches(model, ("a", "b")))


def variables(**student):
    """Parameters of the linear model; those of the student may differ from the teacher's."""
    params = {**parameters("a"), **parameters("a", "_teacher"), **parameters("b")}
    params["a_unet"] = {**params["a_unet"], **student}
    return {"params": params, "constants": {}}


def batch():
    return {"a": encoded(B, 4), "b": encoded(B, 5)}


@pytest.mark.parametrize("steps, substeps", [(4, 3), (1, 10), (16, 1), (16, 3)])
def test_the_grid_is_that_of_sampling_with_the_teachers_steps_between(steps, substeps):
    grid, model = Grid.of(LinearModel(), steps, substeps), LinearModel()
    assert grid.levels.shape == (steps, substeps + 1)
    np.testing.assert_array_equal(grid.levels[:, [0, -1]], timesteps(model.schedule, steps))
    assert (np.diff(grid.levels) < 0).all()
    np.testing.assert_array_equal(grid.seen, [*grid.levels[:, 0], 0])  # V is not trained on data without noise


@pytest.mark.parametrize("prediction", ["x0", "v", "eps"])
@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_the_target_takes_one_step_of_ddim_where_the_teachers_steps_end(prediction, gate):
    model, given, s, g = LinearModel(prediction), inputs(gate), 3.0, 5.0
    levels = np.array([[700, 610, 333]] * B)
    z = start = values(0).astype(np.float64)
    prompt, null, tokens = (
        np.asarray(x.values[:, 0], np.float64) for x in (given.prompt, given.null, given.environment)
    )
    alpha, sigma = (
        np.append(x, y) for x, y in ((np.sqrt(model.schedule.abar), 1.0), (np.sqrt(1 - model.schedule.abar), 0))
    )
    for now, then in ((700, 610), (610, 333)):
        u, c = (WEIGHTS["z"] * z + WEIGHTS["prompt"] * y for y in (null, prompt))
        p = u + s * (c - u) + g * gate * WEIGHTS["environment"] * tokens
        at, noise = alpha[now], sigma[now]
        x0 = {"x0": p, "eps": (z - noise * p) / at, "v": at * z - noise * p}[prediction]
        z = alpha[then] * x0 + sigma[then] * (z - at * x0) / noise
    rule = ClassifierFreeGuidance(s, g)
    found = np.asarray(
        target(model, "a", rule, variables(), given, jnp.asarray(start, jnp.float32), jnp.asarray(levels))
    )
    # One step of DDIM with the target as the prediction of the clean latent.
    landed = alpha[333] * found + sigma[333] * (start - alpha[700] * found) / sigma[700]
    np.testing.assert_allclose(landed, z, rtol=1e-4, atol=1e-4)


def test_one_step_of_the_teacher_has_its_guided_prediction_as_the_target():
    model, given, z = LinearModel(), inputs(), jnp.asarray(values(0))
    rule, levels = ClassifierFreeGuidance(3.0, 5.0), jnp.asarray([[999, -1]] * B)
    want = guided(model, "a", rule, variables(), given, z, levels[:, 0])
    np.testing.assert_allclose(target(model, "a", rule, variables(), given, z, levels), want, rtol=1e-5)


def test_outside_of_its_interval_guidance_has_scales_of_one():
    model, given, z, t = LinearModel(), inputs(), jnp.asarray(values(0)), jnp.arange(B) * 100
    inside = (t >= 300)[:, None]
    rule = ClassifierFreeGuidance(3.0, 5.0, low=0.3)
    want = [guided(model, "a", r, variables(), given, z, t) for r in (ClassifierFreeGuidance(3.0, 5.0), NO_GUIDANCE)]
    np.testing.assert_allclose(guided(model, "a", rule, variables(), given, z, t), jnp.where(inside, *want), rtol=1e-6)


def test_the_release_has_the_environment_on_both_branches():
    given, z, t = inputs(), jnp.asarray(values(0)), jnp.full(B, 500)
    got = guided(LinearModel(compat="release"), "a", ClassifierFreeGuidance(3.0, 9.0), variables(), given, z, t)
    prompt = 3.0 * given.prompt.values[:, 0] - 2.0 * given.null.values[:, 0]
    want = WEIGHTS["z"] * z + WEIGHTS["prompt"] * prompt + WEIGHTS["environment"] * given.environment.values[:, 0]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("alone", [0.0, 0.5, 1.0])
def test_a_student_that_is_its_teacher_without_guidance_and_with_one_step_has_no_loss(prediction, alone):
    config = settings(substeps=1, guidance=NO_GUIDANCE, alone=alone, own_share=0.5, environment_noise=0.3)
    objective = linear(config, prediction)
    assert float(objective.loss(variables(), batch(), KEY).loss) < 1e-10
    assert float(objective.loss(variables(z=jnp.float32(0.6)), batch(), KEY).loss) > 1e-3
    more = linear(dataclasses.replace(config, guidance=ClassifierFreeGuidance(3.0, 3.0)), prediction)
    assert float(more.loss(variables(), batch(), KEY).loss) > 1e-3


def test_the_environment_is_of_modalities_that_a_sample_has_and_a_share_of_its_own():
    model, config, seen = LinearModel(), settings(own_share=0.5), jnp.zeros(1, jnp.int32)
    rows = {"a": encoded(B, 4), "b": encoded(B, 5), "c": dataclasses.replace(encoded(B, 6), present=np.arange(B) % 2.0)}
    rows["b"] = dataclasses.replace(rows["b"], present=1 - rows["c"].present)
    model["c"] = type(model["a"])("c")
    tree = {"params": {**parameters("a"), **parameters("b"), **parameters("c")}}
    without = environment(model, "a", dataclasses.replace(config, own_share=0.0), tree, rows, seen, KEY).values[:, 0]
    clean = float(model.schedule.at(0).sigma)
    partner = 0.5 * np.where(rows["c"].present[:, None] > 0, rows["c"].mean, rows["b"].mean)
    np.testing.assert_allclose(without, partner, atol=4 * clean)
    mixed = environment(model, "a", config, tree, rows, seen, KEY).values[:, 0]
    share = (mixed - without) / (0.5 * rows["a"].mean - without)
    assert (share.std(1) < 0.2).all() and (share.mean(1) > -0.1).all() and (share.mean(1) < 0.6).all()


def test_validation_has_the_loss_of_every_step():
    objective = linear(settings())
    found = objective.validation(variables(), batch(), KEY)
    assert set(found) == {"loss", "loss/step0", "loss/step1"}
    assert float(found["loss"]) == pytest.approx(float(found["loss/step0"] + found["loss/step1"]) / 2, rel=1e-5)


def toy_objective(**changes):
    config = settings(prompts=PromptConfig(toy.PAIR, drop=0.5), own_share=0.5, **changes)
    return DistillationObjective(toy.codi(), "image", config, EncodedBatches(toy.codi(), toy.PAIR))


def toy_variables(objective):
    tree = toy.params(toy.codi())
    tree |= {teacher_of(name): tree[name] for name in objective.student}
    return {"params": {name: tree[name] for name in objective.components}, "constants": {}}


@pytest.mark.slow
def test_only_the_student_has_a_gradient():
    objective = toy_objective()
    tree, rows = toy_variables(objective), toy.encoded(toy.codi(), B)

    def loss(params):
        return objective.loss({**tree, "params": params}, rows, KEY).loss

    gradients = toy.quick(jax.grad(loss))(tree["params"])
    reached = {name for name, leaves in gradients.items() if any(np.any(x) for x in jax.tree.leaves(leaves))}
    assert reached == {"vision_unet", "image_cross"}


def test_the_components_and_their_shapes():
    objective = toy_objective()
    assert objective.outputs == ("image",) and objective.student == ("vision_unet", "image_cross")
    assert set(objective.components) == {
        "vision_unet", "image_cross", "vision_unet_teacher", "image_cross_teacher", "image_environment",
        "text_environment", "text_unet",
    }  # fmt: skip
    alone = toy_objective(alone=1.0)
    assert set(alone.components) == {"vision_unet", "vision_unet_teacher"}
    made = toy_objective().init(KEY, ("vision_unet_teacher", "text_environment"))
    want = toy.codi().init(KEY, ("vision_unet", "text_environment"))
    assert toy.same(made["vision_unet_teacher"], want["vision_unet"]) and set(made) == {
        "vision_unet_teacher", "text_environment",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"steps": 0}, r"steps: expected a positive number, got 0"),
        ({"substeps": -1}, r"substeps: expected a positive number, got -1"),
        ({"alone": 1.5}, r"alone: expected a number between 0 and 1, got 1.5"),
        ({"own_share": -0.1}, r"own_share: expected a number between 0 and 1, got -0.1"),
        ({"environment_noise": -1.0}, r"environment_noise: expected a number of at least 0, got -1.0"),
        ({"steps": 4, "substeps": 300}, r"substeps: 4 steps of 300 are more than the 1000 timesteps of the schedule"),
        ({"stpes": 4}, r"stpes: unknown key"),
    ],
)
def test_bad_settings_have_one_line(changes, line):
    tree = {"steps": 2, "prompts": {"sources": toy.PAIR}, **changes}
    with pytest.raises(ConfigError, match=line) as error:
        make_objective("distillation", toy.codi(), StageSpec(("image", "text"), tree))
    assert "\n" not in str(error.value)


def test_a_student_without_other_outputs_has_no_environment():
    tree = {"steps": 2, "prompts": {"sources": ("image",)}}
    with pytest.raises(ConfigError, match=r"settings\.alone: image is the stage's only modality, so alone must be 1$"):
        make_objective("distillation", toy.codi(), StageSpec(("image",), tree))
    assert make_objective("distillation", toy.codi(), StageSpec(("image",), {**tree, "alone": 1.0})).outputs == (
        "image",
    )


def stage_of(run):
    """A stage that distils the image of the toy."""
    joint = run.stage("joint.text+image")
    return dataclasses.replace(
        joint, objective="distillation", modalities=("image", "text"), depends_on=("joint.text+image",),
        trainable=("!vision_unet/time/.*", "vision_unet/.*", "image_cross/.*"),
        init_from={teacher_of(name): name for name in ("vision_unet", "image_cross")},
        settings={"steps": 2, "substeps": 2, "prompts": {"sources": toy.PAIR, "drop": 0.5}, "own_share": 0.5},
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A copy of the finished toy run with a stage that distils its images."""
    shutil.copytree(toy.trained(), tmp_path / "run")
    finished = load_run(tmp_path / "run")
    stages = {**finished.config.stages, "distil": {"image": stage_of(finished)}}
    return Run(dataclasses.replace(finished.config, stages=stages), finished.workdir)


@pytest.mark.slow
def test_a_stage_trains_the_student_and_resumes_bit_identically(run, monkeypatch):
    train(run, (NAME,), quiet=True)
    before, after = load_stage(run, "joint.text+image")["params"], load_stage(run, NAME)["params"]
    assert set(after) == {"vision_unet", "image_cross"}  # the teacher is not saved
    teacher = {
        "vision_unet": load_stage(run, "ldm.image")["params"]["vision_unet"],
        "image_cross": before["image_cross"],
    }
    changed = {path for path, x in paths.flatten(after).items() if not np.array_equal(x, paths.flatten(teacher)[path])}
    assert changed and not any(path.startswith("vision_unet/time/") for path in changed)
    assert np.isfinite(scalars(run, NAME, "loss")).all()

    shutil.rmtree(run.directory(NAME))
    with monkeypatch.context() as patch:
        interrupt(patch, 3, stop)
        with pytest.raises(Interrupted):
            train(run, (NAME,), quiet=True)
    assert not run.finished(NAME)
    train(run, (NAME,), quiet=True)
    assert toy.same(load_stage(run, NAME)["params"], after)
    # What reads the run now has the student, and V of images as it was.
    sources = run.component_sources(run.finished_stages())
    assert {name for name, path in sources.items() if NAME in str(path)} == {"vision_unet", "image_cross"}


def stop():
    raise Interrupted


def test_a_teacher_is_named_by_init_from_and_is_a_whole_copy(run):
    with pytest.raises(ConfigError, match=r"reads vision_unet_teacher, which neither .* is named by init_from$"):
        Stage(toy.with_stage(run, NAME, init_from={"image_cross_teacher": "image_cross"}), NAME).prepare()
    other = {"vision_unet_teacher": "text_unet", "image_cross_teacher": "image_cross"}
    with pytest.raises(
        ConfigError, match=r"init_from\.vision_unet_teacher: a component that is not trained is a whole"
    ):
        Stage(toy.with_stage(run, NAME, init_from=other), NAME).prepare()


@pytest.mark.slow
def test_the_packaged_model_is_distilled_to_its_own_settings_of_sampling():
    config = recipe.run(start="package", distill=4)
    read = Run(config, None)
    check_objectives(read, read.order)
    assert {name.split(".")[0] for name in read.order} == {"encode", "distil"} and config.initialized == ()
    assert config.generate.delay == {"image": 2, "audio": 2, "video": 2}  # 5 of 10 steps of the full sampler
    assert [recipe.run(start="package", distill=s).generate.delay["image"] for s in (1, 2, 8)] == [1, 1, 4]
    assert config.generate.steps == 4 and config.generate.sampler == "ddim" and config.generate.spacing == "trailing"
    for name, rule in config.generate.guidance.items():
        assert (rule.prompt, rule.environment) == (1.0, 1.0)
        stage = read.stage(f"distil.{name}")
        objective = objective_of(read, f"distil.{name}")
        assert stage.settings["steps"] == 4 and objective.config.guidance == recipe.GUIDANCE[name]
        assert {*stage.init_from} == {*map(teacher_of, objective.student)}
        params = parameter_shapes(objective)
        trained, _ = partition(params, select(params, stage.trainable))
        assert set(trained) == set(objective.student)
        # V of the modality uses the time embedding.
        assert not [path for path in paths.flatten(trained) if path.split("/")[1] == "time"]


@pytest.mark.parametrize(
    "options", [{}, {"start": "package", "pools": "merged"}, {"start": "package", "loss": "paper"}], ids=str
)
def test_only_the_packaged_model_is_distilled(options):
    with pytest.raises(ConfigError, match=r"^option distill: it distils the packaged model as it is: start=package"):
        recipe.run(distill=4, **options)
    with pytest.raises(ConfigError, match=r"^option distill: expected a number of steps, or 0 for none, got -1$"):
        recipe.run(distill=-1, start="package")
