"""Waves from log-mel spectrograms without a network: fast Griffin–Lim.

1. Magnitudes. Of s = |X|ᵖ only m = M s is known, which does not determine s ≥ 0. Starting from Mᵀm / Mᵀ1, the
   multiplicative updates of Lee and Seung (2000) for the divergence D(m ‖ M s) keep s ≥ 0 and never increase it:

       s ← s · Mᵀ(m / M s) / Mᵀ1.

   The divergence weighs relative errors, like the logarithm. Least squares, from the pseudo-inverse or from the same
   start, took over three times as many updates to fit quiet bands equally well, with a larger error in log-mel.

2. Phases. Not every complex spectrogram is that of a wave. With P(c) = STFT(ISTFT(c)) the projection onto those that
   are, and c the magnitudes A with the current phases, fast Griffin–Lim (Perraudin, Balazs and Søndergaard, 2013)
   iterates

       tₙ = P(cₙ₋₁),     cₙ = A · u / |u|,  u = tₙ + α (tₙ − tₙ₋₁).

The initial phases are drawn with a fixed key and are the same for every sample, so that a wave does not depend on its
batch. Filters, window and framing are those of `data.mel`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.media.mel import MelConfig, filterbank, hann
from codi_jax.types import Array

_TINY = 1e-12


def _blocks(config: MelConfig) -> int:
    """Number of blocks of one hop that cover a frame."""
    return -(-config.n_fft // config.hop)


def stft(wave: Array, config: MelConfig) -> Array:
    """The first T / hop frames of X: waves [B, T], T a multiple of hop, to complex64 [B, frames, bins]."""
    count, half, blocks = wave.shape[1] // config.hop, config.n_fft // 2, _blocks(config)
    padded = jnp.pad(wave, ((0, 0), (half, half)), mode="reflect")[:, : (count + blocks - 1) * config.hop]
    parts = padded.reshape(len(wave), -1, config.hop)
    frames = jnp.concatenate([parts[:, i : i + count] for i in range(blocks)], axis=-1)[..., : config.n_fft]
    return jnp.fft.rfft(frames * jnp.asarray(hann(config.n_fft), jnp.float32))


def overlap_add(frames: Array, config: MelConfig) -> Array:
    """Overlap-add of frames [B, frames, n_fft] to [B, frames · hop], without the half frames beyond the ends."""
    batch, count, _ = frames.shape
    blocks = _blocks(config)
    parts = jnp.pad(frames, ((0, 0), (0, 0), (0, blocks * config.hop - config.n_fft)))
    parts = parts.reshape(batch, count, blocks, config.hop)
    shifted = (jnp.pad(parts[:, :, i], ((0, 0), (i, blocks - 1 - i), (0, 0))) for i in range(blocks))
    total = jnp.asarray(sum(shifted))
    half = config.n_fft // 2
    return total.reshape(batch, -1)[:, half : half + count * config.hop]


def istft(spectrum: Array, config: MelConfig) -> Array:
    """Least-squares inverse Σ w y / Σ w²: complex [B, frames, bins] to waves [B, frames · hop], float32."""
    window = jnp.asarray(hann(config.n_fft), jnp.float32)
    weight = overlap_add(jnp.broadcast_to(jnp.square(window), (1, spectrum.shape[1], config.n_fft)), config)
    frames = jnp.fft.irfft(spectrum, config.n_fft) * window
    # With coarse hops only the tail of one window covers the last samples: bound the divisor, so that they fade.
    return overlap_add(frames, config) / jnp.maximum(weight, 0.01)


def linear_magnitudes(log_mel: Array, config: MelConfig, updates: int = 10) -> Array:
    """Magnitudes |X| from log-mel [B, frames, mels]: float32 [B, frames, bins], 0 outside the mel band."""
    bank = jnp.asarray(filterbank(config), jnp.float32)
    mel, total = jnp.exp(config.unit * log_mel.astype(jnp.float32)), jnp.maximum(bank.sum(0), _TINY)
    s = mel @ bank / total
    for _ in range(updates):
        s = s * (mel / jnp.maximum(s @ bank.T, _TINY) @ bank) / total
    return s if config.power == 1 else jnp.sqrt(s)


def griffin_lim(log_mel: Array, config: MelConfig, iterations: int = 32, momentum: float = 0.99) -> Array:
    """Waves from log-mel spectrograms. Deterministic.

    Args:
      log_mel: [B, frames, mels], the first frames of waves of frames · hop samples; see `media.mel.log_mel`.
      config: their front end.
      iterations: of fast Griffin–Lim; static.
      momentum: α.

    Returns:
      Waves [B, frames · hop] at `config.sample_rate`, float32, not clipped.

    Raises:
      ValueError: not more samples than the reflection padding of n_fft / 2.
    """
    if log_mel.shape[1] * config.hop <= config.n_fft // 2:
        raise ValueError(f"{log_mel.shape[1]} frames are too few for {config.n_fft} samples a frame")
    magnitudes = linear_magnitudes(log_mel, config)
    angle = jax.random.uniform(jax.random.key(0), magnitudes.shape[1:], maxval=2 * np.pi)

    def step(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        c, previous = state
        t = stft(istft(c, config), config)
        u = t + momentum * (t - previous)
        inverse_norm = jax.lax.rsqrt(jnp.square(u.real) + jnp.square(u.imag) + _TINY)
        return magnitudes * inverse_norm * u, t

    start = magnitudes * jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    c, _ = jax.lax.fori_loop(0, iterations, step, (start, jnp.zeros_like(start)))
    return istft(c, config)
