"""Log-mel spectrograms and waveform preprocessing on the host, in NumPy and SciPy, so that data threads can run it.

    X[f, k] = Σₙ w[n] x̃[f·hop + n] exp(−2πi k n / N),     L[f, m] = ln(max(Σₖ M[m, k] |X[f, k]|ᵖ, floor)) / unit

x̃ is x, reflect-padded by N/2 samples at both ends, so that frame f is centred on sample f·hop; w is the periodic Hann
window ½ − ½ cos(2πn/N). The rows of M are triangular filters with corners equally spaced on Slaney's mel scale (linear
to 1 kHz, logarithmic above), each of area 1 in Hz. unit is 1 for natural logarithms and ln(10)/10 for decibels.

Waveforms are [B, T], arrays of float32 in [-1, 1].
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import fft

from codi_jax.config import ConfigError, config_class


@config_class()
class MelConfig:
    """Config of a log-mel spectrogram.

    Attributes:
      sample_rate: in Hz.
      n_fft: N, the length of a frame and its window in samples; even.
      hop: samples from one frame to the next, at most N/2.
      mels: number of mel filters.
      fmin: lower corner of the first filter in Hz.
      fmax: upper corner of the last filter in Hz, at most half the sample rate.
      power: p, 1 for the magnitude of the spectrum or 2 for its power.
      decibels: L is in decibels (10 log₁₀) instead of natural logarithms.
      floor: lower bound of the mel values before the logarithm.
    """

    sample_rate: int
    n_fft: int
    hop: int
    mels: int
    fmin: float
    fmax: float
    power: int = 1
    decibels: bool = False
    floor: float = 1e-5

    def __post_init__(self):
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ConfigError(f"mel: {self.fmin} to {self.fmax} Hz is not a band below {self.sample_rate} / 2 Hz")
        if self.n_fft % 2 or not 0 < self.hop <= self.n_fft // 2:
            raise ConfigError(f"mel: n_fft {self.n_fft} must be even and hop {self.hop} at most half of it")
        if self.power not in (1, 2) or not self.floor > 0:
            raise ConfigError(f"mel: power {self.power} must be 1 or 2 and floor {self.floor} positive")

    @property
    def bins(self) -> int:
        """The number of frequency bins, N/2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def unit(self) -> float:
        """The natural logarithm that corresponds to 1 in L."""
        return math.log(10) / 10 if self.decibels else 1.0


# The public release: AudioLDM's spectrogram for diffusion, CLAP's for the prompt encoder.
AUDIOLDM = MelConfig(sample_rate=16000, n_fft=1024, hop=160, mels=64, fmin=0.0, fmax=8000.0)
CLAP = MelConfig(48000, 1024, 480, 64, 50.0, 14000.0, power=2, decibels=True, floor=1e-10)


@functools.lru_cache
def hann(n: int) -> np.ndarray:
    """The periodic Hann window, float64 [n], read-only."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    window.setflags(write=False)
    return window


# Slaney's mel scale: 3 mel per 200 Hz up to 1 kHz; above, 27 mel per factor of 6.4.
_KNEE_HZ, _KNEE_MEL, _MEL_PER_HZ, _MEL_PER_NAT = 1000.0, 15.0, 3 / 200, 27 / math.log(6.4)


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Converts frequencies in Hz to Slaney's mel scale."""
    above = _KNEE_MEL + _MEL_PER_NAT * np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ)
    return np.where(np.asarray(hz) < _KNEE_HZ, _MEL_PER_HZ * np.asarray(hz), above)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Converts Slaney's mel scale to frequencies in Hz."""
    above = _KNEE_HZ * np.exp((np.maximum(mel, _KNEE_MEL) - _KNEE_MEL) / _MEL_PER_NAT)
    return np.where(np.asarray(mel) < _KNEE_MEL, np.asarray(mel) / _MEL_PER_HZ, above)


@functools.lru_cache
def filterbank(config: MelConfig) -> np.ndarray:
    """M, float64 [mels, bins], read-only; equal to the Slaney filters of librosa and torchaudio."""
    ends = hz_to_mel(np.array([config.fmin, config.fmax]))
    corners = mel_to_hz(np.linspace(ends[0], ends[1], config.mels + 2))[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    hz = np.arange(config.bins) * config.sample_rate / config.n_fft
    triangles = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    bank = triangles * 2 / (high - low)
    bank.setflags(write=False)
    return bank


def magnitudes(wave: np.ndarray, config: MelConfig, frames: int | None = None) -> np.ndarray:
    """|X|, the magnitude spectrogram of waveforms.

    Args:
      wave: [B, T] in any float type.
      config: see MelConfig.
      frames: number of frames to keep, of the 1 + ⌊T / hop⌋; all by default.

    Returns:
      [B, frames, bins], float32.

    Raises:
      ValueError: the waveforms are too short for reflect padding, or have fewer than `frames` frames.
    """
    half, length = config.n_fft // 2, wave.shape[-1]
    if length <= half:
        raise ValueError(f"a waveform of {length} samples is too short for frames of {config.n_fft}")
    available = 1 + length // config.hop
    if frames is not None and not 0 < frames <= available:
        raise ValueError(f"asked for {frames} frames of a waveform that has {available}")
    padded = np.pad(np.asarray(wave, np.float32), ((0, 0), (half, half)), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=1)[:, :: config.hop]
    # In a quarter of the time of NumPy's transform.
    spectrum = np.asarray(fft.rfft(views[:, :frames] * hann(config.n_fft).astype(np.float32)))
    return np.abs(spectrum).astype(np.float32, copy=False)


def log_mel(wave: np.ndarray, config: MelConfig, frames: int | None = None) -> np.ndarray:
    """L, the log-mel spectrogram of waveforms [B, T]: float32 [B, frames, mels]; see `magnitudes` for the arguments."""
    heights = magnitudes(wave, config, frames)
    mel = (heights if config.power == 1 else np.square(heights)) @ filterbank(config).T.astype(np.float32)
    return np.log(np.maximum(mel, np.float32(config.floor))) / np.float32(config.unit)


def normalize(wave: np.ndarray, length: int) -> np.ndarray:
    """Preprocesses waveforms for the release's spectrogram codec.

    Subtracts the mean of each waveform of [B, T], scales it to a peak of ½, and then cuts or zero-pads it to `length`
    samples. As in the release, mean and peak are those of the whole waveform, before it is cut.

    Returns:
      [B, length], float32.

    Raises:
      ValueError: the waveforms have 100 samples or fewer, which the release takes for an unreadable file.
    """
    if wave.shape[-1] <= 100:
        raise ValueError(f"a waveform of {wave.shape[-1]} samples is too short")
    wave = np.asarray(wave, np.float32)
    wave = wave - wave.mean(-1, keepdims=True)
    wave = 0.5 * (wave / (np.abs(wave).max(-1, keepdims=True) + np.float32(1e-8)))
    wave = np.pad(wave[:, :length], ((0, 0), (0, max(0, length - wave.shape[-1]))))
    return np.clip(wave, -1, 1)


def resample(wave: np.ndarray, rate: int, new_rate: int, zeros: int = 6, rolloff: float = 0.99) -> np.ndarray:
    """Band-limited interpolation (Smith, "Digital audio resampling"), with the window and defaults of torchaudio.

        y[j] = Σᵢ x[i] s·h(s·(j/new − i/old)),   h(t) = sinc(t) cos²(πt / 2Z) for |t| < Z,   s = rolloff·min(old, new)

    where old and new are the rates divided by their greatest common divisor. The filter depends on j mod new only: new
    filters (phases) are applied to the same windows of old + 2·width samples.

    Args:
      wave: [B, T].
      rate: sample rate of `wave`.
      new_rate: sample rate of the result.
      zeros: Z, zero crossings of the sinc on each side.
      rolloff: cutoff frequency as a fraction of the lower Nyquist frequency.

    Returns:
      [B, ⌈T · new_rate / rate⌉], float32.
    """
    shared = math.gcd(rate, new_rate)
    old, new = rate // shared, new_rate // shared
    length = wave.shape[-1]
    if old == new:
        return np.asarray(wave, np.float32)
    cutoff = rolloff * min(old, new)
    width = math.ceil(zeros * old / cutoff)
    t = cutoff * (np.arange(-width, width + old) / old - np.arange(new)[:, None] / new)
    t = np.clip(t, -zeros, zeros)
    phases = np.sinc(t) * np.cos(np.pi * t / (2 * zeros)) ** 2 * cutoff / old
    padded = np.pad(np.asarray(wave, np.float32), ((0, 0), (width, width + old)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, phases.shape[1], axis=1)[:, ::old]
    out = windows @ phases.T.astype(np.float32)
    return out.reshape(len(wave), -1)[:, : -(-length * new // old)]


def fill(wave: np.ndarray, length: int, seed: int | Sequence[int] = 0) -> np.ndarray:
    """Brings waveforms to exactly `length` samples, as the release does for its prompt encoder.

    Shorter waveforms are repeated as often as they fit completely and zero-padded. Longer ones are cropped at a random
    position, drawn for each waveform.

    Args:
      wave: [B, T].
      length: number of samples.
      seed: seed of the positions, an integer or several.

    Returns:
      [B, length] of the same dtype.
    """
    samples = wave.shape[-1]
    if samples > length:
        starts = np.random.default_rng(seed).integers(0, samples - length + 1, size=(len(wave), 1))
        return np.take_along_axis(wave, starts + np.arange(length), axis=1)
    repeated = np.tile(wave, (1, length // samples))
    return np.pad(repeated, ((0, 0), (0, length - repeated.shape[-1])))


def clap_waveform(
    wave: np.ndarray,
    rate: int,
    samples: int = 480000,
    seed: int | Sequence[int] = 0,
    new_rate: int = CLAP.sample_rate,
) -> np.ndarray:
    """Preprocesses waveforms [B, T] at `rate` for CLAP: `resample` to `new_rate`, then `fill` to [B, samples]."""
    return fill(resample(wave, rate, new_rate), samples, seed)
