"""Media of samples as HTML: with a text for those who do not see them, and no more of them than a page may hold."""

import base64
import io
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.media.data_url import data_url
from codi_jax.modalities import Modality
from codi_jax.report.markup import Html

MAX_BYTES = 10_000_000  # of a page

_TAG = re.compile(r"<(img|audio|video|svg)\b([^>]*)>")
_EMBEDDED = re.compile(r'src="data:image/(?:webp|gif|png);base64,([^"]+)"')


def described(markup: str, words: str) -> Html:
    """What a modality shows (`Modality.html`), with a text in its place.

    Images get it as their alternative text, players and drawings as their label; text stays as it is. An animation
    stands still for those who have asked their system for less motion.
    """

    def tag(match: re.Match[str]) -> str:
        name, attributes = match.groups()
        if name == "img":
            if 'alt="' not in attributes:
                attributes += ' alt=""'
            changed = f"<img{attributes}>".replace(' alt=""', f' alt="{escape(words, quote=True)}"', 1)
            return f"{still}{changed}</picture>" if (still := _still(changed)) else changed
        role = ' role="img"' if name == "svg" and "role=" not in attributes else ""
        label = "" if "aria-label=" in attributes else f' aria-label="{escape(words, quote=True)}"'
        return f"<{name}{role}{label}{attributes}>"

    return Html(_TAG.sub(tag, markup))


def _still(img: str) -> str:
    """The beginning of a picture element with the first frame of an animated image; empty for others."""
    embedded = _EMBEDDED.search(img)
    if embedded is None:
        return ""
    image = Image.open(io.BytesIO(base64.b64decode(embedded[1])))
    if not getattr(image, "is_animated", False):
        return ""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", optimize=True)
    source = data_url("image/png", file.getvalue())
    return f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{source}">'


def media(modality: Modality, path: Path, words: str) -> Html:
    """A file that `Modality.write` wrote, with a text in its place."""
    if path.suffix == ".txt":
        return described(modality.html(path.read_text(encoding="utf-8").strip()), words)
    return described(modality.html(modality.raw_from_user(str(path))), words)


def fitted(build: Callable[[int], Html], most: int) -> Html:
    """The page with the most samples that takes no more than `MAX_BYTES`.

    Args:
      build: the page with so many samples in each of its galleries, 0 for none.
      most: samples to try.

    Raises:
      ConfigError: the page is too large without any sample.
    """
    page = build(most)
    while (size := len(page.encode())) > MAX_BYTES and most:
        most = min(most - 1, most * MAX_BYTES // size)
        page = build(most)
    if size > MAX_BYTES:
        raise ConfigError(f"the report takes {size:,} bytes without its samples; it may take {MAX_BYTES:,}")
    return page
