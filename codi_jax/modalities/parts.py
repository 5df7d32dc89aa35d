"""Parts of values that conditions name: spans of time, numbers of frames, cells of a latent; filling what is left."""

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.types import Array

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_SPAN = re.compile(rf"({_NUMBER})-({_NUMBER})s")
_FRAMES = re.compile(r"(\d+)(?:-(\d+))?")


def spans(keep: str, name: str) -> list[tuple[float, float]]:
    """The spans of "0-0.5s,0.8-1s", in seconds.

    Raises:
      ConfigError: another form, or a span that ends before it begins.
    """
    out = []
    for part in keep.split(","):
        match = _SPAN.fullmatch(part.strip())
        if not match or float(match[1]) >= float(match[2]):
            raise ConfigError(f"{name}: keep: expected spans of seconds, such as 0-0.5s, got {part!r}")
        out.append((float(match[1]), float(match[2])))
    return out


def is_spans(keep: str) -> bool:
    """Whether a part is given in seconds."""
    return keep.strip().endswith("s")


def frames(keep: str, count: int, name: str) -> np.ndarray:
    """Which of `count` frames "0,5-7" names, bool [count].

    Raises:
      ConfigError: another form, or a frame that there is not.
    """
    out = np.zeros(count, bool)
    for part in keep.split(","):
        match = _FRAMES.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first > last or last >= count:
            raise ConfigError(
                f"{name}: keep: expected frames from 0 to {count - 1}, such as 0,{count - 1}, or seconds, such as "
                f"0-0.5s, got {part!r}"
            )
        out[first : last + 1] = True
    return out


def in_spans(times: np.ndarray, keep: Sequence[tuple[float, float]]) -> np.ndarray:
    """Whether times, in seconds, are in one of the spans, whose ends are not in them."""
    return np.any([(a <= times) & (times < b) for a, b in keep], axis=0)


def blocks(kept: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Which cells of a grid are kept whole.

    Args:
      kept: bool [N1, N2, …], in the resolution of the value.
      shape: of the grid, [n1, n2, …]; each axis is cut into parts that are equal, up to one.

    Returns:
      bool [n1, n2, …].
    """
    for axis, cells in enumerate(shape):
        kept = np.stack([part.all(axis) for part in np.array_split(kept, cells, axis)], axis)
    return kept


def spread(mask: Array, shape: Sequence[int]) -> Array:
    """A mask of cells [n1, n2, …] in the resolution of a value, `shape`; the cells of an axis are equal, up to one."""
    for axis, length in enumerate(shape):
        cells = mask.shape[axis]
        mask = jnp.take(mask, np.arange(length) * cells // length, axis)
    return mask


def with_median(pixels: Array, kept: Array) -> Array:
    """Pixels [B, …, C] with the median of the kept ones, of each channel, in place of the others.

    Args:
      pixels: finite.
      kept: bool [B, …, 1].
    """
    size, channels = pixels.shape[0], pixels.shape[-1]
    ordered = jnp.sort(jnp.where(kept, pixels, jnp.inf).reshape(size, -1, channels), axis=1)
    count = jnp.maximum(kept.reshape(size, -1).sum(1), 1)[:, None, None]
    low, high = (jnp.take_along_axis(ordered, k, 1) for k in ((count - 1) // 2, count // 2))
    median = ((low + high) / 2).reshape(size, *(1,) * (pixels.ndim - 2), channels)
    return jnp.where(kept, pixels, jnp.where(jnp.isfinite(median), median, 0))


def from_nearest(pixels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Fills pixels from other frames.

    Args:
      pixels: [*frames, H, W, C], with one axis of frames or none.
      kept: bool [*frames, H, W], of which at least one is true.

    Returns:
      pixels where they are kept; elsewhere the same pixel of the nearest frame that keeps it, the earlier one of two;
      where no frame does, the median of all kept pixels.
    """
    frames, masks = pixels.reshape(-1, *pixels.shape[-3:]), kept.reshape(-1, *kept.shape[-2:])
    times = np.arange(len(frames))
    distance = np.where(
        masks[:, None], np.abs(times[:, None] - times)[..., None, None], len(frames)
    )  # [from, to, H, W]
    nearest = distance.argmin(0)
    found = np.take_along_axis(frames, nearest[..., None], 0)
    median = np.median(frames[masks], axis=0).astype(pixels.dtype)
    return np.where(np.any(masks, axis=0)[..., None], found, median).reshape(pixels.shape)
