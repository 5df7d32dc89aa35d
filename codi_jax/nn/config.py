"""Configs of U-Nets and environment encoders. Defaults are the values of the release where it has only one."""

from typing import Literal

from codi_jax.config import ConfigError, config_class, renamed


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@config_class(kw_only=True)
class BlockConfig:
    """Fields common to a U-Net and its environment encoder.

    Attributes:
      kind: "spatial" for latents [B, H, W, C] or [B, T, H, W, C], "sequence" for latents [B, L, C], "vector" for
        latents [B, C].
      latent_channels: C of the latent.
      channels: base width; a level has `channels` times its multiplier channels.
      groups: groups of every group norm.
      vector_tokens: number of tokens of the features of a vector, which are stored flat, channel-major.
      temporal: whether a temporal layer follows every residual block. It acts only on [B, T, H, W, C].
      temporal_heads: heads of the temporal attention.
      temporal_divisor: the width of a temporal head is that of the features divided by this.
      max_frames: rows of the frame position table.

    Raises:
      ConfigError: sizes that do not fit together; also from the subclasses.
    """

    kind: Literal["spatial", "sequence", "vector"]
    latent_channels: int
    channels: int
    groups: int = 32
    vector_tokens: int = 4
    temporal: bool = False
    temporal_heads: int = 8
    temporal_divisor: int = 4
    max_frames: int = 30

    def __post_init__(self):
        _require(not self.temporal or self.kind == "spatial", f"temporal: a {self.kind} has no frames")
        _require(self.channels % 2 == 0, f"channels: {self.channels} must be even for the time embedding")

    def flat(self, width: int) -> int:
        """The size of the last axis of features of this width: times `vector_tokens` for vectors."""
        return width * self.vector_tokens if self.kind == "vector" else width

    def _check_groups(self, name: str, widths) -> None:
        for width in widths:
            _require(
                width % self.groups == 0, f"{name}: a width of {width} is not a multiple of groups = {self.groups}"
            )


@config_class(kw_only=True)
class UNetConfig(BlockConfig):
    """A U-Net. The four tuples have one entry per level, finest level first.

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
        """Factor by which the coarsest level is smaller; must divide height and width, or the length, of a latent."""
        return 1 if self.kind == "vector" else 2 ** (len(self.multipliers) - 1)


@config_class(kw_only=True)
class EnvironmentConfig(BlockConfig):
    """An environment encoder. It receives the time embedding of its modality's U-Net.

    Attributes:
      width: E, the width of the environment space.
      multipliers: width of each level in units of `channels`; the stem has half of `channels`.
      blocks: residual blocks of each level.
      tokens: "pooled": one token, the mean over all positions; "map": one token per position, of every frame for video;
        "time": one token per time, of a frame or a column (of a timing encoder only).
      normalize: divide every token by its L2 norm, as the release does.
    """

    width: int
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: tuple[int, ...] = (1, 1, 1)
    tokens: Literal["pooled", "map", "time"] = "pooled"
    normalize: bool = False

    def __post_init__(self):
        super().__post_init__()
        n, levels = len(self.blocks), len(self.multipliers)
        _require(n == levels, f"blocks: {n} levels, but multipliers has {levels}")
        self._check_groups("channels", [self.flat(self.channels // 2)])
        self._check_groups("multipliers", [m * self.channels for m in self.multipliers])


@config_class(kw_only=True)
class TimingConfig:
    """Attention in time between outputs that have one, see `nn.timing`.

    Attributes:
      encoder: of the timing encoder; its `tokens` are "time".
      levels: whether attention in time follows the blocks of a level of the U-Net, finest level first.
      heads: attention heads.
      periods: the shortest and the longest period of the rotation, in seconds: some columns or frames, and twice the
        longest output.

    Raises:
      ConfigError: other tokens, or periods in another order.
    """

    encoder: EnvironmentConfig
    levels: tuple[bool, ...]
    heads: int = 4
    periods: tuple[float, float] = (0.1, 20.0)

    def __post_init__(self):
        _require(self.encoder.tokens == "time", f"encoder.tokens: expected 'time', got {self.encoder.tokens!r}")
        low, high = self.periods
        _require(0 < low < high, f"periods: expected the shorter one first, got {low:g} and {high:g}")
