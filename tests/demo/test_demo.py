"""`codi-jax demo` from end to end with a toy: interrupted in every step, and judged."""

import json

import pytest

from codi_jax import cli
from codi_jax.checkpoint import save_params
from codi_jax.demo import measure, page, verb
from codi_jax.train import loop
from codi_jax.train.stop import Preempted
from tests import toy

# ml_collections loads a config file in a way that Python would rather not have.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method:DeprecationWarning")

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
    """Random components of the toy: what a recipe of no stages at all has trained."""
    folder = tmp_path_factory.mktemp("weights")
    for component, tree in toy.params(toy.codi()).items():
        save_params(str(folder / component), {"params": {component: tree}}, {"components": [component]})
    return folder


def config(folder, weights, **floors):
    path = folder / "toy_demo.py"
    path.write_text(CONFIG.format(weights=str(weights), judges=str(toy.random_package()), floors=floors or None))
    return f"--config={path}"


def demo(tmp_path, *arguments):
    """The exit code of the verb."""
    try:
        cli.main(["demo", f"--out={tmp_path / 'run'}", f"--model={toy.random_package()}", *arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def raises(error):
    def function(*_, **__):
        raise error

    return function


def test_interrupted_in_every_step_it_goes_on_and_ends_on_the_verdict(tmp_path, weights, monkeypatch, capsys):
    out, given = tmp_path / "run", config(tmp_path, weights, codec=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(page, "_body", raises(KeyboardInterrupt()))
        assert demo(tmp_path, given) == 130
    assert not (out / "index.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", raises(Preempted("stopped in ldm.text at step 3 of 9; run it again")))
        assert demo(tmp_path, given) == 75
    made = (out / "index.html").stat()
    with monkeypatch.context() as patch:
        patch.setattr(measure, "evaluate", raises(KeyboardInterrupt()))
        assert demo(tmp_path) == 130  # the config is in the workdir by now
    assert not (out / "measured.json").exists()
    capsys.readouterr()

    # Random codecs keep nothing.
    assert demo(tmp_path) == cli.EXIT_BELOW_FLOORS == 1
    said = capsys.readouterr().out
    steps = [line for line in said.splitlines() if line.startswith("[")]
    assert [line[:5] for line in steps] == ["[1/3]", "[2/3]", "[3/3]"]
    assert f"open {out / 'index.html'}" in said and f"open {out / 'report.html'}" in said
    assert (out / "index.html").stat().st_mtime_ns == made.st_mtime_ns
    verdict = said.split("\n\n")[-1].splitlines()
    assert len(verdict) <= 5 and verdict[0].startswith("The model is below its floors: of ")
    assert any("its codec preserves 0 of 4 samples" in line for line in verdict)

    monkeypatch.setattr(measure, "evaluate", raises(AssertionError("it measures again")))
    assert demo(tmp_path) == 1
    assert capsys.readouterr().out.split("\n\n")[-1].splitlines() == verdict
    (out / "report.html").unlink()
    with pytest.raises(AssertionError, match="it measures again"):
        demo(tmp_path)


def test_what_was_measured_counts_for_these_weights_only(tmp_path, weights, monkeypatch):
    measured = []

    def evaluate(codi, config, variables, workdir):
        measured.append(workdir)
        (workdir / "metrics.json").write_text(json.dumps({"n": 4, "matrix": {}, "joint": {}}))
        return {"n": 4}

    monkeypatch.setattr(measure, "evaluate", evaluate)
    monkeypatch.setattr(measure, "write", lambda workdir: (workdir / "report.html").write_text("a report"))
    monkeypatch.setattr(verb, "table", lambda metrics: "the table")
    assert demo(tmp_path, config(tmp_path, weights), "--no-page") == 0 and len(measured) == 1
    assert demo(tmp_path, "--no-page") == 0 and len(measured) == 1
    assert not (tmp_path / "run" / "index.html").exists()
    again = {"params": {"text_codec": toy.params(toy.codi(), seed=1)["text_codec"]}}
    save_params(str(weights / "text_codec"), again, {"components": ["text_codec"]})  # another training
    assert demo(tmp_path, "--no-page") == 0 and len(measured) == 2


def test_without_a_config_it_is_the_page_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "_body", lambda *_: "a body")
    assert demo(tmp_path) == 0
    assert "[1/3]" in (said := capsys.readouterr().out) and "[2/3]" not in said
    assert "--config=configs/four.py" in said.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["index.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=absent.py"], "absent.py"),
        (["--model=nothing"], "no packaged model 'nothing'"),
        (["--jobs=0"], "--jobs: expected a positive number, got 0"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_generated(tmp_path, capsys, arguments, message):
    assert demo(tmp_path, *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("codi-jax: ") and err.count("\n") == 1 and not out
    assert not (tmp_path / "run").exists()
