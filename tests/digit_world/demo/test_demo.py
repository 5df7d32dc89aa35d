"""`codi-jax demo` end to end with a toy model: interrupted in every step, with a verdict."""

import json

import pytest

from codi_jax import cli
from codi_jax.checkpoint import save_params
from codi_jax.digit_world.demo import measure, page, verb
from codi_jax.exit_codes import EXIT_BELOW_FLOORS
from codi_jax.train import trainer
from codi_jax.train.stop import Preempted
from tests import toy

CONFIG = """from tests import toy


def get_config():
    config = toy.config()
    config.evaluate.update(n=4, reference=8, combinations=0, mixes=(), held_out=None, pretrained=0)
    with config.unlocked():
        config.stages, config.weights = {{}}, {weights!r}
        config.evaluate.judges, config.evaluate.floors = {judges!r}, {floors!r}
    return config
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random components of the toy model, for a recipe without stages."""
    folder = tmp_path_factory.mktemp("weights")
    for component, tree in toy.params(toy.codi()).items():
        save_params(str(folder / component), {"params": {component: tree}}, {"components": [component]})
    return folder


def config(folder, weights, **floors):
    path = folder / "toy_demo.py"
    path.write_text(CONFIG.format(weights=str(weights), judges=str(toy.random_package()), floors=floors or None))
    return f"--config={path}"


def demo(tmp_path, *arguments):
    """Runs the verb and returns its exit code."""
    try:
        cli.main(["demo", f"--out={tmp_path / 'run'}", f"--model={toy.random_package()}", *arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def raises(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.slow
def test_a_demo_that_is_interrupted_in_every_step_resumes_and_ends_with_the_verdict(
    tmp_path, weights, monkeypatch, capsys
):
    out, argument = tmp_path / "run", config(tmp_path, weights, codec=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(page, "_body", raises(KeyboardInterrupt()))
        assert demo(tmp_path, argument) == 130
    assert not (out / "index.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", raises(Preempted("stopped in ldm.text at step 3 of 9; run it again")))
        assert demo(tmp_path, argument) == 75
    before = (out / "index.html").stat()
    with monkeypatch.context() as patch:
        patch.setattr(measure, "evaluate", raises(KeyboardInterrupt()))
        assert demo(tmp_path) == 130  # with the config in the workdir
    assert not (out / "measured.json").exists()
    capsys.readouterr()

    # Random codecs lose all factors.
    assert demo(tmp_path) == EXIT_BELOW_FLOORS == 1
    output = capsys.readouterr().out
    steps = [line for line in output.splitlines() if line.startswith("[")]
    assert [line[:5] for line in steps] == ["[1/3]", "[2/3]", "[3/3]"]
    assert f"open {out / 'index.html'}" in output and f"open {out / 'report.html'}" in output
    assert (out / "index.html").stat().st_mtime_ns == before.st_mtime_ns
    verdict = output.split("\n\n")[-1].splitlines()
    assert len(verdict) <= 5 and verdict[0].startswith("The model is below its floors: of ")
    assert any("its codec preserves 0 of 4 samples" in line for line in verdict)

    monkeypatch.setattr(measure, "evaluate", raises(AssertionError("evaluated again")))
    assert demo(tmp_path) == 1
    assert capsys.readouterr().out.split("\n\n")[-1].splitlines() == verdict
    (out / "report.html").unlink()
    with pytest.raises(AssertionError, match="evaluated again"):
        demo(tmp_path)


def test_a_run_is_evaluated_once_for_the_same_weights(tmp_path, weights, monkeypatch):
    evaluated = []

    def evaluate(codi, config, variables, workdir):
        evaluated.append(workdir)
        (workdir / "metrics.json").write_text(json.dumps({"n": 4, "matrix": {}, "joint": {}}))
        return {"n": 4}

    monkeypatch.setattr(measure, "evaluate", evaluate)
    monkeypatch.setattr(measure, "write", lambda workdir: (workdir / "report.html").write_text("a report"))
    monkeypatch.setattr(verb, "table", lambda metrics: "the table")
    assert demo(tmp_path, config(tmp_path, weights), "--no-page") == 0 and len(evaluated) == 1
    assert demo(tmp_path, "--no-page") == 0 and len(evaluated) == 1
    assert not (tmp_path / "run" / "index.html").exists()
    other = {"params": {"text_codec": toy.params(toy.codi(), seed=1)["text_codec"]}}
    save_params(str(weights / "text_codec"), other, {"components": ["text_codec"]})
    assert demo(tmp_path, "--no-page") == 0 and len(evaluated) == 2


def test_without_a_config_only_the_page_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "_body", lambda *_: "a body")
    assert demo(tmp_path) == 0
    assert "[1/3]" in (output := capsys.readouterr().out) and "[2/3]" not in output
    assert "--config=digit_world" in output.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["index.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=absent.py"], "absent.py"),
        (["--model=nothing"], "no packaged model 'nothing'"),
        (["--jobs=0"], "--jobs: expected a positive number, got 0"),
    ],
)
def test_bad_input_is_reported_in_one_line_before_generation(tmp_path, capsys, arguments, message):
    assert demo(tmp_path, *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("codi-jax: ") and err.count("\n") == 1 and not out
    assert not (tmp_path / "run").exists()
