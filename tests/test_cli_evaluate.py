"""`codi-jax evaluate`: its options reach the evaluation, and a workdir keeps the whole evaluation of its config."""

import pytest

from codi_jax import cli
from codi_jax.digit_world.benchmark import run
from tests import toy


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *map(str, arguments)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("codi-jax: ") and error.count("\n") == 1
    return error.removeprefix("codi-jax: ")


@pytest.fixture
def calls(monkeypatch):
    """What `evaluate` is called with, instead of a computation."""
    out = []
    monkeypatch.setattr(run, "evaluate", lambda *given: out.append(given) or {"split": given[4].split})
    monkeypatch.setattr(run, "table", lambda metrics: "the table")
    return out


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "run"
    toy.save_config(toy.config(), folder)
    return folder


def test_options_and_overrides_reach_the_evaluation(calls, tmp_path, capsys):
    model, out = toy.random_package(), tmp_path / "out"
    settings = ("--config.generate.guidance.image.environment=2", "--config.generate.steps=3")
    others = ("--split=val", "--seed=5", "--n=4", "--parts=joint, codec", "--config.evaluate.held_out=test")
    cli.main(["evaluate", f"--model={model}", f"--out={out}", *settings, *others])
    ((codi, config, _, where, scope, folder),) = calls
    assert (scope.split, scope.parts, where, folder) == ("val", ("joint", "codec"), out, None)
    assert config.evaluate["n"] == 4 and config.evaluate["seed"] == 5 and config.evaluate["combinations"] == 1
    assert config.evaluate["held_out"] == "test" and config.evaluate["seen"] == "test_seen"
    assert config.generate.steps == 3 and config.generate.guidance["image"].environment == 2
    assert config.generate.guidance["image"].prompt == 4 and set(codi.modalities) == set(toy.PAIR)
    assert capsys.readouterr().out.splitlines()[::2] == [
        "the table", "No verdict: floors apply to test samples, and these are validation samples."
    ]  # fmt: skip
    assert not out.exists()


def test_a_workdir_is_not_written_with_out(calls, workdir, tmp_path, monkeypatch):
    monkeypatch.setattr("codi_jax.train.variables.variables_of", lambda run: {})
    before = sorted(workdir.rglob("*"))
    cli.main(["evaluate", f"--workdir={workdir}", f"--out={tmp_path / 'out'}", "--config.generate.eta=0.5"])
    cli.main(["evaluate", f"--workdir={workdir}", "--n=11"])
    (first, second) = calls
    assert first[3] == tmp_path / "out" and first[5] == workdir and first[1].generate.eta == 0.5
    assert second[3] == workdir and second[1].evaluate["n"] == 11 and second[4].whole
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --workdir=DIRECTORY of a run, or --model=NAME"),
        (("--model=M",), "--model needs --out=DIRECTORY for the results"),
        (("--model=M", "--workdir=W", "--out=D"), "--out and --workdir: with --model, use only one of them"),
        (("--workdir=W", "--split=val"), "--split=val needs --out=DIRECTORY: a workdir has the whole evaluation"),
        (("--workdir=W", "--parts=joint"), "--parts=joint needs --out=DIRECTORY"),
        (("--workdir=W", "--config.generate.steps=3"), "--config.generate.steps=3 needs --out=DIRECTORY"),
        (("--workdir=W", "--out=W"), "is a workdir or a package (config.json); choose another folder"),
        (("--workdir=W", "--out=D", "--split=train"), "split: expected one of test, val, got 'train'"),
        (("--workdir=W", "--out=D", "--parts=joint,jont"), "parts: no part 'jont' (did you mean joint?); there are "),
        (("--workdir=W", "--out=D", "--parts="), "parts: expected some of real, codec, "),
        (("--workdir=W", "--n=many"), "--n: expected a whole number, got 'many'"),
        (("--workdir=W", "--n=3"), "config.evaluate: expected n >= 4"),
        (("--workdir=W", "--seed=-1"), "config.evaluate.seed: expected 0 or more"),
        (("--workdir=W", "--out=D", "--n=4", "--config.evaluate.n=5"), "--n and --config.evaluate.n: use only one"),
        (
            ("--workdir=W", "--out=D", "--config.seed=3"),
            "--config.seed=3: of a trained model only --config.generate.… and --config.evaluate.… can be overridden",
        ),
        (("--workdir=W", "--out=D", "--config=demo"), "--config=demo: of a trained model only --config.generate.…"),
        (
            ("--workdir=W", "--out=D", "--config.evaluate.sed=1"),
            "config.evaluate.sed: unknown key (did you mean seed?",
        ),
        (("--workdir=W", "--out=D", "--config.generate.steps=x"), "steps"),
        (("--workdir=W", "--out=D", "--split=val", "--config.evaluate.validation=x"), "'x' is no source of this run"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(workdir, calls, capsys, tmp_path, arguments, message):
    named = {"=M": f"={toy.random_package()}", "=W": f"={workdir}", "=D": f"={tmp_path / 'out'}"}
    given = [argument[:-2] + named.get(argument[-2:], argument[-2:]) for argument in arguments]
    assert message in refused(capsys, *given)
    assert not calls and not (tmp_path / "out").exists() and len(list(workdir.iterdir())) == 2
