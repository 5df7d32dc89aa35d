"""Lengths and frames of files as they are, at their own rate and size."""

import numpy as np

from codi_jax.evaluation.samples import Content
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.metadata import probe

LARGEST = 256  # pixels, the side of frames that are read


def as_file(content: Content) -> MediaFile:
    """A path as a file."""
    return content if isinstance(content, MediaFile) else MediaFile(content)


def seconds_of(content: Content) -> float:
    """The length of audio or video.

    Raises:
      MediaError: the file cannot be read, or its container does not say how long it lasts.
    """
    file = as_file(content)
    if not (length := files.seconds(file)):
        raise MediaError("value", f"{file.name}: its container does not say how many seconds it lasts; convert it")
    return length


def rate_and_side(content: Content) -> tuple[float, int]:
    """Frames per second, and the shorter side in pixels, at most `LARGEST`.

    Raises:
      MediaError: the file cannot be read, or is no video.
    """
    file = as_file(content)
    found = probe(file)
    rate, side = found.get("frames a second", 0.0), min(found.get("width", 0), found.get("height", 0))
    if not rate or not side:
        raise MediaError("kind", f"{file.name}: expected a video with a frame rate")
    return rate, min(int(side), LARGEST)


def read_frames(content: Content, frames: int) -> np.ndarray:
    """The first frames of a video at its own rate, uint8 [T, S, S, 3]; the last one is repeated if it is shorter.

    Raises:
      MediaError: the file cannot be read, or is no video.
    """
    rate, side = rate_and_side(content)
    return files.read_video(as_file(content), frames, rate, side)
