"""The U-Net: its blocks in order (`layout`), of one kind (`kinds`).

h = z;  for each step down: h = step(h), keep h
h = middle(h)
for each step up: h = step([h, last kept])
prediction = head(h)

Several variants of the context for each sample, such as the branches of guidance, share what is computed before the
first attention to the context.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError
from codi_jax.nn.compute import Compute
from codi_jax.nn.config import BlockConfig, UNetConfig
from codi_jax.nn.embeddings import TimeEmbedding
from codi_jax.nn.kinds import Head, blocks_of
from codi_jax.nn.layout import BlockSite, BlockSpec, input_steps, output_steps
from codi_jax.nn.remat import BLOCK, blockwise, named
from codi_jax.nn.temporal import Temporal
from codi_jax.nn.transformer import Transformer, repeat_batch
from codi_jax.types import Array, Tokens


class Connect(NamedTuple):
    """What is called between the steps of a U-Net.

    Attributes:
      sites: the steps after which it is called.
      call: (place, features) -> features.
    """

    sites: frozenset[BlockSite]
    call: Callable[[BlockSite, Array], Array]


def transformer(config: UNetConfig, compute: Compute, name: str | None = None) -> Transformer:
    """A transformer block with the sizes of the config."""
    return Transformer(config.heads, config.groups, config.vector_tokens, compute, name=name)


def residual_pair(config: BlockConfig, dtype: DTypeLike, width: int, suffix: str, h: Array, emb: Array) -> Array:
    """A residual block and, for video, its temporal layer; to be called in a compact method.

    Images skip the temporal layer and do not depend on it.
    """
    h = blocks_of(config, dtype).residual(width, f"residual{suffix}")(h, emb)
    return Temporal(config, dtype, name=f"temporal{suffix}")(h) if h.ndim == 5 else h


class Block(nn.Module):
    """One step of `layout`: (features, emb, context) -> features."""

    config: BlockConfig
    step: BlockSpec
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, h: Array, emb: Array, context: Tokens | None = None) -> Array:
        dtype, width = self.compute.dtype, self.step.width
        make = blocks_of(self.config, dtype)
        if self.step.content == "stem":
            return make.layer(self.config.flat(width), "stem")(h)
        if self.step.content == "down":
            return make.down(width, "down")(h)
        h = residual_pair(self.config, dtype, width, "", h, emb)
        if self.step.attend:
            assert isinstance(self.config, UNetConfig) and context is not None, "only the U-Net attends to a context"
            h = repeat_batch(h, context.values.shape[0]) + transformer(self.config, self.compute, "attend")(h, context)
        return make.up(width, "up")(h) if self.step.up else h


class Middle(nn.Module):
    """Residual, attention, residual at the coarsest level."""

    config: UNetConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, h: Array, emb: Array, context: Tokens) -> Array:
        width, dtype = self.config.channels * self.config.multipliers[-1], self.compute.dtype
        h = residual_pair(self.config, dtype, width, "_0", h, emb)
        h = repeat_batch(h, context.values.shape[0]) + transformer(self.config, self.compute, "attend")(h, context)
        return residual_pair(self.config, dtype, width, "_1", h, emb)


def check_latent(config: BlockConfig, z: Array, reduction: int = 1) -> None:
    """Raises ConfigError unless z fits the config; `reduction` must divide its height and width, or its length."""
    ranks = {"vector": (2,), "sequence": (3,), "spatial": (4, 5) if config.temporal else (4,)}[config.kind]
    if z.ndim not in ranks:
        raise ConfigError(
            f"a latent of {z.ndim} axes; a {config.kind} network with temporal={config.temporal} takes {ranks}"
        )
    if z.shape[-1] != config.latent_channels:
        raise ConfigError(f"a latent of {z.shape[-1]} channels; the network takes {config.latent_channels}")
    sides = z.shape[{"vector": -1, "sequence": -2, "spatial": -3}[config.kind] : -1]
    if any(side % reduction for side in sides):
        size = "x".join(map(str, sides))
        raise ConfigError(f"a latent of {size} cannot be halved evenly: each side must be a multiple of {reduction}")


class UNet(nn.Module):
    """The U-Net of a denoiser.

    Attributes:
      config: its sizes.
      compute: how it is computed.
    """

    config: UNetConfig
    compute: Compute = Compute()

    def setup(self):
        block, middle = blockwise(Block, self.compute.remat), blockwise(Middle, self.compute.remat)
        self.time = TimeEmbedding(self.config.channels, self.compute.dtype)
        self.inputs = [block(self.config, step, self.compute) for step in input_steps(self.config)]
        self.middle = middle(self.config, self.compute)
        self.outputs = [block(self.config, step, self.compute) for step in output_steps(self.config)]
        self.head = Head(self.config, self.config.latent_channels, zero=True, dtype=self.compute.dtype)

    def embed_time(self, t: Array) -> Array:
        """Embeds timesteps [B] as [B, 4·channels], an input of every residual block. One row serves all samples."""
        return self.time(t)

    def __call__(
        self, z: Array, t: Array, context: Tokens, connect: Connect | None = None, alias_skip: bool = False
    ) -> Array:
        """Predicts from a noisy latent.

        Args:
          z: [B, H, W, C], [B, T, H, W, C], [B, L, C] or [B, C].
          t: timesteps [B], or [1] for all samples.
          context: prompt tokens [B, L, D], or [k·B, L, D]: the samples in k variants, one variant after the other, for
            t [1].
          connect: cross-modal attention.
          alias_skip: use the output of the middle instead of the last skip in the first step up, as the release does.

        Returns:
          The prediction [B, …] or [k·B, …], of the shape of a sample and the dtype of z.

        Raises:
          ConfigError: a latent or a context of other sizes than the config's.
        """
        check_latent(self.config, z, self.config.reduction)
        if context.values.shape[-1] != self.config.context_width:
            got, width = context.values.shape[-1], self.config.context_width
            raise ConfigError(f"prompt tokens of width {got}; the network takes width {width}")

        variants = context.values.shape[0]

        def connected(step: BlockSpec, h: Array) -> Array:
            if connect is None or step.place not in connect.sites:
                return h
            return connect.call(step.place, repeat_batch(h, variants))

        emb = self.embed_time(t)
        h, skips = z.astype(self.compute.dtype), []
        for block in self.inputs:
            h = connected(block.step, named(block(h, emb, context), BLOCK))
            skips.append(h)
        h = named(self.middle(h, emb, context), BLOCK)
        if alias_skip:
            skips[-1] = h
        for block in self.outputs:
            joined = jnp.concatenate([h, repeat_batch(skips.pop(), variants)], axis=-1)
            h = connected(block.step, named(block(joined, emb, context), BLOCK))
        return self.head(h).astype(z.dtype)
