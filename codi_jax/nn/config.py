"""Sizes of the U-Net family. The defaults are those of the release where it has a single value."""

import dataclasses
from typing import Literal

from codi_jax.config import ConfigError, renamed


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """What the blocks of a U-Net and of its environment encoder share.

    Attributes:
      kind: "spatial" for latents [B, H, W, C] or [B, T, H, W, C], "vector" for latents [B, C].
      latent_channels: C of the latent.
      channels: the unit of width; a level is `channels` times its multiplier wide.
      groups: groups of every group norm.
      vector_tokens: a vector's features of width C are this many tokens of C channels, stored flat, channel-major.
      temporal: whether residual blocks are followed by a temporal layer. It acts on [B, T, H, W, C] only.
      temporal_heads: heads of the temporal attention.
      temporal_divisor: the width of a temporal head is that of its features divided by this.
      max_frames: length of the table of frame positions.
    """

    kind: Literal["spatial", "vector"]
    latent_channels: int
    channels: int
    groups: int = 32
    vector_tokens: int = 4
    temporal: bool = False
    temporal_heads: int = 8
    temporal_divisor: int = 4
    max_frames: int = 30

    def __post_init__(self):
        _require(self.kind in ("spatial", "vector"), f"kind: expected 'spatial' or 'vector', got {self.kind!r}")
        _require(not (self.temporal and self.kind == "vector"), "temporal: a vector has no frames")
        _require(self.channels % 2 == 0, f"channels: {self.channels} has to be even for the time embedding")

    def flat(self, width: int) -> int:
        """Features of a block of this width as they are stored: a vector's tokens are flattened into it."""
        return width * self.vector_tokens if self.kind == "vector" else width

    def _check_groups(self, name: str, widths) -> None:
        for width in widths:
            _require(width % self.groups == 0, f"{name}: a width of {width} is no multiple of groups = {self.groups}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(BlockConfig):
    """A U-Net; the four tuples have one entry a level, finest level first.

    Attributes:
      context_width: D of the prompt tokens.
      multipliers: width of each level in units of `channels`.
      blocks: residual blocks of each level on the way down; the way up has one more.
      attention_levels: whether the blocks of a level have self-attention and cross-attention to the prompt. The middle
        always has both.
      cross_modal_levels: whether cross-modal attention can follow the blocks of a level.
      heads: attention heads.
    """

    context_width: int
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    attention_levels: tuple[bool, ...] = renamed("attend", default=(True, True, True, False))
    cross_modal_levels: tuple[bool, ...] = renamed("connect", default=(True, True, True, False))
    heads: int = 8

    def __post_init__(self):
        super().__post_init__()
        for name in ("blocks", "attention_levels", "cross_modal_levels"):
            n = len(getattr(self, name))
            _require(n == len(self.multipliers), f"{name}: {n} levels, but multipliers has {len(self.multipliers)}")
        widths = [m * self.channels for m in self.multipliers]
        self._check_groups("multipliers", [self.channels, *widths])
        for width in widths:
            _require(width % self.heads == 0, f"heads: {self.heads} heads do not divide a width of {width}")

    @property
    def reduction(self) -> int:
        """By how much the coarsest level is smaller; a spatial latent's height and width have to be multiples of it."""
        return 1 if self.kind == "vector" else 2 ** (len(self.multipliers) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentConfig(BlockConfig):
    """An environment encoder; it is driven by the time embedding of its modality's U-Net.

    Attributes:
      width: E, the width of the environment space.
      multipliers: width of each level in units of `channels`; the stem is half of `channels` wide.
      blocks: residual blocks of each level.
      tokens: "pooled": one token, the mean over all positions; "map": one token a position (for video, a position of a
        frame).
      normalize: divide every token by its L2 norm, as the release does.
    """

    width: int
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: tuple[int, ...] = (1, 1, 1)
    tokens: Literal["pooled", "map"] = "pooled"
    normalize: bool = False

    def __post_init__(self):
        super().__post_init__()
        n, levels = len(self.blocks), len(self.multipliers)
        _require(n == levels, f"blocks: {n} levels, but multipliers has {levels}")
        _require(self.tokens in ("pooled", "map"), f"tokens: expected 'pooled' or 'map', got {self.tokens!r}")
        self._check_groups("channels", [self.flat(self.channels // 2)])
        self._check_groups("multipliers", [m * self.channels for m in self.multipliers])
