"""`encoders.InceptionV3` ↔ the weights of FID, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid.

It is no component of a CoDi model, and is read where it is needed:

    model, params = load_inception("pt_inception-2015-12-05-6726825d.pth")
    features = jax.jit(lambda images: model.apply({"params": params}, preprocess(images)).pool)    # uint8 [B, H, W, 3]
    metric = fid(fit(np.concatenate([features(batch) for batch in real])))
    numbers = compute(metric, map(features, generated))                                        # {"fid": …, "n": …}
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.encoders.inception import InceptionConfig, InceptionV3
from codi_jax.interop.family import CheckpointPart, Family
from codi_jax.interop.feature_weights import FeatureWeights
from codi_jax.interop.names import Rule, affine, at, norm

_CONV = [
    Rule("conv.weight", "conv/kernel", "conv2d"),
    *norm("bn", "bn"),
    Rule("bn.running_{what:mean|var}", "bn/{what:mean|var}"),
]
_LAYER, _BLOCK, _BRANCH = r"{layer:Conv2d_\w+}", "{block:Mixed_[5-7][a-e]}", r"{branch:branch\w+}"

RULES: list[Rule] = [
    *at(_LAYER, _LAYER, _CONV),
    *at(f"{_BLOCK}.{_BRANCH}", f"{_BLOCK}/{_BRANCH}", _CONV),
    *affine("fc", "fc"),
]

FAMILY = Family(
    "Inception-v3 of FID",
    (r"Conv2d_1a_3x3\.conv\.weight", r"Mixed_7c\.branch_pool\.conv\.weight"),
    (CheckpointPart("inception", lambda config: RULES),),
    ignore={r".*\.num_batches_tracked": "a training step counter"},
    refuse={
        r"AuxLogits\..*": "torchvision's Inception-v3, whose features are not those of FID; "
        "expected pt_inception-2015-12-05-6726825d.pth"
    },
)
WEIGHTS = FeatureWeights(FAMILY, InceptionConfig(), InceptionV3, (1, 75, 75, 3))


def target(config: InceptionConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters."""
    return WEIGHTS.shapes(config)


def load_inception(
    path: str | Path, config: InceptionConfig | None = None, dtype: DTypeLike = jnp.float32
) -> tuple[InceptionV3, dict[str, Any]]:
    """Opens the published weights.

    Args:
      path: a PyTorch archive, read without pickle, a safetensors file, or a directory of `codi-jax convert`.
      config: sizes; those of the published weights if None.
      dtype: of the computation. Published numbers are of float32.

    Returns:
      The network and its parameters, float32: `model.apply({"params": params}, preprocess(images)).pool`.

    Raises:
      ConfigError: the file or directory cannot be read, or holds other weights.
      NamesError: naming the first tensors that are missing, unexpected, misshaped, mistyped or not finite.
    """
    config = config or WEIGHTS.published
    return InceptionV3(config, dtype), WEIGHTS.load(path, config)
