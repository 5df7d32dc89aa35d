"""Strength of motion between the frames of videos: the mean length of the optical flow, by Lucas and Kanade (1981).

With A and B the luminance of two successive frames in [0, 1] and G a Gaussian window, the flow d of each pixel is
refined, from coarse to fine levels of a pyramid and several times at each, by

    e = B(x + d) - A(x),   ∇ = gradient of ( B(x + d) + A(x) ) / 2,   both 0 where x + d is outside of the frame
    d ← d - ( G*∇∇ᵀ + λ I )⁻¹ G*(∇ e)

and the strength is the mean over all pixels of ‖d‖, in pixels per frame, with 0 where nothing has an edge within a few
pixels, since d comes from further away there. λ is the square of a gradient at the noise of 8 bits. The flow between
equal frames is 0, exactly. What moves further than its own size within a frame is not followed, and a change of
brightness looks like motion. TempoTokens takes the mean length of Farnebäck's flow of OpenCV instead, which is another
estimate of the same quantity.

Videos with a longer side than `side` are first averaged down by a whole factor; the strength is still in pixels of the
original.
"""

import numpy as np
from scipy import ndimage

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SIGMA = 4.0  # pixels, of the window G
_NOISE = (2 / 255) ** 2  # λ
_NEAR = 1.0  # pixels, of the window in which a pixel must have an edge
_STEPS = 3  # refinements of a level
_COARSEST = 16  # pixels, the least side of a level
_LEVELS = 5  # at most
_STEP = 1.0  # pixels, the longest change of d along an axis in one refinement


def luminance(videos: np.ndarray) -> np.ndarray:
    """Luminance of videos [N, T, H, W, 3], uint8 or float in [-1, 1]: float32 [N, T, H, W] in [0, 1].

    Raises:
      ValueError: another shape, or values that are not finite.
    """
    videos = np.asarray(videos)
    if videos.ndim != 5 or videos.shape[-1] != 3:
        raise ValueError(f"expected videos [N, T, H, W, 3], got shape {videos.shape}")
    light = videos @ _LUMA
    light = light / np.float32(255) if videos.dtype == np.uint8 else (light + 1) / 2
    if not np.isfinite(light).all():
        raise ValueError("a video has values that are not finite")
    return light.astype(np.float32, copy=False)


def _reduced(light: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor` pixels of [N, H, W]; an incomplete square at the end is left out."""
    n, height, width = light.shape
    rows, columns = height // factor, width // factor
    cut = light[:, : rows * factor, : columns * factor]
    return cut.reshape(n, rows, factor, columns, factor).mean((2, 4))


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, sigma, axes=(-2, -1), mode="nearest", truncate=3.0)


def _warped(frames: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [P, H, W] at x + d, of flows [2, P, H, W] in rows and columns, and whether that is within the frame."""
    at = np.indices(frames.shape, dtype=np.float32)
    at[1:] += flow
    last = np.array(frames.shape[1:], np.float32).reshape(2, 1, 1, 1) - 1
    moved = ndimage.map_coordinates(frames, at, order=1, mode="nearest")
    return np.asarray(moved), np.logical_and.reduce((at[1:] >= 0) & (at[1:] <= last))


def _refined(a: np.ndarray, b: np.ndarray, flow: np.ndarray) -> np.ndarray:
    moved, inside = _warped(b, flow)
    error, middle = moved - a, (moved + a) / 2
    error, dy, dx = (x * inside for x in (error, *np.gradient(middle, axis=(1, 2))))
    yy, xx, yx, ye, xe = (_blurred(x, _SIGMA) for x in (dy * dy, dx * dx, dy * dx, dy * error, dx * error))
    yy, xx = yy + _NOISE, xx + _NOISE
    determinant = yy * xx - yx * yx
    change = np.stack([(xx * ye - yx * xe) / determinant, (yy * xe - yx * ye) / determinant])
    return flow - np.clip(change, -_STEP, _STEP)


def optical_flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The flow from frames A to frames B.

    Args:
      a: luminance [P, H, W] in [0, 1].
      b: likewise.

    Returns:
      float32 [2, P, H, W], rows and columns in pixels: B(x + d) is A(x).
    """
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    pyramid = [(first, second)]
    while len(pyramid) < _LEVELS and min(first.shape[1:]) >= 2 * _COARSEST:
        first, second = (_blurred(x, 1.0)[:, ::2, ::2] for x in (first, second))
        pyramid.append((first, second))
    flow = np.zeros((2, *pyramid[-1][0].shape), np.float32)
    for first, second in reversed(pyramid):
        if flow.shape[1:] != first.shape:
            flow = 2 * flow.repeat(2, -2).repeat(2, -1)[..., : first.shape[1], : first.shape[2]]
        for _ in range(_STEPS):
            flow = _refined(first, second, flow)
    return flow


def flow_strength(videos: np.ndarray, side: int = 128) -> np.ndarray:
    """The mean length of the flow between successive frames.

    Args:
      videos: [N, T, H, W, 3], uint8 or float in [-1, 1], T >= 2.
      side: videos with a longer side are averaged down.

    Returns:
      float64 [N, T - 1], pixels per frame.

    Raises:
      ValueError: another shape, a video of one frame, or values that are not finite.
    """
    light = luminance(videos)
    if light.shape[1] < 2:
        raise ValueError(f"expected videos of at least two frames, got {light.shape[1]}")
    factor = -(-max(light.shape[2:]) // side)
    if min(light.shape[2:]) < 2 * factor:
        raise ValueError(f"frames of {light.shape[2]} by {light.shape[3]} pixels are too small or too narrow")
    strength = np.empty((len(light), light.shape[1] - 1))
    for i, frames in enumerate(light):
        frames = _reduced(frames, factor)
        dy, dx = np.gradient(frames, axis=(1, 2))
        edges = _blurred(dy * dy + dx * dx, _NEAR)
        length = np.sqrt(np.square(optical_flow(frames[:-1], frames[1:])).sum(0))
        strength[i] = factor * (length * (np.maximum(edges[:-1], edges[1:]) > _NOISE)).mean((1, 2))
    return strength
