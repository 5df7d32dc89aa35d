"""What a media file says of itself, without decoding it."""

from codi_jax.media.files import MediaError, MediaFile, opened
from codi_jax.media.image_files import use_image


def probe(file: MediaFile) -> dict[str, float]:
    """Reads a file's metadata: width, height, seconds, frames a second, samples a second, megabytes, as far as known.

    Raises:
      MediaError: the file is not a media file.
    """
    metadata: dict[str, float] = {"megabytes": round((file.size() or 0) / 1e6, 3)}
    try:
        return metadata | use_image(file, lambda image: {"width": image.width, "height": image.height})
    except MediaError as error:
        if isinstance(error.__cause__, ImportError):  # of HEIC, which FFmpeg would take for a video
            raise
    with opened(file, "media file", lambda container: container.streams) as (container, _):
        if container.duration:
            metadata["seconds"] = round(container.duration / 1e6, 3)
        for stream in container.streams.video[:1]:
            metadata |= {"width": stream.width, "height": stream.height}
            metadata["frames a second"] = round(float(stream.average_rate or 0), 3)
        for stream in container.streams.audio[:1]:
            metadata["samples a second"] = getattr(stream, "rate", 0)
    return metadata
