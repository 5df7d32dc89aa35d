"""Checks of the numbers of a request, before anything is computed; every error is a ConfigError of one line."""

import dataclasses
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.diffusion.guidance import ALONE, JOINT, ClassifierFreeGuidance, Guidance
from codi_jax.rng import seed_key
from codi_jax.sampling.config import GenerateConfig
from codi_jax.types import Array

Given = Mapping[str, tuple[list[Any], bool]]  # modality -> raw values, and whether they were given as a list


def positive(name: str, value: Any) -> int:
    """A positive integer."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name}: expected a positive number, got {value!r}")
    return number


def finite(name: str, value: Any) -> float:
    """A finite number."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{name}: expected a number, got {value!r}")
    return number


def names(what: str, value: Any) -> list[str]:
    """One name or several, as a list."""
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    for name in given:
        if not isinstance(name, str):
            raise ConfigError(f"{what}: expected a name or names, got {value!r:.60}")
    return given


def by_name(what: str, value: Any) -> Mapping[str, Any]:
    """What is given by name; nothing for None."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{what}: expected a mapping from names, got {type(value).__name__}")
    return value or {}


def check_guidance(name: str, rule: Guidance, num_timesteps: int) -> None:
    """Checks a rule of guidance of one output, before a program is compiled with it.

    Raises:
      ConfigError: it is a class, its coefficients are no pytree of numbers, or they do not sum to 1.
    """
    what = rule.__name__ if isinstance(rule, type) else type(rule).__name__
    if isinstance(rule, type):
        raise ConfigError(f"guidance of {name}: {what} is a class; give an object, {what}(…)")
    coefficients = rule.coefficients(num_timesteps)
    if not all(isinstance(leaf, (int, float, np.ndarray, np.generic, Array)) for leaf in jax.tree.leaves(coefficients)):
        raise ConfigError(
            f"guidance of {name}: {what}.coefficients has to return a pytree of numbers that can be called, such as "
            "jax.tree_util.Partial(function, *numbers)"
        )
    for branches in (ALONE, JOINT):
        values = np.asarray(coefficients(jnp.zeros(1, jnp.int32), branches))
        if values.shape not in ((len(branches),), (len(branches), 1)) or not np.allclose(values.sum(0), 1, atol=1e-4):
            raise ConfigError(
                f"guidance of {name}: {what} gives {values.tolist()} for {len(branches)} branches; expected as many "
                "coefficients, which sum to 1"
            )


def items_of(name: str, value: Any, total: int) -> list[Any] | None:
    """The items of a sequence or array, one for each of `total` samples; None for a single value.

    Raises:
      ConfigError: another number of them.
    """
    if not (isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim)):
        return None
    if len(value) != total:
        raise ConfigError(f"{name}: {len(value)} of them for {total} samples; give one number, or {total}")
    return list(value)


def keys(seed: Any, total: int) -> Array:
    """The PRNG key of one seed, or the keys [total] of a sequence of seeds."""
    seeds = items_of("seed", seed, total)
    return seed_key(seed) if seeds is None else jnp.stack([seed_key(own) for own in seeds])


def mix_weights(weights: Mapping[str, Any], prompts: Mapping[str, Any], total: int) -> dict[str, Any]:
    """Mix weights of prompts: numbers, or float32 [total]. `CoDi.shares` checks them together."""
    out = {}
    for name, value in weights.items():
        if name not in prompts:
            raise ConfigError(f"weights: {name!r} has no prompt; prompts: {', '.join(prompts) or 'none'}")
        what = f"weights of {name}"
        items = items_of(what, value, total)
        out[name] = finite(what, value) if items is None else np.asarray([finite(what, x) for x in items], np.float32)
    return out


def expand(groups: Sequence[Given], n: int) -> tuple[int, list[dict[str, list[Any]]]]:
    """Repeats prompts n times.

    Args:
      groups: prompts, negative prompts. Lists have one length b in all groups; b = 1 if there is no list.
      n: samples of each prompt.

    Returns:
      b · n, and in each group modality -> one raw value for all samples, or b · n of them, those of a prompt together.

    Raises:
      ConfigError: lists of different lengths.
    """
    lengths = [(len(items), name) for group in groups for name, (items, batched) in group.items() if batched]
    for length, name in lengths:
        if length != lengths[0][0]:
            raise ConfigError(f"lists of prompts differ in length: {lengths[0][1]} {lengths[0][0]}, {name} {length}")
    expanded = [
        {name: [x for x in items for _ in range(n if batched else 1)] for name, (items, batched) in group.items()}
        for group in groups
    ]
    return n * (lengths[0][0] if lengths else 1), expanded


def guidance(
    codi: CoDi, config: GenerateConfig, given: float | Mapping[str, float | Guidance] | None, outputs: Sequence[str]
) -> dict[str, Guidance]:
    """Guidance by output, of those that are given; a number alone is the scale of all outputs.

    Raises:
      ConfigError: an unknown output, or an invalid scale or rule.
    """
    if given is None:
        return {}
    given = given if isinstance(given, Mapping) else dict.fromkeys(outputs, given)
    out: dict[str, Guidance] = {}
    for name in codi.order(given):
        value = given[name]
        if name not in outputs:
            raise ConfigError(f"guidance: {name!r} is not an output; outputs: {', '.join(outputs)}")
        if isinstance(value, Guidance):
            check_guidance(name, value, codi.schedule.steps)
            out[name] = value
            continue
        own = config.guidance.get(name, ClassifierFreeGuidance())
        out[name] = dataclasses.replace(own, prompt=finite(f"guidance of {name}", value))
    return out


def noise(codi: CoDi, given: Mapping[str, Any] | None, outputs: Sequence[str], total: int) -> dict[str, Array]:
    """The noise z_T that is given, by output, each [total, *latent_shape].

    Raises:
      ConfigError: an unknown output, or another shape.
    """
    given = by_name("latents", given)
    out = {name: latents(codi, name, given[name]) for name in codi.order(given)}
    for name, z in out.items():
        if name not in outputs:
            raise ConfigError(f"latents: {name!r} is not an output; outputs: {', '.join(outputs)}")
        if len(z) != total:
            raise ConfigError(f"latents: {len(z)} of {name} for {total} samples")
    return out


def latents(codi: CoDi, name: str, z: Any) -> Array:
    """Latents that a user gives, as an array of the modality's shape.

    Raises:
      ConfigError: another shape.
    """
    shape = codi[name].latent_shape
    array = jnp.asarray(z, jnp.float32)
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ConfigError(f"latents: {name} has shape {list(array.shape)}, not [n, {', '.join(map(str, shape))}]")
    return array
