"""Measures when a waveform clicks, without a network.

A click is a burst of white noise of about 10 ms: it raises the power of all frequencies at once, by an amount that is
known, and is gone within a frame. A word raises some frequencies, for longer, and stops such as the t of `eight` are
weaker at low ones. With P_b(t) the mean power of a band b in a frame of 16 ms at t, C_b that of a click alone, and the
background interpolated (in decibels) from a frame before and one after,

    N_b(t) = √( P_b(t - LAG) P_b(t + LAG) )
    r_b(t) = ln P_b(t) / N_b(t)                        observed rise
    e_b(t) = ln ( N_b(t) + C_b ) / N_b(t)              rise by a click in this background
    s(t)   = 1 - Σ_b |r_b - e_b| / Σ_b e_b             1 for a click, at most 0 where nothing rises
    time   = argmax_t s(t)

where a click would be heard, at a mean rise e of at least `AUDIBLE`; elsewhere s is 0, since noise as loud as a click
fits anything. A time whose score is below `READABLE` is unread, and so is one that leads the best score elsewhere by
less than `MARGIN`. The thresholds were chosen on validation samples; `python -m benchmarks.clicks` measures the
accuracy on test samples, real, after the model's codec, generated, and without a click.
"""

import functools
from itertools import pairwise

import numpy as np
from scipy import fft

from codi_jax.digit_world.audio import click_bursts
from codi_jax.digit_world.speech import RATE
from codi_jax.media.mel import hann

WINDOW = 128  # samples of a frame, 16 ms
HOP = 32  # samples from one frame to the next, 4 ms
LAG = 5  # frames from a click to the background, 20 ms
BANDS = np.linspace(500.0, RATE / 2, 13)  # edges of the bands in Hz; below, voices are louder than a click
READABLE = 0.55  # minimum score s
AUDIBLE = 1.5  # minimum mean of e over the bands, natural logarithms
MARGIN = 0.05  # minimum lead of the best time over the best one that is more than APART from it
APART = 0.05  # seconds
FLOOR = 1e-10  # of a power, relative to full scale
_ROWS = 64  # waveforms of one pass, which bounds the memory


def _band_powers(waves: np.ndarray) -> np.ndarray:
    """P, float32 [N, frames, bands], of float waveforms [N, L] in [-1, 1]; frame k is centred on sample k · HOP."""
    padded = np.pad(waves.astype(np.float32), ((0, 0), (WINDOW // 2, WINDOW // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    power = np.abs(np.asarray(fft.rfft(frames * hann(WINDOW).astype(np.float32)))) ** 2 / WINDOW**2
    first = np.searchsorted(np.fft.rfftfreq(WINDOW, 1 / RATE), BANDS)
    return np.stack([power[..., a:b].mean(-1) for a, b in pairwise(first)], axis=-1) + FLOOR


@functools.lru_cache(maxsize=1)
def _click() -> tuple[np.ndarray, float]:
    """C [bands], the mean over all clicks where their power is largest, and the seconds from a click's start to it."""
    bursts = click_bursts()
    start = 4 * WINDOW
    waves = np.zeros((len(bursts), 8 * WINDOW), np.float32)
    waves[:, start : start + bursts.shape[1]] = bursts
    power = _band_powers(waves).mean(0)
    energy = (bursts**2).sum(0)
    return power.max(0), float(energy @ np.arange(len(energy)) / energy.sum() / RATE)


def scores(waves: np.ndarray) -> np.ndarray:
    """s(t) at t = k · HOP / RATE of float waveforms [N, L] in [-1, 1], L >= 2 · LAG · HOP: float32 [N, frames]."""
    power = _band_powers(waves)
    padded = np.pad(power, ((0, 0), (LAG, LAG), (0, 0)), mode="edge")
    background = np.sqrt(padded[:, : -2 * LAG] * padded[:, 2 * LAG :])
    observed, expected = np.log(power / background), np.log1p(_click()[0] / background)
    fit = 1 - np.abs(observed - expected).sum(-1) / expected.sum(-1)
    return np.where(expected.mean(-1) >= AUDIBLE, fit, 0)


def _times(waves: np.ndarray) -> np.ndarray:
    s = scores(waves)
    best = s.argmax(-1)
    lead = s[np.arange(len(s)), best]
    far = np.abs(np.arange(s.shape[1]) - best[:, None]) > APART * RATE / HOP
    rival = np.where(far, s, -np.inf).max(-1)
    return np.where((lead >= READABLE) & (lead - rival >= MARGIN), best * HOP / RATE - _click()[1], np.nan)


def click_times(waves: np.ndarray) -> np.ndarray:
    """The start of the click of waveforms at 8 kHz.

    Args:
      waves: int16, or float in [-1, 1], [N, L].

    Returns:
      Seconds, float64 [N]; NaN where no click or more than one is found, where the waveform is too short to have one,
      or not finite.

    Raises:
      ValueError: an array of another rank.
    """
    waves = np.asarray(waves)
    if waves.ndim != 2:
        raise ValueError(f"expected waveforms [N, L], got shape {waves.shape}")
    out = np.full(len(waves), np.nan)
    if waves.shape[1] < 2 * LAG * HOP:
        return out
    scale = 1 / 2**15 if waves.dtype == np.int16 else 1.0
    for start in range(0, len(waves), _ROWS):
        part = waves[start : start + _ROWS].astype(np.float32) * np.float32(scale)
        finite = np.isfinite(np.abs(part).sum(-1))
        out[start : start + _ROWS] = np.where(finite, _times(np.where(finite[:, None], part, 0)), np.nan)
    return out
