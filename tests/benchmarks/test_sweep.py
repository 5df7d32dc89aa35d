"""The sweep of sampling settings: the grid, the choice, and a sweep of a toy model that is run twice."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from benchmarks import sweep, sweep_settings
from codi_jax.config import ConfigError
from codi_jax.presets.digit_world import recipe
from codi_jax.train.recipe import open_run
from tests import toy


@pytest.mark.parametrize(("loss", "delays"), [("ours", {0, 3}), ("paper", {3, 5})])
def test_one_setting_at_a_time_changes_around_the_present_ones(loss, delays):
    config = recipe.run(loss=loss)
    names = tuple(config.model.modalities)
    present, *others = sweep_settings.settings(config.generate, names, loss)
    assert len(others) < sweep_settings.MOST and present.generate == config.generate.complete(names)
    assert {s.generate.delay["video"] for s in others if s.field == "delay"} == delays
    for setting in others:
        assert setting.generate.delay["text"] == 0 and setting.generate != present.generate
        for name, rule in setting.generate.guidance.items():
            before = dataclasses.asdict(present.generate.guidance[name])
            assert {k for k, v in dataclasses.asdict(rule).items() if v != before[k]} <= {setting.field}
        assert (setting.generate.delay == present.generate.delay) == (setting.field != "delay")
    scales = [s.generate.guidance["audio"].environment for s in others if s.field == "environment"]
    assert scales == [1.0, 2.0, 4.0, 8.0]


def test_what_is_done_with_the_guided_prediction_changes_around_the_settings_of_the_recipe():
    config = recipe.run()
    names = tuple(config.model.modalities)
    _, *others = sweep_settings.settings(config.generate, names, "adjusted")
    assert {s.name for s in others} >= {"limit=0", "limit=0.5", "rescale=0.5", "parallel=0", "by_norm=0"}
    (mean,) = (s.generate for s in others if s.name == "by_norm=0")
    assert mean == dataclasses.replace(config.generate.complete(names), environment="mean")


def test_variants_that_are_unknown_or_too_long_are_refused(monkeypatch):
    config = recipe.run()
    with pytest.raises(ConfigError, match=r"no variant 'our' \(did you mean ours\?\); there are packaged, ours, "):
        sweep_settings.settings(config.generate, config.model.modalities, "our")
    monkeypatch.setitem(sweep_settings.GRIDS, "ours", {"prompt": tuple(0.1 * i for i in range(13))})
    with pytest.raises(ConfigError, match="has 14 settings; at most 12 are tried"):
        sweep_settings.settings(config.generate, config.model.modalities, "ours")


def test_the_averages_of_a_setting():
    def row(rate, entropy, *distances):
        outputs = {str(i): {"fidelity": a, "fidelity_independent": b} for i, (a, b) in enumerate(distances)}
        return {"joint": rate, "entropy": entropy, "outputs": {"text": {"entropy": 1.0}, **outputs}}

    joint = {
        "text+image": {"n": 8, "trained": True, "digit": row(0.9, 1.0, (3.0, 2.0)), "colour": row(0.5, 0.1)},
        "text+audio": {"n": 8, "trained": True, "digit": row(0.6, 0.9, (2.0, 4.0))},
        "text+image+audio": {"n": 8, "trained": False, "digit": row(0.3, 0.8, (2.0, 1.0), (6.0, 2.0))},
    }
    out = sweep.summary({"joint": joint, "matrix": {"a": {"all": {"accuracy": 0.5}}, "b": {"all": {"accuracy": 1.0}}}})
    assert out == {
        **{"leading": 0.6, "agreement": 0.5333, "pairs": 0.65, "entropy": 0.9, "directions": 0.75},
        **{"worst": {"outputs": "text+image+audio", "agreement": 0.3}, "ratio": 1.75},
    }
    empty = sweep.summary({"joint": {}, "matrix": {}})
    assert set(empty.values()) == {None}


def test_the_choice_follows_the_criterion():
    def row(setting, agreement, operations, entropy=0.95, ratio=1.0, field="low", directions=None, leading=0.9):
        given = {"agreement": agreement, "operations": operations, "entropy": entropy, "ratio": ratio}
        return {"setting": setting, "field": field, "directions": directions, "leading": leading, **given}

    rows = [
        row("present", 0.80, 5, field="", directions=0.9),
        row("collapsed", 0.99, 5, entropy=0.89),
        row("blurred", 0.99, 5, ratio=2.01),
        row("high", 0.85, 5),
        row("equal and cheaper", 0.845, 4),
        row("cheapest", 0.84, 1),
        row("prompt", None, 5, None, None, field="prompt", directions=0.95),
    ]
    assert sweep.choice(rows) == {"joint": "equal and cheaper", "prompt": "prompt"}
    assert sweep.choice(rows[:4]) == {"joint": "high", "prompt": "present"}
    assert sweep.choice(rows[1:3]) == {"joint": None, "prompt": None}
    assert sweep.choice([row("a", 0.5, 5), row("b", 0.502, 5, ratio=1.2)])["joint"] == "a"
    assert sweep.choice([row("a", 0.5, 5, leading=0.89), row("b", 0.502, 5, ratio=1.2)])["joint"] == "b"
    collapsed = row("present", 0.8, 5, entropy=0.5, field="", directions=0.99)
    assert sweep.choice([collapsed, rows[-1]]) == {"joint": None, "prompt": "present"}


@pytest.mark.slow
def test_a_sweep_goes_on_with_the_settings_that_are_left(tmp_path, monkeypatch, capsys):
    config = toy.config()
    config.evaluate.update(reference=8, judges=str(toy.random_package()))
    codi = toy.codi()
    model = SimpleNamespace(run=open_run(config, None), variables=toy.variables(codi), weights="a")
    monkeypatch.setattr(sweep, "Model", lambda workdir, package: model)
    grid = {"environment": (1.0,), "prompt": (1.0,)}
    monkeypatch.setitem(sweep_settings.GRIDS, "paper", grid)
    out, kept = tmp_path / "sweep.paper.json", tmp_path / "kept"
    arguments = ["--model=toy", "--variant=paper", f"--out={out}", f"--kept={kept}", "--n=4"]

    sweep.main(arguments)
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert (result["n"], result["seed"], result["criterion"]) == (4, 1, sweep.CRITERION)
    present, environment, prompt = result["settings"]
    assert [r["setting"] for r in result["settings"]] == ["present", "environment=1", "prompt=1"]
    assert present["directions"] is not None and present["agreement"] is not None and present["ratio"] > 0
    assert environment["directions"] is None and environment["generate"]["guidance"]["image"]["environment"] == 1
    assert prompt["agreement"] is None and prompt["operations"] < present["operations"]
    assert "sweep paper  3/3  prompt=1" in printed and sweep.CRITERION in printed
    metrics = json.loads((kept / "paper" / "present" / "metrics.json").read_text())
    assert (metrics["split"], metrics["seed"], metrics["parts"]) == ("val", 1, ["directions", "joint"])
    assert metrics["training_seed"] == 0 and metrics["matrix"] and metrics["joint"] and not metrics["codec"]

    # Interrupted in the second setting: the first and the third are kept.
    (kept / "paper" / "environment=1" / "sweep.json").write_text("{")
    measured = json.loads((kept / "paper" / "environment=1" / "metrics.json").read_text())
    evaluated = []

    def run(evaluation):
        evaluated.append(evaluation.config.generate.guidance["image"].environment)
        return measured, {}

    monkeypatch.setattr(sweep.Evaluation, "run", run)
    sweep.main(arguments)
    assert evaluated == [1.0] and capsys.readouterr().out.count("kept from before") == 2
    again = json.loads(out.read_text())["settings"]
    assert [{**r, "seconds": 0} for r in again] == [{**r, "seconds": 0} for r in result["settings"]]
    # Of other draws or weights nothing is.
    monkeypatch.setattr(sweep, "operations", lambda *_: 1.0)
    for weights, seed in (("a", 2), ("b", 2)):
        model.weights = weights
        one = sweep.Sweep(model, "paper", kept, 4, seed)
        assert not one.row(one.settings[0])[1] and one.row(one.settings[0])[1]
    assert len(evaluated) == 3


def test_a_model_is_a_workdir_or_a_package(tmp_path):
    for given in ((None, None), (tmp_path, "digit_world")):
        with pytest.raises(ConfigError, match="expected either --workdir=DIRECTORY of a run or --model=NAME"):
            sweep.Model(*given)
