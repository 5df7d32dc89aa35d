"""The temporal layer of CoDi's vision tower, which mixes the frames of a video at each token position.

    x = x + A(N(x)),  x = x + F(x)
    A    attention over frames with a bias by distance; N normalises over frames (both as in `nn.temporal`)
    F    W₂ M(a · gelu(b)),  [a, b] = W₁ x,  M the clamped norm over channels; inner width ⌊8 width / 3⌋

Unlike the layer of the denoiser it has no positions, no delays and no convolution. Projections have no bias. The output
projection of A and W₂ are initialised with zeros, so that a tower trained on images starts as the mean over frames.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.layers import Dense
from codi_jax.nn.norms import ClampedNorm
from codi_jax.nn.temporal import PositionBias
from codi_jax.types import Array


class CLIPTemporal(nn.Module):
    """The temporal layer.

    Attributes:
      heads: attention heads, of width // heads each.
      dtype: compute type.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, frames: int) -> Array:
        """x: [B·frames, L, width]. Returns an array of the same shape."""
        shape = x.shape
        x = jnp.moveaxis(x.reshape(-1, frames, *shape[1:]), 1, 2).reshape(-1, frames, shape[-1])  # [B L, T, width]
        x = x + jnp.nan_to_num(self._attention(x))  # as the release
        x = x + self._feed_forward(x)
        return jnp.moveaxis(x.reshape(-1, shape[1], frames, shape[-1]), 1, 2).reshape(shape)

    def _dense(self, features: int, name: str, **kwargs) -> Dense:
        return Dense(features, use_bias=False, dtype=self.dtype, name=name, **kwargs)

    def _attention(self, x: Array) -> Array:
        frames, width = x.shape[1:]
        epsilon = 1e-5 if self.dtype == jnp.float32 else 1e-3  # half precision needs it in the release
        y = ClampedNorm(axis=1, epsilon=epsilon, dtype=self.dtype, name="norm")(x)
        q = self._dense(width, "query")(y)
        k, v = jnp.split(self._dense(2 * width, "key_value")(y), 2, axis=-1)
        bias = PositionBias(width // 2, self.heads, self.dtype, name="bias")(frames)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        y = attend(q, k, v, bias)
        return self._dense(width, "out", kernel_init=nn.initializers.zeros)(y.reshape(x.shape))

    def _feed_forward(self, x: Array) -> Array:
        width = x.shape[-1]
        y = self._dense(2 * int(width * 8 / 3), "layer_in")(x).astype(jnp.float32)
        value, gate = jnp.split(y, 2, axis=-1)
        y = ClampedNorm(axis=-1, dtype=self.dtype, name="inner_norm")(value * jax.nn.gelu(gate, approximate=False))
        return self._dense(width, "layer_out", kernel_init=nn.initializers.zeros)(y)
