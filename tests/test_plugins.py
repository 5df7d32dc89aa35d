"""Plugins: imported when the user names them, and never because a file that was loaded names them."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import codi_jax
from codi_jax import packaged, plugins
from codi_jax.cli import main
from codi_jax.config import ConfigError
from codi_jax.data.source import SOURCES
from codi_jax.modalities import MODALITIES
from codi_jax.packaged import open_package
from codi_jax.train.recipe import load_run, open_run
from codi_jax.train.variables import assemble
from tests import toy

PLUGIN = '''"""A source that counts."""

import dataclasses

import codi_jax


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 3


@codi_jax.register("source", "counting", config=Config)
def make(config):
    return range(config.size)
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch, restored_registries):
    """The name of a plugin that can be imported and has not been."""
    name = f"counting_for_test_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_plugin_is_found_in_the_current_directory(plugin):
    plugins.import_plugins([plugin])
    assert "counting" in SOURCES
    plugins.check_imported([plugin], "out/run")


def test_a_missing_module_is_one_line_and_an_error_inside_of_one_is_not_hidden(plugin, tmp_path):
    for name in ("nothing_here", "nothing.here", f"{plugin}.more"):
        with pytest.raises(ConfigError, match=f"^plugins: no module '{name}'; it has to be in the current directory"):
            plugins.import_plugins([name])
    for name in ("", "a b", "../x", "x.", ".x", "os;sys"):
        with pytest.raises(ConfigError, match=r"^plugins: .* is not the name of a module, such as my_package\.depth$"):
            plugins.import_plugins([name])
    (tmp_path / "needs_more.py").write_text("import a_library_that_is_missing\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        plugins.import_plugins(["needs_more"])


def test_the_config_of_a_user_imports_its_plugins_before_any_name_is_looked_up(plugin):
    tree = toy.recipe()
    assert "counting" not in SOURCES
    assert open_run({**tree, "plugins": (plugin,)}, None).config.plugins == (plugin,)
    assert "counting" in SOURCES


def test_a_workdir_imports_no_plugins_by_itself(plugin, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    tree = {**toy.recipe(), "plugins": [plugin]}
    (workdir / "config.json").write_text(json.dumps(tree))
    message = rf"run needs the code of {plugin}, which is imported only if you say so: --plugins={plugin} \(in Python"
    for read in (load_run, codi_jax.load):
        with pytest.raises(ConfigError, match=message):
            read(workdir)
    assert plugin not in sys.modules
    with pytest.raises(ConfigError, match="no stage of this run has finished"):
        codi_jax.load(workdir, plugins=plugin)
    assert load_run(workdir).config.plugins == (plugin,)


def test_a_package_imports_no_plugins_by_itself(plugin, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    original = packaged.MODELS["digit_world"]
    config = json.loads((original / "config.json").read_text())
    config["run"]["plugins"] = [plugin]
    (folder / "config.json").write_text(json.dumps(config))
    for file in packaged.FILES.values():
        (folder / file).symlink_to(original / file)
    with pytest.raises(ConfigError, match=f"package needs the code of {plugin}, .*--plugins={plugin}"):
        codi_jax.load(folder)
    assert plugin not in sys.modules
    assert codi_jax.load(folder, plugins=[plugin]).modalities == ("text", "image", "audio", "video")


def test_a_command_imports_the_plugins_that_it_names(plugin, tmp_path):
    command = [sys.executable, "-m", "codi_jax.cli", "data", "inspect", "--config=config.py"]
    (tmp_path / "config.py").write_text(
        "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({'sources': {}})\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    for named, message in ((plugin, "codi-jax: config."), ("absent", "codi-jax: plugins: no module 'absent'")):
        done = subprocess.run(
            [*command, f"--plugins={named}"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and done.stderr.startswith(message), done.stderr


def test_a_modality_of_a_plugin_has_an_option_for_its_prompts(restored_registries, tmp_path, capsys):
    """A copy of image under another name, in a package: it is a prompt, an output and a word of error messages."""
    folder = toy.random_package()
    copy = tmp_path / "package"
    shutil.copytree(folder, copy)

    @codi_jax.register("modality", "depth")
    class DepthModality(MODALITIES["image"]):
        name = "depth"

    config = json.loads((copy / "config.json").read_text())
    config["run"]["model"]["modalities"]["depth"] = config["run"]["model"]["modalities"].pop("image")
    config["run"]["generate"] = {"guidance": {}, "steps": 2}
    (copy / "config.json").write_text(json.dumps(config))
    request = [f"--model={copy}", "--to=depth", f"--out={tmp_path / 'd'}"]
    main(["generate", *request, "--text=a red seven"])
    (tmp_path / "d" / "depth_0.png").rename(tmp_path / "prompt.png")
    main(["generate", *request, "--depth", str(tmp_path / "prompt.png")])
    assert (tmp_path / "d" / "depth_0.png").exists()
    with pytest.raises(SystemExit):
        main(["generate", *request, "--image=x.png"])
    assert "unknown modality 'image'; this model has text, depth" in capsys.readouterr().err


def test_a_run_starts_from_a_packaged_model():
    package = open_package("digit_world")
    run, other = (open_run({**package.run, "weights": name, "stages": {}}, None) for name in ("digit_world", ""))
    assert set(run.converted) == set(run.codi.component_names()) and not other.converted
    assert run.fingerprint((), {}) != other.fingerprint((), {})
    components = ("clip_text", "vision_codec")
    variables, expected = assemble(run, (), components), package.read("model", components)
    assert variables["params"].keys() == expected["params"].keys() == set(components)
    for kind in ("params", "constants"):
        same = jax.tree.map(np.array_equal, variables[kind], {k: expected[kind][k] for k in variables[kind]})
        assert all(jax.tree.leaves({name: same[name] for name in components}))
