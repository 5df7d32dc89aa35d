"""`encoders.InceptionV3` ↔ the weights of FID, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid.

No CoDi model has this network, so that `convert` has nowhere to put it; it is read where it is needed:

    model, params = load_inception("pt_inception-2015-12-05-6726825d.pth")
    features = jax.jit(lambda images: model.apply({"params": params}, preprocess(images)).pool)    # uint8 [B, H, W, 3]
    metric = fid(fit(np.concatenate([features(batch) for batch in real])))
    numbers = compute(metric, map(features, generated))                                        # {"fid": …, "n": …}
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.config import ConfigError
from codi_jax.encoders.inception import InceptionConfig, InceptionV3
from codi_jax.interop.family import CheckpointPart, Family, read, reason, weight_keys
from codi_jax.interop.names import Rule, affine, at, norm
from codi_jax.interop.tensors import open_state

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


def target(config: InceptionConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters."""
    example = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    return jax.eval_shape(InceptionV3(config).init, jax.random.key(0), example)["params"]


def load_inception(
    path: str | Path, config: InceptionConfig | None = None, dtype: DTypeLike = jnp.float32
) -> tuple[InceptionV3, dict[str, Any]]:
    """Opens a file of weights.

    Args:
      path: a PyTorch archive, read without pickle, or a safetensors file.
      config: sizes; those of the published weights if None.
      dtype: of the computation. Published numbers are of float32.

    Returns:
      The network and its parameters, float32: `model.apply({"params": params}, preprocess(images)).pool`.

    Raises:
      ConfigError: the file cannot be read, or holds other weights.
      NamesError: naming every tensor that is missing, unexpected, misshaped, mistyped or not finite.
    """
    config = config or InceptionConfig()
    state = open_state(path)
    keys = weight_keys(state)
    for key in keys:
        if why := reason(FAMILY.refuse, key):
            raise ConfigError(f"{path}: {key}: {why}")
    if not all(any(re.fullmatch(pattern, key) for key in keys) for pattern in FAMILY.required):
        shown = ", ".join(list(keys)[:3]) or "no tensor at all"
        raise ConfigError(f"{path}: not the weights of {FAMILY.name}: it holds {shown}, …")
    try:
        found, _ = read(FAMILY, state, {"inception": config}, {"inception": target(config)})
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None
    return InceptionV3(config, dtype), found["inception"].tree
