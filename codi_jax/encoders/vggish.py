"""VGGish (Hershey et al., arXiv 1609.09430): a log-mel patch of 0.96 s to 128 numbers.

    conv 64, pool, conv 128, pool, 2 × conv 256, pool, 2 × conv 512, pool: [96, 64, 1] -> [6, 4, 512]
    dense 4096, dense 4096, dense 128

Convolutions are 3 × 3, pools take the maximum of 2 × 2, and a ReLU follows every layer except the last one here.

Which numbers are the embedding is a matter of the measure. AudioSet released features to which a PCA, clipping to
[-2, 2] and a quantization to 8 bits had been applied (`quantized`). Fréchet audio distances use the raw numbers
instead: those before the last ReLU in AudioLDM's evaluation (`audioldm_eval`) and in `fadtk`'s "vggish", both of which
remove that ReLU and the postprocessing. This is the default; `relu_output` adds the ReLU, as in `torchvggish`.
Distances of the two kinds must not be compared.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from codi_jax.config import ConfigError, config_class
from codi_jax.media.vggish_mel import BANDS, FRAMES
from codi_jax.nn.layers import Conv, Dense
from codi_jax.types import Array

DEPTHS = (1, 1, 2, 2)  # convolutions before each pool


@config_class()
class VGGishConfig:
    """Sizes of a `VGGish`, by default those of the published weights.

    Attributes:
      channels: of the convolutions before each of the four pools.
      hidden: width of the first two dense layers.
      embedding: width of the last one.

    Raises:
      ConfigError: another number of channels than four, or a size below 1.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    hidden: int = 4096
    embedding: int = 128

    def __post_init__(self):
        if len(self.channels) != len(DEPTHS):
            raise ConfigError(f"channels: {self.channels} must have {len(DEPTHS)} entries, one before each pool")
        if min(*self.channels, self.hidden, self.embedding) < 1:
            raise ConfigError(f"channels, hidden, embedding: sizes must be at least 1, got {self}")


class VGGish(nn.Module):
    """The network.

    Attributes:
      config: its sizes.
      relu_output: whether a ReLU follows the last layer, see the module's docstring.
      dtype: compute type.
    """

    config: VGGishConfig = VGGishConfig()
    relu_output: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, patches: Array) -> Array:
        """Maps patches [..., 96, 64] of `media.vggish_mel` to embeddings [..., 128], float32.

        Raises:
          ConfigError: patches of another size.
        """
        if patches.ndim < 2 or patches.shape[-2:] != (FRAMES, BANDS):
            raise ConfigError(f"expected log-mel patches [..., {FRAMES}, {BANDS}], got {list(patches.shape)}")
        x = patches.reshape(-1, FRAMES, BANDS, 1).astype(self.dtype)
        layer = 0
        for channels, depth in zip(self.config.channels, DEPTHS, strict=True):
            for _ in range(depth):
                x = nn.relu(Conv(channels, (3, 3), dtype=self.dtype, name=f"conv_{layer}")(x))
                layer += 1
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for i, width in enumerate((self.config.hidden, self.config.hidden, self.config.embedding)):
            x = Dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            x = nn.relu(x) if i < 2 or self.relu_output else x
        return x.reshape(*patches.shape[:-2], -1).astype(jnp.float32)


def quantized(embeddings: np.ndarray, vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """AudioSet's postprocessing of embeddings with a ReLU: round( 255/4 · (clip(V (x - μ), -2, 2) + 2) ).

    Args:
      embeddings: x, [..., D].
      vectors: V, [D, D], `pca_eigen_vectors` of AudioSet's vggish_pca_params.npz.
      means: μ, [D] or [D, 1], its `pca_means`.

    Returns:
      [..., D], uint8.
    """
    centred = np.asarray(embeddings, np.float32) - np.reshape(means, -1)
    return np.rint((np.clip(centred @ np.asarray(vectors).T, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
