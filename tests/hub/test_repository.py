"""hf://…: what is downloaded and uploaded of a model, and one line about every failure."""

import json
import re
import sys

import numpy as np
import pytest

import codi_jax
from codi_jax import loading, packaged
from codi_jax.config import ConfigError
from codi_jax.hub.repository import Repository, one_of, parse
from codi_jax.pipeline import Pipeline
from codi_jax.storage import StoreError
from codi_jax.train.recipe import open_run
from tests import toy
from tests.hub import fake

Z = np.ones((1, 16), np.float32)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake.serving(monkeypatch, tmp_path / "cache") as found:
        yield found


@pytest.fixture(scope="module")
def files():
    """Those of a package, and others that repositories of models have."""
    others = {"pytorch_model.bin": b"x", "onnx/model.safetensors": b"x", ".gitattributes": b"x"}
    return {path.name: path.read_bytes() for path in toy.random_package().iterdir()} | others


def test_a_name_is_a_repository_and_maybe_a_revision():
    assert parse("hf://org/name") == Repository("org/name") and str(parse("hf://org/a.b-c_d")) == "hf://org/a.b-c_d"
    assert parse("hf://org/name@refs/pr/3") == Repository("org/name", "refs/pr/3")
    for wrong in ("hf://", "hf://a/b/c", "hf://../x", "hf://a/..", "hf:///etc/passwd", "hf://a b/c", "hf://a/b--c"):
        with pytest.raises(ConfigError, match=r"expected hf://ORGANISATION/NAME or hf://ORGANISATION/NAME@REVISION"):
            codi_jax.load(wrong)
    for wrong in ("", "a b", "../x", "a/../b", "-f", "a\nb"):
        with pytest.raises(ConfigError, match=r"is no revision; expected a branch, a tag, a commit hash or refs/pr/"):
            codi_jax.load(f"hf://org/name@{wrong}")


def test_a_model_is_downloaded_and_loaded_also_offline_and_by_revision(hub, files, monkeypatch):
    from huggingface_hub import constants

    commit = hub.commit("org/toy", files)
    config = json.loads(files["config.json"])
    config["run"]["generate"]["steps"] = 3
    hub.commit("org/toy", {**files, "config.json": json.dumps(config).encode()}, "quick")
    pipe = codi_jax.load("hf://org/toy")
    assert sorted(hub.downloads) == ["config.json", "model.safetensors"]  # no judges, no pickles, no other folder
    assert pipe.decode({"text": Z}).text == codi_jax.load(toy.random_package()).decode({"text": Z}).text
    assert loading.identity("hf://org/toy") == f"hf://org/toy@{commit}"
    assert packaged.open_package("hf://org/toy").components("judges") == ("image_judge",)
    steps = pipe.config.steps
    assert codi_jax.load("hf://org/toy@quick").config.steps == 3 != steps

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.downloads.clear()
    assert codi_jax.load("hf://org/toy").config.steps == steps and codi_jax.load(f"hf://org/toy@{commit}")
    with pytest.raises(
        ConfigError, match=r"^hf://org/new: not in the cache \(.*\), and HF_HUB_OFFLINE is set; unset it"
    ):
        codi_jax.load("hf://org/new")
    assert not hub.downloads


def test_a_run_starts_from_a_model_on_the_hub(hub, files):
    hub.commit("org/toy", files)
    config = toy.config()
    config.weights = "hf://org/toy"
    run = open_run(config, None)
    assert run.converted.keys() == run.codi.component_names().keys() and not run.finished_stages()
    assert {str(path) for path in run.converted.values()} == {str(packaged.open_package("hf://org/toy").directory)}


def refused(where, message, kind=ConfigError):
    with pytest.raises(kind, match=message) as caught:
        codi_jax.load(where)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(where)


def test_what_cannot_be_read_is_one_line(hub, files, monkeypatch):
    from huggingface_hub import constants

    hub.commit("org/toy", files)
    hub.commit("org/llama", {"config.json": b'{"architectures": ["Llama"]}', "model.safetensors": b"x" * 99})
    hub.commit("org/data", {"train.csv": b"x"})
    for name, names in (("org/mine", hub.private), ("org/gated", hub.gated)):
        hub.commit(name, files)
        names.add(name)
    refused("hf://org/absent", "there is no such repository, or it is private; check its name, or set HF_TOKEN")
    refused("hf://org/mine", "there is no such repository, or it is private; check its name, or set HF_TOKEN")
    refused("hf://org/gated", r"access is granted on http://\S+/org/gated only; ask for it there and set HF_TOKEN")
    refused("hf://org/toy@v9", r"the repository has no revision 'v9'; its branches and tags are on http")
    refused("hf://org/llama", "config.json: is damaged; expected a repository that `push_to_hub` wrote")
    refused("hf://org/data", "config.json: there is no such file; expected a repository that")
    assert "model.safetensors" not in hub.downloads
    monkeypatch.setenv("HF_TOKEN", fake.TOKEN)
    assert codi_jax.load("hf://org/mine").modalities == toy.PAIR
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("hf://org/new", r"http://127.0.0.1:9 cannot be reached \(.*\); check the network and HF_E", StoreError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("hf://org/new", "needs huggingface_hub, which transformers brings: pip install huggingface_hub")


def test_tokenizers_of_a_downloaded_model_are_in_its_repository(hub, files):
    for name in ("/etc", "hub:org/other", "gpt2-optimus:vocabulary"):
        config = json.loads(files["config.json"])
        config["run"]["model"]["modalities"]["text"]["tokenizers"][2] = name
        hub.commit("org/toy", {**files, "config.json": json.dumps(config).encode()})
        refused("hf://org/toy", f"config.json: refused: its tokenizer {name} is not in the repository")


def test_a_file_with_several_names(hub):
    hub.commit("org/adapter", {"adapter_model.safetensors": b"x", "adapter_config.json": b"{}", "other": b"x"})
    names = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
    found = one_of(parse("hf://org/adapter"), names, ["adapter_config.json"])
    assert sorted(path.name for path in found.parent.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with pytest.raises(ConfigError, match=r"^hf://org/adapter: the repository has no a or b$"):
        one_of(parse("hf://org/adapter"), ("a", "b"))


def test_plugins_of_a_downloaded_model_are_not_imported(hub, files, monkeypatch, tmp_path):
    (tmp_path / "plugin_of_others.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = json.loads(files["config.json"])
    config["run"]["plugins"] = ["plugin_of_others"]
    hub.commit("org/toy", {**files, "config.json": json.dumps(config).encode()})
    refused(
        "hf://org/toy", r"needs the code of plugin_of_others, which is imported only if you say so: --plugins=plugin"
    )
    assert "plugin_of_others" not in sys.modules and "model.safetensors" not in hub.downloads


def test_a_pipeline_is_pushed_and_loaded_again(hub):
    package = toy.random_package()
    pipe = codi_jax.load(package)
    assert isinstance(pipe, Pipeline)
    with pytest.raises(
        ConfigError, match=r"^hf://org/new: the hub refuses it \(403\); set HF_TOKEN to a token of an acc"
    ):
        pipe.push_to_hub("org/new")
    with pytest.raises(ConfigError, match=r"'a/b/c': expected hf://ORGANISATION/NAME"):
        pipe.push_to_hub("a/b/c")
    hub.commit("org/old", {"model-00001-of-00099.safetensors": b"x", "notes.txt": b"x"})
    for name, options in (("org/new", {"private": True}), ("hf://org/old", {"revision": "small", "dtype": "float16"})):
        address = pipe.push_to_hub(name, token=fake.TOKEN, max_shard_size="100KB", commit_message="mine", **options)
        assert re.search(r"/org/(new|old)/commit/[0-9a-f]{40}$", address)
    assert {*hub.created[0].values()} & {"private", True} and hub.summaries == ["mine", "mine"]
    new, old = hub.commits["org/new"]["main"], hub.commits["org/old"]["small"]
    assert "model.safetensors.index.json" in new and '"hf://org/new"' in new["README.md"].decode()
    assert "model-00001-of-00099.safetensors" not in old and old["notes.txt"] == b"x"
    again = codi_jax.load("hf://org/new")
    names = tuple(again.codi.component_names())
    assert toy.same(again._weights(names), pipe._weights(names)) and again.config == pipe.config
    assert again.decode({"text": Z}).text == pipe.decode({"text": Z}).text
