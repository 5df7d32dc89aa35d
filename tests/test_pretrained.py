"""A saved pipeline: the same bits again, in one file or in shards; its card; and folders that are not to be trusted."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

import codi_jax
from codi_jax import packaged
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.hub import card
from codi_jax.packaged import package as reading
from codi_jax.pipeline import Pipeline
from codi_jax.pretrained import ModelSource
from codi_jax.sampling.config import GenerateConfig
from tests import toy

CONFIG = GenerateConfig({"image": ClassifierFreeGuidance(2.0, 3.0, 0.1, 0.9)}, steps=2, loop="host")
INDEX = "model.safetensors.index.json"


def pipeline(source=None):
    return Pipeline(toy.codi(), CONFIG, toy.variables(toy.codi()), source)


def everything(pipe):
    return pipe._weights(tuple(pipe.codi.component_names()))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "toy"
    pipeline().save_pretrained(folder, max_shard_size="100KB")
    return folder


@pytest.fixture
def copy(sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "toy")
    return tmp_path / "toy"


def test_a_loaded_pipeline_is_the_saved_one(sharded, tmp_path):
    pipe, folder = pipeline(), tmp_path / "new" / "toy"
    pipe.save_pretrained(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "card.json", "config.json", "model.safetensors")
    ]
    one, many = codi_jax.load(folder), codi_jax.load(sharded)
    assert one.config == many.config == CONFIG and one.codi.config == many.codi.config == pipe.codi.config
    assert toy.same(everything(one), everything(pipe)) and toy.same(everything(many), everything(pipe))
    want, have = (of("a red seven", ("text", "image"), seed=3) for of in (pipe, many))
    assert want.text == have.text
    np.testing.assert_array_equal(np.asarray(want.image[0]), np.asarray(have.image[0]))


def test_shards_are_those_of_the_field_and_old_ones_are_removed(sharded, copy):
    index = json.loads((sharded / INDEX).read_text())
    names = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(names) > 2 and names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    shards = {name: load_file(sharded / name) for name in names}
    assert index["weight_map"] == {path: name for name, tensors in shards.items() for path in tensors}
    sizes = {name: [x.nbytes for x in tensors.values()] for name, tensors in shards.items()}
    assert index["metadata"]["total_size"] == sum(map(sum, sizes.values()))
    assert all(sum(of) <= 100_000 or len(of) == 1 for of in sizes.values())
    codi_jax.load(copy).save_pretrained(copy, dtype="float16")
    assert [path.name for path in copy.glob("model*")] == ["model.safetensors"]
    assert {str(x.dtype) for p, x in load_file(copy / "model.safetensors").items() if p[0] == "p"} == {"float16"}


def test_the_card_has_front_matter_and_the_numbers_of_the_run(tmp_path):
    row = {"accuracy": 0.75, "ceiling": 0.9, "interval": [0.6, 0.9]}
    metrics = {"n": 16, "matrix": {"text->image": {"n": 16, "factors": {"digit": row}, "all": {"accuracy": 0.5}}}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    source = ModelSource({"plugins": ("json",)}, (), tmp_path)
    pipeline(source).save_pretrained(tmp_path / "mine", license="MIT")
    loaded = codi_jax.load(tmp_path / "mine")
    loaded.save_pretrained(tmp_path / "again")
    loaded.save_pretrained(tmp_path / "other", license="apache-2.0")
    for name, license in (("mine", "mit"), ("again", "mit"), ("other", "apache-2.0")):
        text = (tmp_path / name / "README.md").read_text()
        front = yaml.safe_load(text.split("---\n")[1])
        assert (front["license"], front["library_name"], front["pipeline_tag"]) == (license, "codi_jax", "any-to-any")
        assert {"codi", "text", "image"} <= {*front["tags"]}
        (result,) = front["model-index"][0]["results"]
        assert result["metrics"] == [{"type": "accuracy", "name": "text->image digit accuracy", "value": 0.75}]
        assert "| text->image digit accuracy | 0.75 | 0.6–0.9 |" in text and "It needs the code of json" in text
        assert f'codi_jax.load("{name}", plugins=["json"])' in text and text.count("# ") == 1
    loaded.with_settings(steps=3).save_pretrained(tmp_path / "changed")
    text = (tmp_path / "changed" / "README.md").read_text()
    assert "model-index" not in text and "0.75" not in text and 'license: "mit"' in text


def test_numbers_of_measured_files_are_read_too():
    rows = [{"metric": "fid", "on": ["image"], "network": "inception", "numbers": {"fid": 3.5, "x": None},
             "intervals": {"fid": [3.0, 4.0]}, "n": 8}]  # fmt: skip
    assert card.numbers({"results": rows}) == [card.Number("image inception fid", 3.5, (3.0, 4.0))]


def test_the_packaged_model_keeps_its_card(monkeypatch, tmp_path):
    """Saved as float32, from the float16 that is packaged."""
    folder = packaged.MODELS[packaged.DEFAULT]
    own = (folder / "README.md").read_text()
    front = yaml.safe_load(own.split("---\n")[1])
    assert front["license"] == "mit" and len(front["model-index"][0]["results"][0]["metrics"]) == 40
    pipe = codi_jax.load(toy.random_package())
    pipe._source = ModelSource({}, (), folder)
    pipe.save_pretrained(tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text()
    assert card.body_of(own).replace("stored as float16;", "stored as float32;") == card.body_of(text)
    assert json.loads((tmp_path / "m" / "card.json").read_text())["dtype"] == "float32"


def test_what_cannot_be_saved_is_one_line(tmp_path):
    pipe = pipeline()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has a config.json of something else, such as a run; choose another folder"):
        pipe.save_pretrained(tmp_path)
    for size in ("5 apples", "0GB", "-1", 0):
        with pytest.raises(ConfigError, match='max_shard_size: expected a size such as "5GB" or "500MB", got'):
            pipe.save_pretrained(tmp_path / "m", max_shard_size=size)
    with pytest.raises(ConfigError, match="dtype: expected one of float16, bfloat16, float32, got 'int8'"):
        pipe.save_pretrained(tmp_path / "m", dtype="int8")
    part = Pipeline(toy.codi(), CONFIG, {**toy.variables(toy.codi()), "params": {}})
    with pytest.raises(ConfigError, match="no weights for text_codec"):
        part.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def refused(folder, message):
    with pytest.raises(ConfigError, match=message) as caught:
        codi_jax.load(folder)._weights(("text_codec",))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["../toy/x.safetensors", "/etc/passwd", "..", "a\\b.safetensors", "x/y.safetensors"])
def test_an_index_names_files_of_its_folder_only(copy, name):
    index = json.loads((copy / INDEX).read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = name
    (copy / INDEX).write_text(json.dumps(index))
    refused(copy, r"index.json: refused: .* is not the name of a file beside it; write it again")


def test_an_index_names_files_that_config_json_lists_only(copy):
    index = json.loads((copy / INDEX).read_text())
    index["weight_map"]["params/x"] = "evil.bin"
    (copy / INDEX).write_text(json.dumps(index))
    (copy / "evil.bin").write_bytes(b"\x80\x04.")
    refused(copy, r"index.json: refused: config.json does not list evil.bin; write it again")


def rewrite(folder, change):
    """Changes the tensors of a package of one file, and its checksum with them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    data = (folder / "model.safetensors").read_bytes()
    config["files"]["model.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def test_leaves_are_those_of_the_model(tmp_path):
    pipeline().save_pretrained(tmp_path / "whole")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    leaf = next(path for path in tensors if path.startswith("params/text_codec/"))
    constant = next(path for path in tensors if path.startswith("constants/"))
    for n, (change, message) in enumerate((
        (lambda of: of.update({leaf: np.zeros((1, 2, 3), np.float32)}), rf"{leaf} has shape \(1, 2, 3\), in the model"),
        (lambda of: of.pop(leaf), rf"{leaf} has shape None, in the model of config.json \("),
        (lambda of: of.update({leaf + "x": np.zeros(1, np.float32)}), rf"{leaf}x has shape \(1,\), in the .* None;"),
        (lambda of: of.update({"constants/x/y": np.zeros(1, np.float32)}), "constants/x/y has shape"),
        (lambda of: of.update({leaf: of[leaf].astype(np.int32)}), rf"{leaf} is int32, not float16 or bfloat16 or fl"),
        (lambda of: of.update({constant: of[constant].astype(np.float16)}), rf"{constant} is float16, not float32"),
    )):  # fmt: skip
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "whole", folder)
        rewrite(folder, change)
        refused(folder, message)


def test_a_hostile_config_is_one_line(copy, monkeypatch):
    config = json.loads((copy / "config.json").read_text())
    for change in ({"run": []}, {"run": {**config["run"], "plugins": [3]}}, {"files": 3}, {"run": None}):
        (copy / "config.json").write_text(json.dumps({**config, **change}))
        refused(copy, r"config.json: is damaged; write it again")
    for change in ({"model": [1]}, {"model": {}}, {"generate": None}):
        (copy / "config.json").write_text(json.dumps({**config, "run": {**config["run"], **change}}))
        refused(copy, "config")
    (copy / "config.json").write_text("[" * 100_000)
    refused(copy, "config.json: is damaged")
    monkeypatch.setattr(reading, "_MAX_JSON", 1000)
    refused(copy, "config.json: refused: it has 100000 bytes, more than 1000")


def test_tokenizers_that_are_files_are_in_the_folder(tmp_path):
    source = tmp_path / "vocabulary"
    source.mkdir()
    (source / "vocab.txt").write_text("[PAD]\n")
    (source / "secret.py").write_text("x")
    model = toy.model()
    model["modalities"]["text"]["tokenizers"] = (str(source), f"bert-optimus:{source}", "digit_world")
    codi = CoDi.from_config(model)
    Pipeline(codi, CONFIG, toy.variables(toy.codi())).save_pretrained(tmp_path / "m")
    shutil.rmtree(source)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)
    assert sorted(str(path.relative_to(tmp_path / "m")) for path in (tmp_path / "m" / "tokenizers").rglob("*.*")) == [
        *("tokenizers/0/vocab.txt", "tokenizers/1/vocab.txt")
    ]
    folder = tmp_path / "m" / "tokenizers"
    found = codi_jax.load(tmp_path / "m").codi["text"].config.tokenizers
    assert found == (str(folder / "0"), f"bert-optimus:{folder / '1'}", "digit_world")

    for name in ("package:../x", "package:/etc", "x:package:tokenizers/0", "package:tokenizers/0/.."):
        changed = json.loads(json.dumps(config))
        changed["run"]["model"]["modalities"]["text"]["tokenizers"][0] = name
        (tmp_path / "m" / "config.json").write_text(json.dumps(changed))
        refused(tmp_path / "m", "config.json: refused: .* is no tokenizer of this package; write it again")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (folder / "1" / "vocab.txt").write_text("[CLS]\n")
    refused(tmp_path / "m", "tokenizers/1/vocab.txt: is not the file that was packaged; write it again")
