"""Recipes are validated as a whole before anything runs."""

import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from codi_jax.checkpoint import save_params
from codi_jax.config import ConfigError
from codi_jax.data.source import make_source
from codi_jax.train.recipe import load_run, open_run, save_config
from codi_jax.train.weights_record import record_weights
from tests import toy


def recipe(tmp_path, **changes):
    """The toy recipe with changed stages, {"ldm.text": {"depends_on": ...}}; None removes the stage."""
    tree = toy.config().to_dict()
    for name, change in changes.items():
        group, leaf = name.split(".")
        if change is None:
            del tree["stages"][group][leaf]
        else:
            tree["stages"][group][leaf].update(change)
    return open_run(ConfigDict(tree), tmp_path)


@pytest.mark.parametrize("more", [(), ("audio",), ("audio", "video")], ids="+".join)
def test_the_demo_trains_every_component_for_every_set_of_modalities_on_pairs(tmp_path, more):
    names = (*toy.PAIR, *more)
    tree = toy.recipe(names)
    tree["model"] = toy.model(names)
    run = open_run(ConfigDict(tree), tmp_path)
    patterns = [pattern for stage in run.stages.values() for pattern in stage.trainable]
    untrained = [c for c in run.codi.component_names() if not any(re.fullmatch(p, f"{c}/x") for p in patterns)]
    assert not untrained
    for name, config in run.config.sources.items():
        source = make_source(config, f"sources.{name}")
        if source.config.split == "train":
            assert not source.config.merged and len(source.config.modalities) <= 2
    # A stage that trains a component further starts from the version of the stages that trained it before.
    for i, name in enumerate(run.order):
        patterns = {p for p in run.stage(name).trainable if p != "bridging/.*"}
        before = {other for other in run.order[:i] if patterns & set(run.stage(other).trainable)}
        assert before <= set(run.ancestors(name)), name


def test_stages_are_ordered_after_their_dependencies(tmp_path):
    run = recipe(tmp_path)
    assert set(run.order) == set(run.stages) == {
        "bridging.text+image", "codec.image", "codec.text", "encode.text+image", "environment.image",
        "environment.text", "joint.text+image", "ldm.image", "ldm.text",
    }  # fmt: skip
    for i, name in enumerate(run.order):
        assert set(run.stage(name).depends_on) <= set(run.order[:i])
    first = {"bridging.text+image", "codec.image", "codec.text"}
    assert set(run.ancestors("encode.text+image")) == first
    assert run.ancestors("ldm.text") == run.order[: run.order.index("encode.text+image") + 1]
    assert run.ancestors("joint.text+image") == run.order[:-1]
    assert run.ancestors("codec.text") == ()


def test_the_order_does_not_depend_on_how_the_config_was_written(tmp_path):
    tree = toy.config().to_dict()
    tree["stages"] = dict(reversed(tree["stages"].items()))
    assert open_run(ConfigDict(tree), tmp_path).order == recipe(tmp_path).order


def test_a_dependency_cycle_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^config\.stages: .*codec\.text.* form a dependency cycle$"):
        recipe(tmp_path, **{"codec.text": {"depends_on": ("ldm.text",)}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ldm.text": {"depends_on": ("encode.nothing",)}},
            r"stages\.ldm\.text\.depends_on: there is no stage 'encode",
        ),
        ({"codec.text": None}, r"stages\.encode\.text\+image\.depends_on: there is no stage 'codec\.text'"),
        ({"ldm.text": {"source": "nowhere"}}, r"stages\.ldm\.text\.source: neither a source nor a stage: 'nowhere'"),
        (
            {"ldm.text": {"source": ("encode.text+image", "no")}},
            r"ldm\.text\.source: neither a source nor a stage: 'no'",
        ),
        (
            {"encode.text+image": {"source": "codec.text"}},
            r"encode\.text\+image\.source: an encode stage reads one of .*, not 'codec\.text'",
        ),
        ({"ldm.text": {"source": ("text+image",)}}, r"ldm\.text\.source: neither a source nor a stage: 'text\+image'"),
        ({"ldm.text": {"steps": 0}}, r"stages\.ldm\.text: steps and batch_size must be positive"),
        ({"ldm.text": {"batch_size": 0}}, r"stages\.ldm\.text: steps and batch_size must be positive"),
        ({"ldm.text": {"keep_last": 0}}, r"stages\.ldm\.text: keep_last must be at least 1 and keep_every at least 0"),
        (
            {"ldm.text": {"keep_every": -2}},
            r"stages\.ldm\.text: keep_last must be at least 1 and keep_every at least 0",
        ),
        (
            {"ldm.text": {"stepz": 3}},
            r"stages\.ldm\.text\.stepz: unknown key \(did you mean steps\?\); StageConfig knows ",
        ),
        ({"ldm.text": {"objective": "gan"}}, r"stages\.ldm\.text\.objective: expected one of 'codec', "),
        ({"ldm.text": {"optimizer": {"lr": 1.0}}}, r"stages\.ldm\.text\.optimizer\.lr: unknown key"),
    ],
)
def test_an_invalid_config_is_one_line_with_its_path(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        recipe(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_former_keys_of_a_stage_are_read_with_a_warning(tmp_path):
    former = {
        "depends_on": "needs", "trainable": "train", "init_from": "start", "offload": "on_host",
        "num_stats_samples": "statistics", "scheduling_weight": "cost",
    }  # fmt: skip
    tree = toy.config().to_dict()
    stage = tree["stages"]["ldm"]["text"] | {"offload": ("ema",)}
    tree["stages"]["ldm"]["text"] = {former.get(key, key): value for key, value in stage.items()}
    with pytest.warns(FutureWarning) as warned:
        run = open_run(ConfigDict(tree), tmp_path)
    where = "stages.ldm.text"
    assert {str(w.message) for w in warned} == {
        f"config.{where}.{old} is now called {where}.{new}" for new, old in former.items()
    }
    assert run.stage("ldm.text") == recipe(tmp_path, **{"ldm.text": {"offload": ("ema",)}}).stage("ldm.text")


def test_unknown_and_unfinished_stages_are_refused(tmp_path):
    run = recipe(tmp_path)
    with pytest.raises(ConfigError, match=r"^no stage 'codec\.smell' in this recipe; it has bridging"):
        run.stage("codec.smell")
    assert not any(run.finished(name) for name in run.order)
    with pytest.raises(ConfigError, match=r"^stage 'codec\.text' is not finished in "):
        run.component_sources(("codec.text",))


def test_a_workdir_accepts_one_config_only(tmp_path):
    workdir = tmp_path / "a" / "run"
    config = toy.config()
    save_config(config, workdir)
    before = (workdir / "config.json").read_bytes()
    save_config(toy.config(), workdir)  # the same again
    config.seed = 1
    with pytest.raises(ConfigError, match="holds a run of another config"):
        save_config(config, workdir)
    assert (workdir / "config.json").read_bytes() == before
    assert sorted(path.name for path in workdir.iterdir()) == ["config.begun.json", "config.json"]


def test_a_workdir_with_former_names_of_keys_accepts_its_config(tmp_path):
    save_config(toy.config(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"depends_on"', '"needs"').replace('"trainable"', '"train"'))
    before = path.read_bytes()
    save_config(toy.config(), tmp_path)
    assert path.read_bytes() == before
    config = toy.config()
    config.stages.ldm.text.steps -= 1
    with pytest.raises(ConfigError, match="holds a run of another config"):
        save_config(config, tmp_path)


def test_a_saved_config_gives_the_same_run(tmp_path):
    save_config(toy.config(), tmp_path)
    loaded, original = load_run(tmp_path), open_run(toy.config(), tmp_path)
    assert loaded.order == original.order
    for name in original.order:
        assert loaded.stage(name).trainable == original.stage(name).trainable
        assert loaded.stage(name).optimizer == original.stage(name).optimizer
    assert loaded.codi.config.width == original.codi.config.width
    assert loaded.fingerprint((), {"x": 1}) == original.fingerprint((), {"x": 1}) != original.fingerprint((), {"x": 2})


def test_a_directory_without_a_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a workdir: it has no config\.json"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: not JSON"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": {}}))
    with pytest.raises(ConfigError, match=r"^config\.model\.modalities: missing"):
        load_run(tmp_path)


def test_weights_that_change_between_starts_are_refused(tmp_path):
    def convert(component, value):
        tree = {"params": {component: {"kernel": np.full(3, value, np.float32)}}}
        save_params(str(tmp_path / "weights" / component), tree, {"components": [component]})

    def start():
        record_weights(open_run({**toy.config().to_dict(), "weights": str(tmp_path / "weights")}, tmp_path / "run"))

    (tmp_path / "run").mkdir()
    convert("clip_text", 1.0)
    start()
    convert("clip_vision", 1.0)  # a new one changes no stage that has been started
    start()
    start()
    convert("clip_text", 2.0)
    record = tmp_path / "run" / "weights.json"
    with pytest.raises(ConfigError) as error:
        start()
    assert str(error.value).startswith(f"config.weights: clip_text in {tmp_path / 'weights'} changed since this run")
    assert str(record) in str(error.value) and "\n" not in str(error.value)
    record.write_text("{")
    with pytest.raises(ConfigError, match=r"weights\.json: not JSON \(.*\); delete it to use the present weights$"):
        start()
    record.unlink()
    start()
    assert set(json.loads(record.read_text())) == {"clip_text", "clip_vision"}


def test_components_of_weights_that_are_to_be_initialized_are_not_read(tmp_path):
    weights = {"weights": str(toy.trained())}
    run = open_run({**toy.config().to_dict(), **weights}, tmp_path / "run")
    assert "image_cross" in run.converted
    run = open_run({**toy.config().to_dict(), **weights, "initialized": ("image_cross",)}, tmp_path / "run")
    assert "image_cross" not in run.converted and "text_cross" in run.converted
    for options, known in ((weights, "has .*text_unet"), ({}, r"config\.weights is empty")):
        unknown = open_run({**toy.config().to_dict(), **options, "initialized": ("image_crss",)}, tmp_path / "run")
        with pytest.raises(ConfigError, match=rf"^config\.initialized: no component image_crss; .*{known}"):
            _ = unknown.converted
