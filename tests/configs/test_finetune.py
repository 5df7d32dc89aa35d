"""Fine-tuning on a user's folder of 200 images, audio files, videos and captions with a table."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from codi_jax import cli
from codi_jax.checkpoint import load_params, save_params
from codi_jax.cli.common import read_config
from codi_jax.config import from_dict
from codi_jax.data.manifest import JoinConfig, ManifestConfig
from codi_jax.data.skip_bad_samples import FaultsConfig
from codi_jax.data.source import make_source
from codi_jax.data.webdataset import WebDatasetConfig
from codi_jax.media import files
from codi_jax.nn import lora
from codi_jax.parallel import paths
from codi_jax.train.program import objective_of, parameter_shapes, stage_shapes
from codi_jax.train.recipe import load_run, open_run, save_config
from configs import finetune
from tests import toy

ROWS = 200


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = ["caption,image,audio,video"]
    for i in range(ROWS):
        Image.fromarray(rng.integers(0, 255, (48, 40, 3), np.uint8)).save(root / f"{i}.png")
        files.write_wav(root / f"{i}.wav", rng.integers(-9000, 9000, 9000).astype(np.int16), 8000)
        if i < 8:  # encoding videos is slow, so the other files are links
            files.write_video(root / f"{i}.mp4", rng.integers(0, 255, (8, 32, 32, 3), np.uint8), 8.0)
        else:
            (root / f"{i}.mp4").symlink_to(root / f"{i % 8}.mp4")
        lines.append(f"a red {i % 10},{i}.png,{i}.wav,{i}.mp4")
    lines[8] = "a red seven,absent.png,7.wav,7.mp4"  # one file of 200 is missing
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished run of four modalities with random parameters."""
    workdir = tmp_path_factory.mktemp("finished")
    config = ConfigDict(toy.recipe(toy.EVERYTHING) | {"model": toy.model(toy.EVERYTHING)})
    save_config(config, workdir)
    run = open_run(config, workdir)
    codi = toy.codi(*toy.EVERYTHING)
    variables = {"params": toy.params(codi), "constants": codi.default_constants()}
    meta = {"components": sorted(variables["params"]), "stage": "codec.text", "steps": 4, "skipped": 0}
    save_params(str(run.directory("codec.text") / "params"), variables, meta)
    return workdir


def finetuned(finished, table, workdir, modalities, *more):
    cli.main(
        [
            "train",
            f"--config=finetune:run={finished},steps=2,modalities={modalities}",
            f"--config.data.manifest={table}",
            "--config.data.columns.text=caption",
            f"--workdir={workdir}",
            "--quiet",
            *more,
        ]
    )
    run, before = load_run(workdir), toy.params(toy.codi(*toy.EVERYTHING))
    for name, stage in run.stages.items():
        after = load_params(str(run.directory(name) / "params"))["params"]
        (component,) = after
        assert component in stage.trainable[0]
        assert not toy.same(after[component], before[component])
        moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), after[component], before[component])
        assert max(jax.tree.leaves(moved)) < 0.01  # close to the initial parameters after two steps
        loss = [json.loads(line)["loss"] for line in (run.directory(name) / "metrics.jsonl").read_text().splitlines()]
        assert np.isfinite(loss).all()
    return run


@pytest.mark.slow
def test_fine_tuning_on_images_and_captions(finished, table, tmp_path, capsys):
    """And what the other verbs say of it: a page of losses and samples, but no evaluation."""
    run = finetuned(finished, table, tmp_path / "mine", "text+image", f"--config.data.log={tmp_path / 'bad'}")
    assert set(run.stages) == {"finetune.image", "finetune.text"}
    lines = (tmp_path / "bad" / "image+text.0").read_text().splitlines()
    assert {json.loads(line)["index"] for line in lines} == {7} and "absent.png" in lines[0]

    capsys.readouterr()
    cli.main(["report", f"--workdir={tmp_path / 'mine'}"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "mine" / "report.html")
    page = (tmp_path / "mine" / "report.html").read_text(encoding="utf-8")
    assert "2 of 2 stages finished" in page and "loss of finetune.image" in page and "Seconds by stage" in page
    assert page.count("data:image/png;base64,") == 8 and page.count("a red ") >= 16  # prompts of both stages

    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", f"--workdir={tmp_path / 'mine'}"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1
    assert "evaluate reads the factors of digit_world; `codi-jax report` shows losses and samples of any run" in said


@pytest.mark.slow
def test_fine_tuning_on_all_modalities_and_generating(finished, table, tmp_path, capsys):
    run = finetuned(finished, table, tmp_path / "mine", "text+image+audio+video")
    assert set(run.stages) == {f"finetune.{name}" for name in toy.EVERYTHING}
    cli.main(
        [
            "generate",
            f"--workdir={tmp_path / 'mine'}",
            "--text=a red 3",
            "--to=image,audio,video",
            f"--out={tmp_path / 'd'}",
        ]
    )
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["audio_0.wav", "image_0.png", "video_0.mp4"]


def sources(argument, *overrides):
    """The sources of the config with fields of config.data that are set on the command line."""
    arguments = [f"--config=finetune:{argument}", *(f"--config.data.{x}" for x in overrides)]
    return read_config(arguments).sources.to_dict()


def test_every_field_of_the_source_can_be_set(finished):
    every = sources(
        f"run={finished}", "manifest=a.json", "root=media", "columns.text=caption", "columns.audio={id:06d}.wav",
        "start=from", "end=to", "rows=images", "header=('a','b')", "join.column=id", "join.key=image_id",
        "join.rows=annotations", "where=split=train", "max_bad_fraction=0.2", "log=bad",
        "window=random",
    )  # fmt: skip
    assert set(every) == {"image+text", "audio+text", "text+video"}
    for name, config in every.items():
        assert config.pop("name") == "manifest"
        assert set(config["media"]["modalities"]) == set(name.split("+")) and config["media"]["window"] == "random"
        manifest = from_dict(ManifestConfig, config)
        columns = {"text": "caption", "image": "image", "audio": "{id:06d}.wav", "video": "video"}
        assert manifest.columns == {**columns, "start": "from", "end": "to", "duration": ""}
        assert (manifest.path, manifest.root, manifest.rows) == ("a.json", "media", "images")
        assert (manifest.header, manifest.where) == (("a", "b"), "split=train")
        assert manifest.join == JoinConfig("id", "image_id", rows="annotations")
        assert manifest.faults == FaultsConfig(0.2, f"bad/{name}")


def test_by_default_the_manifest_is_read_as_it_is(finished):
    for config in sources(f"run={finished}", "manifest=a.csv").values():
        del config["name"]
        columns = {name: name for name in toy.EVERYTHING} | dict.fromkeys(("start", "duration", "end"), "")
        assert from_dict(ManifestConfig, config) == ManifestConfig("a.csv", config["media"], columns=columns)


def test_shards_as_the_source(finished):
    for name, config in sources(
        f"run={finished},source=webdataset,modalities=text+image", "shards=x/*.tar", "caption=title", "log=bad"
    ).items():
        assert config.pop("name") == "webdataset"
        assert from_dict(WebDatasetConfig, config) == WebDatasetConfig(
            "x/*.tar", config["media"], "title", faults=FaultsConfig(log=f"bad/{name}")
        )


def test_a_part_of_each_file_is_read(finished, table, tmp_path):
    """By columns that `data.start` and `data.duration` name."""
    files.write_wav(tmp_path / "x.wav", np.repeat(np.array([1000, 2000, 3000], np.int16), 8000), 8000)
    (tmp_path / "x.csv").write_text("text,audio,from,seconds\na red 3,x.wav,1,0.5\n")
    overrides = (f"manifest={tmp_path / 'x.csv'}", "start=from", "duration=seconds")
    config = sources(f"run={finished},modalities=text+audio", *overrides)["audio+text"]
    audio = make_source(config)[0]["audio"]
    assert (audio[:4000] == 2000).all() and not audio[4000:].any()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("source=tfds", "config argument source: expected manifest or webdataset, got 'tfds'"),
        ("run=nowhere", "nowhere is neither a packaged model nor a workdir"),
        ("modalities=text+smell", "has no smell"),
        ("modalities=image", "expected text and at least one other modality"),
    ],
)
def test_invalid_arguments_are_refused(finished, table, tmp_path, capsys, argument, message):
    argument = argument if "run" in argument else f"run={finished},{argument}"
    with pytest.raises(SystemExit) as stop:
        cli.main(
            [
                "train",
                f"--config=finetune:{argument}",
                f"--config.data.manifest={table}",
                f"--workdir={tmp_path / 'x'}",
            ]
        )
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_missing_table_is_an_error(finished, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", f"--config=finetune:run={finished}", f"--workdir={tmp_path / 'x'}"])
    assert stop.value.code == 2 and "expected a file that ends in" in capsys.readouterr().err


def test_the_packaged_model_is_what_is_tuned_by_default():
    config = finetune.get_config("")
    assert config.weights == "digit_world" and set(config.data.columns) == {"text", "image", "audio", "video"}
    run = open_run(config, None)
    assert set(run.converted) == set(run.codi.component_names())
    assert {path for stage in run.stages.values() for path in stage.trainable} == {
        "text_unet/.*", "vision_unet/.*", "audio_unet/.*", "video_unet/.*"
    }  # fmt: skip


@pytest.mark.slow
def test_adapters_are_trained_in_place_of_denoisers_if_their_rank_is_given():
    run = open_run(finetune.get_config("lora=2"), None)
    for name in toy.EVERYTHING:
        stage, objective = run.stage(f"finetune.{name}"), objective_of(run, f"finetune.{name}")
        assert not stage.trainable and stage.lora is not None
        adapters = lora.adapters_of(stage_shapes(run, f"finetune.{name}", objective))
        (component,) = adapters
        assert component == run.codi[name].components["denoiser"]
        layers = {site.rsplit("/", 1)[1] for site in lora.sites(paths.flatten(adapters))}
        common = {"query", "key", "value", "out", "project_in", "project_out", "layer_in", "layer_out"}
        assert layers == common | ({"key_value"} if name == "video" else set())
        share = lora.size(adapters) / sum(x.size for x in jax.tree.leaves(parameter_shapes(objective)))
        assert 0.001 < share < 0.02
