"""The wheel and the sdist: what they hold, and what `pip install` of the wheel gives from an empty directory.

Nothing is downloaded: the new virtual environment finds the packages that codi_jax needs where this one has them.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOT_SOURCE = (".*", "out", "build", "dist", "*.egg-info", "__pycache__")
TRAINED = ("codec.text", "codec.image")


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command, which has to succeed, without a PYTHONPATH that leads to this tree."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def wheel_of(tree: Path, out: Path) -> Path:
    """Builds the wheel of a source tree with the setuptools of this environment."""
    script = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    return out / run(sys.executable, "-c", script, out, cwd=tree).splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(sdist, wheel built from the unpacked sdist), both built outside of this tree."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    script = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    sdist = folder / run(sys.executable, "-c", script, folder, cwd=folder / "tree").splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (tree,) = (folder / "unpacked").iterdir()
    return sdist, wheel_of(tree, folder)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder of the programs of a new virtual environment with the wheel."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built[1], cwd=venv.parent
    )
    (packages,) = venv.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    return venv / "bin"


def test_the_wheel_has_all_that_the_package_reads_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "codi_jax").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    configs = {f"codi_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert held == package | configs
    assert {Path(name).suffix for name in held} >= {".py", ".css", ".safetensors", ".npz", ".json"}
    assert not [name for name in held if name.startswith("tests")]


def test_the_package_works_after_pip_install(installed, tmp_path):
    script = (
        "import codi_jax; pipe = codi_jax.load('digit_world'); "
        "out = pipe({'text': 'a red seven'}, to='image', steps=2, seed=0); print(codi_jax.__file__, out.image[0].size)"
    )
    where, size = run(installed / "python", "-c", script, cwd=tmp_path).strip().split(" ", 1)
    assert Path(where).is_relative_to(installed.parent) and size == "(32, 32)"


def test_a_config_of_the_package_is_trained_by_name(installed, tmp_path):
    stages = [f"--stage={name}" for name in TRAINED]
    config = ("--config=digit_world:tiny,modalities=text+image", "--config.stages.codec.text.steps=6")
    run(installed / "codi-jax", "train", *config, "--workdir=run", *stages, "--quiet", cwd=tmp_path)
    assert all((tmp_path / "run" / "stages" / name / "params").is_dir() for name in TRAINED)
    assert '"steps": 6' in (tmp_path / "run" / "config.json").read_text()


def test_the_packaged_model_answers_on_the_command_line(installed, tmp_path):
    run(installed / "codi-jax", "generate", "--text=a red seven", "--to=image", "--steps=2", "--out=d", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["image_0.png"]
