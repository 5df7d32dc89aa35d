"""Checkpoints of several files: by their index, their folder, or all of them; what is missing is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from codi_jax.config import ConfigError
from codi_jax.interop.shards import checkpoints
from tests.interop import files

STATE = {f"layer.{n}.weight": np.full((2, n + 1), n, np.float32) for n in range(5)}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    keys = list(STATE)
    parts = {FIRST: keys[:2], SECOND: keys[2:]}
    for name, names in parts.items():
        save_file({key: STATE[key] for key in names}, tmp_path / name)
    index = {"metadata": {"total_size": 1}, "weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def opened(*paths):
    (checkpoint,) = checkpoints(paths)
    return checkpoint.open()


def check(state):
    assert state.keys() == STATE.keys()
    for key, value in STATE.items():
        np.testing.assert_array_equal(state[key], value, strict=True)


def refused(*paths, match):
    with pytest.raises(ConfigError, match=match) as error:
        opened(*paths)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_an_index_a_folder_and_all_shards_are_the_same_checkpoint(folder):
    check(opened(folder / INDEX))
    check(opened(folder))
    check(opened(folder / SECOND, folder / FIRST))
    check(opened(folder / FIRST, folder / INDEX, folder / SECOND))
    (folder / INDEX).unlink()
    check(opened(folder))


def test_an_index_of_a_variant_is_one(folder):
    """As diffusers writes it for `variant="fp16"`."""
    (folder / INDEX).rename(folder / "model.safetensors.index.fp16.json")
    check(opened(folder / "model.safetensors.index.fp16.json"))
    check(opened(folder))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_names_of_wrapped_modules_are_those_of_the_modules(tmp_path, wrapper):
    """Of torch.compile, FSDP and activation checkpointing, of the whole model or of a layer."""
    whole = {f"{wrapper}.{key}": value for key, value in STATE.items()}
    inner = {key.replace("layer.3.", f"layer.3.{wrapper}."): value for key, value in STATE.items()}
    for state in (whole, inner):
        save_file(state, tmp_path / "a.safetensors")
        check(opened(tmp_path / "a.safetensors"))
    save_file(whole | STATE, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", match="it has tensors twice, with and without `_orig_mod.` or another wrapper")


def test_files_of_several_checkpoints_stay_apart(folder, tmp_path):
    save_file({"a": np.ones(1)}, tmp_path / "other.safetensors")
    found = checkpoints([folder / FIRST, tmp_path / "other.safetensors", folder / SECOND])
    assert [(c.path.name, len(c.files)) for c in found] == [("other.safetensors", 1), (FIRST, 2)]


def test_a_folder_with_one_file_is_that_file_and_safetensors_are_preferred(tmp_path):
    files.save(tmp_path / "pytorch_model.bin", {"a": np.zeros(1)})
    assert opened(tmp_path)["a"] == 0
    save_file({"a": np.ones(1)}, tmp_path / "model.safetensors")
    assert opened(tmp_path)["a"] == 1
    save_file({"a": np.ones(1)}, tmp_path / "model.fp16.safetensors")
    refused(tmp_path, match="2 checkpoints, model.fp16.safetensors, model.safetensors; give the one to read")


def test_a_folder_without_weights_names_those_in_it(folder, tmp_path):
    top = tmp_path / "pipeline"
    for name in ("unet", "vae"):
        (top / name).mkdir(parents=True)
        save_file({"a": np.ones(1)}, top / name / "model.safetensors")
    refused(top, match=r"pipeline: no weights \(.*\) in this folder; give one of its folders unet, vae$")
    (top / "empty").mkdir()
    refused(top / "empty", match=r"empty: no weights \(.*\) in this folder$")


def test_missing_shards_are_named(folder):
    refused(folder / FIRST, match=rf"a shard of 2, of which {SECOND} is not given; give all of them, or their folder")
    (folder / SECOND).unlink()
    refused(folder / INDEX, match=rf"1 of its 2 files are missing: {SECOND}")
    refused(folder, match=rf"1 of its 2 files are missing: {SECOND}")


def test_keys_that_are_elsewhere_or_twice_are_named(folder):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["layer.0.weight"] = SECOND
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder / INDEX, match=r"1 keys are not in the shard of the index: layer\.0\.weight")
    save_file(STATE, folder / SECOND)
    refused(folder / FIRST, folder / SECOND, match=r"2 keys are in another shard, too: layer\.0\.weight")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"a":' + b"[" * 100_000, "is not JSON"),
        (b"[]", "has no weight_map"),
        (b'{"weight_map": {}}', "has no weight_map"),
        (b'{"weight_map": {"a": 1}}', "has no weight_map"),
        (b'{"weight_map": {"a": "../secret.safetensors"}}', "refused: ../secret.safetensors is not the name of a file"),
        (b'{"weight_map": {"a": "/etc/passwd"}}', "refused: /etc/passwd is not the name of a file"),
        (b'{"weight_map": {"a": ".."}}', r"refused: \.\. is not the name of a file"),
        (b'{"weight_map": {"a": "gone"}}', "1 of its 1 files are missing: gone"),
    ],
)
def test_a_hostile_or_damaged_index_is_one_line(folder, content, message):
    (folder / INDEX).write_bytes(content)
    refused(folder / INDEX, match=message)
