"""Memory, cores, drivers, folders, locale and environment variables, read from the system without any library.

Functions that read files take the folder in which these lie, `/` unless a test says otherwise.
"""

import locale
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from codi_jax import storage
from codi_jax.doctor.facts import Folder, Machine

ROOT = Path("/")

_NAMES = (
    *("HF_HUB_OFFLINE", "HF_HOME", "HF_TOKEN", "LIBTPU_INIT_ARGS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"),
    *("XDG_CACHE_HOME", "TMPDIR", "PYTHONPATH", "PYTHONUTF8", "LANG", "LC_ALL", "LC_CTYPE"),
)
_PREFIXES = ("JAX_", "XLA_", "TPU_", "CODI_", "MEGASCALE_")
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY|AUTH")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")

_GOOGLE = "0x1ae0"
# PCI devices of TPUs v3, v4, v5p, v5e, v6e and 7x, as in jax's hardware_utils; Google's network cards are others.
_TPUS = {"0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def shown_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that matter here, sorted; of a secret only that it is set, and of an address no login."""
    kept = {name: x for name, x in environment.items() if name in _NAMES or name.startswith(_PREFIXES)}
    hidden = {name: "(set)" if _SECRET.search(name) and x else _LOGIN.sub("…", x) for name, x in kept.items()}
    return dict(sorted(hidden.items()))


def host_memory(root: Path = ROOT) -> tuple[int | None, int | None]:
    """(all, available) bytes of memory; None where /proc/meminfo does not say."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE))
    total, available = (int(found[name]) << 10 if name in found else None for name in ("MemTotal", "MemAvailable"))
    return total, available


def _limit_files(root: Path) -> Iterator[Path]:
    """The files with limits of this process's control group and of those above it, in both versions of cgroups."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, inside = line.split(":", 2)
        if not controllers:
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, where nothing is; the limit then is at the top.
        group = top / inside.lstrip("/")
        yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(top))


def memory_limit(root: Path = ROOT) -> int | None:
    """The lowest limit of memory of this process's control groups, in bytes; None if there is none below the host's."""
    limits = [int(text) for path in _limit_files(root) if (text := _read(path).strip()).isdecimal()]
    total = host_memory(root)[0]
    return min((x for x in limits if total is None or x < total), default=None)


def nvidia_driver(root: Path = ROOT) -> str | None:
    """The version of the NVIDIA driver; "unknown" if only its devices are seen, as in a container; None without it."""
    if text := _read(root / "proc/driver/nvidia/version"):
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
        return found[1] if found else "unknown"
    return "unknown" if any((root / "dev").glob("nvidia[0-9]*")) else None


def tpu_chips(root: Path = ROOT) -> int:
    """The number of TPU chips: their device files, or their PCI devices where these have other names."""
    files = len(list((root / "dev").glob("accel[0-9]*")))
    devices = (root / "sys/bus/pci/devices").glob("*")
    ours = [x for x in devices if _read(x / "vendor").strip() == _GOOGLE and _read(x / "device").strip() in _TPUS]
    return max(files, len(ours))


def text_encoding() -> str:
    """The encoding of text files, of file names and of standard output: the first that is not UTF-8, or utf-8."""
    names = (locale.getpreferredencoding(False), sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None))
    normal = [(name or "utf-8").lower().replace("_", "-") for name in names]
    return next((name for name in normal if name not in ("utf-8", "utf8")), "utf-8")


def folder(path: str | None, measure: bool = False) -> Folder:
    """What is known of a folder; nothing is created.

    Args:
      path: of the folder, which may not exist; None if there is none.
      measure: whether to add up its files.
    """
    if path is None or storage.is_remote(path):
        return Folder(path, path is not None, None)
    existing = Path(os.path.abspath(path))
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
        size = sum(storage.files(Path(path)).values()) if measure and Path(path).is_dir() else None
        return Folder(path, writable, shutil.disk_usage(existing).free, size)
    except OSError:
        return Folder(path, False, None)


def cache_folder(environment: Mapping[str, str]) -> Folder:
    """The folder of compiled programs of verbs without a workdir; none if there is no home directory."""
    if named := environment.get("JAX_COMPILATION_CACHE_DIR"):
        return folder(named, measure=True)
    try:
        return folder(str(storage.cache_root() / "compiled"), measure=True)
    except RuntimeError:
        return folder(None)


def temporary_folder() -> Folder:
    """The folder of temporary files; none if Python finds no usable one."""
    try:
        return folder(tempfile.gettempdir())
    except FileNotFoundError:
        return folder(None)


def read_machine(environment: Mapping[str, str]) -> Machine:
    """The host."""
    total, available = host_memory()
    cores = os.cpu_count() or 1
    return Machine(
        system=platform.platform(),
        python=f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores,
        cores_of_host=cores,
        memory=total,
        memory_available=available,
        memory_limit=memory_limit(),
        nvidia=nvidia_driver(),
        tpu_chips=tpu_chips(),
        encoding=text_encoding(),
        environment=shown_environment(environment),
    )
