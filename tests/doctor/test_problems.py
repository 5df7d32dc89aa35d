"""Each problem that `codi-jax doctor` knows: facts with it name it and its remedy, facts without it do not."""

import dataclasses
import re

import pytest

from codi_jax.doctor.facts import (
    Codecs,
    Dependency,
    DeviceGroup,
    Devices,
    Facts,
    Folder,
    Installation,
    Machine,
    PackagedModel,
)
from codi_jax.doctor.problems import CHECKS, GIB, problems
from codi_jax.doctor.text import shown

MACHINE = Machine(
    system="Linux",
    python="3.12.1",
    cores=8,
    cores_of_host=8,
    memory=64 * GIB,
    memory_available=60 * GIB,
    memory_limit=None,
    nvidia=None,
    tpu_chips=0,
    encoding="utf-8",
    environment={},
)
INSTALLATION = Installation(
    version="0.2.0",
    installed="0.2.0",
    folder="/site/codi_jax",
    dependencies=(
        Dependency("jax", ">=0.10.2,<0.13", "0.12.0.1", True),
        Dependency("av", ">=17,<19", "18.1.0", True, "media"),
        Dependency("pillow-heif", ">=0.22", None, False, "heic"),  # an extra that is not installed is not wrong
        Dependency("torch", "==2.13.0", "2.12.0", False, "parity"),  # nor another torch without the rest of `parity`
        Dependency("diffusers", ">=0.35", None, False, "parity"),
    ),
    versions={"jax": "0.12.0.1", "jaxlib": "0.12.0"},
)
HEALTHY = Facts(
    installation=INSTALLATION,
    machine=MACHINE,
    devices=Devices("cpu", (DeviceGroup("cpu", 1, None),)),
    cache=Folder("/cache", True, 100 * GIB, GIB),
    temporary=Folder("/tmp", True, 100 * GIB),
    model=PackagedModel("digit_world", "/site/weights", 4 << 20),
    codecs=Codecs("18.1.0", "8.1"),
)
GPU = Devices("gpu", (DeviceGroup("NVIDIA H100 80GB HBM3", 8, 60 * GIB),))


def machine(**fields):
    return {"machine": dataclasses.replace(MACHINE, **fields)}


def variables(**environment):
    return machine(environment=environment)


def installation(**fields):
    return {"installation": dataclasses.replace(INSTALLATION, **fields)}


def dependency(*fields):
    return installation(dependencies=(*INSTALLATION.dependencies, Dependency(*fields)))


def versions(**names):
    return installation(versions={name.replace("_", "-"): version for name, version in names.items()})


def with_driver(version="580.65.06", devices=HEALTHY.devices, packages=INSTALLATION.versions, **environment):
    return {**machine(nvidia=version, environment=environment), **installation(versions=packages), "devices": devices}


CUDA = {**INSTALLATION.versions, "jax-cuda13-plugin": "0.12.0"}
LIBTPU = {**INSTALLATION.versions, "libtpu": "0.0.42"}

WRONG = [
    (
        installation(installed=None),
        "codi_jax is imported from /site/codi_jax, but not installed: run `pip install -e .`",
    ),
    (
        installation(installed="0.1.0"),
        "codi_jax 0.1.0 is installed, but 0.2.0 is imported from /site/codi_jax: install",
    ),
    (
        dependency("flax", ">=0.12,<0.13", None, False),
        "flax is missing, which codi_jax always needs: pip install 'flax>",
    ),
    (
        dependency("optax", ">=0.2.5,<0.3", "0.1.0", False),
        "optax 0.1.0 is installed, codi_jax needs >=0.2.5,<0.3: pip install 'optax>=0.2.5,<0.3'",
    ),
    (
        dependency("soundfile", ">=0.13,<0.15", "0.12.1", False, "media"),
        "soundfile 0.12.1 is installed, codi_jax[media] needs >=0.13,<0.15: pip install 'soundfile>=0.13,<0.15'",
    ),
    (
        installation(dependencies=(Dependency("ruff", ">=0.9", "0.8", False, "docs"),)),
        "ruff 0.8 is installed, codi_jax[docs] needs >=0.9: pip install 'ruff>=0.9'",
    ),
    (versions(jax="0.10.2", jaxlib=None), "jax 0.10.2 has no jaxlib: pip install 'jaxlib==0.10.2'"),
    (versions(jax="0.10.2", jaxlib="0.10.1"), "jaxlib 0.10.1 is not that of jax 0.10.2: pip install 'jaxlib==0.10.2'"),
    (
        versions(jax="0.10.2", jaxlib="0.10.2", jax_cuda13_plugin="0.10.1"),
        "jax-cuda13-plugin 0.10.1 is not that of jaxlib 0.10.2: pip install 'jax-cuda13-plugin==0.10.2'",
    ),
    (
        {"devices": Devices(error="no answer", seconds=120.0)},
        "the devices did not answer within 120 seconds: give --timeout",
    ),
    (
        {"devices": Devices(error="no answer", seconds=5.0), **machine(nvidia="580.65")},
        "the devices did not answer within 5 seconds: end the process that holds the GPU (nvidia-smi",
    ),
    (
        {"devices": Devices(error="no answer", seconds=5.0), **machine(tpu_chips=4)},
        "the devices did not answer within 5 seconds: end the process that holds the TPU (lsof /dev/accel*",
    ),
    (
        {"devices": Devices(error="AssertionError"), **variables(JAX_PLATFORMS="cuda")},
        "jax finds no devices (AssertionError): pip install 'codi_jax[cuda]' for JAX_PLATFORMS=cuda, or unset JAX_PLAT",
    ),
    (
        {"devices": Devices(error="AssertionError"), **variables(JAX_PLATFORMS="tpu,cpu")},
        "jax finds no devices (AssertionError): pip install 'codi_jax[plan]' for JAX_PLATFORMS=tpu, or unset JAX_PLATF",
    ),
    (
        {"devices": Devices(error="RuntimeError: no"), **variables(JAX_PLATFORMS="cpu", XLA_FLAGS="--x")},
        "jax finds no devices (RuntimeError: no): check JAX_PLATFORMS=cpu and XLA_FLAGS=--x",
    ),
    ({"devices": Devices(error="ImportError: no")}, "jax finds no devices (ImportError: no): install jax again"),
    (
        with_driver(),
        "jax finds only the CPU, though there is an NVIDIA driver 580.65.06: pip install 'codi_jax[cuda]'",
    ),
    (
        with_driver("unknown"),
        "jax finds only the CPU, though there is an NVIDIA driver of an unknown version: pip install 'codi_jax[cuda]'",
    ),
    (
        with_driver(packages=CUDA, devices=Devices("cpu", warning="W no cuInit")),
        "jax finds only the CPU, though there is an NVIDIA driver 580.65.06 and its library: see `python -c 'import "
        'jax; jax.devices("cuda")\'` (W no cuInit)',
    ),
    (
        with_driver(JAX_PLATFORMS="cpu"),
        "JAX_PLATFORMS=cpu hides an NVIDIA driver 580.65.06: unset JAX_PLATFORMS to use",
    ),
    (
        with_driver(CUDA_VISIBLE_DEVICES="-1"),
        "CUDA_VISIBLE_DEVICES=-1 hides an NVIDIA driver 580.65.06: unset CUDA_VIS",
    ),
    (
        with_driver("550.54", GPU, CUDA),
        "the NVIDIA driver 550.54 is older than 580, which CUDA 13 needs: update the driver",
    ),
    (machine(tpu_chips=4), "jax finds only the CPU, though there is a TPU of 4 chips: pip install 'codi_jax[plan]'"),
    (
        {**machine(tpu_chips=4), **installation(versions=LIBTPU)},
        "jax finds only the CPU, though there is a TPU of 4 chips and its library: see `python -c 'import "
        'jax; jax.devices("tpu")\'` (jax does not say why)',
    ),
    (
        machine(tpu_chips=4, environment={"JAX_PLATFORMS": "cpu"}),
        "JAX_PLATFORMS=cpu hides a TPU of 4 chips: unset JAX_",
    ),
    (
        {"cache": Folder("/cache", False, GIB)},
        "/cache, the folder for compiled programs, may not be written: set XDG_CACHE_HOME to another folder",
    ),
    (
        {"cache": Folder("/cache", False, GIB), **variables(JAX_COMPILATION_CACHE_DIR="/cache")},
        "/cache, the folder for compiled programs, may not be written: set JAX_COMPILATION_CACHE_DIR to another folder",
    ),
    ({"cache": Folder(None, False, None)}, "there is no folder for compiled programs: set XDG_CACHE_HOME to one that"),
    (
        {"cache": Folder("/cache", True, GIB // 2)},
        "only 0.50 GiB are free in /cache, the folder for compiled programs: free some space, or set XDG_CACHE_HOME",
    ),
    (
        {"temporary": Folder(None, False, None)},
        "there is no folder for temporary files: set TMPDIR to one that you may",
    ),
    (
        {"temporary": Folder("/tmp", True, 0)},
        "only 0.00 GiB are free in /tmp, the folder for temporary files: free some space, or set TMPDIR to a folder",
    ),
    *(
        (variables(**{name: text}), f"{name}={text} is no share of the GPU's memory: set it above 0 and at most 1")
        for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
        for text in ("1.5", "0", "-1", "nan", "all", "")
    ),
    (
        machine(memory_limit=GIB),
        "the control group limits memory to 1.0 GiB, less than the packaged model needs: give the container at least 2",
    ),
    (
        {"model": PackagedModel(error="/w/model.safetensors: is not the file that was packaged")},
        "the packaged model cannot be read (/w/model.safetensors: is not the file that was packaged): install codi_jax",
    ),
    (
        {"codecs": Codecs("18", "8", ("libx264 (encoder)",))},
        "the FFmpeg of PyAV has no libx264 (encoder): pip install --force-reinstall 'codi_jax[media]'",
    ),
    (
        {"codecs": Codecs(error="ImportError: libavcodec")},
        "PyAV is installed, but cannot be imported (ImportError: libavcodec): pip install --force-reinstall",
    ),
    (
        {"codecs": Codecs(error="no answer within 1 seconds")},
        "PyAV is installed, but cannot be imported (no answer within 1 seconds): give --timeout=SECONDS",
    ),
    (
        machine(encoding="ansi-x3.4-1968"),
        "the locale has no Unicode (its encoding is ansi-x3.4-1968): export LC_ALL=C.UTF-8",
    ),
    ({"plugin_error": "plugins: no module 'mine'"}, "a plugin cannot be imported (plugins: no module 'mine'): mend it"),
]


def test_healthy_facts_have_no_problem():
    assert problems(HEALTHY) == []
    assert shown(HEALTHY, []).endswith("\n\nnothing is wrong")


@pytest.mark.parametrize(("changed", "line"), WRONG, ids=[line[:60] for _, line in WRONG])
def test_one_thing_that_is_wrong_is_one_line(changed, line):
    facts = dataclasses.replace(HEALTHY, **changed)
    (problem,) = problems(facts)
    assert str(problem).startswith(line) and "\n" not in str(problem)
    assert shown(facts, [problem]).splitlines()[-2:] == ["wrong:", f"- {problem}"]


def test_every_check_finds_something_here():
    found = {check for changed, _ in WRONG for check in CHECKS if [*check(dataclasses.replace(HEALTHY, **changed))]}
    assert found == {*CHECKS}


@pytest.mark.parametrize(
    "changed",
    [
        with_driver("580.65.06", GPU, CUDA),
        with_driver("535.1", GPU, {**INSTALLATION.versions, "jax-cuda12-plugin": "0.12.0"}),
        {**machine(tpu_chips=4), "devices": Devices("tpu", (DeviceGroup("TPU v5 lite", 4, 15 * GIB),))},
        variables(XLA_PYTHON_CLIENT_MEM_FRACTION="1", JAX_PLATFORMS="cpu"),
        {"cache": Folder("gs://bucket/compiled", True, None)},
        {"codecs": Codecs()},
    ],
)
def test_what_is_not_wrong(changed):
    assert problems(dataclasses.replace(HEALTHY, **changed)) == []


def test_without_jax_the_model_is_not_said_to_be_damaged():
    facts = dataclasses.replace(
        HEALTHY, devices=Devices(error="ImportError: jax"), model=PackagedModel(error="ImportError: jax")
    )
    assert len(problems(facts)) == 1


def test_the_text_names_extras_and_devices():
    text = shown(dataclasses.replace(HEALTHY, devices=GPU), [])
    assert re.search(r"^\[heic\] +missing pillow-heif$", text, re.MULTILINE)
    assert re.search(r"^\[media\] +av 18.1.0$", text, re.MULTILINE)
    assert re.search(r"^\[parity\] +torch 2.12.0; missing diffusers$", text, re.MULTILINE)
    assert re.search(r"^devices +8 x NVIDIA H100 80GB HBM3, 60.00 GiB each$", text, re.MULTILINE)
