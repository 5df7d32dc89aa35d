"""Reads image files with Pillow, and HEIC files if pillow-heif is installed, as RGB of 8 bits."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from codi_jax.config import ConfigError
from codi_jax.media import deep_colours, files, png, tiff
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.greys import NotFiniteError, greys_of

T = TypeVar("T")
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}  # brands of ISO 23008-12


def read_image(source: Any) -> Image.Image:
    """Reads an image as RGB: rotated by its EXIF orientation, transparency on white, greys of any depth as 8 bits.

    Which of more than 8 bits are black and white is said in `media.greys`.

    Args:
      source: a path, a MediaFile or an image of Pillow.

    Raises:
      MediaError: the file does not exist, is not an image, is too large, or has NaN or infinite values.
    """
    if isinstance(source, Image.Image):
        with _image_errors("the image"):
            return _to_rgb(source, "the image")
    file = files.existing_file(source, "image file")
    is_deep, out = use_image(file, lambda image: (deep_colours.is_deep(image), _to_rgb(image, file.name)))
    if is_deep and deep_colours.is_dark(out):
        return deep_colours.with_lower(out, use_image(file, deep_colours.lower_bytes))
    return out


def use_image(file: MediaFile, use: Callable[[Image.Image], T]) -> T:
    """What a function takes from an image file, which is open but not decoded; errors of Pillow become a MediaError."""
    with _image_errors(file.name), file.open() as stream:
        if is_heic := _is_heic(stream):
            _register_heic(file.name)
        is_png = png.is_png(stream)
        if not (is_png and (file.size() or 0) > png.LARGE and png.has_large_chunk(stream)):
            try:
                with Image.open(stream) as image:
                    return use(image)
            except UnidentifiedImageError as error:
                if is_heic:
                    raise MediaError("damaged", f"{file.name}: not a readable HEIC image; is it whole?") from error
                if kind := tiff.unread_kind(stream):
                    raise MediaError("kind", f"{file.name}: {kind}") from error
                raise
            except ValueError as error:
                if isinstance(error, (ConfigError, NotFiniteError)) or not is_png:
                    raise
        with Image.open(png.without_texts(stream)) as image:  # its texts may be all that is wrong
            return use(image)


@contextmanager
def _image_errors(name: str) -> Iterator[None]:
    """Errors of Pillow become a MediaError."""
    try:
        yield
    except ConfigError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError("kind", f"{name}: not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise MediaError("large", f"{name}: over {files.MAX_PIXELS} pixels") from error
    except NotFiniteError as error:
        raise MediaError("numbers", f"{name}: the image has NaN or infinite values") from error
    except Exception as error:  # Pillow's plugins raise what they like: RuntimeError for AVIF, struct.error for TIFF
        reason = "cut" if "truncated" in str(error).lower() else "damaged"
        raise MediaError(reason, f"{name}: not a readable image ({type(error).__name__})") from error


def _is_heic(stream: BinaryIO) -> bool:
    """Whether a stream is a HEIC file by its brands; it is left at its beginning."""
    begins = stream.read(64)
    stream.seek(0)
    if begins[4:8] != b"ftyp":
        return False
    box = begins[8 : int.from_bytes(begins[:4], "big")]
    return not _HEIC.isdisjoint(box[at : at + 4] for at in range(0, len(box), 4) if at != 4)  # 4: a version


def _register_heic(name: str) -> None:
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        install = "pip install 'codi_jax[heic]'"
        raise MediaError("kind", f"{name}: a HEIC image, which needs pillow-heif: {install}") from error
    pillow_heif.register_heif_opener()


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    files.check_pixels(image.width, image.height, name)
    if tiff.has_deep_planes(image):
        raise MediaError(
            "kind", f"{name}: a TIFF of more than 8 bits in separate planes, which is not read; save it with one"
        )
    greys = greys_of(image)
    image = ImageOps.exif_transpose(image)
    if greys is not None:
        image = greys.to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
