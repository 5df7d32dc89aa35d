"""Moving averages beside the weights of a file, as training programs store them.

LitEma of latent-diffusion:

    model.diffusion_model.input_blocks.0.0.weight        a weight, as the optimizer left it
    model_ema.diffusion_modelinput_blocks00weight        its average, under its name in `model`, without the dots
    model_ema.decay, model_ema.num_updates               of the averaging

An autoencoder averages all of itself, so there its names have no `model.`. Other programs keep a second dict:

    model.input_blocks.0.0.weight, state_dict.input_blocks.0.0.weight, …
    ema.input_blocks.0.0.weight, state_dict_ema.…, ema_state_dict.…, ema.ema_model.…
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError, few

_EMA = "model_ema."
_OWN = (f"{_EMA}decay", f"{_EMA}num_updates")
_DICT = re.compile(r"(?:[A-Za-z_]+\.){0,2}?(?:(?:ema|ema_\w+|\w+_ema)\.)+")
_JOINED_ALONE = (
    "it holds moving averages alone, whose names have lost their dots; give the file that has the weights beside them"
)


def averages_alone(keys: Collection[str]) -> str | None:
    """What a file is of which all tensors are moving averages; None if it holds anything else."""
    if not keys or not all(_DICT.match(key) for key in keys):
        return None
    dotted = any("." in _DICT.sub("", key, count=1) for key in keys)
    return "it holds moving averages alone, which --ema reads" if dotted else _JOINED_ALONE


def with_ema(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a file, each weight replaced by its average, if it has one; without the averages.

    Raises:
      ConfigError: the file has no averages, or one without a weight of its name and shape.
    """
    roots = dict.fromkeys(key[: key.index(_EMA)] for key in state if _EMA in key)
    for root in roots:
        names = [key.removeprefix(root + _EMA) for key in state if key.startswith(root + _EMA)]
        if not any("." in name for name in names):
            return _from_joined_names(state, root)
    return _from_dict(state)


def _from_joined_names(state: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The state with the averages of LitEma below `root`."""
    averages = {key.removeprefix(root): value for key, value in state.items() if key.startswith(root + _EMA)}
    if not any(key.startswith(root) and not key.startswith(root + _EMA) for key in state):
        raise ConfigError(_JOINED_ALONE)
    out = {}
    for key, value in state.items():
        inner = key.removeprefix(root)
        if key.startswith(root + _EMA):
            continue
        name = _EMA + inner.removeprefix("model.").replace(".", "")
        out[key] = averages.pop(name, value) if key.startswith(root) else value
        _check_shape(f"{root}{name}", out[key], key, value)
    if unknown := [name for name in averages if name not in _OWN]:
        raise ConfigError(f"{len(unknown)} moving averages belong to no weight: {few(unknown)}")
    return out


def _from_dict(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with the averages of a second dict in place of the weights of their names; if there are none, these."""
    roots = dict.fromkeys(found[0] for found in map(_DICT.match, state) if found)
    if not roots:
        raise ConfigError("it has no moving averages (model_ema.…, ema.…): without --ema its weights are read")
    root = max(roots, key=lambda name: name.count("."))  # ema.ema_model. rather than ema., which has the step, too
    found = {key.removeprefix(root): value for key, value in state.items() if key.startswith(root)}
    averages = {name: value for name, value in found.items() if np.ndim(value)}  # the others are steps and decays
    others = {key: value for key, value in state.items() if not _DICT.match(key)}
    if not averages:
        raise ConfigError(f"its {root.rstrip('.')} holds no averages of weights")
    first = next(iter(averages))
    for prefix in [key.removesuffix(first) for key in others if key.endswith(first)]:
        if (not prefix or prefix.endswith(".")) and all(prefix + name in others for name in averages):
            for name, value in averages.items():
                _check_shape(root + name, value, prefix + name, others[prefix + name])
            return others | {prefix + name: value for name, value in averages.items()}
    return averages


def _check_shape(name: str, average: Any, key: str, weight: Any) -> None:
    if np.shape(average) != np.shape(weight):
        raise ConfigError(f"{name} {np.shape(average)} is the average of {key} {np.shape(weight)}")
