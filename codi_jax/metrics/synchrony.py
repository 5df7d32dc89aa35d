"""What measures of audio–video synchrony compare: the strength of motion and of onsets over time, and its controls.

    batch = strengths(videos, 8, waves, 16000)                 # videos [n, T, H, W, 3], waves [n, L]
    compute(AVAlign(frame_rate=8), [batch])                    # peaks of one against those of the other, `av_align`
    compute(LagCurve(frame_rate=8, seconds=2), [batch])        # their correlation over lags, `lag_curve`

Strengths of other estimators may be given instead, if they have the units and times below.

A measure of synchrony alone says little: peaks of anything fall near to peaks of anything else, and a measure that
divides by the strength of motion rates the noise of a nearly still video as it does a real event. So every measure here
stands beside two controls, `shuffled`, videos with the audio of other samples, and `still`, the first frame repeated as
often as the video is long. Motion below `MOTION` is none.
"""

from typing import NamedTuple

import numpy as np

from codi_jax.metrics.flow import flow_strength
from codi_jax.metrics.onsets import onset_strength

MOTION = 0.1  # pixels per frame, the smallest peak of motion (TempoTokens)


class Strengths(NamedTuple):
    """Strengths of n samples over time.

    Attributes:
      flow: of the motion between frames k and k + 1, at (k + 1) / frame rate, [n, T - 1] in pixels per frame.
      still: likewise of the first frame repeated T times.
      onset: of onsets at frame f / `onsets.ONSET_RATE` seconds, [n, F] in decibels.
    """

    flow: np.ndarray
    still: np.ndarray
    onset: np.ndarray


def checked(batch: Strengths) -> Strengths:
    """The strengths as float64.

    Raises:
      ValueError: other shapes, or values that are negative or not finite.
    """
    flow, still, onset = (np.asarray(x, np.float64) for x in batch)
    if flow.ndim != 2 or onset.ndim != 2 or flow.shape != still.shape or len(flow) != len(onset):
        shapes = f"{flow.shape}, {still.shape} and {onset.shape}"
        raise ValueError(f"expected flow [n, T - 1], still [n, T - 1] and onset [n, F], got shapes {shapes}")
    if not flow.shape[1] or not onset.shape[1]:
        raise ValueError("expected strengths of at least two frames of video and one of audio")
    if not all(np.isfinite(x).all() and (x >= 0).all() for x in (flow, still, onset)):
        raise ValueError("a strength is negative or not finite")
    return Strengths(flow, still, onset)


def strengths(videos: np.ndarray, frame_rate: float, waves: np.ndarray, rate: int) -> Strengths:
    """The strengths of videos and their audio, which start together.

    Args:
      videos: [n, T, H, W, 3], uint8 or float in [-1, 1], T >= 2.
      frame_rate: frames per second.
      waves: [n, L], float in [-1, 1] or int16.
      rate: sample rate of `waves`.

    Raises:
      ValueError: other shapes, numbers of videos and waveforms that differ, or durations that differ by more than a
        tenth of the video's and a frame.
    """
    videos, waves = np.asarray(videos), np.asarray(waves)
    if len(videos) != len(waves):
        raise ValueError(f"expected as many waveforms as videos, got {len(waves)} and {len(videos)}")
    flow, onset = flow_strength(videos), onset_strength(waves, rate)
    seen, heard = videos.shape[1] / frame_rate, waves.shape[1] / rate
    if abs(seen - heard) > seen / 10 + 1 / frame_rate:
        raise ValueError(f"videos of {seen:.2f} s with audio of {heard:.2f} s; check the frame rate and sample rate")
    still = flow_strength(videos[:, [0, 0]])  # every pair of its frames is this one
    return Strengths(flow, np.repeat(still, flow.shape[1], axis=1), onset)
