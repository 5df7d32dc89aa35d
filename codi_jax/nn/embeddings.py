"""Embedding of the timestep.

f_k = 10000^(−k / (d/2)),  k = 0 .. d/2 − 1        e(t) = [cos(t f), sin(t f)]        emb = W₂ SiLU(W₁ e(t))
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from codi_jax.nn.layers import Dense
from codi_jax.types import Array

# The float32 exp that made the golden files rounds up even this far below a tie, in units in the last place. Measured
# from those files: PyTorch's exp differs between CPUs by more (3e-5) than their tolerance.
ROUND_UP = 0.012


def frequencies(half: int) -> np.ndarray:
    """f_k in float32, [half], rounded as in PyTorch.

    The phase t·f is up to 1000, so that one unit in the last place of f changes the embedding by 6e-5; the arithmetic
    must equal that of the weights' training. Its exponents are float32; its exp is correctly rounded except near ties.
    """
    exponents = np.float32(-np.log(10000)) * np.arange(half, dtype=np.float32) / np.float32(half)
    exact = np.exp(exponents.astype(np.float64))
    return (exact + ROUND_UP * np.spacing(exact.astype(np.float32))).astype(np.float32)


def timestep_embedding(t: Array, width: int) -> Array:
    """Sinusoidal embedding of timesteps, cosines first, in float32.

    Args:
      t: [B], integer or real.
      width: d, even.

    Returns:
      [B, width].
    """
    phase = t.astype(jnp.float32)[:, None] * frequencies(width // 2)
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)


class TimeEmbedding(nn.Module):
    """Timesteps [B] -> embedding [B, 4·width], an input of every residual block."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, t: Array) -> Array:
        x = timestep_embedding(t, self.width).astype(self.dtype)
        x = Dense(4 * self.width, dtype=self.dtype, name="layer_in")(x)
        return Dense(4 * self.width, dtype=self.dtype, name="layer_out")(jax.nn.silu(x))
