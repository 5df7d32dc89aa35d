"""Measures the motion and the bounce of a video by phase correlation, without a network.

With F_k the Fourier transform of the brightness of frame k, low-passed by W,

    r_k = F⁻¹[ W F_{k+1} F_k* / |F_{k+1} F_k*| ]         peaks at the shift from frame k to k + 1

A motion m with its bounce in frame e shifts the image by d_k(m, e) from frame k to k + 1 (`videos.offsets`), so

    s(m, e) = mean_k r_k[d_k(m, e)] / max r              1 for a real video, near 0 for noise or a still image
    motion  = argmax_m max_e s(m, e),   event = argmax_e s(motion, e)

A score below `READABLE` is unread, and so is a motion or a moment that leads the second best by less than `MARGIN`.
"""

import numpy as np

from codi_jax.digit_world.factors import MOMENTS, MOTIONS
from codi_jax.digit_world.videos import FRAMES, offsets
from codi_jax.digit_world.world import EVENTS, moment_of

CUTOFF = 0.22  # cycles per pixel: a codec keeps lower frequencies
READABLE = 0.35  # minimum score s
MARGIN = 0.05  # minimum lead of the best motion or moment over the second best


def correlations(videos: np.ndarray) -> np.ndarray:
    """r_k, normalized to 1 for a perfect match.

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
    """Measures videos [N, 8, H, W, 3].

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

    def is_clear(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(values, axis=-1)
        return (ordered[:, -1] >= READABLE) & (ordered[:, -1] - ordered[:, -2] >= MARGIN)

    moving = is_clear(by_motion)
    bounces = moving & is_clear(by_moment)
    return {
        "motion": np.where(moving, motion, -1),
        "moment": np.where(bounces, moments[event], -1),
        "event": np.where(bounces, EVENTS.start + event, -1),
    }


MEASURED = {"video": ("motion", "moment")}  # modality -> the factors that its function of `MEASURES` measures
MEASURES = {"video": track}  # modality -> function from natural values to factors, where no judge network is needed
