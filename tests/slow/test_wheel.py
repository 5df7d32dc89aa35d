"""What a user gets who installs the built package: the wheel of the source distribution, in its own environment.

The environment sees the libraries of this one, so that nothing but the tools of the build is downloaded.
"""

import os
import subprocess
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(*command: object, where: Path, **environment: str) -> str:
    """The standard output of a command that has to succeed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=where, env={**clean, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(source distribution, wheel built from it)."""
    folder = tmp_path_factory.mktemp("built")
    tools = folder / "tools"
    venv.create(tools, with_pip=True)
    run(tools / "bin" / "pip", "install", "--quiet", "build", where=folder)
    checkout = folder / "checkout"
    run("git", "clone", "--quiet", ROOT, checkout, where=folder)
    run(tools / "bin" / "python", "-m", "build", "--outdir", folder / "dist", checkout, where=folder)
    return next((folder / "dist").glob("*.tar.gz")), next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def program(built, tmp_path_factory):
    """`codi-jax` of the installed wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    run(folder / "bin" / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", built[1], where=folder)
    return folder / "bin" / "codi-jax"


def test_the_wheel_holds_what_is_needed_and_no_more(built):
    source, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "codi_jax",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }
    configs = {f"codi_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    weights = {f"codi_jax/digit_world/weights/{kind}.safetensors" for kind in ("model", "judges", "similarity")}
    assert len(configs) == 4 and configs | weights | {"codi_jax/digit_world/weights/config.json"} <= set(names)
    assert any(name.endswith(".css") for name in names) and not any("test" in name.split("/")[1] for name in names)
    with tarfile.open(source) as archive:
        assert any(name.endswith("/configs/digit_world.py") for name in archive.getnames())


def test_it_trains_generates_and_is_a_library(program, tmp_path):
    python = program.with_name("python")
    where = run(python, "-c", "import codi_jax; print(codi_jax.__file__)", where=tmp_path).strip()
    assert where.startswith(str(program.parents[1]))
    train = (program, "train", "--config=digit_world:tiny", "--workdir=out", "--quiet")
    assert "codec.image  4/4" in run(*train, "--stage=codec.image", where=tmp_path)
    assert "codec.text  4/4" in run(program, "train", "--workdir=out", "--stage=codec.text", "--quiet", where=tmp_path)
    paths = run(program, "generate", "--text", "a red seven", "--to", "image,audio", "--out", "d", where=tmp_path)
    assert [Path(line).name for line in paths.splitlines()] == ["image_0.png", "audio_0.wav"]
    lines = "import codi_jax; print(codi_jax.load('digit_world')('a red seven', to='text', seed=0).text[0])"
    assert "seven" in run(python, "-W", "error", "-c", lines, where=tmp_path)
