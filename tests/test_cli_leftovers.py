"""A refused command leaves nothing behind, `~` is the home directory everywhere, every seed counts or is refused."""

import json
import os
from pathlib import Path

import jax
import pytest
from PIL import Image

from codi_jax import cli
from codi_jax.cli.leftovers import Leftovers
from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import MediaConfig
from codi_jax.data.manifest import Manifest, ManifestConfig
from codi_jax.data.skip_bad_samples import FaultsConfig
from codi_jax.data.source import make_source
from codi_jax.train.recipe import open_run
from codi_jax.train.stage import Stage
from tests import toy

ROOT = Path(__file__).parents[1]
TINY = f"--config={ROOT / 'configs' / 'digit_world.py'}:tiny,modalities=text+image"
UNTRAINED = "--config.stages.codec.text.trainable=('nothing/.*',)"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert exit.value.code == 2 and err.startswith("codi-jax: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("made", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([TINY, UNTRAINED, "--stage=codec.text"], "reads text_codec, which neither it nor a stage"),  # when it begins
        ([TINY, "--config.stages.codec.text.stepz=3"], "unknown key"),
        ([TINY, "--config.seed=-1"], "config.seed: expected 0 or more"),
        ([TINY, "--config.weights=/absent"], "no components in /absent"),
        ([TINY, "--stage=codec.smell"], "no stage 'codec.smell'"),
        (["--config=absent"], "no config 'absent'"),
        ([], "train needs --config=NAME"),
    ],
)
def test_a_refused_training_leaves_no_workdir(capsys, tmp_path, arguments, says, made):
    workdir = tmp_path / "a" / "run"
    if made:
        workdir.mkdir(parents=True)
    assert says in refused(capsys, "train", f"--workdir={workdir}", *arguments)
    assert [path.name for path in tmp_path.rglob("*")] == (["a", "run"] if made else [])


def test_a_source_that_is_not_there_leaves_no_workdir(capsys, tmp_path):
    """It is noticed when the first stage that reads it begins, after the config has been saved."""
    source = {"name": "manifest", "path": str(tmp_path / "absent.csv"), "media": {"modalities": ["text"]}}
    config = toy.config().to_dict()
    config["sources"]["captions"] = source
    (tmp_path / "mine.py").write_text(
        "import json\n\nfrom ml_collections import ConfigDict\n\n\ndef get_config():\n"
        f"    return ConfigDict(json.loads({json.dumps(json.dumps(config))}))\n"
    )
    reads = next(name for name, stage in open_run(config, None).stages.items() if stage.source == "captions")
    arguments = ("train", f"--workdir={tmp_path / 'run'}", f"--config={tmp_path / 'mine.py'}", f"--stage={reads}")
    assert "absent.csv: no such file" in refused(capsys, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--to=image", "--model=absent"],
        ["world", "--split=smell"],
        ["evaluate", "--samples=/absent"],
        ["export", "--workdir=/absent"],
        ["convert", "/absent"],
        ["data", "inspect", "/absent"],
        ["demo", "--jobs=0"],
    ],
)
def test_a_refused_command_leaves_no_out(capsys, tmp_path, arguments):
    refused(capsys, *arguments, f"--out={tmp_path / 'a' / 'out'}")
    assert not list(tmp_path.iterdir())


def test_what_holds_results_or_was_there_stays(tmp_path):
    new, kept, lease = tmp_path / "new", tmp_path / "kept", tmp_path / "a" / "lease"
    kept.mkdir()
    (kept / "config.json").write_text("{}")
    results = {"checkpoints/00000002/checkpoint.json", "metrics.jsonl", "params/checkpoint.json"}
    leftovers = Leftovers([new, kept, lease, None])
    for result in results:
        (new / "stages" / "x" / result).parent.mkdir(parents=True, exist_ok=True)
        (new / "stages" / "x" / result).write_text("{}\n")
    lease.mkdir(parents=True)
    (lease / "lease.json").write_text("{}")  # of another process
    leftovers.remove()
    assert {str(p.relative_to(new / "stages" / "x")) for p in new.rglob("*") if p.is_file()} == results
    assert (kept / "config.json").exists() and (lease / "lease.json").exists()


# Home


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for i in range(2):
        Image.new("L", (8, 8), 50 * (i + 1)).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text("text,image\na,~/0.png\nb,1.png\n")
    return tmp_path


@pytest.mark.parametrize("path", ["~/t.csv", "~/{t,t}.csv", "~/*.csv", "~/t.csv, ~/t.csv"])
@pytest.mark.parametrize("root", ["", "~", "~/"])
def test_tables_and_files_in_the_home_directory(home, path, root):
    source = make_source(
        {"name": "manifest", "path": path, "root": root, "media": {"modalities": ("text", "image"), "size": 8}}
    )
    assert [int(source[i]["image"][0, 0, 0]) for i in range(2)] == [50, 100] and source.bad == 0


def test_a_folder_and_a_log_in_the_home_directory(home):
    rows = Manifest(ManifestConfig("~", MediaConfig(("image",))))
    assert {Path(rows[i]["image"].name) for i in range(2)} == {home / "0.png", home / "1.png"}
    (home / "2.png").write_bytes(b"no image")
    faults = FaultsConfig(max_bad_fraction=1.0, log="~/logs/bad")
    source = make_source(
        {"name": "manifest", "path": "~", "media": {"modalities": ("image",), "size": 8}, "faults": vars(faults)}
    )
    source[2]
    assert (home / "logs" / "bad.0").exists()


def test_a_file_that_begins_with_a_tilde_is_itself(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "~x.png")
    (tmp_path / "t.csv").write_text("text,image\na,~x.png\n")
    source = make_source(
        {"name": "manifest", "path": str(tmp_path / "t.csv"), "media": {"modalities": ("image",), "size": 8}}
    )
    assert (source[0]["image"] == 7).all()


def test_commands_in_the_home_directory(home, capsys):
    cli.main(["data", "inspect", "--n=2", "--out=~/looked", "~/t.csv"])
    assert "read 2, of which 0 cannot be used" in capsys.readouterr().out
    assert (home / "looked" / "t.csv" / "sheet.png").exists()
    cli.main(["world", "--out=~/world", "--n=2"])
    assert (home / "world" / "sheet.png").exists()
    (home / "mine.py").write_text("def get_config():\n    raise ValueError('it is read')\n")
    assert "it is read" in refused(capsys, "train", "--workdir=~/run", "--config=~/mine.py")
    assert "no file" in refused(capsys, "train", "--workdir=~/run", "--config=~/absent.py")
    said = refused(capsys, "train", "--workdir=~/run", TINY, "--config.weights=~/weights")
    assert "no components in ~/weights" in said
    assert not os.path.exists("~")


# Seeds


def test_seeds_of_a_run_are_distinct(tmp_path):
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**63 + 1, 2**64 - 1]
    keys = set()
    for seed in seeds:
        stage = Stage(open_run({**toy.config().to_dict(), "seed": seed}, tmp_path), "codec.text")
        keys.add(tuple(jax.random.key_data(stage.key).tolist()))
    assert len(keys) == len(seeds)


@pytest.mark.parametrize("seed", [-1, -(2**40), 2**64, 2**200])
def test_other_seeds_are_refused_in_one_line(capsys, tmp_path, seed):
    makers = {
        "config": lambda: open_run({**toy.config().to_dict(), "seed": seed}, tmp_path),
        "media": lambda: MediaConfig(("text",), seed=seed),
        "faults": lambda: FaultsConfig(seed=seed),
    }
    for where, make in makers.items():
        with pytest.raises(ConfigError, match=rf"^{where}\.seed: expected 0 or more and at most 64 bits, got {seed}$"):
            make()
    said = refused(capsys, "train", f"--workdir={tmp_path / 'run'}", TINY, f"--config.seed={seed}")
    assert said == f"codi-jax: config.seed: expected 0 or more and at most 64 bits, got {seed}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [["world", "--out=w"], ["convert", "--config=codi", "--out=w", "x.pth"], ["chaos", "--workdir=w"]]
)
@pytest.mark.parametrize("seed", ["1e5", "-1", str(1 << 64), "a", "1.0", ""])
def test_a_seed_of_a_command_that_is_none_is_one_line(capsys, tmp_path, monkeypatch, arguments, seed):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments, f"--seed={seed}")
    expected = "0 or more and at most 64 bits" if seed.lstrip("-").isdigit() else "a whole number"
    assert said.startswith(f"codi-jax: --seed: expected {expected}, got ") and not list(tmp_path.iterdir())
