"""From log-mel spectrograms back to sound without a network: Griffin–Lim, with momentum.

1. Magnitudes. Of s = |X|ᵖ only m = M s is known, which many s ≥ 0 explain. From the smooth Mᵀm / Mᵀ1, Lee and Seung's
   updates (2000) for the divergence D(m ‖ M s) keep signs and lower it every time:

       s ← s · Mᵀ(m / M s) / Mᵀ1.

   It weighs relative errors, as the logarithm does. Least squares, from the pseudo-inverse or from the same start, took
   over three times as many updates to the same fit of quiet bands, and the sound was further off in log-mel.

2. Phases. Not every spectrogram is one of a sound. With P(c) = STFT(ISTFT(c)) the projection onto those that are, and c
   the given magnitudes A with the present phases, fast Griffin–Lim (Perraudin, Balazs and Søndergaard, 2013) repeats

       tₙ = P(cₙ₋₁),     cₙ = A · u / |u|,  u = tₙ + α (tₙ − tₙ₋₁).

The first phases are drawn with a fixed key and are the same for every clip: a clip's sound does not depend on its
batch. Filters, window and framing are those of `data.mel`; frames past the last are not known and not needed.
"""

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.data.mel import MelConfig, filterbank, hann
from codi_jax.types import Array

_TINY = 1e-12


def _blocks(config: MelConfig) -> int:
    """Hops that a frame touches; a frame is cut out of as many blocks of one hop."""
    return -(-config.n_fft // config.hop)


def stft(wave: Array, config: MelConfig) -> Array:
    """The first T / hop frames of X: waves [B, T], T a multiple of hop, to complex64 [B, frames, bins]."""
    count, half, blocks = wave.shape[1] // config.hop, config.n_fft // 2, _blocks(config)
    padded = jnp.pad(wave, ((0, 0), (half, half)), mode="reflect")[:, : (count + blocks - 1) * config.hop]
    parts = padded.reshape(len(wave), -1, config.hop)
    frames = jnp.concatenate([parts[:, i : i + count] for i in range(blocks)], axis=-1)[..., : config.n_fft]
    return jnp.fft.rfft(frames * jnp.asarray(hann(config.n_fft), jnp.float32))


def overlap_add(frames: Array, config: MelConfig) -> Array:
    """Sums frames [B, frames, n_fft] where they lie: [B, frames · hop], without the half frames beyond the ends."""
    batch, count, _ = frames.shape
    blocks = _blocks(config)
    parts = jnp.pad(frames, ((0, 0), (0, 0), (0, blocks * config.hop - config.n_fft)))
    parts = parts.reshape(batch, count, blocks, config.hop)
    total = sum(jnp.pad(parts[:, :, i], ((0, 0), (i, blocks - 1 - i), (0, 0))) for i in range(blocks))
    half = config.n_fft // 2
    return total.reshape(batch, -1)[:, half : half + count * config.hop]


def istft(spectrum: Array, config: MelConfig) -> Array:
    """The wave whose frames are nearest: Σ w y / Σ w², complex [B, frames, bins] to float32 [B, frames · hop]."""
    window = jnp.asarray(hann(config.n_fft), jnp.float32)
    weight = overlap_add(jnp.broadcast_to(jnp.square(window), (1, spectrum.shape[1], config.n_fft)), config)
    frames = jnp.fft.irfft(spectrum, config.n_fft) * window
    # The very last samples are seen by the foot of one window only, if hops are coarse: let them fade, not explode.
    return overlap_add(frames, config) / jnp.maximum(weight, 0.01)


def linear_magnitudes(log_mel: Array, config: MelConfig, updates: int = 10) -> Array:
    """|X| that explains L: [B, frames, mels] to float32 [B, frames, bins], 0 outside the band."""
    bank = jnp.asarray(filterbank(config), jnp.float32)
    mel, total = jnp.exp(config.unit * log_mel.astype(jnp.float32)), jnp.maximum(bank.sum(0), _TINY)
    s = mel @ bank / total
    for _ in range(updates):
        s = s * (mel / jnp.maximum(s @ bank.T, _TINY) @ bank) / total
    return s if config.power == 1 else jnp.sqrt(s)


def griffin_lim(log_mel: Array, config: MelConfig, iterations: int = 32, momentum: float = 0.99) -> Array:
    """Sound of log-mel spectrograms.

    Args:
      log_mel: [B, frames, mels], the first frames of waves of frames · hop samples; see `data.mel.log_mel`.
      config: the front end that they are of.
      iterations: of fast Griffin–Lim; static.
      momentum: α.

    Returns:
      Waves [B, frames · hop] at `config.sample_rate`, float32, not clipped. The same input gives the same sound.

    Raises:
      ValueError: fewer samples than can be reflected, n_fft / 2.
    """
    if log_mel.shape[1] * config.hop <= config.n_fft // 2:
        raise ValueError(f"{log_mel.shape[1]} frames are too few for {config.n_fft} samples a frame")
    heights = linear_magnitudes(log_mel, config)
    angle = jax.random.uniform(jax.random.key(0), heights.shape[1:], maxval=2 * np.pi)

    def step(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        guess, before = state
        now = stft(istft(guess, config), config)
        u = now + momentum * (now - before)
        size = jax.lax.rsqrt(jnp.square(u.real) + jnp.square(u.imag) + _TINY)
        return heights * size * u, now

    start = heights * jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    guess, _ = jax.lax.fori_loop(0, iterations, step, (start, jnp.zeros_like(start)))
    return istft(guess, config)
