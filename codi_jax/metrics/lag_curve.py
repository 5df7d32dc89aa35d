"""Correlation of motion and onsets over lags: whether a video and its audio are in step, and by how much they are off.

The strengths of motion and of onsets (`synchrony`) are interpolated to common times t, and their means over time are
subtracted. With v and a of norm 1 over time, of sample i,

    r_i(l)      = Σ_t v_i(t) a_i(t + l)                              in [-1, 1]; l > 0: the audio is late
    r(l)        = mean_i r_i(l)
    shuffled(l) = mean_{i≠j} Σ_t v_i(t) a_j(t + l) = ( Σ_t (Σ_i v_i)(t) (Σ_j a_j)(t + l) - Σ_i r_i(l) ) / (n (n - 1))

`peak` is max_l r(l) and `lag` the l of it, in seconds, and so for the controls. Outside of the sample v and a are 0, so
that a large lag with little overlap has a small r. `shuffled` is exact, over all pairs of different samples; it is
above 0 if events prefer some times, as the middle of a video. A peak of r that is above it says that samples are in
step at that lag; samples that are each in step at another lag have a flat r.

Norm 1 makes r blind to how much moves. So a video whose motion never reaches `synchrony.MOTION` has v = 0 and counts as
a sample with r = 0, as does silent audio; `still_share` is the share of such videos, and the control `still`, the first
frame repeated, has r = 0 unless the estimator of motion finds some where there is none.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.onsets import ONSET_RATE
from codi_jax.metrics.synchrony import MOTION, Strengths, checked


def _standard(x: np.ndarray, least: float) -> np.ndarray:
    """Rows [n, G] less their means, of norm 1; 0 if a row's maximum is below `least` or it is constant."""
    centred = x - x.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    some = (x.max(1, keepdims=True) >= least) & (norm > 1e-9 * np.linalg.norm(x, axis=1, keepdims=True))
    return np.where(some, centred / np.where(some, norm, 1), 0)


class CurveSums(NamedTuple):
    """Sums over samples, float64.

    Attributes:
      number: n, [].
      unmoved: number of videos that never move by `MOTION`, [].
      curve: Σ r_i, [lags].
      still: the same with still videos, [lags].
      flow: Σ v_i, [G].
      onset: Σ a_i, [G].
    """

    number: np.ndarray
    unmoved: np.ndarray
    curve: np.ndarray
    still: np.ndarray
    flow: np.ndarray
    onset: np.ndarray


class Curves(NamedTuple):
    """r, its shuffled control and its still control over `lags` in seconds, each [lags]; see `LagCurve.curves`."""

    lags: np.ndarray
    paired: np.ndarray
    shuffled: np.ndarray
    still: np.ndarray


@dataclasses.dataclass(frozen=True)
class LagCurve:
    """Metric of batches of `Strengths` of samples of one duration.

    Its numbers are {"peak", "lag", "shuffled_peak", "shuffled_lag", "still_peak", "still_share", "n"}, lags in seconds.
    Those of `shuffled` are NaN of one sample.

    Attributes:
      frame_rate: of the videos, frames per second.
      seconds: duration that is compared, from the start; videos and audio must not be shorter by more than a frame.
      max_lag: largest lag, seconds.
      step: time from one t, and one lag, to the next, seconds.
    """

    frame_rate: float
    seconds: float
    max_lag: float = 0.5
    step: float = 0.02

    def __post_init__(self):
        if not self.frame_rate > 0 or not 0 < self.step <= self.max_lag < self.seconds:
            raise ValueError(
                f"expected frame_rate > 0 and 0 < step <= max_lag < seconds, got {self.frame_rate}, {self.step}, "
                f"{self.max_lag} and {self.seconds}"
            )

    @property
    def lags(self) -> np.ndarray:
        """The lags in seconds, [lags]."""
        most = int(self.max_lag / self.step + 1e-9)
        return np.arange(-most, most + 1) * self.step

    @property
    def _times(self) -> np.ndarray:
        return np.arange(int(self.seconds / self.step + 1e-9)) * self.step

    def _correlation(self, v: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Σ_t v(t) a(t + l) of rows [n, G]: [n, lags]."""
        most, size = len(self.lags) // 2, len(self._times)
        padded = np.pad(a, ((0, 0), (most, most)))
        return np.stack([(v * padded[:, k : k + size]).sum(1) for k in range(2 * most + 1)], axis=1)

    def _standardized(self, batch: Strengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v, the v of still videos, and a of samples: each [n, G]."""
        flow, still, onset = checked(batch)
        shown, heard = (flow.shape[1] + 1) / self.frame_rate, onset.shape[1] / ONSET_RATE
        if min(shown, heard) < self.seconds - 1 / self.frame_rate - 1e-9:
            raise ValueError(f"videos of {shown:.2f} s and audio of {heard:.2f} s are shorter than {self.seconds} s")
        changes, frames = (1 + np.arange(flow.shape[1])) / self.frame_rate, np.arange(onset.shape[1]) / ONSET_RATE

        def rows(strength: np.ndarray, times: np.ndarray, least: float) -> np.ndarray:
            at = [np.interp(self._times, times, row) for row in strength]
            return _standard(np.reshape(at, (len(strength), len(self._times))), least)

        return rows(flow, changes, MOTION), rows(still, changes, MOTION), rows(onset, frames, 0.0)

    def per_sample(self, batch: Strengths) -> np.ndarray:
        """r_i of each sample, float64 [n, lags].

        Raises:
          ValueError: see `update`.
        """
        v, _, a = self._standardized(batch)
        return self._correlation(v, a)

    def init(self) -> CurveSums:
        curve, time = np.zeros(len(self.lags)), np.zeros(len(self._times))
        return CurveSums(np.zeros(()), np.zeros(()), curve, curve, time, time)

    def update(self, state: CurveSums, batch: Strengths) -> CurveSums:
        v, still, a = self._standardized(batch)
        number, unmoved = np.array(float(len(v))), np.array(float((np.max(batch.flow, axis=1) < MOTION).sum()))
        paired, control = (self._correlation(x, a).sum(0) for x in (v, still))
        return self.merge(state, CurveSums(number, unmoved, paired, control, v.sum(0), a.sum(0)))

    def merge(self, a: CurveSums, b: CurveSums) -> CurveSums:
        return CurveSums(*(x + y for x, y in zip(a, b, strict=True)))

    def curves(self, state: CurveSums) -> Curves:
        """The mean curves.

        Raises:
          ValueError: no samples.
        """
        n = float(state.number)
        if not n:
            raise ValueError("no samples to correlate")
        every = self._correlation(state.flow[None], state.onset[None])[0]
        pairs = n * (n - 1)
        shuffled = (every - state.curve) / pairs if pairs else np.full_like(every, np.nan)
        return Curves(self.lags, state.curve / n, shuffled, state.still / n)

    def compute(self, state: CurveSums) -> dict[str, float]:
        lags, paired, shuffled, still = self.curves(state)
        return {
            "peak": float(paired.max()),
            "lag": float(lags[paired.argmax()]),
            "shuffled_peak": float(shuffled.max()),
            "shuffled_lag": float(lags[shuffled.argmax()]) if np.isfinite(shuffled).all() else np.nan,
            "still_peak": float(still.max()),
            "still_share": float(state.unmoved / state.number),
            "n": float(state.number),
        }
