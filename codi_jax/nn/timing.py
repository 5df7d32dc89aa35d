"""Attention in time: what X adds where outputs have a time, so that they are in step.

V makes one token of a latent, or one for every position of its last block; neither says when. The timing encoder is a
second V whose tokens keep the axis of time, one for each frame or column of its last block. The features h of a U-Net
attend to such tokens of other outputs, after X:

    h += g · A(h)        A = FF(a) + a,   a = Wₒ attention(R(s_h) q, R(s) k, v)                (1)

R(s) rotates pairs of channels by angles 2π s / p at time s in *seconds*, with periods p in a geometric series (Su et
al., arXiv 2104.09864, with time in place of the position). A score depends on s_h - s alone, so that frames of a video
at any rate and columns of a spectrogram at any hop meet. The last layers of a and FF are initialised with zeros: a
model without them that has been trained is the one that training starts from. g is 0 where no other output has a time.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.nn.attention import attend, split_heads
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import TimingConfig, UNetConfig
from codi_jax.nn.layers import Dense
from codi_jax.nn.layout import BlockSite, timing_steps
from codi_jax.nn.norms import GroupNorm, layer_norm
from codi_jax.nn.remat import blockwise
from codi_jax.types import MASKED, Array, TimedTokens


def seconds(duration: float, steps: int) -> np.ndarray:
    """The middles of `steps` equal parts of a duration, float32 [steps]."""
    return ((np.arange(steps) + 0.5) * duration / max(steps, 1)).astype(np.float32)


def rotate(x: Array, times: Array, periods: tuple[float, float]) -> Array:
    """R(s) of (1).

    Args:
      x: [..., P, N, d]; channel i < d // 2 is rotated with channel d // 2 + i, an odd last one is left as it is.
      times: s, in seconds, [..., P].
      periods: the shortest and the longest, in seconds.

    Returns:
      The shape and dtype of x.
    """
    half = x.shape[-1] // 2
    angles = times.astype(jnp.float32)[..., None, None] * (2 * np.pi / np.geomspace(*periods, half)).astype(np.float32)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b, rest = jnp.split(x.astype(jnp.float32), [half, 2 * half], axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos, rest], axis=-1).astype(x.dtype)


class TimedBlock(nn.Module):
    """A(h) of (1) at one site.

    Attributes:
      config: of the attention.
      groups: of the first norm.
      duration: of the output, in seconds.
      compute: how it is computed.
    """

    config: TimingConfig
    groups: int
    duration: float
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, h: Array, tokens: TimedTokens) -> Array:
        """h: [B, T, H, C] or [B, T, H, W, C], of which T is the time. Returns an update of its shape."""
        dtype, width = self.compute.dtype, h.shape[-1]
        x = GroupNorm(self.groups, positions=h.ndim - 2, dtype=dtype, name="norm")(h).reshape(h.shape[0], -1, width)
        times = np.repeat(seconds(self.duration, h.shape[1]), x.shape[1] // h.shape[1])
        values = tokens.values.astype(dtype)

        def project(x: Array, name: str) -> Array:
            return split_heads(Dense(width, use_bias=False, dtype=dtype, name=name)(x), self.config.heads)

        q = rotate(project(x, "query"), jnp.asarray(times)[None], self.config.periods)
        k = rotate(project(values, "key"), tokens.seconds, self.config.periods)
        y = attend(q, k, project(values, "value"), tokens.bias[:, None, None, :], self.compute.attention)
        zero: dict[str, Any] = {"dtype": dtype, "kernel_init": nn.initializers.zeros}
        y = Dense(width, name="out", **zero)(y.reshape(x.shape))
        hidden = jax.nn.gelu(Dense(2 * width, dtype=dtype, name="layer_in")(layer_norm(dtype, "norm_out")(x + y)))
        y = y + Dense(width, name="layer_out", **zero)(hidden)
        return y.reshape(h.shape)


class TimingAttention(nn.Module):
    """The blocks of (1) for a U-Net.

    Attributes:
      config: of the attention.
      unet: config of the U-Net.
      duration: of the output, in seconds.
      compute: how it is computed.
    """

    config: TimingConfig
    unet: UNetConfig
    duration: float
    compute: Compute = Compute()

    def setup(self):
        make, sizes = blockwise(TimedBlock, self.compute.remat), (self.unet.groups, self.duration, self.compute)
        sites: dict[str, dict[str, TimedBlock]] = {"inputs": {}, "outputs": {}}
        for step in timing_steps(self.unet, self.config.levels):
            side, index = step.place
            sites[side][str(index)] = make(self.config, *sizes)
        self.inputs, self.outputs = sites["inputs"], sites["outputs"]

    def __call__(self, place: BlockSite, h: Array, tokens: TimedTokens) -> Array:
        """Attends at one site.

        Args:
          place: site of the block before.
          h: its output features, [B, T, …, C].
          tokens: of the other outputs, of the same B.

        Returns:
          Features of the shape of h.
        """
        side, index = place
        update = getattr(self, side)[str(index)](h, tokens)
        gate = (tokens.bias.max(-1) > MASKED / 2).astype(self.compute.dtype)
        return h + update * gate.reshape(-1, *(1,) * (h.ndim - 1))
