"""Multi-head attention over weighted tokens.

    o = Σ_l softmax_l(q·k_l / √d + b_l) v_l

With b_l = log w_l a token counts w_l times; b_l = MASKED masks it. The softmax over a single token is 1 whatever q, k
and b are, so that attention to one token, such as CoDi's prompt or a pooled environment, is o = v: one vector for all
positions.

`attend` is the only place that chooses the program which computes o (`attention_kernels`).
"""

import functools
import logging
from typing import get_args

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError
from codi_jax.nn import attention_kernels as kernels
from codi_jax.nn.attention_kernels import Kernel
from codi_jax.nn.layers import Dense
from codi_jax.nn.remat import named
from codi_jax.parallel.activations import constrain, shards
from codi_jax.parallel.hardware import Hardware, hardware
from codi_jax.types import Array, Tokens

LARGE = 128 * 2**20  # bytes of the scores on a device above which they are computed in chunks
MANY = 1024**2  # scores of a head from which a kernel without scores in memory pays


def attend(q: Array, k: Array, v: Array, bias: Array | None = None, kernel: Kernel = "auto") -> Array:
    """Softmax attention, with scores and softmax in float32.

    Args:
      q: queries [B, P, N, d].
      k, v: keys and values [B, L, N, d].
      bias: added to the scores; broadcasts to [B, N, P, L].
      kernel: what computes it; `auto` chooses by hardware and sizes.

    Returns:
      [B, P, N, d] in the dtype of v.

    Raises:
      ConfigError: the named kernel does not exist, or cannot be used on this hardware or with this dtype.
    """
    q, k, v = (constrain(x, "batch", None, "heads") for x in (q, k, v))
    batch, queries, heads, width = q.shape
    parts = shards("batch", batch) * shards("heads", heads)
    sizes = kernels.Sizes(batch, queries, heads, width, k.shape[1], str(v.dtype), bias is not None, parts)
    chosen = choose(kernel, sizes, hardware())
    return named(constrain(kernels.KERNELS[chosen](q, k, v, bias), "batch", None, "heads"), "attention")


@functools.lru_cache(maxsize=1024)
def choose(kernel: Kernel, sizes: kernels.Sizes, hardware: Hardware) -> str:
    """The kernel for some sizes. The first choice for these sizes is logged, as debugging if there are few scores.

    `auto` is splash on TPU and cudnn on NVIDIA GPUs, where they can be used and a head has `MANY` scores (below, XLA's
    programs are as good); else XLA's, in chunks if the scores of a device take more than `LARGE`. splash and cudnn, if
    they are named, compute what they can, and the others the rest.

    Raises:
      ConfigError: see `attend`.
    """
    if kernel not in (known := get_args(Kernel)):
        raise ConfigError(f"config.model.attention: {kernel!r} is none of {', '.join(known)}")
    many, why = sizes.queries * sizes.keys >= MANY, ""
    plain = "chunked" if sizes.score_bytes > LARGE else "xla"
    chosen = plain if kernel == "auto" else kernel
    if kernel == "auto":
        fused = {"tpu": "splash", "gpu": "cudnn"}.get(hardware.platform)
        if fused and many and not kernels.unavailable(fused, sizes.dtype, hardware):
            why = kernels.unsupported(fused, sizes, hardware)
            chosen = plain if why else fused
    elif why := kernels.unavailable(kernel, sizes.dtype, hardware):
        raise ConfigError(f"config.model.attention: {kernel} cannot be used: {why}; use auto")
    elif why := kernels.unsupported(kernel, sizes, hardware):
        chosen = plain
    level = logging.INFO if many or chosen != "xla" else logging.DEBUG
    reason = f" ({why})" if why else ""
    logging.getLogger(__name__).log(level, "attention %s on %s: %s%s", sizes, hardware.platform, chosen, reason)
    return chosen


def split_heads(x: Array, heads: int) -> Array:
    """[..., N·d] -> [..., N, d]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


class Attention(nn.Module):
    """Cross-attention of tokens to a context or, without one, self-attention.

    Queries, keys and values have the width of the tokens and no bias; the output layer has a bias.

    Attributes:
      heads: N.
      dtype: of the computation.
      kernel: see `attend`.
    """

    heads: int
    dtype: DTypeLike = jnp.float32
    kernel: Kernel = "auto"

    @nn.compact
    def __call__(self, x: Array, context: Tokens | None = None) -> Array:
        """x: [B, P, C]; context: [B, L, D]. Returns [B, P, C], or [B, 1, C] if L is 1: the same for all positions."""
        width = x.shape[-1]
        source = x if context is None else context.values.astype(self.dtype)

        def project(values: Array, name: str) -> Array:
            return Dense(width, use_bias=False, dtype=self.dtype, name=name)(values)

        out = Dense(width, dtype=self.dtype, name="out")
        if context is not None and source.shape[1] == 1:
            if self.is_initializing():  # their parameters exist for any number of tokens
                _ = project(x, "query"), project(source, "key")
            return out(project(source, "value"))
        q, k, v = (
            split_heads(project(values, name), self.heads)
            for values, name in ((x, "query"), (source, "key"), (source, "value"))
        )
        bias = None if context is None else context.bias[:, None, None, :]
        return out(attend(q, k, v, bias, self.kernel).reshape(x.shape))
