"""What is known of an installation and its machine, as plain values; sizes are in bytes."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Dependency:
    """A package that codi_jax asks for.

    Attributes:
      name: of its distribution.
      bounds: of its version, as `>=17,<19`; empty for any.
      version: that is installed; None if it is missing.
      fits: whether the version is within the bounds; False if it is missing.
      extra: the extra of codi_jax that asks for it; empty for what is always needed.
    """

    name: str
    bounds: str
    version: str | None
    fits: bool
    extra: str = ""


@dataclasses.dataclass(frozen=True)
class Installation:
    """The installation of codi_jax.

    Attributes:
      version: of the code that is imported.
      installed: version of the installed metadata; None if there is none.
      folder: of the code.
      dependencies: what the metadata ask for.
      versions: of the packages whose versions matter most, by name; None for a missing one.
    """

    version: str
    installed: str | None
    folder: str
    dependencies: tuple[Dependency, ...]
    versions: Mapping[str, str | None]


@dataclasses.dataclass(frozen=True)
class DeviceGroup:
    """Devices of one kind.

    Attributes:
      kind: as jax calls it.
      count: their number.
      memory: of each, that a program can use; None if it is not known.
    """

    kind: str
    count: int
    memory: int | None


@dataclasses.dataclass(frozen=True)
class Devices:
    """What jax finds, in a process of its own.

    Attributes:
      platform: of the default backend; empty if jax did not answer.
      groups: the devices of this process.
      processes: number of processes that a run from this environment would have; None if only the start tells.
      source: what names these processes; empty for a single one.
      error: why jax did not answer, as one line; empty if it did.
      seconds: the time limit, if jax did not answer within it; else None.
      warning: the last warning of jax while it looked for devices; empty if there was none.
    """

    platform: str = ""
    groups: tuple[DeviceGroup, ...] = ()
    processes: int | None = 1
    source: str = ""
    error: str = ""
    seconds: float | None = None
    warning: str = ""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The host.

    Attributes:
      system: operating system and architecture.
      python: its version and implementation.
      cores, cores_of_host: that this process may use, and all.
      memory, memory_available: of the host; None if they are not known.
      memory_limit: of the control group; None if it has none.
      nvidia: version of the NVIDIA driver, "unknown" if only its devices are seen; None without it.
      tpu_chips: number of TPU chips.
      encoding: of text files and file names in this locale.
      environment: variables that matter, without secrets.
    """

    system: str
    python: str
    cores: int
    cores_of_host: int
    memory: int | None
    memory_available: int | None
    memory_limit: int | None
    nvidia: str | None
    tpu_chips: int
    encoding: str
    environment: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder to write to.

    Attributes:
      path: of the folder, which may not exist yet; None if there is none.
      writable: whether files can be written to it.
      free: space of its disk; None if it is not known.
      size: of the files in it; None if it is not known.
    """

    path: str | None
    writable: bool
    free: int | None
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class PackagedModel:
    """The model inside the package.

    Attributes:
      name: of the model.
      folder: of its files.
      size: of its files.
      error: what is wrong with it, as one line; empty if its files are those that were packaged.
    """

    name: str = ""
    folder: str = ""
    size: int = 0
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Codecs:
    """What reads and writes audio and video.

    Attributes:
      pyav, ffmpeg: versions; empty if PyAV is not installed.
      missing: codecs that FFmpeg lacks, such as "libx264 (encoder)".
      error: why PyAV cannot be imported, as one line; empty if it can or is not installed.
    """

    pyav: str = ""
    ffmpeg: str = ""
    missing: tuple[str, ...] = ()
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """All of it. `cache` is the folder of compiled programs; `plugin_error` is empty or one line."""

    installation: Installation
    machine: Machine
    devices: Devices
    cache: Folder
    temporary: Folder
    model: PackagedModel
    codecs: Codecs
    plugin_error: str = ""
