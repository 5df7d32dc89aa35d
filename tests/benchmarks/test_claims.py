"""The tables of results: cells, the tables of hand-made runs, where they are written, the documents."""

import json
from pathlib import Path

import pytest

from benchmarks.claims import cells, judged, paper_tasks, runs, tables
from benchmarks.claims import collect as collecting
from benchmarks.claims.__main__ import main
from benchmarks.claims.collect import collect, dumps
from benchmarks.claims.documents import CLOSING, DOCUMENTS, rewrite
from benchmarks.claims.plan import PLAIN, Claim, Runner, chosen_settings, plan
from codi_jax.cli.common import override, read_config
from codi_jax.config import ConfigError, to_dict
from codi_jax.digit_world import checkout as package
from codi_jax.digit_world.benchmark.settings import Overridable
from codi_jax.evaluation.suite import paper
from codi_jax.train.recipe import open_run

ROOT = Path(__file__).parents[2]
COMMIT, OTHER = "1234567" + "0" * 33, "89abcde" + "0" * 33
DIGITS = {"text->image": [0.9, 0.96, 0.93], "image->text": [0.98, 0.98, 0.98]}
TOGETHER = [0.8, 0.9, 0.85]


def content(seed, **changes):
    """A file of docs/claims of a model of text and image, of one of three seeds."""
    matrix = {
        name: {"digit": {"accuracy": of[seed], "ceiling": 0.99, "shuffled": 0.1}, "colour": {"accuracy": 0.7}}
        for name, of in DIGITS.items()
    }
    row = {"joint": TOGETHER[seed], "independent": 0.1, "chance": 0.1, "entropy": 0.95, "interval": [0.7, 0.9]}
    return {
        "name": f"seed{seed}", "commit": COMMIT, "n": 256, "seeds": {"training": seed, "sampling": 0},
        "trained_with": "digit_world:length=3,n=256",
        "judges": {"packaged": {"matrix": matrix, "joint": {"text+image": {"digit": row, "colour": {"joint": 0.6}}}}},
        "paired": {"text->image": True, "image->text": False}, "trained": {"text+image": True},
        "frechet": {"text+image": {"image": [3.0, 2.0]}},
    } | changes  # fmt: skip


def seeds(**changes):
    return {f"seed{k}": runs.Run(f"seed{k}", content(k, **changes)) for k in range(3)}


def outside(accuracy):
    """What judges from elsewhere read of the images."""
    cell = {"digit": {"accuracy": accuracy, "ceiling": 0.97}}
    return {"n": 64, "networks": {"image": "PP-OCR"}, "matrix": {"text->image": cell}}


@pytest.mark.parametrize(
    ("value", "text"), [(0.9754, ".975"), (1.0, "1.000"), (-0.0125, "-.013"), (-0.0001, ".000"), (2.5, "2.500")]
)
def test_numbers_have_three_decimals(value, text):
    assert cells.number(value) == text


def test_a_cell_is_the_mean_and_the_range_of_all_seeds():
    assert cells.cell([0.969, 0.981, 0.975], cells.STAR) == ".975 (.969–.981) ★"
    assert cells.cell([0.5]) == ".500"
    assert cells.cell([0.5, None]) == cells.cell([None]) == cells.cell([], cells.STAR) == ""


def test_empty_rows_and_columns_are_left_out():
    assert cells.markdown(["a", "b", "c"], [["x", "1", ""], ["y", "", ""]]) == "| a | b |\n|---|---|\n| x | 1 |"
    assert cells.markdown(["a", "b"], [["x", ""]]) == ""


def test_directions_of_three_seeds():
    text = tables.directions(seeds()).text()
    assert "Mean (range) of training seeds 0, 1, 2, n = 256; `make claims SEEDS=3` at commit `1234567`." in text
    assert "| text |  | .930 (.900–.960) |" in text and "| image | .980 (.980–.980) ★ |  |" in text
    assert "| *ceiling: real samples* | .990 (.990–.990) | .990 (.990–.990) |" in text
    assert "colour .700 (.700–.700) in text → image." in text
    assert "at most ±.100" in text  # half of .7 to .9


def test_judges_from_elsewhere_lead():
    of = {f"seed{k}": runs.Run(f"seed{k}", content(k)) for k in range(2)}
    for k, run in enumerate(of.values()):
        run.content["judges"]["outside"] = outside(0.8 + 0.1 * k)
    text = tables.directions(of).text()
    assert "Read by judges from elsewhere, PP-OCR (image), n = 64:" in text and ".850 (.800–.900)" in text
    assert text.index("elsewhere") < text.index(".850") < text.index("packaged judges") < text.index(".930")


def test_sets_of_outputs_with_factors_and_fidelity():
    text = tables.joint(seeds()).text()
    assert "| text + image | .850 (.800–.900) | .100 (.100–.100) |" in text
    assert "colour .600 (.600–.600)" in text and "1.500 (1.500–1.500)" in text
    assert "shuffled |" not in text  # no run has it


def test_shorter_repeats_have_a_column_of_their_own():
    of = seeds()
    for k in (1, 2):
        of[f"seed{k}"].content.update(trained_with="digit_world:length=1.5", note="half as long")
    text = tables.training_seeds(of).text()
    assert "| digit | length 3, seed 0 | length 1.5, seeds 1 and 2 |" in text and "seed2: half as long." in text
    assert "| pairs generated together | .800 | .875 (.850–.900) |" in text
    assert "| prompt to output, lowest | .900 | .945 (.930–.960) |" in text
    assert "One seed, n = 256" in tables.joint(of).text()  # a mean over lengths would be one of neither
    assert "Not measured yet." in tables.training_seeds({"seed0": of["seed0"]}).text()


def test_ablations_are_of_one_seed():
    of = seeds() | {
        "ablation.own": runs.Run("ablation.own", content(0)),
        "ablation.paper": runs.Run("ablation.paper", content(2, n=128)),
        "ablation.other": runs.Run("ablation.other", content(1)),
        "ablation.none": runs.Run("ablation.none", content(1)),
    }
    compared, ablation = tables.set_by_set(of).text(), tables.ablations(of).text()
    assert (
        "| outputs | ours (length 3, n = 256) | paper's loss (length 3, n = 128) |" in compared
        and "One seed each" in compared
    )
    assert "| text + image | .800 | .850 |" in compared
    assert "| settings | pairs | other factors | entropy | Fréchet ratio |" in ablation
    rows = [line.split(" |")[0] for line in ablation.splitlines() if ", length 3 |" in line]
    assert rows[:2] == ["| ours, length 3", "| no anchor, length 3"]
    assert rows[2:4] == ["| paper's loss, length 3", "| other, length 3"]
    assert "| no anchor, length 3 | .900 | .600 | .950 | 1.500 |" in ablation


def test_the_tasks_of_the_paper_are_those_of_its_suite():
    suite = {task.name: task for task in paper.TASKS}
    assert len(paper_tasks.TASKS) == 11
    for (prompts, outputs), (name, _) in paper_tasks.TASKS.items():
        assert suite[name].prompts == (prompts,) and suite[name].outputs == tuple(outputs.split("+"))


def test_the_interval_of_the_225_cells_is_over_seeds():
    # The mean of 1, 2, 3 has the standard error 1/√3, and t with two degrees of freedom is 4.303: 2 ± 2.484.
    assert tables.interval([1.0, 2.0, 3.0]) == "-.484 to 4.484" and tables.interval([1.0]) == ""
    of = {name: run for name, run in seeds().items() if name != "seed2"}
    for run, rate in zip(of.values(), (0.8, 0.6), strict=True):
        run.content["combinations"] = {"n": 16, "cells": {"text->image": rate, "image->text": 1.0}}
    text = tables.combinations(of).text()
    assert "| mean of all cells | .850 (.800–.900) |" in text and "2 cells" in text and "16 samples a cell" in text
    assert text.index("| text → image | .700 (.600–.800) |") < text.index("| image → text | 1.000")


def test_sections_of_any_layout_become_tables():
    sync = {"audio+video": {"motion": {"joint": 0.9}, "offset": {"joint": 0.25, "shuffled": 2.5, "n": 256}}}
    text = tables.TABLES["sync"](seeds(sync=sync)).text()
    assert "| sync | joint | shuffled |" in text
    assert "| audio + video, offset | .250 (.250–.250) | 2.500 (2.500–2.500) |" in text
    assert tables.TABLES["diversity"](seeds()).text().endswith("Not measured yet.")


def test_a_sweep_has_its_settings_criterion_and_choice():
    rates = {"leading": 0.9, "pairs": 0.8, "entropy": None, "ratio": 1.5, "directions": None, "operations": 2.5e9}
    rows = [
        {"setting": name, "agreement": rate, "commit": OTHER, **rates}
        for name, rate in (("present", 0.7), ("low=0", 0.75))
    ]
    of_all = {"n": 64, "split": "val", "criterion": "The highest.", "chosen": {"joint": "low=0", "prompt": None}}
    text = tables.sweeps({"sweep.ours": runs.Run("sweep.ours", {**of_all, "settings": rows})}).text()
    assert "ours: val samples, n = 64, commit `89abcde`. The highest." in text
    assert "| setting | agreement | leading | pairs | ratio | GFLOP a sample |" in text
    assert "| present | .700 | .900 | .800 | 1.500 | 2.50 |" in text
    assert "| low=0 (chosen) | .750 | .900 | .800 | 1.500 | 2.50 |" in text


def test_without_runs_every_table_says_so():
    assert all("Not measured yet." in draw({}).text() for draw in tables.TABLES.values())


def test_runs_of_absent_numbers_are_no_error():
    empty = {
        name: runs.Run(name, {"commit": COMMIT}) for name in ("seed0", "ablation.map", "ablation.x", "sweep.y", "demo")
    }
    assert all(draw(empty).text() for draw in tables.TABLES.values())


def checkout(folder, files):
    """A folder with documents that have their markers, and files of docs/claims."""
    (folder / "docs" / "claims").mkdir(parents=True)
    for document, names in DOCUMENTS.items():
        marks = "\n\n".join(f"<!-- claims:{name} -->\n{CLOSING}" for name in names)
        (folder / document).write_text(f"before\n\n{marks}\n\nafter\n")
    for name, of in files.items():
        (folder / "docs" / "claims" / f"{name}.json").write_text(dumps(of))


def test_documents_are_written_once_and_checked(tmp_path, capsys):
    checkout(tmp_path, {f"seed{k}": content(k) for k in range(3)})
    assert main([f"--root={tmp_path}", "check"]) == 1 and "not as in docs/claims" in capsys.readouterr().err
    assert main([f"--root={tmp_path}", "readme"]) == 0 and "README.md: wrote" in capsys.readouterr().out
    written = (tmp_path / "README.md").read_text()
    assert ".850 (.800–.900)" in written and written.startswith("before") and written.endswith("after\n")
    assert main([f"--root={tmp_path}", "readme"]) == 0 and "README.md: nothing changed" in capsys.readouterr().out
    assert (tmp_path / "README.md").read_text() == written and main([f"--root={tmp_path}", "check"]) == 0
    (tmp_path / "README.md").write_text(written.replace(".850 (.800–.900)", ".950 (.800–.900)"))
    assert main([f"--root={tmp_path}", "check"]) == 1 and "joint" in capsys.readouterr().err


def test_runs_of_different_commits_are_named(tmp_path, capsys):
    checkout(tmp_path, {"seed0": content(0), "seed1": content(1, commit=OTHER)})
    for verb, code in (("check", 1), ("readme", 2), ("tables", 0)):
        assert main([f"--root={tmp_path}", verb]) == code
        error = capsys.readouterr().err
        assert "table joint: its runs were evaluated at different commits (seed0 of 1234567; seed1 of 89abcde)" in error


def test_missing_markers_are_named():
    texts = {"joint": "new", "sync": "other"}
    with pytest.raises(ConfigError, match=r"README\.md: no <!-- claims:sync -->"):
        rewrite("README.md", f"<!-- claims:joint -->\n{CLOSING}\n", texts, ("joint", "sync"))
    with pytest.raises(ConfigError, match="no <!-- /claims --> after <!-- claims:joint -->"):
        rewrite("README.md", f"<!-- claims:joint -->\n\n<!-- claims:sync -->\n{CLOSING}\n", texts, ())
    with pytest.raises(ConfigError, match=r"no table 'joints'.*there are joint, sync"):
        rewrite("README.md", f"<!-- claims:joints -->\n{CLOSING}\n", texts, ())


def evaluated(folder, **changes):
    """A workdir of an evaluated model of text and image."""
    row = {"accuracy": 0.9, "interval": [0.8, 1.0], "ceiling": 1.0, "chance": 0.1, "shuffled": 0.1}
    cell = {"n": 8, "factors": {"digit": row}, "all": row, "free": {"colour": {"entropy": 0.5}}}
    outputs = {"image": {"entropy": 0.9, "fidelity": 3.0, "fidelity_independent": 2.0}, "text": {"entropy": 0.9}}
    together = {"digit": {"joint": 0.7, "chance": 0.1, "entropy": 0.9, "fidelity": None, "outputs": outputs}, "n": 8}
    metrics = {
        "n": 8, "commit": COMMIT, "split": "test", "seed": 0, "training_seed": 4, "parts": "all",
        "codec": {"text": cell, "image": cell}, "held_out": {},
        "matrix": {f"{a}->{b}": {"paired": a != b, **cell} for a in ("text", "image") for b in ("text", "image")},
        "joint": {"text+image": {"trained": True, **together}}, "sim": {},
        "combinations": {"text->text+image": {"n": 2, "digit": {"text": 1.0, "image": 0.5}, "upper": {"text": 1.0}}},
        "pretrained": {"n": 4, "judges": {"image": "PP-OCR", "audio": "not installed"},
                       "matrix": {"text->image": {"accuracy": 0.8, "ceiling": 0.9}}, "joint": {},
                       "held_out": {"text->image": {"n": 4, "factors": {"digit": row}, "all": None}}},
        "combinations_mean": {"cells": 1, "digit": 0.75, "interval": [0.6, 0.9]},
    } | changes  # fmt: skip
    config = {"seed": 4, "stages": {"ldm": {"image": {"steps": 30}}}, "evaluate": {"seen": "test_seen"},
              "sources": {"test_seen": {"split": "test"}}}  # fmt: skip
    stages = {"ldm.image": {"total": 1800.0, "reached": 30}}
    (folder / "stages" / "ldm.image").mkdir(parents=True)
    (folder / "stages" / "ldm.image" / "cost.json").write_text(json.dumps(stages["ldm.image"]))
    for name, of in (("metrics", metrics), ("config", config), ("cost", {"stages": stages})):
        (folder / f"{name}.json").write_text(json.dumps(of))
    return folder


def test_a_run_is_collected(tmp_path):
    workdir = evaluated(tmp_path / "run")
    arguments = ["collect", "--name=seed4", f"--workdir={workdir}", "--trained-with=demo", "--note=short"]
    assert main([f"--root={tmp_path}", *arguments]) == 0
    (run,) = runs.read(tmp_path / "docs" / "claims").values()
    assert (run.name, run.commit, run.seed, run.at("n"), run.at("note")) == ("seed4", COMMIT, 4, 8, "short")
    assert run.at("hours") == 0.5 and run.at("steps") == {"ldm.image": 30}
    assert run.at("judges", "packaged", "matrix", "text->image", "digit", "accuracy") == 0.9
    assert run.at("judges", "outside", "networks") == {"image": "PP-OCR"}
    assert run.at("judges", "outside", "matrix") == {"text->image": {"digit": {"accuracy": 0.8, "ceiling": 0.9}}}
    assert run.at("judges", "outside", "held_out", "text->image", "digit", "shuffled") == 0.1
    assert run.at("combinations", "cells") == {"text->text+image": 0.75}
    assert "| 95 % interval of this mean | .600 to .900 |" in tables.combinations({"seed4": run}).text()
    assert judged.frechet_ratio(run, "text+image") == 1.5 and run.at("paired", "text->text") is False


def test_the_card_of_a_package_is_collected():
    card = ROOT / "codi_jax" / "digit_world" / "weights" / "card.json"
    numbers, of = json.loads(card.read_text()), collect(None, "packaged", card=card)
    assert (of["commit"], of["n"], of["trained_with"]) == (numbers["commit"], 256, numbers["config"])
    rows = {direction: cell["digit"] for direction, cell in of["judges"]["packaged"]["matrix"].items()}
    assert rows == {direction: cell["digit"] for direction, cell in numbers["numbers"]["matrix"].items()}
    assert of["paired"]["text->image"] and not of["paired"]["image->audio"] and not of["trained"]["image+video"]
    with pytest.raises(ConfigError, match="needs --workdir of an evaluated run"):
        collect(None, "packaged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "val"}, "metrics of the split 'val'"),
        ({"parts": ["joint"]}, r"only a part of the evaluation was measured \(joint\)"),
        ({"matrix": {}}, "only a part of the evaluation was measured"),
        ({"commit": f"{COMMIT}-dirty"}, "a checkout with changes"),
        ({"commit": ""}, "name no commit"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, changes, message):
    workdir = evaluated(tmp_path / "run", **changes)
    with pytest.raises(ConfigError, match=message):
        collect(workdir, "seed0")
    if "dirty" in changes.get("commit", ""):
        assert collect(workdir, "seed0", allow_dirty=True)["commit"].endswith("-dirty")


def test_weights_newer_than_the_evaluation_and_unknown_names_are_refused(tmp_path, capsys):
    workdir = evaluated(tmp_path / "run")
    assert (
        main(["collect", "--name=first", f"--workdir={workdir}"]) == 2 and "expected seedK" in capsys.readouterr().err
    )
    (workdir / "stages" / "ldm.image" / "cost.json").write_text('{"total": 2.0, "reached": 60}')
    with pytest.raises(ConfigError, match=r"ldm\.image was trained after the evaluation"):
        collect(workdir, "seed0")


def test_every_run_of_the_plan_has_a_config_and_settings_that_exist():
    claims = {claim.name: claim for claim in plan(seeds=2, repeat_length=3, ablation_length=0.5)}
    assert [name for name in claims if name.startswith("seed")] == ["seed0", "seed1"] and not claims["seed0"].config
    for claim in claims.values():
        assert collecting.NAME.fullmatch(claim.name)
        trained = claims[claim.weights] if claim.weights else claim
        if trained.config:
            config = open_run(read_config((f"--config={trained.config}", *trained.overrides)), None).config
            assert config.evaluate["n"] == 256 and config.seed == (1 if claim.name == "seed1" else 0)
            tree = {"generate": to_dict(config.generate), "evaluate": to_dict(config.evaluate)}
            tree = override(tree, [a for a in claim.evaluation if a.startswith("--config.")], Overridable)
            mean = tree["generate"]["environment"] == "mean"
            limits = {rule["limit"] for rule in tree["generate"]["guidance"].values()}
            assert (mean, limits) == ((True, {0.0}) if claim.name.startswith("ablation.") else (False, {1.0}))

    def steps(name):
        stages = open_run(read_config((f"--config={claims[name].config}",)), None).config.stages
        return stages["joint"]["text+image"].steps

    assert steps("seed1") == 6 * steps("ablation.own")
    assert set(claims["ablation.own-delay-0"].evaluation) > set(claims["ablation.own"].evaluation)


def test_what_is_measured_at_this_commit_is_not_measured_again(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(package, "commit", lambda: COMMIT)
    monkeypatch.setattr(Runner, "_call", lambda self, *command, accept=(0,): calls.append(command[2:]))
    claim = Claim("ablation.own", "digit_world:start=package", evaluation=("--parts=joint",))
    runner = Runner(tmp_path, tmp_path / "out")
    runner.run(claim, 1)
    assert [call[1] for call in calls] == ["train", "evaluate", "--root=" + str(tmp_path)]
    evaluated(runner.measured("ablation.own"), parts=["joint"])
    calls.clear()
    runner.run(claim, 1)
    assert [call[1] for call in calls] == ["train", "--root=" + str(tmp_path)] and "collect" in calls[1]
    monkeypatch.setattr(package, "commit", lambda: f"{COMMIT}-dirty")
    with pytest.raises(ConfigError, match=r"^commit your changes of codi_jax/ first"):
        runner.run(claim, 1)


def test_the_papers_loss_is_sampled_with_the_settings_of_its_own_sweep(tmp_path, monkeypatch):
    guidance = {"text": {"environment": 3.0, "low": 0.0}, "image": {"environment": 8.0, "low": 0.3}}
    other = {"text": {"environment": 4.0, "low": 0.0}, "image": {"environment": 4.0, "low": 0.3}}
    rows = [
        {"setting": "present", "generate": {"guidance": guidance, "delay": {"image": 0}, "steps": 10}},
        {"setting": "environment=4", "generate": {"guidance": other, "delay": {"image": 0}, "steps": 10}},
        {"setting": "delay=5", "generate": {"guidance": guidance, "delay": {"image": 5}, "steps": 10}},
    ]
    sweep = {"settings": rows, "chosen": {"joint": "environment=4", "prompt": "present"}}
    expected = ("text.environment=4", "image.environment=4")
    assert chosen_settings(sweep) == tuple(f"--config.generate.guidance.{e}" for e in expected)
    delayed = {**sweep, "chosen": {"joint": "delay=5", "prompt": None}}
    assert chosen_settings(delayed) == ("--config.generate.delay.image=5",)
    assert not chosen_settings({**sweep, "chosen": {"joint": "present", "prompt": None}})
    assert not chosen_settings({**sweep, "chosen": {"joint": None, "prompt": None}})

    calls, path = [], tmp_path / "docs" / "claims" / "sweep.paper.json"
    path.parent.mkdir(parents=True)

    def call(self, *command, accept=(0,)):
        calls.append(command[1:])
        if "benchmarks.sweep" in command:
            path.write_text(json.dumps(sweep))

    monkeypatch.setattr(package, "commit", lambda: COMMIT)
    monkeypatch.setattr(Runner, "_call", call)
    claims = {claim.name: claim for claim in plan(seeds=1, repeat_length=3, ablation_length=1)}
    for made in (True, False):
        Runner(tmp_path, tmp_path / "out").run(claims["ablation.paper"], 1)
        assert any("benchmarks.sweep" in c for c in calls) == made
        (evaluated,) = [c for c in calls if "evaluate" in c]
        assert evaluated[-2:] == chosen_settings(sweep)
        calls.clear()
    Runner(tmp_path, tmp_path / "out").run(claims["ablation.own"], 1)
    (evaluated,) = [c for c in calls if "evaluate" in c]
    assert [a for a in evaluated if a.startswith("--config.generate.")] == list(PLAIN)


def test_an_ablation_needs_only_what_is_generated_together(tmp_path):
    measured, workdir = evaluated(tmp_path / "measured", parts=["joint", "pretrained"]), evaluated(tmp_path / "run")
    assert collect(workdir, "ablation.paper", measured=measured)["judges"]["packaged"]["joint"]
    for name in ("seed0", "seed1"):
        with pytest.raises(ConfigError, match=r"only a part of the evaluation was measured \(joint, pretrained\)"):
            collect(workdir, name, measured=measured)


def test_a_repeat_needs_directions_and_sets_of_outputs(tmp_path):
    parts = ["directions", "held_out", "joint", "pretrained"]
    measured, workdir = evaluated(tmp_path / "measured", parts=parts), evaluated(tmp_path / "run")
    assert collect(workdir, "seed12", measured=measured)["judges"]["packaged"]["matrix"]
    with pytest.raises(ConfigError, match="only a part of the evaluation was measured"):
        collect(workdir, "seed0", measured=measured)
    (repeat,) = (claim for claim in plan(seeds=2, repeat_length=1, ablation_length=1) if claim.name == "seed1")
    assert repeat.evaluation == (f"--parts={','.join(parts)}",)


def test_the_packaged_model_is_evaluated_in_a_folder(tmp_path):
    card = ROOT / "codi_jax" / "digit_world" / "weights" / "card.json"
    about, of = json.loads(card.read_text()), collect(None, "seed0", measured=evaluated(tmp_path / "a"), card=card)
    assert of["commit"] == COMMIT and of["trained_commit"] == about["commit"] and of["trained_with"] == about["config"]
    assert of["steps"]["ldm.video"] > 0 and of["hours"] == about["hours"]


def test_the_runs_are_listed(tmp_path, capsys):
    assert main([f"--root={tmp_path}", "run", "--list", "--seeds=2", f"--folder={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["seed0", "to", "do"] and any("seed=1" in line for line in lines)
    assert (
        main(["run", "--only=seed7"]) == 2 and "--only=seed7: no such run; there are seed0" in capsys.readouterr().err
    )


def test_the_documents_of_the_repository_are_up_to_date(capsys):
    assert main(["check"]) == 0, capsys.readouterr().err
