"""CLAP's audio tower (arXiv 2211.06687), an HTSAT (arXiv 2202.00874): a log-mel spectrogram to one vector.

    fold      each mel bin normalised by fixed statistics; time resized to T' = spec_size · n, n = spec_size / mel_bins,
              and split into n segments that are stacked along frequency, the earliest first: [T', mel] -> spec_size²
    patches   a convolution, then layer norm: cells of a grid [H, W] of width C
    stages    Swin blocks (`swin`), odd ones with windows shifted by half their side unless one window covers the grid;
              after every stage except the last, 2 × 2 cells are merged into one of twice the width
    output    mean over cells of LN(x), then W₂ relu(W₁ ·); not normalised, see `unit_or_zero`

Time is resized by cubic convolution (Keys 1981) with a = −3/4, aligned corners and edge padding:

    w(s) = (a + 2)|s|³ − (a + 3)|s|² + 1     |s| ≤ 1
    w(s) = a|s|³ − 5a|s|² + 8a|s| − 4a       1 < |s| < 2
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.swin import Merge, SwinBlock
from codi_jax.nn.layers import Conv, Dense
from codi_jax.nn.norms import layer_norm
from codi_jax.nn.remat import Remat, blockwise
from codi_jax.types import Array


@config_class()
class CLAPAudioConfig:
    """Sizes of a `CLAPAudio`.

    Attributes:
      mel_bins: mel bins of the spectrogram; must divide `spec_size`.
      spec_size: side of the square into which a spectrogram is folded.
      patch_size: side of a patch.
      patch_stride: vertical and horizontal stride of patches; each must divide `spec_size`.
      embed_dim: C of the first stage; it doubles with every stage.
      depths: blocks of every stage.
      num_heads: attention heads of every stage; must divide its width.
      window: w, the maximum side of a window in cells; a smaller grid is one window.
      projection: D, width of the shared space.
      mlp_ratio: inner width of the feed-forward divided by C.

    Raises:
      ConfigError: sizes that do not fit together.
    """

    mel_bins: int
    spec_size: int
    patch_size: int
    patch_stride: tuple[int, ...]
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: int
    projection: int
    mlp_ratio: float = 4.0

    def __post_init__(self):
        if self.spec_size % self.mel_bins:
            raise ConfigError(f"spec_size: {self.spec_size} is not a multiple of {self.mel_bins} mel_bins")
        if len(self.patch_stride) != 2:
            raise ConfigError(f"patch_stride: expected two strides, got {self.patch_stride}")
        for stride in self.patch_stride:
            if self.spec_size % stride or (self.patch_size - stride) % 2 or stride > self.patch_size:
                raise ConfigError(
                    f"patch_stride: patches of {self.patch_size} every {stride} do not cover {self.spec_size} evenly"
                )
        if not self.depths or len(self.depths) != len(self.num_heads):
            raise ConfigError(
                f"depths, num_heads: {self.depths} and {self.num_heads} must have the same length, at least 1"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ConfigError(f"num_heads: {heads} do not divide the width {self.width(stage)} of stage {stage}")
            grid, window = self.grid(stage), self.window_of(stage)
            # A merge of a grid with an odd side would drop cells.
            if any(side << stage != self.spec_size // s for side, s in zip(grid, self.patch_stride, strict=True)):
                raise ConfigError(f"depths: the grid {self.grid(0)} cannot be halved {stage} times")
            if any(side % window for side in grid):
                raise ConfigError(f"window: {window} does not divide the grid {grid} of stage {stage}")

    @property
    def frames(self) -> int:
        """T', the maximum number of frames."""
        return self.spec_size * (self.spec_size // self.mel_bins)

    def width(self, stage: int) -> int:
        """C of a stage."""
        return self.embed_dim << stage

    def grid(self, stage: int) -> tuple[int, int]:
        """H and W of a stage."""
        down, across = (self.spec_size // stride >> stage for stride in self.patch_stride)
        return down, across

    def window_of(self, stage: int) -> int:
        """Side of the windows of a stage."""
        return min(self.window, *self.grid(stage))

    def shift_of(self, stage: int, block: int) -> int:
        """Cells by which the windows of a block are shifted."""
        return self.window // 2 if block % 2 and min(self.grid(stage)) > self.window else 0


def unit_or_zero(x: Array) -> Array:
    """x / max(‖x‖, 1e-12) over the last axis in float32, as the public CoDi release does for audio: 0 at x = 0."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def cubic_matrix(length: int, target: int) -> np.ndarray:
    """Cubic interpolation from `length` to `target` samples as a matrix [target, length], float32; rows sum to 1.

    Positions are rounded to float32 as in PyTorch's bicubic interpolation with align_corners=True: towards the end of a
    long signal the effect of the rounding exceeds the precision of the result.
    """
    step = np.float32(length - 1) / np.float32(max(target - 1, 1))
    position = step * np.arange(target, dtype=np.float32)
    first = np.minimum(np.floor(position).astype(int), length - 1)
    a, t = -0.75, (position - first).astype(np.float64)
    matrix = np.zeros((target, length))
    for tap in range(-1, 3):
        s = np.abs(t - tap)
        near = ((a + 2) * s - (a + 3)) * s**2 + 1
        far = ((a * s - 5 * a) * s + 8 * a) * s - 4 * a
        np.add.at(matrix, (np.arange(target), np.clip(first + tap, 0, length - 1)), np.where(s <= 1, near, far))
    return matrix.astype(np.float32)


def fold(x: Array, config: CLAPAudioConfig) -> Array:
    """Folds spectrograms [B, T, mel] into squares [B, spec_size, spec_size], segments and frequency along axis 1."""
    batch, length, bins = x.shape
    if length < config.frames:
        x = jnp.einsum("st,btf->bsf", cubic_matrix(length, config.frames), x, precision="highest")
    x = x.reshape(batch, -1, config.spec_size, bins).swapaxes(2, 3)
    return x.reshape(batch, config.spec_size, config.spec_size)


class FixedBatchNorm(nn.Module):
    """(x − mean) / √(var + ε) · scale + bias for every feature of x [..., F], in float32.

    `mean` and `var` are parameters, so that checkpoints contain them, but have no gradient and, being vectors, no
    weight decay: they keep their imported values (0 and 1 at initialisation).
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        var = jax.lax.stop_gradient(self.param("var", nn.initializers.ones, shape))
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + self.epsilon) * scale + bias


class CLAPAudio(nn.Module):
    """The audio tower; `remat` says what is kept for the backward pass."""

    config: CLAPAudioConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, log_mel: Array) -> Array:
        """Embeds spectrograms.

        Args:
          log_mel: [B, T, mel], 1 ≤ T ≤ config.frames, in the units of the weights (published ones: dB, 100 frames per
            second).

        Returns:
          [B, D], float32, not normalised.

        Raises:
          ConfigError: another number of mel bins, no frames, or more than `config.frames`.
        """
        config = self.config
        if log_mel.ndim != 3 or log_mel.shape[-1] != config.mel_bins:
            raise ConfigError(f"expected a log-mel [B, T, {config.mel_bins}], got {list(log_mel.shape)}")
        if not 1 <= log_mel.shape[1] <= config.frames:
            raise ConfigError(f"{log_mel.shape[1]} frames; the audio tower takes 1 to {config.frames}")
        x = fold(FixedBatchNorm(name="norm_mel")(log_mel), config)[..., None]
        patch, strides = (config.patch_size, config.patch_size), config.patch_stride
        padding = [(pad, pad) for pad in ((config.patch_size - stride) // 2 for stride in strides)]
        x = Conv(config.embed_dim, patch, strides, padding, dtype=self.dtype, name="patch")(x)
        x = layer_norm(self.dtype, "norm_in")(x)
        for stage, (depth, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
            inner = int(config.width(stage) * config.mlp_ratio)
            swin = blockwise(SwinBlock, self.remat)
            for block in range(depth):
                side, shift = config.window_of(stage), config.shift_of(stage, block)
                x = swin(heads, side, shift, inner, self.dtype, name=f"stage_{stage}_block_{block}")(x)
            if stage + 1 < len(config.depths):
                x = Merge(self.dtype, name=f"stage_{stage}_merge")(x)
        x = layer_norm(self.dtype, "norm")(x).mean((1, 2))
        x = nn.relu(Dense(config.projection, dtype=self.dtype, name="projection1")(x))
        return Dense(config.projection, dtype=self.dtype, name="projection2")(x).astype(jnp.float32)
