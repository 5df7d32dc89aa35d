"""What is wrong, and what to do about it: pure functions of the facts, each about one thing."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator

from codi_jax.doctor.ask import NO_ANSWER
from codi_jax.doctor.facts import Dependency, Facts, Folder
from codi_jax.doctor.requirements import PLUGINS

GIB = 2**30
LEAST_MEMORY = 2 * GIB  # the packaged model takes 1.3 for a sample of all modalities
ENOUGH_SPACE = GIB  # what compiled programs, or a sample file while it is uploaded, may take
CUDA_DRIVER = 580  # the first that CUDA 13 runs on, see the extra `cuda` in setup.py
EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "plan"}  # platform of jax -> the extra with its library
MEND = "mend it, or name another in --plugins"
BUSY = "give --timeout=SECONDS, the machine may be busy"
# Tools of developers: another version of one is only wrong where the whole extra is installed.
DEVELOPMENT = ("test", "docs", "parity")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
      what: is wrong.
      remedy: what to do.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


Found = Iterator[Problem]


def _release(version: str | None) -> tuple[str, ...] | None:
    """The first three numbers of a version; None if there is none."""
    found = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple([*found[0].split("."), "0", "0"][:3]) if found else None


def _of_metadata(facts: Facts) -> Found:
    ours = facts.installation
    if ours.installed is None:
        again = "run `pip install -e .` in the repository, so that the versions of packages can be checked"
        yield Problem(f"codi_jax is imported from {ours.folder}, but not installed", again)
    elif ours.installed != ours.version:
        what = f"codi_jax {ours.installed} is installed, but {ours.version} is imported from {ours.folder}"
        yield Problem(what, "install this one again with `pip install`, or remove its folder from PYTHONPATH")


def _is_installed(extra: str, facts: Facts) -> bool:
    return all(x.version is not None for x in facts.installation.dependencies if x.extra == extra)


def _of_dependencies(facts: Facts) -> Found:
    told = set()
    for x in facts.installation.dependencies:
        if x.fits or (x.name, x.bounds) in told or (x.extra and x.version is None):
            continue
        if x.extra in DEVELOPMENT and not _is_installed(x.extra, facts):
            continue
        told.add((x.name, x.bounds))
        yield Problem(_dependency(x), f"pip install '{x.name}{x.bounds}'")


def _dependency(x: Dependency) -> str:
    if x.version is None:
        return f"{x.name} is missing, which codi_jax always needs"
    owner = f"codi_jax[{x.extra}]" if x.extra else "codi_jax"
    return f"{x.name} {x.version} is installed, {owner} needs {x.bounds}"


def _of_jaxlib(facts: Facts) -> Found:
    versions = facts.installation.versions
    jax, jaxlib = versions.get("jax"), versions.get("jaxlib")
    if jax is None:
        return
    if jaxlib is None:
        yield Problem(f"jax {jax} has no jaxlib", f"pip install 'jaxlib=={'.'.join(_release(jax) or ())}'")
        return
    if _release(jaxlib) != _release(jax):
        wanted = ".".join(_release(jax) or ())
        yield Problem(f"jaxlib {jaxlib} is not that of jax {jax}", f"pip install 'jaxlib=={wanted}'")
    for name in PLUGINS:
        version = versions.get(name)
        if version is not None and _release(version) != _release(jaxlib):
            wanted = ".".join(_release(jaxlib) or ())
            yield Problem(f"{name} {version} is not that of jaxlib {jaxlib}", f"pip install '{name}=={wanted}'")


def _of_devices(facts: Facts) -> Found:
    found = facts.devices
    if found.seconds is not None:
        what = f"the devices did not answer within {found.seconds:g} seconds"
        if facts.machine.tpu_chips:
            remedy = "end the process that holds the TPU (lsof /dev/accel* /dev/vfio/*); a slice of several hosts "
            remedy += "answers only if all of them ask at once"
        elif facts.machine.nvidia:
            remedy = "end the process that holds the GPU (nvidia-smi lists them), or give --timeout=SECONDS"
        else:
            remedy = BUSY
        yield Problem(what, remedy)
    elif found.error:
        yield Problem(f"jax finds no devices ({found.error})", _remedy_of_devices(facts))


def _platforms(facts: Facts) -> list[str]:
    """The platforms that JAX_PLATFORMS names."""
    return [x for x in map(str.strip, facts.machine.environment.get("JAX_PLATFORMS", "").split(",")) if x]


def _libraries(facts: Facts, platform: str) -> list[str]:
    """The installed packages by which jax uses a platform."""
    names = {"cuda": PLUGINS, "gpu": PLUGINS, "tpu": ("libtpu",)}.get(platform, ())
    return [name for name in names if facts.installation.versions.get(name) is not None]


def _remedy_of_devices(facts: Facts) -> str:
    for platform, extra in EXTRAS.items():
        if platform in _platforms(facts) and not _libraries(facts, platform):
            return f"pip install 'codi_jax[{extra}]' for JAX_PLATFORMS={platform}, or unset JAX_PLATFORMS"
    environment = facts.machine.environment
    given = [f"{name}={environment[name]}" for name in ("JAX_PLATFORMS", "XLA_FLAGS") if environment.get(name)]
    return f"check {' and '.join(given)}" if given else "install jax again with `pip install --force-reinstall`"


def _hiding(facts: Facts, *platforms: str) -> str | None:
    """The setting by which jax is told not to use these platforms; None if there is none."""
    environment, named = facts.machine.environment, _platforms(facts)
    if named and not {*named} & {*platforms}:
        return f"JAX_PLATFORMS={environment['JAX_PLATFORMS']}"
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if "cuda" in platforms and visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible}"
    return None


def _of_unused(facts: Facts, what: str, library: bool, *platforms: str) -> Found:
    """An accelerator that is there, while jax finds the CPU alone."""
    if facts.devices.platform != "cpu":
        return
    if hidden := _hiding(facts, *platforms):
        yield Problem(f"{hidden} hides {what}", f"unset {hidden.partition('=')[0]} to use it")
        return
    seen = f"jax finds only the CPU, though there is {what}"
    if not library:
        yield Problem(seen, f"pip install 'codi_jax[{EXTRAS[platforms[0]]}]'")
    else:
        why = facts.devices.warning or "jax does not say why"
        yield Problem(
            f"{seen} and its library", f"see `python -c 'import jax; jax.devices(\"{platforms[0]}\")'` ({why})"
        )


def _of_nvidia(facts: Facts) -> Found:
    driver = facts.machine.nvidia
    if driver is None:
        return
    known = driver if driver != "unknown" else "of an unknown version"
    plugins = _libraries(facts, "cuda")
    yield from _of_unused(facts, f"an NVIDIA driver {known}", bool(plugins), "cuda", "gpu")
    major = driver.partition(".")[0]
    if major.isdecimal() and int(major) < CUDA_DRIVER and not any("cuda12" in name for name in plugins):
        yield Problem(
            f"the NVIDIA driver {driver} is older than {CUDA_DRIVER}, which CUDA 13 needs", "update the driver"
        )


def _of_tpu(facts: Facts) -> Found:
    if chips := facts.machine.tpu_chips:
        yield from _of_unused(facts, f"a TPU of {chips} chips", bool(_libraries(facts, "tpu")), "tpu")


def _of_folder(folder: Folder, what: str, variable: str) -> Found:
    if folder.path is None:
        yield Problem(f"there is no folder for {what}", f"set {variable} to one that you may write")
    elif not folder.writable:
        yield Problem(f"{folder.path}, the folder for {what}, may not be written", f"set {variable} to another folder")
    elif folder.free is not None and folder.free < ENOUGH_SPACE:
        free = f"only {folder.free / GIB:.2f} GiB are free in {folder.path}, the folder for {what}"
        yield Problem(free, f"free some space, or set {variable} to a folder on another disk")


def _of_cache(facts: Facts) -> Found:
    named = "JAX_COMPILATION_CACHE_DIR" in facts.machine.environment
    yield from _of_folder(facts.cache, "compiled programs", "JAX_COMPILATION_CACHE_DIR" if named else "XDG_CACHE_HOME")


def _of_temporary(facts: Facts) -> Found:
    yield from _of_folder(facts.temporary, "temporary files", "TMPDIR")


def _of_memory_fraction(facts: Facts) -> Found:
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"):
        if (text := facts.machine.environment.get(name)) is None:
            continue
        try:
            fraction = float(text)
        except ValueError:
            fraction = math.nan
        if not 0 < fraction <= 1:
            yield Problem(f"{name}={text} is no share of the GPU's memory", "set it above 0 and at most 1, as 0.75")


def _of_memory_limit(facts: Facts) -> Found:
    limit = facts.machine.memory_limit
    if limit is not None and limit < LEAST_MEMORY:
        what = f"the control group limits memory to {limit / GIB:.1f} GiB, less than the packaged model needs"
        yield Problem(what, f"give the container at least {LEAST_MEMORY / GIB:.0f} GiB: beyond it processes are killed")


def _remedy(error: str, usual: str) -> str:
    return BUSY if error.startswith(NO_ANSWER) else usual


def _of_model(facts: Facts) -> Found:
    error = facts.model.error
    if error and error != facts.devices.error:  # else it is that of jax, which both import
        yield Problem(f"the packaged model cannot be read ({error})", _remedy(error, "install codi_jax again"))


def _of_codecs(facts: Facts) -> Found:
    again = "pip install --force-reinstall 'codi_jax[media]'"
    if facts.codecs.error:
        yield Problem(
            f"PyAV is installed, but cannot be imported ({facts.codecs.error})", _remedy(facts.codecs.error, again)
        )
    elif facts.codecs.missing:
        missing = ", ".join(facts.codecs.missing)
        yield Problem(f"the FFmpeg of PyAV has no {missing}", f"{again}, whose wheels have them")


def _of_encoding(facts: Facts) -> Found:
    if facts.machine.encoding != "utf-8":
        what = f"the locale has no Unicode (its encoding is {facts.machine.encoding})"
        yield Problem(what, "export LC_ALL=C.UTF-8, or file names and captions with other letters fail")


def _of_plugins(facts: Facts) -> Found:
    if facts.plugin_error:
        yield Problem(f"a plugin cannot be imported ({facts.plugin_error})", _remedy(facts.plugin_error, MEND))


CHECKS: tuple[Callable[[Facts], Found], ...] = (
    *(_of_metadata, _of_dependencies, _of_jaxlib, _of_devices, _of_nvidia, _of_tpu),
    *(_of_cache, _of_temporary, _of_memory_fraction, _of_memory_limit),
    *(_of_model, _of_codecs, _of_encoding, _of_plugins),
)


def problems(facts: Facts) -> list[Problem]:
    """Everything that is wrong, what breaks most first."""
    return [problem for check in CHECKS for problem in check(facts)]
