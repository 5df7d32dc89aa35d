"""Moving averages beside the weights of a file, as LitEma of latent-diffusion stores them.

    model.diffusion_model.input_blocks.0.0.weight        a weight, as the optimizer left it
    model_ema.diffusion_modelinput_blocks00weight        its average, under its name in `model`, without the dots
    model_ema.decay, model_ema.num_updates               of the averaging

An autoencoder averages all of itself, so there its names have no `model.`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError, few

_EMA = "model_ema."
_OWN = (f"{_EMA}decay", f"{_EMA}num_updates")


def with_ema(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a file, each weight replaced by its average, if it has one; without the averages.

    Raises:
      ConfigError: the file has no averages, or one without a weight of its name and shape.
    """
    roots = dict.fromkeys(key[: key.index(_EMA)] for key in state if _EMA in key)
    if not roots:
        raise ConfigError("it has no moving averages (model_ema.…): without --ema its weights are read")
    root = next(iter(roots))
    averages = {key.removeprefix(root): value for key, value in state.items() if key.startswith(root + _EMA)}
    out = {}
    for key, value in state.items():
        inner = key.removeprefix(root)
        if key.startswith(root + _EMA):
            continue
        name = _EMA + inner.removeprefix("model.").replace(".", "")
        out[key] = averages.pop(name, value) if key.startswith(root) else value
        if np.shape(out[key]) != np.shape(value):
            raise ConfigError(f"{root}{name} {np.shape(out[key])} is the average of {key} {np.shape(value)}")
    if unknown := [name for name in averages if name not in _OWN]:
        raise ConfigError(f"{len(unknown)} moving averages belong to no weight: {few(unknown)}")
    return out
