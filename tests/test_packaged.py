"""Packaged models: reading back, and the messages for damaged files."""

import json
import os
import shutil

import ml_dtypes
import numpy as np
import pytest

from codi_jax import packaged
from codi_jax.config import ConfigError
from codi_jax.parallel import paths

JUDGES = {"model": {}, "settings": {}}


def write(directory, dtype="float16", **weights):
    weights = weights or {"judges": {"params": {"a_judge": {"kernel": np.array([[1.0, 2.0]]), "bias": np.zeros(2)}}}}
    packaged.write(directory, weights, {"judges": JUDGES}, dtype)
    return packaged.open_package(str(directory))


def test_parameters_are_rounded_to_nearest_even(tmp_path):
    # float16 has 10 bits after the leading one, bfloat16 7: ties go to the even neighbour.
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, -65504.0, 2.0**-24, 2.0**-25], np.float32)
    half = [1, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, -65504, 2.0**-24, 0]
    brain = [1, 1, 1, 1 + 2**-6, -65536, 2.0**-24, 2.0**-25]
    for dtype, expected in (("float16", half), ("bfloat16", brain), ("float32", x)):
        constants = {"codec": {"shift": x, "gain": np.float32(1 + 2**-20)}}
        package = write(tmp_path / dtype, dtype, model={"params": {"net": {"w": x}}, "constants": constants})
        variables = package.read("model")
        np.testing.assert_array_equal(variables["params"]["net"]["w"], np.array(expected, np.float32))
        np.testing.assert_array_equal(variables["constants"]["codec"]["shift"], x)  # constants are not rounded
        assert (
            variables["constants"]["codec"]["gain"].shape == ()
            and variables["constants"]["codec"]["gain"] == 1 + 2**-20
        )
        assert (tmp_path / dtype / "model.safetensors").stat().st_size < 700


def test_reading_some_components_in_another_type(tmp_path):
    params = {name: {"w": np.ones((2, 3))} for name in ("a", "b", "c")}
    package = write(tmp_path, model={"params": params})
    some = package.read("model", ("c", "a"), ml_dtypes.bfloat16)
    assert set(some["params"]) == {"a", "c"} and some["params"]["a"]["w"].dtype == ml_dtypes.bfloat16
    assert set(paths.flatten(package.read("model")["params"])) == {"a/w", "b/w", "c/w"}
    with pytest.raises(ConfigError, match=r"model.safetensors: lacks d, e; write it again with `codi-jax package`"):
        package.read("model", ("e", "a", "d"))


def test_a_parameter_that_overflows_is_named(tmp_path):
    with pytest.raises(ConfigError, match="net/w does not fit float16: its maximum is 70000"):
        write(tmp_path, model={"params": {"net": {"w": np.array([1.0, 7e4])}}})
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(ConfigError, match="expected one of float16, bfloat16, float32, got 'int8'"):
        write(tmp_path, "int8")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "package")
    finally:
        os.umask(before)
    files = list((tmp_path / "package").iterdir())
    assert len(files) == 2 and {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}


def test_an_unknown_name_lists_the_packaged_models(tmp_path):
    with pytest.raises(ConfigError, match="no packaged model 'smell_world'; there is digit_world, or give a folder"):
        packaged.open_package("smell_world")
    with pytest.raises(ConfigError, match=r"config.json: there is no such file; write it again"):
        packaged.open_package(str(tmp_path))


def test_a_package_of_judges_has_no_model(tmp_path):
    package = write(tmp_path)
    with pytest.raises(ConfigError, match="has judges only, no model"):
        package.codi  # noqa: B018
    with pytest.raises(ConfigError, match=r"does not list model.safetensors"):
        package.read("model")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-2])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def missing(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


DAMAGES = (truncated, pointer, missing, emptied)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(
            (file, damage)
            for file in ("judges.safetensors", "config.json")
            for damage in (truncated, pointer, missing, emptied)
        ),
        ("judges.safetensors", flipped),
    ],
)
def test_a_damaged_file_asks_to_reinstall(tmp_path, monkeypatch, file, damage):
    write(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "copy")
    monkeypatch.setitem(packaged.MODELS, "digit_world", tmp_path / "copy")
    assert packaged.open_package("digit_world").read("judges")["params"].keys() == {"a_judge"}
    damage(tmp_path / "copy" / file)
    with pytest.raises(ConfigError) as error:
        packaged.open_package("digit_world").read("judges")
    assert str(error.value).startswith(str(tmp_path / "copy" / file)) and "; reinstall codi_jax" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tree", [[], {}, {"files": {}}, {"judges": {}, "files": {}}, {"judges": JUDGES, "files": 3}])
def test_an_invalid_config_is_damaged(tmp_path, tree):
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=r"config.json: is damaged; write it again"):
        packaged.open_package(str(tmp_path))
