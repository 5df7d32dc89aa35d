"""Files of clients: bounded in bytes, pixels and seconds, and decoded in a process that can be killed.

Which decoder reads a file is decided by the files that its modality writes. A modality of a plugin, which writes
others, reads the bytes itself, in this process.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.data.decoder_pool import SubprocessDecoder
from codi_jax.media.files import MediaFile
from codi_jax.modalities.base import Modality

TIMEOUT_S = 15.0  # of each call of the decoder
_OPAQUE = 128  # of 255: painted over from here on


def _side(modality: Modality) -> int:
    """The side in pixels at which a modality reads images and frames."""
    return getattr(modality, "read_size", 0) or modality.value_format["size"]


def _read_image(decoder: SubprocessDecoder, file: MediaFile, modality: Modality) -> np.ndarray:
    return decoder.read_square(file, _side(modality))


def _read_audio(decoder: SubprocessDecoder, file: MediaFile, modality: Modality) -> np.ndarray:
    return decoder.read_audio(file, modality.value_format["samples"], modality.value_format["rate"])


def _read_video(decoder: SubprocessDecoder, file: MediaFile, modality: Modality) -> np.ndarray:
    return decoder.read_video(file, modality.value_format["frames"], modality.value_format["rate"], _side(modality))


_DECODE: dict[str, Callable[[SubprocessDecoder, MediaFile, Modality], np.ndarray]] = {
    ".png": _read_image,
    ".wav": _read_audio,
    ".mp4": _read_video,
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Of one file: bytes, pixels of an image or a frame, seconds."""

    bytes: int
    pixels: int
    seconds: float


class Uploads:
    """Reads files of clients, one at a time.

    Args:
      codi: the model.
      bounds: of a file.
      timeout_s: of each call of the decoder, which is then killed.
    """

    def __init__(self, codi: CoDi, bounds: Bounds, timeout_s: float = TIMEOUT_S):
        self._codi, self._bounds = codi, bounds
        self._decoder = SubprocessDecoder(timeout_s)

    def read(self, name: str, file: str | bytes) -> Any:
        """The raw value of a file.

        Args:
          name: of the modality.
          file: its path, or its contents.

        Raises:
          ConfigError: it is too large, of another kind, damaged, or is not decoded in time. The message does not name
            the path.
        """
        modality = self._codi[name]
        decode, data = _DECODE.get(modality.suffix), self._contents(name, file)
        if decode is None:
            return modality.raw_from_user(data)
        media = MediaFile(f"the file of {name}", data)
        self._measure(media)
        return modality.raw_from_user(decode(self._decoder, media, modality))

    def read_painted(self, name: str, file: str | bytes) -> np.ndarray:
        """What is painted over in an image with transparency, bool [S, S].

        Raises:
          ConfigError: see `read`.
        """
        media = MediaFile(f"what is painted over {name}", self._contents(name, file))
        self._measure(media)
        return self._decoder.read_opacity(media, _side(self._codi[name])) >= _OPAQUE

    def close(self) -> None:
        """Ends the decoder's process."""
        self._decoder.close()

    def _contents(self, name: str, file: str | bytes) -> bytes:
        try:
            data = file if isinstance(file, bytes) else _beginning(file, self._bounds.bytes + 1)
        except OSError:
            raise ConfigError(f"{name}: the file is gone; give it again") from None
        if not data:
            raise ConfigError(f"{name}: an empty file")
        if len(data) > self._bounds.bytes:
            raise ConfigError(f"{name}: the file is larger than {self._bounds.bytes / 1e6:g} MB")
        return data

    def _measure(self, file: MediaFile) -> None:
        width, height, seconds = self._decoder.measure(file)
        if width * height > self._bounds.pixels:
            raise ConfigError(f"{file.name}: {width:g}x{height:g} is over {self._bounds.pixels / 1e6:g} megapixels")
        if seconds > self._bounds.seconds:
            raise ConfigError(f"{file.name}: {seconds:.0f} seconds long; at most {self._bounds.seconds:g}")


def _beginning(path: str, count: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(count)
