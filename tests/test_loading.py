"""`load`: packages, workdirs, and one line about everything else."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import codi_jax
from codi_jax import packaged, storage
from codi_jax.checkpoint import save_params
from codi_jax.config import ConfigError
from codi_jax.train.recipe import save_config
from tests import s3, toy


def test_a_package_is_loaded_by_its_name_or_folder(monkeypatch):
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, toy.random_package())
    for where in (packaged.DEFAULT, toy.random_package(), str(toy.random_package())):
        pipe = codi_jax.load(where)
        assert pipe.modalities == toy.PAIR and repr(pipe) == "Pipeline(text, image)"
        assert toy.same(pipe._weights(("clip_text",))["params"]["clip_text"], toy.params(toy.codi())["clip_text"])


def test_the_compute_type_may_be_chosen():
    pipe = codi_jax.load(toy.random_package(), dtype=jnp.bfloat16)
    assert pipe.codi.config.dtype == "bfloat16"
    weights = pipe._weights(("clip_text",))
    assert {str(x.dtype) for x in toy.paths.flatten(weights["params"]).values()} == {"bfloat16"}
    for wrong in ("int8", "half a float"):
        with pytest.raises(ConfigError, match=r"^dtype: expected one of float32, bfloat16, float16, got"):
            codi_jax.load(toy.random_package(), dtype=wrong)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run without trained stages, whose `config.weights` names components."""
    folder, config = tmp_path_factory.mktemp("run"), toy.config()
    for component, tree in toy.params(toy.codi()).items():
        path = folder / "weights" / component
        save_params(str(path), {"params": {component: tree}}, {"components": [component]})
    with config.unlocked():
        config.weights = str(folder / "weights")
    save_config(config, folder / "run")
    return folder / "run"


def test_a_workdir_is_loaded(workdir, monkeypatch):
    monkeypatch.setenv("HOME", str(workdir.parent))
    for where in (workdir, f"~/{workdir.name}"):
        pipe = codi_jax.load(where)
        z = np.ones((1, 16), np.float32)
        of_package = codi_jax.load(toy.random_package()).decode({"text": z})
        assert pipe.decode({"text": z}).text == of_package.text
    assert codi_jax.load(workdir, dtype="bfloat16").codi.config.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("digit_wrld", "no model 'digit_wrld' (did you mean digit_world?): it is neither a packaged one (digit_world)"),
        ("{folder}/absent", "no model '{folder}/absent': it is neither a packaged one (digit_world) nor a folder of"),
        (
            "{folder}",
            "{folder}: neither a folder that `save_pretrained` or `codi-jax package` wrote (it has no model.safet",
        ),
        ("{folder}/untrained", "{folder}/untrained: no stage of this run has finished; `codi-jax train --workdir="),
        ("{folder}/damaged", "{folder}/damaged/config.json: not JSON"),
        ("ftp://x/run", "ftp://x/run: expected a local path, gs://… or s3://…, not ftp://"),
    ],
)
def test_what_is_no_model_is_named_in_one_line(tmp_path, where, message):
    save_config(toy.config(), tmp_path / "untrained")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="^" + re.escape(message.format(folder=tmp_path))) as caught:
        codi_jax.load(where.format(folder=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_package_in_an_object_store(monkeypatch):
    """It is written there, read, and refused if it is damaged there."""
    folder = s3.bucket(monkeypatch, "packages") + "/mine"
    toy.write_package(storage.as_path(folder))
    remote, local = (codi_jax.load(where)("a red seven", "image", steps=2) for where in (folder, toy.random_package()))
    np.testing.assert_array_equal(remote.image[0], local.image[0])
    (storage.as_path(folder) / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"model\.safetensors: is not the file that was packaged; write it again"):
        codi_jax.load(folder)("a red seven", "image")
