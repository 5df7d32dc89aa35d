"""`codi-jax generate` without a workdir: the packaged model, its messages, its imports."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from PIL import Image

import codi_jax
from codi_jax import __version__, cli, packaged
from codi_jax.cli.entry import user_folder
from codi_jax.config import from_dict
from codi_jax.digit_world import VOCABULARY
from codi_jax.digit_world.benchmark import run
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.sampling.prompts import PromptWarning
from codi_jax.train.recipe import load_run
from tests import toy

ROOT = Path(__file__).parents[1]
UNKNOWN = "text prompt: 'blueish', 'dog' are not words of this model; it knows: " + ", ".join(VOCABULARY)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """Replaces the packaged model by a toy, with a compilation cache of its own."""
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, toy.random_package())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    before = jax.config.jax_compilation_cache_dir
    yield packaged.open_package(packaged.DEFAULT)
    jax.config.update("jax_compilation_cache_dir", before)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


def test_generate_uses_the_packaged_model_and_prints_its_name(model, tmp_path, capsys):
    arguments = ["generate", "--text", "a blueish seven with a dog", "--to", "image,text", "--seed=4"]
    cli.main([*arguments, f"--out={tmp_path / 'd'}"])
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "d" / name) for name in ("text_0.txt", "image_0.png")]
    lines = said.err.splitlines()
    assert lines[:2] == [f"model: digit_world, packaged with codi_jax {__version__}", f"codi-jax: {UNKNOWN}"]
    assert sum("dog" in line for line in lines) == 1
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "codi_jax" / "compiled")

    # The same request in Python gives the same files.
    with pytest.warns(PromptWarning):
        out = codi_jax.load("digit_world")({"text": "a blueish seven with a dog"}, to=("image", "text"), seed=4)
    for path in out.save(tmp_path / "python"):
        assert path.read_bytes() == (tmp_path / "d" / path.name).read_bytes()
    with Image.open(tmp_path / "d" / "image_0.png") as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_options_are_the_arguments_of_a_pipeline(model, tmp_path):
    """Also with spaces between names, and a number of guidance for all outputs beside one for an output."""
    options = [
        "--steps=2",
        "--sampler=ddim",
        "--eta=0.5",
        "--spacing=karras",
        "--guidance= image = 3 ,1.5",
        "--batch-size=2",
        "--n=3",
    ]
    options += [
        "--negative=a green two",
        "--seed=1,2, 18446744073709551615",
        "--weights= text = 1",
        "--text=a red seven",
    ]
    cli.main(["generate", "--to", " image, text ", f"--out={tmp_path / 'd'}", *options])
    out = codi_jax.load(model.directory)(
        {"text": "a red seven"},
        to=("text", "image"),
        n=3,
        seed=[1, 2, 18446744073709551615],
        weights={"text": 1},
        guidance={"image": 3, "text": 1.5},
        negative={"text": "a green two"},
        steps=2,
        sampler="ddim",
        eta=0.5,
        spacing="karras",
        batch_size=2,
    )
    for path in out.save(tmp_path / "python"):
        assert path.read_bytes() == (tmp_path / "d" / path.name).read_bytes()


@pytest.mark.parametrize("beside", ["--model", "--workdir"])
def test_settings_of_generation_are_overridden_beside_a_trained_model(beside, model, tmp_path):
    where = model.directory if beside == "--model" else toy.trained()
    overrides = ["--config.generate.steps=2", "--config.generate.guidance.image.prompt", "1.5"]
    request = ["--text=a red seven", "--to=image", "--seed=3", f"{beside}={where}", *overrides]
    cli.main(["generate", *request, f"--out={tmp_path / 'd'}", "--config.generate.delay.image=0"])
    out = codi_jax.load(where)("a red seven", to="image", seed=3, steps=2, guidance=1.5)
    for path in out.save(tmp_path / "python"):
        assert path.read_bytes() == (tmp_path / "d" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.generate.stps=3", "config.generate.stps: unknown key (did you mean steps?)"),
        ("--config.generate.steps=x", "invalid literal for int() with base 10: 'x'"),
        ("--config.generate.steps", "Missing value for flag --config.generate.steps"),
        ("--config.generate.sampler=dim", "config.generate.sampler: "),
        ("--config.seed=3", "--config.seed=3: of a trained model only --config.generate.… can be overridden"),
        ("--smell=3", "unknown arguments: --smell=3"),
    ],
)
def test_a_wrong_override_is_one_line(override, message, model, tmp_path, capsys):
    request = ["generate", f"--model={model.directory}", "--to=image", f"--out={tmp_path / 'd'}"]
    assert message in refused(capsys, *request, override).splitlines()[-1]
    assert not (tmp_path / "d").exists()


def test_unknown_words_are_a_warning_in_python(model):
    generator = Generator(model.codi, from_dict(GenerateConfig, model.run["generate"], "generate"))
    variables, unknown = model.read("model"), {"text": ["a red seven", "a blueish seven with a dog"]}
    with pytest.warns(PromptWarning) as caught:
        generator.prompts(variables, unknown)
    assert [str(w.message) for w in caught] == [UNKNOWN]
    generator.prompts(variables, {"text": ["A red seven!"] * 2})  # a warning here would be an error


def test_unknown_words_are_printed_for_a_workdir_too(tmp_path, capsys):
    arguments = ["--text=a blueish dog", "--to=image", f"--out={tmp_path / 'd'}"]
    (tmp_path / "config.json").write_text(toy.config().to_json())
    first, *_, last = refused(capsys, "generate", f"--workdir={tmp_path}", *arguments).splitlines()
    assert first == f"codi-jax: {UNKNOWN}" and "no weights for" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=smell_world"], "no packaged model 'smell_world'; there is digit_world"),
        (["--model=digit_world", "--workdir=."], "--model names a packaged model; leave out --workdir and --config"),
        (["--model=digit_world", "--config=x.py"], "--model names a packaged model; leave out --workdir and --config"),
        (["--random-weights"], "--random-weights: a packaged model has all its weights"),
        (["--temperature=3"], "unknown arguments: --temperature=3"),
    ],
)
def test_generate_refuses_invalid_arguments(capsys, tmp_path, arguments, message):
    said = refused(capsys, "generate", "--to=image", f"--out={tmp_path / 'd'}", *arguments)
    assert message in said and "\n" not in said
    assert not (tmp_path / "d").exists()


def test_a_damaged_package_is_one_line_of_error_before_sampling(model, tmp_path, capsys, monkeypatch):
    for file in toy.random_package().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-1])
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, tmp_path)
    said = refused(capsys, "generate", "--to=image", f"--out={tmp_path / 'd'}").splitlines()[1:]
    assert said == [
        f"codi-jax: {tmp_path / 'model.safetensors'}: is not the file that was packaged; reinstall codi_jax"
    ]


@pytest.mark.parametrize("home", ["file", "read only"])
def test_without_a_writable_cache_no_programs_are_cached(home, tmp_path, monkeypatch):
    if home == "file":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert user_folder() is None


def test_generate_does_not_import_training_libraries(tmp_path):
    code = (
        "import sys; from codi_jax import cli; cli.main(sys.argv[1:]); "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment |= {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    arguments = ["generate", f"--model={toy.random_package()}", "--text=red", "--to=text", f"--out={tmp_path / 'd'}"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    path, modules = done.stdout.splitlines()
    assert path == str(tmp_path / "d" / "text_0.txt")
    heavy = {"grain", "orbax", "tensorflow_datasets", "tensorstore", "torch", "transformers"}
    assert "jax" in modules.split() and not heavy & set(modules.split())


def test_evaluate_accepts_a_packaged_model_and_other_judges(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(run, "evaluate", lambda *given: calls.append(given) or {})
    monkeypatch.setattr(run, "table", lambda metrics: "")
    model, workdir = toy.random_package(), tmp_path / "run"
    cli.main(["evaluate", f"--model={model}", "--judges=somewhere", f"--workdir={workdir}"])
    ((codi, config, variables, where, scope, _),) = calls
    assert toy.same(variables["params"], toy.params(toy.codi())) and set(codi.modalities) == set(toy.PAIR)
    assert config.evaluate["judges"] == "somewhere" and config.evaluate["seen"] == "test_seen" and where == workdir
    assert scope.split == "test" and scope.whole
    # The workdir now holds the config of that model, for `report`, and refuses another.
    assert load_run(workdir).config.generate == config.generate
    (workdir / "config.json").write_text("{}")
    message = refused(capsys, "evaluate", f"--model={model}", f"--workdir={workdir}")
    assert "holds a run of another config" in message and len(calls) == 1
