"""`encoders.VGGish` ↔ torchvggish's `vggish-10086976.pth`, AudioSet's weights in PyTorch's names.

    params = load_vggish("vggish-10086976.pth")
    embeddings = VGGish().apply({"params": params}, vggish_patches(waves, rate))

It is no component of a CoDi model.
"""

from pathlib import Path
from typing import Any

from codi_jax.encoders.vggish import VGGish, VGGishConfig
from codi_jax.interop.family import CheckpointPart, Family
from codi_jax.interop.feature_weights import FeatureWeights
from codi_jax.interop.names import Rule, affine
from codi_jax.media.vggish_mel import BANDS, FRAMES

# ReLUs and pools between them have numbers, too.
_CONVOLUTIONS, _DENSE = (0, 3, 6, 8, 11, 13), (0, 2, 4)
RULES: list[Rule] = [
    *(rule for i, n in enumerate(_CONVOLUTIONS) for rule in affine(f"features.{n}", f"conv_{i}", "conv2d")),
    *(rule for i, n in enumerate(_DENSE) for rule in affine(f"embeddings.{n}", f"dense_{i}")),
]

FAMILY = Family(
    "VGGish of torchvggish",
    (r"features\.0\.weight", r"embeddings\.0\.weight"),
    (CheckpointPart("vggish", lambda config: RULES),),
    ignore={r"pproc\..*": "the PCA of AudioSet's postprocessing, see encoders.vggish.quantized"},
)
WEIGHTS = FeatureWeights(FAMILY, VGGishConfig(), VGGish, (1, FRAMES, BANDS))


def vggish_shapes(config: VGGishConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters."""
    return WEIGHTS.shapes(config)


def load_vggish(path: str | Path, config: VGGishConfig | None = None) -> dict[str, Any]:
    """Reads the parameters of a `VGGish`.

    Args:
      path: a PyTorch archive, read without pickle, a safetensors file, or a directory of `codi-jax convert`.
      config: sizes of the network, by default those of the published weights.

    Returns:
      Nested dict of float32 arrays.

    Raises:
      ConfigError: the file or directory cannot be read, or holds other weights.
      NamesError: naming the first tensors that are missing, unexpected, misshaped or not finite.
    """
    return WEIGHTS.load(path, config)
