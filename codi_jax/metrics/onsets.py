"""Onsets of audio: spectral flux of a log-mel spectrogram, and the picking of its peaks.

With L the power mel spectrogram of 128 Slaney filters in decibels, at most 80 dB below its maximum, at 22,050 Hz with
windows of 2048 samples every 512,

    strength[f] = mean_m max( L[f - 2, m] - L[f - 3, m], 0 )                      decibels, time f · 512 / 22050 s

(Böck and Widmer, DAFx 2013, without their filter over frequency.) A window is centred on its frame and sees an onset
2048/2 samples ahead, which the shift by two frames corrects. With s the strength, shifted and scaled to [0, 1], frame f
is an onset if it is at least frame f-1, is at least the mean of f-4 … f+4 plus 0.07, and is not the frame after
another onset (Böck, Krebs and Schedl, ISMIR 2012).

These are the numbers of `librosa.onset.onset_strength` and `onset_detect` (0.11) at their defaults, which AV-Align
uses, up to the resampling. Since s is relative to the loudest onset, very soft audio has onsets, too; digital silence
has none.
"""

import numpy as np

from codi_jax.media.mel import MelConfig, filterbank, magnitudes, resample

MEL = MelConfig(22050, 2048, 512, 128, 0.0, 11025.0, power=2, decibels=True, floor=1e-10)
ONSET_RATE = MEL.sample_rate / MEL.hop  # frames per second, 43.07
_RANGE = 80.0  # decibels below the maximum
_SHIFT = MEL.n_fft // (2 * MEL.hop)  # frames
_BEFORE, _AFTER = 4, 5  # frames of the mean, before and from the candidate on
_DELTA = 0.07  # of the largest strength
_WAIT = 1  # frames after an onset without another
_ROWS = 16  # waveforms of one pass, which bounds the memory


def _strength(wave: np.ndarray) -> np.ndarray:
    padded = np.pad(wave, ((0, 0), (MEL.n_fft // 2,) * 2))
    # The padding by zeros is followed by that of `magnitudes`, whose frames are left out.
    extra = MEL.n_fft // 2 // MEL.hop
    power = np.square(magnitudes(padded, MEL)[:, extra : extra + 1 + wave.shape[1] // MEL.hop])
    mel = power @ filterbank(MEL).T.astype(np.float32)
    level = 10 * np.log10(np.maximum(mel, MEL.floor))
    level = np.maximum(level, level.max((1, 2), keepdims=True) - _RANGE)
    flux = np.maximum(np.diff(level, axis=1), 0).mean(-1)
    return np.pad(flux, ((0, 0), (1 + _SHIFT, 0)))[:, : level.shape[1]]


def onset_strength(wave: np.ndarray, rate: int) -> np.ndarray:
    """The onset strength of waveforms.

    Args:
      wave: [N, L], float in [-1, 1] or int16.
      rate: sample rate of `wave`.

    Returns:
      float64 [N, F] in decibels, at frame f · 512 / 22050 s.

    Raises:
      ValueError: another shape, no samples, or values that are not finite.
    """
    wave = np.asarray(wave)
    if wave.ndim != 2 or not wave.shape[1]:
        raise ValueError(f"expected waveforms [N, L] of at least one sample, got shape {wave.shape}")
    wave = wave / np.float32(2**15) if wave.dtype == np.int16 else wave.astype(np.float32)
    if not np.isfinite(wave).all():
        raise ValueError("a waveform has values that are not finite")
    wave = resample(wave, rate, MEL.sample_rate)
    parts = [_strength(wave[i : i + _ROWS]) for i in range(0, len(wave), _ROWS)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, 1 + wave.shape[1] // MEL.hop))


def onset_times(strength: np.ndarray) -> np.ndarray:
    """The onsets of one waveform in seconds, float64 [onsets], from its onset strength [F]."""
    x = np.asarray(strength, np.float64)
    if x.ndim != 1:
        raise ValueError(f"expected the onset strength of one waveform, [F], got shape {x.shape}")
    x = x - x.min(initial=np.inf)
    if not x.any():
        return np.zeros(0)
    x = x / x.max()
    onsets, earliest = [], 0
    for f, value in enumerate(x):
        around = x[max(0, f - _BEFORE) : f + _AFTER]
        # The first frame has no frame before it to be compared with.
        if f >= earliest and value >= x[max(0, f - 1)] and value >= around.mean() + _DELTA:
            onsets.append(f)
            earliest = f + _WAIT + 1
    return np.array(onsets) / ONSET_RATE
