"""Motion and bounce of a video, by phase correlation: no network, so nothing that could credit what it cannot see.

With F_k the Fourier transform of the brightness of frame k, low-passed by W,

    r_k = F⁻¹[ W F_{k+1} F_k* / |F_{k+1} F_k*| ]         peaks where frame k + 1 lies relative to frame k

A motion m with its bounce in frame e moves the picture by d_k(m, e) from frame k to k + 1 (`videos.offsets`), so

    s(m, e) = mean_k r_k[d_k(m, e)] / max r              1 for a clip of this world, near 0 for noise or a still one
    motion  = argmax_m max_e s(m, e),   event = argmax_e s(motion, e)

What does not reach `READABLE` is unread, and so is what two motions, or two moments, explain about equally well.
"""

import numpy as np

from codi_jax.data.digit_world.factors import MOMENTS, MOTIONS
from codi_jax.data.digit_world.videos import FRAMES, offsets
from codi_jax.data.digit_world.world import EVENTS, moment_of

CUTOFF = 0.22  # cycles a pixel: what a codec keeps
READABLE = 0.35  # the least s of what is read
MARGIN = 0.05  # by which the best motion, and the best moment, have to exceed the next


def correlations(videos: np.ndarray) -> np.ndarray:
    """r_k, divided by what a perfect match would reach.

    Args:
      videos: uint8 or float [N, T, H, W, 3].

    Returns:
      float32 [N, T - 1, H, W].
    """
    light = videos.astype(np.float32).max(-1)
    light -= light.mean((-2, -1), keepdims=True)
    spectrum = np.fft.fft2(light)
    cross = spectrum[:, 1:] * spectrum[:, :-1].conj()
    fy, fx = np.fft.fftfreq(light.shape[-2]), np.fft.fftfreq(light.shape[-1])
    window = np.exp(-(fy[:, None] ** 2 + fx**2) / (2 * (CUTOFF / 2) ** 2))
    window[0, 0] = 0
    phase = cross / np.maximum(np.abs(cross), 1e-6)
    return (np.fft.ifft2(phase * window).real * window.size / window.sum()).astype(np.float32)


def scores(videos: np.ndarray) -> np.ndarray:
    """s(m, e) of videos [N, 8, H, W, 3]: float32 [N, motions, events]."""
    r = correlations(videos)
    pairs = np.arange(FRAMES - 1)
    steps = np.array([[np.diff(offsets(motion, event), axis=0) for event in EVENTS] for motion in MOTIONS])
    return r[:, pairs, steps[..., 0], steps[..., 1]].mean(-1)


def track(videos: np.ndarray) -> dict[str, np.ndarray]:
    """Reads videos [N, 8, H, W, 3].

    Returns:
      {"motion", "moment"}: indices into MOTIONS and MOMENTS; {"event"}: the frame. int64 [N], -1 where unread.
    """
    s = scores(videos)
    by_motion = s.max(-1)
    motion = by_motion.argmax(-1)
    rows = np.arange(len(s))
    by_event = s[rows, motion]
    event = by_event.argmax(-1)
    moments = moment_of(np.array(EVENTS))
    by_moment = np.stack([by_event[:, moments == m].max(-1) for m in range(len(MOMENTS))], axis=-1)

    def clear(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(values, axis=-1)
        return (ordered[:, -1] >= READABLE) & (ordered[:, -1] - ordered[:, -2] >= MARGIN)

    moving = clear(by_motion)
    bounces = moving & clear(by_moment)
    return {
        "motion": np.where(moving, motion, -1),
        "moment": np.where(bounces, moments[event], -1),
        "event": np.where(bounces, EVENTS.start + event, -1),
    }


MEASURES = {"video": track}  # modality -> natural values to factors, for what is measured rather than judged
