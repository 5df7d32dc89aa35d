"""AV-Align (TempoTokens, Yariv et al., arXiv 2309.16429): onsets of audio against peaks of motion.

With O the onsets of an audio (`onsets.onset_times`) and M the local maxima of the strength of motion of its video of at
least 0.1 pixels per frame (`flow`), each in seconds,

    matched     onsets in order, each with the first unmatched o, m of which |o - m| < w
    AV-Align    = mean over samples of |matched| / ( |O| + |M| - |matched| )              w = 1 / frame rate

The definitions are those of its code (`guyyariv/TempoTokens`, av_align.py), with two differences: a maximum of several
equal values counts once, at their middle, and a sample without onsets and peaks, for which its code has no number, has
a score of 0. The flow is not OpenCV's, so scores are not comparable to the digit with published ones.

A random pair of an audio and a video has some peaks in step, the more so the lower the frame rate. `shuffled` is the
score of video i with the audio of sample i + 1, the last one with the first. Put the samples in random order first: if
neighbours show the same, it is too high. `still` is the score of still videos, 0 as no motion is no event. The mean
numbers of onsets and peaks, and the mean motion, tell whether there was anything to be in step.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks

from codi_jax.metrics.intervals import standard_error
from codi_jax.metrics.onsets import onset_times
from codi_jax.metrics.synchrony import MOTION, Strengths, checked


def motion_times(flow: np.ndarray, frame_rate: float) -> np.ndarray:
    """The peaks of motion of one video in seconds, float64 [peaks], from its strength [T - 1]."""
    _, found = find_peaks(np.asarray(flow, np.float64), height=MOTION, plateau_size=1)
    return ((found["left_edges"] + found["right_edges"]) / 2 + 1) / frame_rate


def intersection_over_union(onsets: np.ndarray, peaks: np.ndarray, window: float) -> float:
    """|matched| / |union| of times in ascending order, in seconds; 0 if there are none.

    Args:
      onsets: [onsets].
      peaks: [peaks].
      window: w in seconds; times that are apart by less match.
    """
    free, matched = list(peaks), 0
    for onset in onsets:
        if (near := next((i for i, peak in enumerate(free) if abs(onset - peak) < window), None)) is not None:
            del free[near]
            matched += 1
    union = len(onsets) + len(peaks) - matched
    return matched / union if union else 0.0


class AlignSums(NamedTuple):
    """Sums over a sequence of samples, and the times at its ends; float64.

    Attributes:
      number: n, [].
      total: of the scores, [].
      square: of their squares, [].
      shuffled: of the scores of each video with the next audio, which are n - 1, [].
      still: of the scores of still videos, [].
      onsets: of the numbers of onsets, [].
      peaks: of the numbers of peaks of motion, [].
      motion: of the mean strengths of motion, [].
      first: onsets of the first sample, NaN beyond, [capacity].
      last: peaks of the last sample, NaN beyond, [capacity].
    """

    number: np.ndarray
    total: np.ndarray
    square: np.ndarray
    shuffled: np.ndarray
    still: np.ndarray
    onsets: np.ndarray
    peaks: np.ndarray
    motion: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclasses.dataclass(frozen=True)
class AVAlign:
    """Metric of batches of `Strengths`.

    Its numbers are {"av_align", "shuffled", "still", "standard_error", "onsets", "peaks", "motion", "n"}: scores, the
    standard error of the first as the mean of independent samples, and means over samples of the number of onsets, of
    the number of peaks, and of the motion in pixels per frame. `shuffled` and the standard error are NaN of one sample.

    Attributes:
      frame_rate: of the videos, frames per second.
      window: w in seconds; by default a frame.
      capacity: largest number of onsets or peaks of a sample.
    """

    frame_rate: float
    window: float | None = None
    capacity: int = 256

    def __post_init__(self):
        if not self.frame_rate > 0 or not (self.window is None or self.window > 0):
            raise ValueError(f"frame_rate {self.frame_rate} and window {self.window} must be positive")

    def _score(self, onsets: np.ndarray, peaks: np.ndarray) -> float:
        return intersection_over_union(onsets, peaks, self.window or 1 / self.frame_rate)

    def _kept(self, times: np.ndarray) -> np.ndarray:
        if len(times) > self.capacity:
            raise ValueError(f"a sample has {len(times)} onsets or peaks; raise capacity, {self.capacity}")
        return np.pad(times, (0, self.capacity - len(times)), constant_values=np.nan)

    def init(self) -> AlignSums:
        zero, none = np.zeros(()), np.full(self.capacity, np.nan)
        return AlignSums(zero, zero, zero, zero, zero, zero, zero, zero, first=none, last=none)

    def update(self, state: AlignSums, batch: Strengths) -> AlignSums:
        for flow, still, onset in zip(*checked(batch), strict=True):
            onsets, peaks = onset_times(onset), motion_times(flow, self.frame_rate)
            score, control = self._score(onsets, peaks), self._score(onsets, motion_times(still, self.frame_rate))
            sums = {
                **{"number": 1, "total": score, "square": score**2, "shuffled": 0, "still": control},
                **{"onsets": len(onsets), "peaks": len(peaks), "motion": flow.mean()},
            }
            arrays = {name: np.array(float(x)) for name, x in sums.items()}
            state = self.merge(state, AlignSums(**arrays, first=self._kept(onsets), last=self._kept(peaks)))
        return state

    def _across(self, a: AlignSums, b: AlignSums) -> float:
        """The score of the last video of a with the first audio of b."""
        return self._score(b.first[np.isfinite(b.first)], a.last[np.isfinite(a.last)])

    def merge(self, a: AlignSums, b: AlignSums) -> AlignSums:
        if not a.number or not b.number:
            return a if a.number else b
        sums = {name: getattr(a, name) + getattr(b, name) for name in AlignSums._fields[:-2]}
        sums["shuffled"] = sums["shuffled"] + self._across(a, b)
        return AlignSums(**sums, first=a.first, last=b.last)

    def compute(self, state: AlignSums) -> dict[str, float]:
        n = float(state.number)
        if not n:
            raise ValueError("no samples to align")
        mean = float(state.total) / n
        return {
            "av_align": mean,
            "shuffled": (float(state.shuffled) + self._across(state, state)) / n if n > 1 else np.nan,
            "still": float(state.still) / n,
            "standard_error": standard_error(n, mean, float(state.square)),
            "onsets": float(state.onsets) / n,
            "peaks": float(state.peaks) / n,
            "motion": float(state.motion) / n,
            "n": n,
        }
