"""The command line: invalid input gives one line and exit code 2, never a traceback."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codi_jax import __version__, cli, storage
from codi_jax.checkpoint import CheckpointError, SaveError
from codi_jax.config import ConfigError
from codi_jax.digit_world.benchmark import run as evaluation
from codi_jax.exit_codes import EXIT_BAD_INPUT, EXIT_BELOW_FLOORS
from codi_jax.train import trainer, variables
from codi_jax.train.stop import Preempted
from tests import toy
from tests.digit_world.benchmark.numbers import metrics

ROOT = Path(__file__).parents[1]
DEMO = str(ROOT / "configs" / "digit_world.py")
TINY = f"--config={DEMO}:tiny,modalities=text+image"
VERBS = ("plan", "train", "generate", "evaluate", "report", "compare", "data", "world", "chaos")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir with a config and no trained stage, for errors that come before weights are read."""
    path = tmp_path_factory.mktemp("untrained")
    shutil.copy(toy_config(path / "make"), path / "config.json")
    return path


def toy_config(folder):
    toy.save_config(toy.config(), folder)
    return folder / "config.json"


def refused(capsys, *arguments):
    """Runs a command, asserts exit code 2 and returns its one line of error."""
    with pytest.raises(SystemExit) as exit:
        cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert exit.value.code == EXIT_BAD_INPUT == 2
    assert not out and err.startswith("codi-jax: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err


def generate(workdir, *arguments, to="image"):
    return "generate", f"--workdir={workdir}", f"--to={to}", f"--out={workdir / 'out'}", *arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to=smell"], "unknown modality 'smell'; this model has text, image"),
        (["--to=text,image,text"], "modality 'text' is named twice"),
        (["--to="], "nothing to generate"),
        (["--to=image", "--text="], "an empty text prompt"),
        (["--to=image", "--text= \t "], "an empty text prompt"),
        (["--to=image", "--text=a", "--text=b"], "--text is given 2 times"),
        (["--to=text", "--image=absent.png"], "absent.png: no such image"),
        (["--to=image", "--text=a", "--weights=image=2"], "weights: 'image' has no prompt; prompts: text"),
        (["--to=image", "--weights=text=2"], "weights: 'text' has no prompt; prompts: none"),
        (["--to=image", "--text=a", "--weights=text"], "--weights: expected NAME=NUMBER, got 'text'"),
        (["--to=image", "--text=a", "--weights=text=much"], "--weights: expected NAME=NUMBER, got 'text=much'"),
        (["--to=image", "--n=0"], "n: expected a positive number, got 0"),
        (["--to=image", "--n=two"], "--n: expected a whole number, got 'two'"),
        (["--to=imge"], "unknown modality 'imge' (did you mean image?); this model has text, image"),
        (["--to= Image"], "unknown modality 'Image' (did you mean image?)"),
        (["--to=image", "--guidance=text=3"], "guidance: 'text' is not an output; outputs: image"),
        (["--to=image", "--guidance=image=much"], "--guidance: expected NAME=NUMBER, got 'image=much'"),
        (["--to=image", "--steps=0"], "sampling: "),
        (["--to=image", "--steps=a"], "--steps: expected a whole number, got 'a'"),
        (["--to=image", "--sampler=eler"], "config.generate.sampler: 'eler' is none of ddim, ancestral, euler, heun"),
        (["--to=image", "--spacing=trailin"], "(did you mean trailing?)"),
        (["--to=image", "--eta=2"], "sampling: eta is 2.0, which ddim does not support"),
        (["--to=image", "--seed=-1"], "seed: expected 0 or more and at most 64 bits, got -1"),
        (["--to=image", f"--seed={1 << 64}"], "seed: expected 0 or more and at most 64 bits, got 18446744073709551616"),
        (["--to=image", "--seed=1,2"], "seed: 2 of them for 1 samples; give one number, or 1"),
        (["--to=image", "--negative=a", "--negative=text=b"], "--negative is given twice for text"),
        (["--to=image", "--batch-size=0"], "batch_size: expected a positive number, got 0"),
        (["--to=image", "--temperature=3"], "unknown arguments: --temperature=3"),
        (["--to=image"], "no weights for vision_unet, vision_codec: train the stage that makes it, or name converted"),
    ],
)
def test_generate_refuses_invalid_arguments(capsys, workdir, arguments, message):
    assert message in refused(capsys, "generate", f"--workdir={workdir}", f"--out={workdir / 'out'}", *arguments)
    assert not (workdir / "out").exists()


def test_generate_refuses_an_out_that_cannot_be_written(capsys, workdir, tmp_path, monkeypatch):
    """Before anything else: the weights, too, are missing here."""
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "d"):
        said = refused(capsys, "generate", f"--workdir={workdir}", "--to=image", f"--out={out}")
        assert f"{out}: {file} is a file; choose a directory" in said
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = refused(capsys, "generate", f"--workdir={workdir}", "--to=image", f"--out={tmp_path / 'd'}")
    assert f"{tmp_path} may not be written; choose a directory that you may read and write" in said


def test_directories_may_begin_with_the_home_directory(capsys, monkeypatch, workdir):
    monkeypatch.setenv("HOME", str(workdir.parent))
    said = refused(
        capsys, "generate", f"--workdir=~/{workdir.name}", "--to=image", f"--out=~/{workdir.name}/config.json"
    )
    assert f"{workdir / 'config.json'} is a file" in said
    assert "no weights for" in refused(capsys, "generate", f"--workdir=~/{workdir.name}", "--to=image", "--out=~/d")


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0 and capsys.readouterr().out == f"codi-jax {__version__}\n"


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "an empty file"),
        (b"not a picture", "not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an image of a known format"),
    ],
)
def test_generate_refuses_an_unreadable_image(capsys, workdir, tmp_path, content, says):
    picture = tmp_path / "broken.png"
    picture.write_bytes(content)
    assert f"broken.png: {says}" in refused(capsys, *generate(workdir, f"--image={picture}", to="text"))
    assert "no such image" in refused(capsys, *generate(workdir, f"--image={tmp_path}", to="text"))


def test_generate_refuses_a_truncated_image(capsys, workdir, tmp_path):
    picture = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    picture.write_bytes(picture.read_bytes()[:-4000])
    assert "not a readable image" in refused(capsys, *generate(workdir, f"--image={picture}", to="text"))


@pytest.mark.parametrize("verb", ["generate", "evaluate", "report"])
def test_a_missing_workdir_is_refused(capsys, tmp_path, verb):
    rest = ["--to=image", f"--out={tmp_path / 'out'}"] if verb == "generate" else []
    refused(capsys, verb, f"--workdir={tmp_path / 'absent'}", *rest)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("verb", VERBS[2:4])
def test_an_unsupported_store_is_refused(capsys, verb, monkeypatch):
    assert "ftp://x/run: expected a local path, gs://… or s3://…" in refused(capsys, verb, "--workdir=ftp://x/run")
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    assert "needs s3fs: pip install 'codi_jax[s3]'" in refused(capsys, verb, "--workdir=s3://x/run")


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_unknown_arguments_are_refused(capsys, workdir, verb):
    assert "unknown arguments: --steps=3" in refused(capsys, verb, f"--workdir={workdir}", "--steps=3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "train needs --config=NAME[:argument]"),
        (["--config=absent.py"], "absent.py"),
        ([f"--config={DEMO}:huge"], "config argument 'huge': unknown"),
        ([f"--config={DEMO}:modalities=text+smell"], "option modalities: no smell; there are text, image, "),
        ([TINY, "--config.stages.codec.text.stepz=3"], "stepz"),
        ([TINY, "--config.stages.codec.text.steps=many"], "steps"),
        ([TINY, "--config.stages.codec.text.steps=-1"], "stages.codec.text: steps and batch_size"),
        ([TINY, "--stages=codec.text"], "stages"),
        ([TINY, "codec.text"], "unknown arguments: codec.text"),
        ([TINY, "--stage=codec.smell"], "no stage 'codec.smell' in this recipe; it has "),
        ([TINY, "--config.weights=absent"], "config.weights: no components in absent"),
    ],
)
def test_train_refuses_invalid_arguments(capsys, tmp_path, arguments, message):
    assert message in refused(capsys, "train", f"--workdir={tmp_path / 'new'}", *arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "config.model.widht = 3",
            "config.model.widht: unknown key (did you mean width?); CoDiConfig knows ",
        ),
        ("config.model.width = 'wide'", "override field 'width'"),
        ("del config.model.modalities.image.codec.patch; config.model.modalities.image.codec.pach = 4", "codec.pach"),
        ("raise ValueError('no such thing')", "no such thing"),
        (
            "config.stages.joint['text+image'].settings.lozzes = ()",
            "stage 'joint.text+image': config.stages.*.settings.lozzes: unknown key (did you mean losses?); ",
        ),
        ("config.stages.joint.all = 3", "config.stages.joint.all: expected a mapping for StageConfig, got 3"),
    ],
)
def test_train_refuses_an_invalid_config(capsys, tmp_path, line, message):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import digit_world\n\n\ndef get_config():\n"
        "    config = digit_world.get_config('tiny,modalities=text+image')\n"
        f"    with config.unlocked():\n        {line}\n    return config\n"
    )
    assert message in refused(capsys, "train", f"--workdir={tmp_path / 'new'}", f"--config={path}")
    assert not (tmp_path / "new").exists()


def test_train_refuses_another_config_in_the_same_workdir(capsys, workdir):
    before = (workdir / "config.json").read_bytes()
    message = refused(capsys, "train", f"--workdir={workdir}", TINY)
    assert "holds a run of another config" in message
    assert "unknown arguments: --steps=3" in refused(capsys, "train", f"--workdir={workdir}", "--steps=3")
    assert (workdir / "config.json").read_bytes() == before and not (workdir / "stages").exists()


def test_overrides_are_saved_and_later_calls_need_only_the_workdir(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(trainer, "train", lambda run, stages, quiet, profile: calls.append((run, stages, quiet)))
    new = f"--workdir={tmp_path / 'run'}"
    cli.main(["train", new, TINY, "--config.stages.codec.text.steps=7", "--stage=codec.text"])
    cli.main(["train", new, "--quiet"])
    (first, stages, _), (later, every, quiet) = calls
    assert stages == ("codec.text",) and every is None and quiet
    assert first.stage("codec.text").steps == later.stage("codec.text").steps == 7
    assert first.order == later.order


def caused_by(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Preempted("stopped in x at step 3 of 9; run it again"), 75),
        (CheckpointError("damaged"), 2),
        (SaveError("cannot save in s3://b/run: 503"), 69),
        (caused_by(CheckpointError("checkpoint s3://b/run cannot be read"), TimeoutError()), 69),
        (caused_by(ConfigError("s3://b cannot be reached"), ConnectionResetError("reset by peer")), 69),
        (caused_by(SaveError("cannot save in /run"), OSError(errno.ENOSPC, "No space left on device", "/run")), 2),
        (RuntimeError("DEADLINE_EXCEEDED: Barrier timed out"), 69),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(monkeypatch, capsys, workdir, error, code):
    def fails(*_):
        raise error

    monkeypatch.setattr(trainer, "train", fails)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", f"--workdir={workdir}"])
    err = capsys.readouterr().err
    assert exit.value.code == code and err.startswith("codi-jax: ") and err.count("\n") == 1


def test_a_full_or_denied_disk_is_one_line(monkeypatch, capsys, workdir, tmp_path):
    def fails(error):
        def write(*_, **__):
            raise error

        return write

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    unsaved = CheckpointError("cannot save")
    unsaved.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/00000004")
    for error, where in ((full, workdir), (unsaved, "run/00000004")):
        monkeypatch.setattr(trainer, "train", fails(error))
        line = refused(capsys, "train", f"--workdir={workdir}")
        assert line.startswith(
            f"codi-jax: {where}: No space left on device: free some space and run the same command again"
        )
    monkeypatch.setattr(Path, "mkdir", fails(OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "new"))))
    line = f"codi-jax: {tmp_path / 'new'}: Read-only file system: choose a directory that you may read and write\n"
    assert refused(capsys, "train", f"--workdir={tmp_path / 'new'}", TINY) == line
    assert refused(capsys, "world", f"--out={tmp_path / 'new'}", "--n=1") == line


def test_other_os_errors_keep_their_traceback(monkeypatch, workdir):
    def fails(*_):
        raise FileNotFoundError(errno.ENOENT, "a bug")

    monkeypatch.setattr(trainer, "train", fails)
    with pytest.raises(FileNotFoundError, match="a bug"):
        cli.main(["train", f"--workdir={workdir}"])


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        (
            "plan",
            [
                "--workdir",
                "--config=NAME",
                "--stage",
                "--topology",
                "--devices",
                "--batch",
                "--sweep",
                "--json",
                "--cache",
            ],
        ),
        ("train", ["--workdir", "--config=NAME", "--config.a.b=value", "--stage", "--quiet"]),
        ("generate", ["--workdir", "--text", "--image", "--to", "--out", "--weights", "--n", "--seed"]),
        ("evaluate", ["--workdir", "--model", "--split", "--seed", "--n", "--out", "--parts"]),
        ("report", ["--workdir"]),
    ],
)
def test_help(capsys, verb, options):
    with pytest.raises(SystemExit) as exit:
        cli.main([verb, "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert [option for option in options if option not in out] == []


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0 and all(verb in out for verb in VERBS)


@pytest.mark.parametrize(
    ("floors", "rate", "code"), [(None, 0.0, 0), ({}, 1.0, 0), ({}, 0.0, 1), ({"codec": 0.0}, 0.0, 0)]
)
def test_evaluate_prints_the_verdict_and_exits_by_it(monkeypatch, capsys, tmp_path, floors, rate, code):
    """The evaluation is replaced by numbers of a model whose text codec keeps the fraction `rate` of the digits."""
    config = toy.config()
    with config.unlocked():
        config.evaluate.floors = floors
    toy.save_config(config, tmp_path)
    measured = metrics(names=("text",), codec={("text", "digit"): rate})
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: measured)
    monkeypatch.setattr(evaluation, "table", lambda _: "the table")
    monkeypatch.setattr(variables, "variables_of", lambda *_, **__: {})
    if code:
        with pytest.raises(SystemExit) as exit:
            cli.main(["evaluate", f"--workdir={tmp_path}"])
        assert exit.value.code == code == EXIT_BELOW_FLOORS
    else:
        cli.main(["evaluate", f"--workdir={tmp_path}"])
    first, *verdict = capsys.readouterr().out.splitlines()
    assert first == "the table" and len(verdict) <= 6 and bool(verdict) == (floors is not None)
    if code:
        assert verdict[2].startswith("text cannot name the digit: its codec preserves 0 of 48 samples")


def test_reuse_and_compare_refuse_workdirs_without_results(workdir, tmp_path, capsys):
    err = refused(capsys, "train", f"--workdir={workdir}", f"--reuse={tmp_path}")
    assert "is not a workdir" in err
    err = refused(capsys, "train", f"--workdir={workdir}", f"--reuse={workdir}")
    assert "--reuse: no finished stage of" in err
    assert "run `codi-jax evaluate" in refused(capsys, "compare", workdir)
    assert "unknown arguments: --to=text" in refused(capsys, "compare", workdir, "--to=text")


def test_generate_writes_files_and_the_seed_determines_them(tmp_path, capsys):
    picture = tmp_path / "prompt.png"
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(picture)  # neither square nor of the model's size

    def arguments(out):
        prompts = ["--text=a red seven", f"--image={picture}", "--weights=text=2,image=0.5"]
        return [
            "generate",
            f"--workdir={toy.trained()}",
            f"--out={out}",
            "--to=image,text",
            "--n=2",
            "--seed=4",
            *prompts,
        ]

    before = sorted(toy.trained().rglob("*"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "codi_jax.cli", *arguments(tmp_path / "a" / "b")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    names = ["text_0.txt", "text_1.txt", "image_0.png", "image_1.png"]
    assert done.stdout.splitlines() == [str(tmp_path / "a" / "b" / name) for name in names]
    for name in names[2:]:
        with Image.open(tmp_path / "a" / "b" / name) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")

    cli.main(arguments(tmp_path / "c"))
    for name in names[:2]:
        assert (tmp_path / "a" / "b" / name).read_text() == (tmp_path / "c" / name).read_text()
    for name in names[2:]:
        a, b = (np.asarray(Image.open(tmp_path / folder / name), int) for folder in ("a/b", "c"))
        assert np.abs(a - b).max() <= 1
    assert sorted(toy.trained().rglob("*")) == before
