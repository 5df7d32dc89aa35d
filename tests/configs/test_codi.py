"""The paper's nine stages: they fit together, train what the design's table says, and leave the rest alone."""

import jax
import pytest

from codi_jax.checkpoint import load_params
from codi_jax.config import ConfigError
from codi_jax.objectives.step import make_train_step
from codi_jax.optim import TrainState, make_optimizer, partition, select
from codi_jax.parallel import paths
from codi_jax.train.loop import Stage, train
from codi_jax.train.recipe import open_run, save_config
from configs import codi as paper
from tests import toy
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
            stage.update(batch_size=8, steps=2, statistics=8, checkpoint_every=2)
            stage.optimizer.warmup = 1
    for source in tree.sources.values():
        source.size = 64
    return tree


@pytest.fixture(scope="module")
def run():
    return open_run(config(), "nowhere")


def test_they_stand_in_the_papers_order(run):
    assert set(run.order) == TRAINED.keys()
    at = {name: i for i, name in enumerate(run.order)}
    assert at["ldm.image"] < at["ldm.video"] < at["joint.audio+video"]
    assert at["joint.text+image"] < at["joint.text+audio"] < at["joint.audio+video"]
    part = open_run(paper.get_config("modalities=text+audio"), "nowhere")
    assert set(part.order) == {"bridging.text+audio", "ldm.audio", "joint.text+audio"}
    assert not open_run(paper.get_config("compat=release"), "nowhere").order


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_of_each_has_gradients_for_what_it_trains_alone(run, name):
    stage = Stage(run, name)
    params = jax.eval_shape(lambda key: stage.task.init(key, stage.task.components), jax.random.key(0))
    trainable = select(params, stage.config.train, name)
    trained, frozen = partition(params, trainable)
    assert trained.keys() == TRAINED[name]
    if name in ("ldm.video", "bridging.text+video"):
        assert all("temporal" in path for path in paths.flatten(trained) if not path.startswith("bridging"))
    elif name == "ldm.image":
        assert not any("temporal" in path for path in paths.flatten(trained))
        assert any("temporal" in path for path in paths.flatten(frozen))
    tx = make_optimizer(stage.config.optimizer, stage.config.steps, trained)
    state = jax.eval_shape(lambda p: TrainState.create(p, tx), trained)
    step = make_train_step(stage.task.loss, tx, stage.config.ema)
    after, metrics = jax.eval_shape(
        step, state, frozen, run.codi.default_constants(), next(stage.batches(0)), stage.key
    )
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"].shape == ()


def test_without_the_weights_it_starts_from_it_says_so(run):
    stage = Stage(run, "bridging.text+audio")
    with jax.set_mesh(stage.mesh), pytest.raises(ConfigError, match="needs clip_text, which neither it nor"):
        stage.prepare()


@pytest.mark.slow
def test_they_train_from_converted_weights(tmp_path):
    tree = config()
    tiny.components(tiny.codi("compat=true"), tmp_path / "weights")
    tree.weights = str(tmp_path / "weights")
    save_config(tree, tmp_path / "run")
    run = open_run(tree, tmp_path / "run")
    with toy.light_compilation():
        train(run, quiet=True)

    def made(name):
        return paths.flatten(load_params(str(run.directory(name) / "params"))["params"])

    start = paths.flatten(load_params(str(tmp_path / "weights" / "vision_unet"))["params"])
    still, moving = made("ldm.image"), made("ldm.video")
    for path, leaf in moving.items():
        before = (start if "temporal" in path else still)[path]
        assert ("temporal" in path) == bool((leaf != before).any()), path
    for name, components in TRAINED.items():
        assert {path.split("/")[0] for path in made(name)} == components
