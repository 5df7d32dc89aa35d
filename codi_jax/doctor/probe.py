"""Questions about what only its libraries know, each answered in a process of its own, which `ask` starts."""

import collections
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.doctor.ask import print_answer

# What `media` writes, and what most files hold.
_ENCODERS = ("libx264",)
_DECODERS = (
    *("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"),
    *("aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le"),
)


def devices() -> dict[str, Any]:
    """What jax finds: platform, groups of (kind, count, memory), and the processes that the environment names."""
    import jax

    from codi_jax.parallel import distributed
    from codi_jax.parallel.chips import chip_of_kind

    processes = distributed.requested(os.environ)
    groups = collections.Counter()
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        memory = stats.get("bytes_limit")
        if memory is None and (chip := chip_of_kind(device.device_kind)):
            memory = int(chip.memory / chip.devices)
        groups[device.device_kind, memory] += 1
    return {
        "platform": jax.default_backend(),
        "groups": [(kind, count, memory) for (kind, memory), count in groups.items()],
        "processes": processes.count if processes else 1,
        "source": processes.source if processes else "",
    }


def model() -> dict[str, Any]:
    """The packaged model: its name, folder and size, after the checksums of its files have been compared.

    Raises:
      ConfigError: a file is missing or damaged.
    """
    from codi_jax import packaged

    package = packaged.open_package(packaged.DEFAULT)
    for kind in packaged.FILES:
        package.components(kind)
    size = sum(file.stat().st_size for file in package.directory.iterdir())
    return {"name": package.name, "folder": str(package.directory), "size": size}


def codecs() -> dict[str, Any]:
    """PyAV: its version, FFmpeg's, and codecs that this FFmpeg lacks. Nothing without PyAV."""
    import importlib.util

    if importlib.util.find_spec("av") is None:
        return {}
    import av
    from av.codec import Codec

    encoders = _lacking(_ENCODERS, "encoder", lambda name: Codec(name, "w"))
    decoders = _lacking(_DECODERS, "decoder", lambda name: Codec(name, "r"))
    missing = [*encoders, *decoders]
    return {"pyav": av.__version__, "ffmpeg": str(av.ffmpeg_version_info), "missing": missing}


def _lacking(names: Sequence[str], kind: str, opened: Callable[[str], object]) -> Iterator[str]:
    for name in names:
        try:
            opened(name)
        except ValueError:  # UnknownCodecError
            yield f"{name} ({kind})"


def plugins(*names: str) -> dict[str, Any]:
    """Imports plugins.

    Raises:
      ConfigError: there is no such module.
    """
    from codi_jax.plugins import import_plugins

    import_plugins(names)
    return {}


QUESTIONS = {"devices": devices, "model": model, "codecs": codecs, "plugins": plugins}


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """That of the processes: jax takes no memory of a GPU before it needs it."""
    return {**given, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_CLIENT_PREALLOCATE": "false"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the answer to a question: its name, and its arguments. Exits with the line of a ConfigError."""
    question, *rest = sys.argv[2:] if arguments is None else arguments
    try:
        print_answer(QUESTIONS[question](*rest))
    except ConfigError as error:
        sys.exit(str(error))
