"""Log-mel patches of VGGish (Hershey et al., arXiv 1609.09430), the input of AudioSet's `vggish_input`.

    X[f, k] = Σₙ w[n] x[160 f + n] exp(−2πi k n / 512),  n < 400      L[f, m] = ln( Σₖ M[m, k] |X[f, k]| + 0.01 )

at 16 kHz: a window w (periodic Hann) of 25 ms, 10 ms apart. Unlike those of `mel`, frames start at sample 160 f without
padding, so that an incomplete one at the end is left out; the spectrum is one of magnitudes; and the rows of M are
triangles of height 1 on HTK's mel scale, 1127 ln(1 + Hz / 700), straight in mel and not in Hz, with corners equally
spaced from 125 to 7500 Hz. A patch is 96 successive frames, and the next patch starts 0.96 s later.

Computed in float64 as by AudioSet's code: next to a loud band, rounding of float32 would show in a silent one.
"""

import functools

import numpy as np
from scipy import fft

from codi_jax.media.mel import hann, resample

RATE = 16000  # Hz
WINDOW, HOP, FFT = 400, 160, 512  # samples
BANDS, LOW, HIGH = 64, 125.0, 7500.0  # number, and corners of the lowest and the highest in Hz
OFFSET = 0.01  # added before the logarithm
FRAMES = 96  # frames of a patch, 0.96 s
SAMPLES = WINDOW + (FRAMES - 1) * HOP  # of the shortest waveform with a patch, 0.975 s


def _htk(hz: np.ndarray) -> np.ndarray:
    """Converts frequencies in Hz to HTK's mel scale."""
    return 1127 * np.log1p(hz / 700)


@functools.lru_cache(maxsize=1)
def _filterbank() -> np.ndarray:
    """M, float64 [64, 257], read-only."""
    low, high = _htk(np.array([LOW, HIGH]))
    corners = np.linspace(low, high, BANDS + 2)[:, None]
    mel = _htk(np.arange(FFT // 2 + 1) * RATE / FFT)
    rising = (mel - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel) / (corners[2:] - corners[1:-1])
    bank = np.maximum(0, np.minimum(rising, falling))
    bank.setflags(write=False)
    return bank


def vggish_patches(wave: np.ndarray, rate: int) -> np.ndarray:
    """The patches of waveforms.

    Args:
      wave: [B, T] in [-1, 1].
      rate: sample rate of `wave`; other rates than 16 kHz are resampled by `mel.resample`, as AudioLDM's evaluation
        does. Fréchet distances move with the resampling, so treat generated and real waveforms alike.

    Returns:
      float32 [B, P, 96, 64], P = ⌊T' / 15360⌋ or one less, with T' the samples at 16 kHz.

    Raises:
      ValueError: another shape, or waveforms shorter than a patch.
    """
    wave = np.asarray(wave)
    if wave.ndim != 2:
        raise ValueError(f"expected waveforms [B, T], got shape {wave.shape}")
    wave = wave if rate == RATE else resample(wave, rate, RATE)
    if wave.shape[1] < SAMPLES:
        raise ValueError(
            f"waveforms of {wave.shape[1] / RATE:.3f} s are shorter than a patch, {SAMPLES / RATE} s; pad them"
        )
    count = ((wave.shape[1] - WINDOW) // HOP + 1) // FRAMES
    windows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW, axis=1)[:, ::HOP][:, : count * FRAMES]
    magnitudes = np.abs(np.asarray(fft.rfft(windows * hann(WINDOW), FFT)))
    log_mel = np.log(magnitudes @ _filterbank().T + OFFSET)
    return log_mel.astype(np.float32).reshape(len(wave), count, FRAMES, BANDS)
