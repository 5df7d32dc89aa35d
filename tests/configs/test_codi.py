"""The paper's nine stages: their order, the components that they train and those that stay frozen."""

import itertools
import shutil

import jax
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.optim import TrainState, make_optimizer, partition, select
from codi_jax.parallel import paths
from codi_jax.presets.codi import MODALITIES
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import open_run, save_config
from codi_jax.train.stage import Stage
from codi_jax.train.trainer import train
from configs import codi as paper
from tests.interop import paper as tiny

TRAINED = {
    "bridging.text+audio": {"clap_audio", "bridging"},
    "bridging.text+video": {"clip_vision", "bridging"},
    "ldm.text": {"text_unet"},
    "ldm.image": {"vision_unet"},
    "ldm.audio": {"audio_unet"},
    "ldm.video": {"vision_unet"},
    "joint.text+image": {"text_environment", "text_cross", "image_environment", "image_cross"},
    "joint.text+audio": {"audio_environment", "audio_cross"},
    "joint.audio+video": {"video_environment", "video_cross"},
}


def config():
    tree = tiny.config("compat=true")
    for group in tree.stages.values():
        for stage in group.values():
            stage.update(batch_size=8, steps=2, checkpoint_every=2)
            stage.num_stats_samples = min(stage.num_stats_samples, 8)
            stage.optimizer.warmup = 1
    for source in tree.sources.values():
        source.size = 64
    return tree


@pytest.fixture(scope="module")
def run():
    return open_run(config(), "nowhere")


def test_stages_have_the_order_of_the_paper(run):
    assert set(run.order) == TRAINED.keys()
    index = {name: i for i, name in enumerate(run.order)}
    assert index["ldm.image"] < index["ldm.video"] < index["joint.audio+video"]
    assert index["joint.text+image"] < index["joint.text+audio"] < index["joint.audio+video"]
    assert not open_run(paper.get_config("compat=release"), "nowhere").order
    # Centring one tower alone would move it out of the space that it is aligned to.
    assert not any(s.num_stats_samples for s in paper.get_config().stages.bridging.values())


START = {"text_codec", "vision_codec", "audio_codec", "clip_text", "clip_vision", "clap_audio", "vision_unet"}


def trained_by(stage):
    return {rule.split("/")[0] for rule in stage.trainable if not rule.startswith("!")}


@pytest.mark.parametrize("names", [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)])
def test_every_subset_of_modalities_trains_from_the_initial_weights_of_the_paper(names):
    part = open_run(tiny.config(f"compat=true,modalities={'+'.join(names)}"), "nowhere")
    for name in part.order:
        trained = set().union(*(trained_by(part.stage(n)) for n in (*part.ancestors(name), name)))
        assert set(objective_of(part, name).components) <= START | trained, name


def test_loss_paper_selects_the_loss_of_the_paper():
    settings = paper.get_config("loss=paper").stages.joint["text+audio"].settings
    assert (settings.align, settings.timesteps) == ("contrastive", "shared")
    with pytest.raises(ConfigError, match=r"^option loss: expected one of 'ours', 'paper', got 'l2'$"):
        paper.get_config("loss=l2")


SLOW = ("joint.text", "ldm.text", "ldm.audio")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(SLOW)) for n in TRAINED])
def test_each_stage_trains_the_components_of_the_table(run, name):
    stage = Stage(run, name)
    params = jax.eval_shape(lambda key: stage.objective.init(key, stage.objective.components), jax.random.key(0))
    trainable = select(params, stage.config.trainable, name)
    trained, frozen = partition(params, trainable)
    assert trained.keys() == TRAINED[name]
    if name in ("ldm.video", "bridging.text+video"):
        assert all("temporal" in path for path in paths.flatten(trained) if not path.startswith("bridging"))
    elif name == "ldm.image":
        assert not any("temporal" in path for path in paths.flatten(trained))
        assert any("temporal" in path for path in paths.flatten(frozen))
    tx = make_optimizer(stage.config.optimizer, stage.config.steps, trained)
    state = jax.eval_shape(lambda p: TrainState.create(p, tx), trained)
    step = stage.objective.train_step(tx, stage.config.ema)
    after, metrics = jax.eval_shape(
        step, state, frozen, run.codi.default_constants(), next(stage.batches(0)), stage.key
    )
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"].shape == ()


def test_missing_initial_weights_are_an_error(run):
    stage = Stage(run, "bridging.text+audio")
    with jax.set_mesh(stage.mesh), pytest.raises(ConfigError, match="reads clip_text, which neither it nor"):
        stage.prepare()


@pytest.mark.slow
def test_stages_train_from_converted_weights(tmp_path):
    tree = config()
    for component, directory in tiny.components(tiny.codi("compat=true"), tmp_path / "weights").items():
        if component not in START:
            shutil.rmtree(directory)
    tree.weights = str(tmp_path / "weights")
    save_config(tree, tmp_path / "run")
    run = open_run(tree, tmp_path / "run")
    train(run, quiet=True)

    def saved(name):
        return paths.flatten(load_params(str(run.directory(name) / "params"))["params"])

    def initial(component):
        return paths.flatten(load_params(str(tmp_path / "weights" / component))["params"])

    first, image, video = initial("vision_unet"), saved("ldm.image"), saved("ldm.video")
    assert {path for path in first if (image[path] != first[path]).any()} == {p for p in first if "temporal" not in p}
    assert {path for path in first if (video[path] != image[path]).any()} == {p for p in first if "temporal" in p}
    for name, component in (("bridging.text+audio", "clap_audio"), ("bridging.text+video", "clip_vision")):
        assert any((leaf != saved(name)[path]).any() for path, leaf in initial(component).items())
        assert "constants" not in load_params(str(run.directory(name) / "params"))
    for name, components in TRAINED.items():
        assert {path.split("/")[0] for path in saved(name)} == components
