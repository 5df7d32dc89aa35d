"""Audio of one second: a spoken digit, a click, and a soft tone whose pitch shows the motion.

    s(t) = g w(t - t₀) + √2 a sin 2π(φ + (1 + ε) ∫₀ᵗ f) + c(t - t₁) + floor

w is the word, which starts at t₀, and g its gain. The tone's amplitude a puts it 31 dB below the word; it sounds during
the whole second. Its frequency f is 500 Hz (left), 2000 Hz (right), or glides from 500 to 2000 Hz (up) or back (down),
linearly in octaves. c is a click that starts at t₁: a decaying burst of white noise of 10 ms with a peak of 0.25. The
floor is white noise at -60 dB, without which a log spectrum would show rounding errors in silence.
"""

import functools
from collections.abc import Mapping

import numpy as np

from codi_jax.digit_world.draws import choose, uniform
from codi_jax.digit_world.glyphs import Split
from codi_jax.digit_world.speech import RATE, speech, utterance_index

LENGTH = 8192  # samples: 1.024 s
UTTERANCE = "utterance"  # the uniform number that picks the spoken word
DRAWS = (
    UTTERANCE,
    "onset",
    "loudness",
    "tone",
    "phase",
    "floor",
    "click",
)  # the uniform numbers that determine a waveform

_ONSET = 640  # samples, 0.08 s: the largest offset of the word from the centre
_LOUDNESS = 0.36, 0.72  # smallest and largest peak of a word
_LOW, _HIGH = 500.0, 2000.0  # Hz
_DETUNE = 0.03  # the largest |ε|
_TONE = 10 ** (-31 / 20)  # level of the tone relative to the word
_FLOOR = 10 ** (-60 / 20)  # level of the noise relative to full scale
_CLICK = 0.25  # peak
_CLICK_LENGTH = 80  # samples, 10 ms
_CLICKS = 16  # number of different clicks
_FADE = 160  # samples, 20 ms: fade-in and fade-out of the tone


@functools.lru_cache(maxsize=1)
def _cycles() -> np.ndarray:
    """∫f in cycles for the motions left, right, up and down: float32 [4, 8192]."""
    t, whole = np.arange(LENGTH) / RATE, LENGTH / RATE
    growth = np.log(_HIGH / _LOW) / whole
    up = _LOW * np.expm1(growth * t) / growth
    down = _HIGH * -np.expm1(-growth * t) / growth
    return np.stack([_LOW * t, _HIGH * t, up, down]).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _envelope() -> np.ndarray:
    ramp = np.sin(np.pi / 2 * (np.arange(_FADE) + 0.5) / _FADE) ** 2
    return np.concatenate([ramp, np.ones(LENGTH - 2 * _FADE), ramp[::-1]]).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """White noise, float32 [65536] of root mean square `_FLOOR`; every sample takes an excerpt."""
    u = uniform("digit_world", ("floor",), np.arange(2**16))["floor"]
    return (_FLOOR * np.sqrt(3) * (2 * u - 1)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def click_bursts() -> np.ndarray:
    """The clicks, float32 [16, 80]; every sample takes one."""
    u = uniform("digit_world", ("click",), np.arange(_CLICKS * _CLICK_LENGTH))["click"]
    bursts = (2 * u - 1).reshape(_CLICKS, _CLICK_LENGTH) * np.exp(-np.arange(_CLICK_LENGTH) / (_CLICK_LENGTH / 4))
    return (_CLICK * bursts / np.abs(bursts).max(axis=1, keepdims=True)).astype(np.float32)


def synthesize(
    split: Split,
    digit: np.ndarray,
    voice: np.ndarray,
    motion: np.ndarray,
    click: np.ndarray,
    draws: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Synthesizes waveforms.

    Args:
      split: the split of the speakers.
      digit: [N], integers.
      voice: [N], 0 low and 1 high.
      motion: [N], 0 left, 1 right, 2 up, 3 down.
      click: [N], the time of the click in seconds, at most 1.01; NaN for none.
      draws: name in `DRAWS` -> [N], uniform numbers in [0, 1).

    Returns:
      float32 [N, 8192] in [-1, 1], at 8 kHz.
    """
    bank = speech()
    word = utterance_index(split, digit, voice, draws["utterance"])
    start, stop = bank.offsets[word], bank.offsets[word + 1]
    loudness = (_LOUDNESS[0] * (_LOUDNESS[1] / _LOUDNESS[0]) ** draws["loudness"]).astype(np.float32)
    onset = (LENGTH - (stop - start)) // 2 - _ONSET + choose(draws["onset"], 2 * _ONSET + 1)
    detune, phase = (1 + _DETUNE * (2 * draws["tone"] - 1)).astype(np.float32), draws["phase"].astype(np.float32)

    out = _cycles()[motion]
    out *= detune[:, None]
    out += phase[:, None]
    out -= np.floor(out)
    np.sin(np.float32(2 * np.pi) * out, out=out)
    out *= _envelope()
    out *= (np.float32(np.sqrt(2) * _TONE) * loudness * bank.level[word])[:, None]
    noise = _noise()
    floor = choose(draws["floor"], len(noise) - LENGTH)
    clicks = click_bursts()[choose(draws["click"], _CLICKS)] * ~np.isnan(click)[:, None]
    begin = np.rint(np.nan_to_num(click) * RATE).astype(np.int64)
    rows = zip(
        *(out, start.tolist(), stop.tolist(), onset.tolist(), loudness, floor.tolist(), begin.tolist(), clicks),
        strict=True,
    )
    for row, first, last, at, gain, offset, click_at, burst in rows:
        row += noise[offset : offset + LENGTH]
        row[at : at + last - first] += gain * bank.samples[first:last]
        row[click_at : click_at + _CLICK_LENGTH] += burst
    return out
